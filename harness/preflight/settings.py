"""The settings that a training is started with: the folder's config.yaml with the command's overrides, with places."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError

from harness.core.documents import bounded, check_yaml
from harness.core.errors import InputError
from harness.preflight.findings import Place

LARGEST_CONFIG = 4 << 20
"""Bytes; a model's config has some ten thousand."""
MOST_KEYS = 20_000
"""A config of a model has a few hundred; aliases can make billions of a small file."""


class _Loader(yaml.SafeLoader):
    """YAML as OmegaConf, and so FunASR, reads it: `1e-3` is a number. Merged mappings can double line by line."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)
        if len(node.value) > MOST_KEYS:
            raise ConstructorError(None, None, "too many merged keys", node.start_mark)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d[\d_]*(?:\.[\d_]*)?|\.[\d_]+)(?:[eE][-+]?\d+)$"),
    list("-+.0123456789"),
)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One key with its value and where it was set."""

    path: str
    """Dotted: `train_conf.max_epoch`."""
    value: Any
    """As the release receives it: YAML's or hydra's value."""
    place: Place
    from_command: bool
    """Whether the command set it; otherwise config.yaml did."""
    text: str = ""
    """As written, where the command set it: `++train_conf.max_epoch=50`."""


@dataclass(frozen=True, kw_only=True)
class SettingsInForce:
    """All keys in force. A mapping of config.yaml is there by its leaves only; an empty one is a leaf."""

    by_path: Mapping[str, Setting] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Setting]:
        return iter(self.by_path.values())

    def get(self, path: str, default: Any = None) -> Any:
        """The value of a leaf; of a section a nested dict."""
        if path in self.by_path:
            return self.by_path[path].value
        section = self.section(path)
        return section or default

    def section(self, path: str) -> dict[str, object]:
        """The leaves below a path as a nested dict; empty where there is none."""
        prefix = f"{path}." if path else ""
        section: dict[str, Any] = {}
        for name, setting in self.by_path.items():
            if name.startswith(prefix):
                _put(section, name[len(prefix) :].split("."), setting.value)
        return section

    def place(self, path: str) -> Place:
        """Where a key was set; where it is not set, only its name."""
        if path in self.by_path:
            return self.by_path[path].place
        return next(
            (setting.place for name, setting in self.by_path.items() if name.startswith(f"{path}.")), Place(key=path)
        )

    def merged(self, overrides: Iterable[Setting]) -> SettingsInForce:
        """These with the command's, which win; a later one wins over an earlier."""
        by_path = dict(self.by_path)
        for override in overrides:
            for below in [name for name in by_path if name.startswith(f"{override.path}.")]:
                del by_path[below]
            by_path[override.path] = override
        return SettingsInForce(by_path=by_path)


def _put(tree: dict[str, Any], parts: list[str], value: Any) -> None:
    for part in parts[:-1]:
        below = tree.get(part)
        if not isinstance(below, dict):
            below = tree[part] = {}
        tree = below
    tree[parts[-1]] = value


def read_config(path: Path) -> SettingsInForce:
    """The leaves of a YAML config with their lines.

    Raises:
        InputError: it cannot be read, or is no mapping.
    """
    try:
        text = _text(path)
        check_yaml(text)
        node = yaml.compose(text, Loader=_Loader)
        if node is None or not isinstance(node, yaml.MappingNode):
            raise InputError(f"{path}: no mapping of settings", next_step="use the config.yaml of the model's folder")
        by_path: dict[str, Setting] = {}
        for setting in _leaves(str(path), node, ()):
            by_path[setting.path] = setting
            if len(by_path) > MOST_KEYS:
                raise InputError(f"{path}: more than {MOST_KEYS} keys", next_step="this is no config of a model")
        return SettingsInForce(by_path=by_path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else getattr(error, "line", None)
        where = f"{path}:{line}" if line else str(path)
        raise InputError(f"{where}: not YAML: {getattr(error, 'problem', None) or error}") from error


def _text(path: Path) -> str:
    """The text of a regular file: a pipe would be waited for, and a device never ends."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path}: no regular file", next_step="use the config.yaml of the model's folder")
    if status.st_size > LARGEST_CONFIG:
        raise InputError(f"{path}: larger than {LARGEST_CONFIG >> 20} MiB", next_step="this is no config of a model")
    return path.read_text(encoding="utf-8-sig")


def _leaves(file: str, node: yaml.MappingNode, above: tuple[str, ...]) -> Iterator[Setting]:
    for key, value in node.value:
        name = _text_of(key)
        path = (*above, name)
        if isinstance(value, yaml.MappingNode) and value.value:
            yield from _leaves(file, value, path)
            continue
        dotted = ".".join(path)
        yield Setting(
            path=dotted,
            value=_value(value),
            place=Place(file=file, line=key.start_mark.line + 1, key=dotted),
            from_command=False,
        )


def _value(node: yaml.Node) -> Any:
    loader = _Loader("")
    try:
        return bounded(loader.construct_object(node, deep=True), finite=False)
    except (ConstructorError, RecursionError, ValueError, OverflowError, AttributeError, IndexError):
        # Such as a tag of another library's: what the file says is kept as text, and nothing of it is run.
        return _text_of(node)
    finally:
        loader.dispose()


def _text_of(node: yaml.Node) -> str:
    """What a scalar says; the words of a list could be a billion, by its aliases."""
    return str(node.value) if isinstance(node, yaml.ScalarNode) else "…"
