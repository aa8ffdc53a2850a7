"""Architectures: FunASR configs with placeholders for the dimensions, one YAML file each.

A file is a config as FunASR has it, with a `harness` block on top that says what the harness must know about it;
another architecture needs another file and no Python.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.core.cells import Depth, Dimensions
from harness.core.errors import VariantError, listing
from harness.corpus.tokens import SPECIAL
from harness.variants.architecture import ArchitectureTraits, look_up, put

_NOT_REGISTERED = ("optim", "scheduler", "dataset")
"""FunASR keeps optimizers and schedulers in dictionaries of their own; datasets matter to the trainer alone."""


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
    """Paths that take the hidden size."""
    vocab_size: tuple[str, ...]
    """Paths that take the vocabulary's size; FunASR passes it to most models itself."""
    heads: tuple[str, ...]
    """Paths of numbers that must divide the hidden size."""
    reduced: tuple[tuple[str, int], ...]
    """Paths and values that make full depth reduced."""
    groups: Mapping[str, tuple[str, ...]] = field(hash=False)
    """Beginnings of parameters' names by group: encoder, predictor, decoder."""
    inputs: tuple[str, ...]
    """What the model's forward takes in training, by name."""
    tables: Mapping[str, str | None] = field(hash=False)
    """Keys of the config whose components stand in another registry table than their name says, or in none."""
    training: Mapping[str, Any] = field(hash=False)
    """What the architecture's own recipe gives the trainer besides, by dotted path."""
    traits: ArchitectureTraits = field(hash=False)
    """What is particular about its training."""
    config: Mapping[str, Any] = field(hash=False, repr=False)
    """FunASR's part of the file, at full depth; `render` fills its placeholders."""
    folder: Path | None = None
    """A user's model folder that it was made of, with tokens, statistics and weights; see `from_folder`."""

    @property
    def components(self) -> tuple[tuple[str, str], ...]:
        """FunASR's registry tables and the names that the config takes from them: `("encoder_classes", "SANMEncoder")`.

        A name is the value of the table's own key (`encoder: SANMEncoder`), next to a mapping of its arguments;
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


def render(variant: Variant, *, dimensions: Dimensions, depth: Depth) -> dict[str, Any]:
    """The complete FunASR config of a variant at dimensions and a depth, without the paths of the model folder's files.

    Raises:
        VariantError: attention heads do not divide the hidden size, or the vocabulary has no room for text.
    """
    if problems := dimension_problems(variant, dimensions):
        raise VariantError(
            listing(f"{variant.name} at {dimensions}", problems), next_step="choose other dimensions in the matrix"
        )
    config = copy.deepcopy(dict(variant.config))
    fillings = [(path, dimensions.hidden_size) for path in variant.hidden_size]
    fillings += [(path, dimensions.vocab_size) for path in variant.vocab_size]
    if depth is Depth.REDUCED:
        fillings += variant.reduced
    for path, value in fillings:
        put(config, path, value)
    return config


def dimension_problems(variant: Variant, dimensions: Dimensions) -> tuple[str, ...]:
    """Why a variant cannot have these dimensions; empty if it can."""
    return (
        *_head_problems(variant, dimensions.hidden_size),
        *_vocab_problems(dimensions.vocab_size),
        *_label_problems(variant, dimensions.vocab_size),
    )


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
    largest = variant.traits.largest_label(variant.config)
    if vocab_size <= largest:
        yield f"a vocabulary of {vocab_size} has no token {largest}, which this architecture's labels need"
