"""Architectures: FunASR configs with holes for the shape, one YAML file each.

A file is a config as FunASR has it, with a `harness` block on top that says what the harness must know about it;
another architecture needs another file and no Python.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.cells import Scale, Shape
from harness.errors import VariantError, listing
from harness.speech.tokens import SPECIAL
from harness.tables import did_you_mean
from harness.variants.anatomy import Anatomy

_FOLDER = Path(__file__).parent
_NOT_REGISTERED = ("optim", "scheduler", "dataset")
"""FunASR keeps optimizers and schedulers in dictionaries of their own; datasets matter to the trainer alone."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One architecture. Paths into the config are dotted: `encoder_conf.output_size`."""

    name: str
    """As in cell ids: the file's name without its ending."""
    path: Path
    """The file that it was read from."""
    sha256: str
    """Of the file's bytes."""
    source: str
    """Where the config comes from, in words."""
    hidden_size: tuple[str, ...]
    """Paths that take the shape's hidden size."""
    vocab_size: tuple[str, ...]
    """Paths that take the vocabulary's size; FunASR tells it to most models itself."""
    heads: tuple[str, ...]
    """Paths of numbers that must divide the hidden size."""
    slim: tuple[tuple[str, int], ...]
    """Paths and values that make the published depth slim."""
    groups: Mapping[str, tuple[str, ...]] = field(hash=False)
    """Beginnings of parameters' names by group: encoder, predictor, decoder."""
    inputs: tuple[str, ...]
    """What the model's forward takes in training, by name."""
    tables: Mapping[str, str | None] = field(hash=False)
    """Keys of the config whose components stand in another registry table than their name says, or in none."""
    training: Mapping[str, Any] = field(hash=False)
    """What the architecture's own recipe gives the trainer besides, by dotted path."""
    anatomy: Anatomy = field(hash=False)
    """What is particular about its training."""
    config: Mapping[str, Any] = field(hash=False, repr=False)
    """FunASR's part of the file, at the published scale; `render` fills its holes."""

    @property
    def components(self) -> tuple[tuple[str, str], ...]:
        """FunASR's registry tables and the names that the config takes from them: `("encoder_classes", "SANMEncoder")`.

        A name stands under the table's own key (`encoder: SANMEncoder`) beside a mapping of its arguments;
        where the key is another (`encoder2`), `tables` says which table is meant.
        """
        config = self.config
        named = [key for key, value in config.items() if isinstance(value, str) and f"{key}_conf" in config]
        tables = [(self.tables.get(key, key), config[key]) for key in named if key not in _NOT_REGISTERED]
        return tuple(dict.fromkeys((f"{table}_classes", name) for table, name in tables if table is not None))

    @property
    def frame_seconds(self) -> float:
        """Shift of the frames that the model takes: the frontend's own times its stacking (LFR), in seconds."""
        frontend = self.config.get("frontend_conf") or {}
        return float(frontend.get("frame_shift", 10)) / 1000 * float(frontend.get("lfr_n", 1))


def available() -> tuple[str, ...]:
    """The names of the variants that the harness brings along."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


def load_variant(name_or_path: str) -> Variant:
    """Read one of the harness' variants by its name, or the user's own by the path of its YAML file.

    Raises:
        VariantError: there is no such variant, or its file is wrong (with all that is).
    """
    from harness.variants.reading import read

    if not _is_path(name_or_path):
        if name_or_path not in available():
            raise VariantError(
                f'there is no variant "{name_or_path}"; {did_you_mean(name_or_path, available())}',
                next_step=f"choose one of {', '.join(available())}, or give the path of a YAML file",
            )
        return read(_FOLDER / f"{name_or_path}.yaml", source=name_or_path)
    path = Path(name_or_path).absolute()
    if path.stem in available() and path.resolve().parent != _FOLDER.resolve():
        raise VariantError(
            f'{name_or_path} has the name of the harness\' own variant "{path.stem}"',
            cause="cells are told apart by their names alone",
            next_step="give the file another name",
        )
    if not _NAME.fullmatch(path.stem):
        raise VariantError(
            f'"{path.stem}" cannot be part of a cell\'s id',
            next_step="give the file a name of letters, digits, dots, dashes and underscores",
        )
    return read(path, source=name_or_path)


def render(variant: Variant, *, shape: Shape, scale: Scale) -> dict[str, Any]:
    """The complete FunASR config of a variant at a shape and scale, without the paths of the model folder's files.

    Raises:
        VariantError: attention heads do not divide the hidden size, or the vocabulary has no room for text.
    """
    if problems := shape_problems(variant, shape):
        raise VariantError(
            listing(f"{variant.name} at {shape}", problems), next_step="choose another shape in the matrix"
        )
    config = copy.deepcopy(dict(variant.config))
    fillings = [(path, shape.hidden_size) for path in variant.hidden_size]
    fillings += [(path, shape.vocab_size) for path in variant.vocab_size]
    if scale is Scale.SLIM:
        fillings += variant.slim
    for path, value in fillings:
        _put(config, path, value)
    return config


def shape_problems(variant: Variant, shape: Shape) -> tuple[str, ...]:
    """Why a variant cannot have a shape; empty when it can."""
    return (
        *_head_problems(variant, shape.hidden_size),
        *_vocab_problems(shape.vocab_size),
        *_label_problems(variant, shape.vocab_size),
    )


def look_up(config: Mapping[str, Any], path: str) -> object:
    """The value at a dotted path.

    Raises:
        KeyError: the path leads nowhere.
    """
    value: object = config
    for key in path.split("."):
        if not isinstance(value, Mapping):
            raise KeyError(path)
        value = value[key]
    return value


def _is_path(name_or_path: str) -> bool:
    return "/" in name_or_path or "\\" in name_or_path or name_or_path.endswith((".yaml", ".yml"))


def _put(config: dict[str, Any], path: str, value: int) -> None:
    *parents, last = path.split(".")
    for key in parents:
        config = config[key]
    config[last] = value


def _head_problems(variant: Variant, hidden_size: int) -> Iterator[str]:
    counts = {path: int(str(look_up(variant.config, path))) for path in variant.heads}
    common = math.lcm(*counts.values())
    below = hidden_size // common * common
    nearest = " and ".join(str(size) for size in (below, below + common) if size)
    for path, count in counts.items():
        if hidden_size % count:
            yield (
                f"the {count} attention heads of {path} do not divide a hidden size of {hidden_size}; "
                f"the nearest sizes that fit are {nearest}"
            )


def _vocab_problems(vocab_size: int) -> Iterator[str]:
    if vocab_size <= len(SPECIAL):
        yield (
            f"a vocabulary of {vocab_size} is not larger than the {len(SPECIAL)} special tokens "
            f"({', '.join(SPECIAL)}) and has no room for text"
        )


def _label_problems(variant: Variant, vocab_size: int) -> Iterator[str]:
    largest = variant.anatomy.largest_label(variant.config)
    if vocab_size <= largest:
        yield f"a vocabulary of {vocab_size} has no token {largest}, which this architecture's labels need"
