"""Which files of a model folder are in force: what configuration.json, the folder's names and the command say.

Read from the release's own `download_from_ms`: most releases look at configuration.json first, and without one at the
usual names; the first releases the other way round, with the weights called model.pb.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

from harness.preflight.findings import Place
from harness.preflight.folder.file_kinds import exists, text_of
from harness.preflight.inputs import Inputs

CONFIGURATION = "configuration.json"
CONFIG = "config.yaml"
USUAL_NAMES = (
    ("tokenizer_conf.token_list", "tokens.txt"),
    ("tokenizer_conf.token_list", "tokens.json"),
    ("tokenizer_conf.seg_dict", "seg_dict"),
    ("tokenizer_conf.bpemodel", "bpe.model"),
    ("frontend_conf.cmvn_file", "am.mvn"),
)
"""What every release takes from a folder without a configuration.json; a later one replaces an earlier."""
START = "init_param"
_DOWNLOADS = ("download_model_from_hub.py", "download_from_hub.py")
_MOST_JSON = 4 << 20


class NamedBy(StrEnum):
    """Who names a file; the value completes "named by …"."""

    COMMAND = "the command"
    CONFIGURATION = CONFIGURATION
    FOLDER = "its usual name"
    CONFIG = CONFIG


@dataclass(frozen=True, kw_only=True)
class NamedFile:
    """A file that the training reads."""

    key: str
    """Dotted, as the release gets it: `frontend_conf.cmvn_file`."""
    path: Path
    written: str
    place: Place
    by: NamedBy


@dataclass(frozen=True, kw_only=True)
class MissingPath:
    """An entry of configuration.json whose file does not exist: the release passes over it without a word."""

    key: str
    written: str
    place: Place


@dataclass(frozen=True, kw_only=True)
class ModelFiles:
    """The files in force, and the entries of configuration.json without a file."""

    named: Mapping[str, NamedFile] = field(default_factory=dict)
    missing: tuple[MissingPath, ...] = ()
    configuration: Path | None = None
    """Where the release reads one."""
    whole_config: bool = False
    """Whether the command reads config.yaml itself (`--config-path`), and the folder's other files by its keys alone.
    """
    ignored: tuple[NamedFile, ...] = ()
    """Files that the command names and that the release replaces with those of the folder."""

    def path(self, key: str) -> Path | None:
        """The file under a key."""
        return self.named[key].path if key in self.named else None


def reads_whole_config(inputs: Inputs) -> bool:
    """Whether the command gives the whole config and no model folder, as `--config-path … --config-name …`."""
    return inputs.command.entry is not None and all(override.path != "model" for override in inputs.command.overrides)


@dataclass(frozen=True, kw_only=True)
class FolderRules:
    """What a release's `download_from_ms` makes of a folder."""

    names_first: bool
    """Whether config.yaml next to the weights wins over configuration.json."""
    required: str
    """The weights' name that the branch without configuration.json looks for; empty where it looks for none."""
    weights: str
    """The name that it then gives as `init_param`."""
    keeps_start: bool
    """Whether an `init_param` of the command or the config that exists is kept there."""


@cache
def folder_rules(install_dir: Path) -> FolderRules:
    """The rules of the release in `install_dir`, from its text."""
    code = ""
    for name in _DOWNLOADS:
        path = install_dir / "funasr" / "download" / name
        if path.is_file():
            code = path.read_text(encoding="utf-8", errors="replace")
            break
    code = code.partition("def download_from_ms")[2].partition("\ndef ")[0]
    required = re.search(r"os\.path\.exists\(\s*os\.path\.join\(model_or_path, \"(model\.p[tb])\"\)", code)
    weights = re.search(r"init_param = os\.path\.join\(model_or_path, \"([\w.]+)\"\)", code)
    return FolderRules(
        names_first=code.find('"tokens.json"') < code.find(f'"{CONFIGURATION}"'),
        required=required[1] if required else "",
        weights=weights[1] if weights else "model.pt",
        keeps_start='"init_param" not in kwargs' in code,
    )


def configuration_of(folder: Path) -> Mapping[str, Any]:
    """What configuration.json says.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no JSON object.
    """
    document = json.loads(text_of(folder / CONFIGURATION, _MOST_JSON))
    if not isinstance(document, dict):
        raise ValueError("no JSON object")  # noqa: TRY004 - as for every other text that is none
    return document


def metas_of(configuration: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The entries of `file_path_metas` as dotted keys with what is written."""
    yield from _metas(configuration.get("file_path_metas"), "", 0)


def _metas(tree: Any, above: str, depth: int) -> Iterator[tuple[str, str]]:
    if isinstance(tree, str):
        yield above, tree
    elif isinstance(tree, dict) and depth < 8:
        for key, value in tree.items():
            yield from _metas(value, f"{above}.{key}" if above else str(key), depth + 1)
    elif isinstance(tree, list) and depth < 8:
        for number, value in enumerate(tree):
            yield from _metas(value, f"{above}[{number}]", depth + 1)


def files_in_force(inputs: Inputs) -> ModelFiles:
    """The files that a training with these inputs reads; a configuration.json that cannot be read names none."""
    folder = inputs.model
    if reads_whole_config(inputs):
        return ModelFiles(named=_settings_files(inputs), whole_config=True)
    rules = folder_rules(inputs.install_dir)
    has_names = (folder / CONFIG).is_file() and (not rules.required or (folder / rules.required).is_file())
    if (folder / CONFIGURATION).is_file() and not (rules.names_first and has_names):
        return _by_configuration(inputs)
    return _by_names(inputs, rules) if has_names else ModelFiles(named=_settings_files(inputs))


def _by_configuration(inputs: Inputs) -> ModelFiles:
    path = inputs.model / CONFIGURATION
    try:
        metas = list(metas_of(configuration_of(inputs.model)))
    except (OSError, ValueError, RecursionError):
        metas = []
    missing, named_files = [], dict(_settings_files(inputs))
    for key, written in metas:
        place = Place(file=str(path), key=f"file_path_metas.{key}")
        file = below(inputs.model, written)
        if file is None or not exists(file):
            missing.append(MissingPath(key=key, written=written, place=place))
        elif key not in named_files or named_files[key].by is not NamedBy.COMMAND:
            named_files[key] = NamedFile(key=key, path=file, written=written, place=place, by=NamedBy.CONFIGURATION)
    return ModelFiles(named=named_files, missing=tuple(missing), configuration=path)


def _by_names(inputs: Inputs, rules: FolderRules) -> ModelFiles:
    named_files = dict(_settings_files(inputs))
    start = named_files.get(START)
    present = [(key, name) for key, name in USUAL_NAMES if (inputs.model / name).exists()]
    if not (rules.keeps_start and start is not None and exists(start.path)):
        present.append((START, rules.weights))
    ignored = []
    for key, name in present:
        file = inputs.model / name
        if key in named_files and named_files[key].by is NamedBy.COMMAND and named_files[key].path != file:
            ignored.append(named_files[key])
        place = Place(file=str(file))
        named_files[key] = NamedFile(key=key, path=file, written=name, place=place, by=NamedBy.FOLDER)
    return ModelFiles(named=named_files, ignored=tuple(ignored))


_FILE_KEYS = (START, *dict.fromkeys(key for key, _ in USUAL_NAMES), "tokenizer_conf.seg_dict_file")


def _settings_files(inputs: Inputs) -> dict[str, NamedFile]:
    """By config.yaml and the command; relative paths start at the working directory."""
    named_files = {}
    for key in _FILE_KEYS:
        setting = inputs.settings.by_path.get(key)
        if setting is None or not isinstance(setting.value, str) or not setting.value or "${" in setting.value:
            # What an interpolation gives, the release says itself.
            continue
        path = below(inputs.root, setting.value)
        if path is not None:
            by = NamedBy.COMMAND if setting.from_command else NamedBy.CONFIG
            named_files[key] = NamedFile(key=key, path=path, written=setting.value, place=setting.place, by=by)
    return named_files


def usual_file(folder: Path, key: str) -> str:
    """The folder's file of the usual name, for a start also a training's average, best or last checkpoint; or empty."""
    usual = next((name for usual_key, name in reversed(USUAL_NAMES) if usual_key == key and exists(folder / name)), "")
    if usual or key != START:
        return usual
    try:
        names = {path.name for path in folder.iterdir()}
    except OSError:
        return ""
    averages = sorted(name for name in names if name.startswith("model.pt.avg"))
    within = [name for name in names if name.startswith(("model.pt.ep", "model.pt.step"))]
    latest = sorted(within, key=lambda name: [int(number) for number in re.findall(r"\d{1,9}", name)], reverse=True)
    in_order = ["model.pt", *averages, "model.pt.best", *latest]
    return next((name for name in in_order if name in names), "")


def below(folder: Path, written: str) -> Path | None:
    """The path; None for what no path can be."""
    if "\x00" in written or len(written) > 4096:
        return None
    return folder / written
