"""From a variant's YAML file to a `Variant`, with all its problems at once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness.config.toml_tables import Problems, Table, did_you_mean
from harness.core.documents import LARGEST_YAML, UnreadableDocumentError, parse_yaml, read_bytes
from harness.core.errors import VariantError, listing
from harness.corpus.synthesis import SAMPLING_RATE
from harness.variants.architecture import KEYS, look_up, read_traits
from harness.variants.variant import Variant

SCHEMA = 1
"""Version of the `harness` block."""

_KEYS = (
    "schema",
    "source",
    "hidden_size",
    "vocab_size",
    "heads",
    "reduced",
    "groups",
    "inputs",
    "tables",
    "training",
    *KEYS,
)

# What the model folder can be made for: other frontends want no am.mvn of this form, other tokenizers no token list.
_FRONTENDS = ("WavFrontend", "WavFrontendOnline")
_TOKENIZERS = ("CharTokenizer",)

_INPUTS = ("speech", "speech_lengths", "text", "text_lengths")
_FURTHER_INPUTS = ("hotword_pad", "hotword_lengths", "seaco_label_pad")
"""What `harness.worker.release.batches` can make besides."""

_EXAMPLE = """begin the file with a block such as
harness:
  schema: 1
  hidden_size: [encoder_conf.output_size, predictor_conf.idim]
  heads: [encoder_conf.attention_heads, decoder_conf.attention_heads]
  reduced: {encoder_conf.num_blocks: 2, decoder_conf.num_blocks: 2, decoder_conf.att_layer_num: 2}
  groups: {encoder: [encoder], predictor: [predictor], decoder: [decoder]}"""


def read(path: Path, *, source: str) -> Variant:
    """Read a variant; `source` is its name as the user wrote it, for messages.

    Raises:
        VariantError: with all that is wrong with the file.
    """
    raw = _bytes(path, source)
    config = _parse(raw, source)
    problems = Problems(source=source)
    block = config.pop("harness", None)
    if block is None:
        raise VariantError(f"{source} has no `harness` block", next_step=_EXAMPLE)
    if not isinstance(block, Mapping):
        raise VariantError(f"{source}: `harness` must be a mapping", next_step=_EXAMPLE)
    values = {str(key): value for key, value in block.items()}
    if "slim" in values:
        # The name that the key had at first.
        values.setdefault("reduced", values.pop("slim"))
    table = Table(values=values, place="harness", problems=problems)
    table.only(_KEYS)
    if table.values.get("schema") != SCHEMA:
        problems.add(table.at("schema"), f"must be {SCHEMA}")
    paths = {
        key: _paths(table, key, config, needed=key == "hidden_size") for key in ("hidden_size", "vocab_size", "heads")
    }
    reduced = _reduced(table, config)
    groups = _groups(table)
    inputs = _inputs(table)
    tables, training = _tables(table, config), _training(table)
    traits = read_traits(table, config)
    described = table.text("source", default="a file of the user's")
    _check_config(config, problems)
    if problems.found:
        raise VariantError(listing(source, problems.found), next_step=f"correct {path} and run the command again")
    return Variant(
        name=path.stem,
        path=path,
        sha256=hashlib.sha256(raw).hexdigest(),
        source=described or "",
        hidden_size=paths["hidden_size"],
        vocab_size=paths["vocab_size"],
        heads=paths["heads"],
        reduced=reduced,
        groups=groups,
        inputs=inputs,
        tables=tables,
        training=training,
        traits=traits,
        config=config,
    )


def _bytes(path: Path, source: str) -> bytes:
    try:
        return read_bytes(path, LARGEST_YAML)
    except UnreadableDocumentError as error:
        raise VariantError(f"{source}: {error}", next_step=f"correct {source}") from None
    except OSError as error:
        yaml_files = sorted(other.name for other in path.parent.glob("*.yaml"))
        hint = did_you_mean(path.name, yaml_files) if yaml_files else "no YAML file is there"
        raise VariantError(f"{source} cannot be read: {error.strerror}", next_step=hint) from None


def _parse(raw: bytes, source: str) -> dict[str, Any]:
    try:
        config = parse_yaml(raw)
    except UnreadableDocumentError as error:
        raise VariantError(f"{source} is not YAML: {error}", next_step=f"correct {source}") from None
    if not isinstance(config, dict):
        raise VariantError(
            f"{source} must be a mapping, as FunASR's configs are; found {type(config).__name__}", next_step=_EXAMPLE
        )
    return config


def _paths(table: Table, key: str, config: Mapping[str, Any], *, needed: bool) -> tuple[str, ...]:
    if not needed and not table.has(key):
        return ()
    paths = table.texts(key) or ()
    for path in paths:
        _check_size(table, key, path, config)
    return paths


def _reduced(table: Table, config: Mapping[str, Any]) -> tuple[tuple[str, int], ...]:
    block = table.values.get("reduced", {})
    if not isinstance(block, Mapping):
        table.problems.add(table.at("reduced"), "expected a mapping of paths to numbers")
        return ()
    for path, value in block.items():
        _check_size(table, "reduced", str(path), config)
        if not _is_size(value):
            table.problems.add(table.at("reduced"), f"{path} must be a whole number above 0, found {value!r}")
    return tuple((str(path), value) for path, value in block.items())


def _groups(table: Table) -> dict[str, tuple[str, ...]]:
    block = table.values.get("groups")
    if not isinstance(block, Mapping) or not block:
        table.problems.add(table.at("groups"), "expected a mapping such as encoder: [encoder]")
        return {}
    groups = Table(
        values={str(key): value for key, value in block.items()}, place="harness.groups", problems=table.problems
    )
    return {name: groups.texts(name) or () for name in groups.values}


def _inputs(table: Table) -> tuple[str, ...]:
    inputs = (table.texts("inputs") if table.has("inputs") else None) or _INPUTS
    legal = (*_INPUTS, *_FURTHER_INPUTS)
    for name in inputs:
        if name not in legal:
            table.problems.add(table.at("inputs"), f"the harness makes no {name}, {did_you_mean(name, legal)}")
    return inputs


def _tables(table: Table, config: Mapping[str, Any]) -> dict[str, str | None]:
    block = table.values.get("tables", {})
    if not isinstance(block, Mapping) or not all(isinstance(item, str | None) for item in block.values()):
        table.problems.add(table.at("tables"), "expected a mapping such as encoder2: encoder")
        return {}
    for key in block:
        if key not in config:
            table.problems.add(table.at("tables"), f"{key} is not in the config, {did_you_mean(str(key), config)}")
    return {str(key): item for key, item in block.items()}


def _training(table: Table) -> dict[str, Any]:
    block = table.values.get("training", {})
    if not isinstance(block, Mapping):
        table.problems.add(table.at("training"), "expected a mapping such as dataset: AudioDatasetHotword")
        return {}
    return {str(key): value for key, value in block.items()}


def _check_size(table: Table, key: str, path: str, config: Mapping[str, Any]) -> None:
    try:
        value = look_up(config, path)
    except KeyError:
        table.problems.add(table.at(key), f"{path} is not in the config, {did_you_mean(path, _size_paths(config))}")
        return
    if not _is_size(value):
        table.problems.add(table.at(key), f"{path} must be a whole number above 0 in the config, found {value!r}")


def _size_paths(config: Mapping[str, Any], prefix: str = "") -> Iterable[str]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _size_paths(value, f"{prefix}{key}.")
        elif _is_size(value):
            yield f"{prefix}{key}"


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _check_config(config: Mapping[str, Any], problems: Problems) -> None:
    for key, legal in (("model", ()), ("frontend", _FRONTENDS), ("tokenizer", _TOKENIZERS)):
        value = config.get(key)
        if not isinstance(value, str):
            problems.add(key, "missing")
        elif legal and value not in legal:
            problems.add(key, f"the harness makes model folders for {' and '.join(legal)}, not for {value}")
    for key in ("model_conf", "frontend_conf", "tokenizer_conf"):
        if not isinstance(config.get(key), Mapping):
            problems.add(key, "expected a mapping")
    frontend = config.get("frontend_conf")
    rate = frontend.get("fs", SAMPLING_RATE) if isinstance(frontend, Mapping) else SAMPLING_RATE
    if rate != SAMPLING_RATE:
        problems.add("frontend_conf.fs", f"must be {SAMPLING_RATE}, as the speech is, found {rate!r}")
