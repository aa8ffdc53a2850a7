"""A variant made of a user's model folder: its config as it is, what the harness must know from its own variant.

Only what stands in the folder's config is kept of the paths that the harness's variant names; nothing is invented.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.config.axes import folder_variant_name
from harness.core.cells import Dimensions
from harness.core.documents import parse_json, parse_yaml
from harness.core.errors import VariantError
from harness.variants.architecture import look_up
from harness.variants.variant import Variant

_LARGEST_FILE = 16 << 20
NOT_IN_CONFIG = ("init_param", "trust_remote_code", "remote_code", "model_path", "hub", "model_revision")
"""What a config may say about where weights and code come from: the folder itself says it."""

EVALUATED = ("freeze_param", "conv_feature_layers", "feature_encoder_spec")
"""Settings whose text some releases hand to Python's `eval`, such as `freeze_param` up to 1.3.1."""
_CODE = re.compile(r"[\w\])}]\s*\(|__|\blambda\b|\bfor\b|:=")


def code_in(config: Mapping[str, Any], prefix: str = "") -> str | None:
    """The path of a setting that a release would run as code: more than names, numbers and their lists."""
    for key, value in config.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping):
            if path_of_code := code_in(value, f"{path}."):
                return path_of_code
        elif path.rpartition(".")[2] in EVALUATED and _CODE.search(str(value)):
            return path
    return None


def variant_of_folder(path: Path, known: Sequence[Variant]) -> Variant:
    """The variant of a folder; `harness.variants.catalogue.load_variant` calls it with the harness's own variants.

    Raises:
        VariantError: its config or its tokens cannot be read, or the harness has no variant of its model class.
    """
    folder = path.absolute()
    raw = read_small(folder / "config.yaml")
    config = _config(raw, folder)
    tokens = tokens_of(folder)
    if runs := code_in(config):
        raise VariantError(f"{folder.name}: `{runs}` holds code, which releases would run", next_step="use names only")
    stock = _stock(config, folder, known)
    hidden = tuple(path for path in stock.hidden_size if _has_setting(config, path))
    size = look_up(config, hidden[0]) if hidden else None
    return replace(
        stock,
        name=folder_variant_name(folder, [variant.name for variant in known]),
        path=folder / "config.yaml",
        sha256=hashlib.sha256(raw).hexdigest(),
        source=f"the folder {folder.name}, as its user has it",
        hidden_size=tuple(path for path in hidden if look_up(config, path) == size),
        vocab_size=tuple(path for path in stock.vocab_size if _value(config, path) == len(tokens)),
        heads=tuple(path for path in stock.heads if _has_setting(config, path)),
        reduced=tuple((path, value) for path, value in stock.reduced if _shallower(config, path, value)),
        config={key: value for key, value in config.items() if key not in NOT_IN_CONFIG},
        folder=folder,
    )


def dimensions_of(variant: Variant) -> Dimensions:
    """The dimensions of a folder's variant: it has one vocabulary and one hidden size.

    Raises:
        VariantError: its config has no hidden size.
    """
    if variant.folder is None:
        raise ValueError(f"{variant.name} is made of no folder")
    tokens = len(tokens_of(variant.folder))
    sizes = [value for path in variant.hidden_size if isinstance(value := look_up(variant.config, path), int)]
    if not sizes:
        raise VariantError(
            f"{variant.path}: no hidden size in the config", next_step="name it in encoder_conf.output_size"
        )
    return Dimensions(vocab_size=tokens, hidden_size=sizes[0])


def tokens_of(folder: Path) -> tuple[str, ...]:
    """The folder's tokens, in the order of their ids.

    Raises:
        VariantError: there are none.
    """
    for name in ("tokens.json", "tokens.txt"):
        if (folder / name).is_file():
            text = read_small(folder / name).decode("utf-8-sig", "replace")
            return _tokens(text, folder / name)
    raise VariantError(f"{folder.name} has no tokens.json", next_step="put the model's token list into the folder")


def _tokens(text: str, path: Path) -> tuple[str, ...]:
    if path.suffix == ".txt":
        return tuple(line.split()[0] for line in text.splitlines() if line.split())
    try:
        document = parse_json(text)
    except ValueError as error:
        raise VariantError(f"{path}: no JSON: {error}", next_step="use the token list of the model") from None
    if isinstance(document, Mapping):
        document = sorted(
            map(str, document),
            key=lambda token: int(document[token]) if str(document[token]).isdigit() else len(document),
        )
    if not isinstance(document, list) or not all(isinstance(token, str) for token in document):
        raise VariantError(f"{path}: no list of tokens", next_step="use the token list of the model")
    return tuple(document)


def read_small(path: Path) -> bytes:
    """A file of a model folder other than its weights.

    Raises:
        VariantError: it is no regular file, cannot be read, or is too large for one of these.
    """
    try:
        if not path.is_file():
            raise VariantError(f"{path} is no file", next_step="name the folder of a model, as AutoModel takes it")
        with path.open("rb") as file:
            raw = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise VariantError(f"{path} cannot be read: {error.strerror}", next_step="name another folder") from None
    if len(raw) > _LARGEST_FILE:
        raise VariantError(f"{path} is larger than {_LARGEST_FILE >> 20} MiB", next_step="use the model's own file")
    return raw


def _config(raw: bytes, folder: Path) -> dict[str, Any]:
    try:
        config = parse_yaml(raw.decode("utf-8-sig"))
    except ValueError as error:
        raise VariantError(f"{folder / 'config.yaml'}: no YAML: {error}", next_step="use the model's own") from None
    if not isinstance(config, Mapping) or not isinstance(config.get("model"), str):
        raise VariantError(f"{folder / 'config.yaml'} names no model", next_step="use the config.yaml of the model")
    return {str(key): value for key, value in config.items()}


def _stock(config: Mapping[str, Any], folder: Path, known: Sequence[Variant]) -> Variant:
    """The harness's variant of the same model class: with the same encoder, where several have it."""
    candidates = same_class(config, known)
    if not candidates:
        supported = ", ".join(dict.fromkeys(str(variant.config["model"]) for variant in known))
        raise VariantError(
            f"{folder.name} is a {config['model']}, of which the harness has no variant",
            next_step=f"it knows {supported}; for another one, write a variant's YAML file",
        )
    return candidates[0]


def same_class(config: Mapping[str, Any], known: Sequence[Variant]) -> list[Variant]:
    """The variants of a config's model class: first that with the same encoder and decoder, where several have it."""
    return sorted(
        (variant for variant in known if variant.config["model"] == config["model"]),
        key=lambda variant: -sum(variant.config.get(key) == config.get(key) for key in ("encoder", "decoder")),
    )


def _shallower(config: Mapping[str, Any], path: str, value: int) -> bool:
    """Whether a reduction reduces: user's models may be as small already."""
    return _has_setting(config, path) and isinstance(blocks := look_up(config, path), int) and value < blocks


def _has_setting(config: Mapping[str, Any], path: str) -> bool:
    try:
        look_up(config, path)
    except KeyError:
        return False
    return True


def _value(config: Mapping[str, Any], path: str) -> object:
    return look_up(config, path) if _has_setting(config, path) else None
