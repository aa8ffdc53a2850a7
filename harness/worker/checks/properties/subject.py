"""What is put to the test: a variant in a release, and the shape of the cell."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.worker.checks.properties.drawing import Example, Wish


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The cell's variant, release and shape, as the properties need to know them."""

    base: Mapping[str, Any]
    """The variant's own config."""
    overlay: str
    groups: Mapping[str, Sequence[str]]
    vocab_size: int
    hidden_size: int

    @property
    def is_paraformer(self) -> bool:
        """Whether the loss is put together as in `Paraformer.forward`; others of the family add parts of their own."""
        return self.base["model"] in ("Paraformer", "ParaformerStreaming")

    @property
    def is_chunked(self) -> bool:
        """Whether the encoder works in chunks."""
        return "chunk_size" in self.base.get("encoder_conf", {})

    @property
    def has_predictor(self) -> bool:
        """Whether a predictor of continuous integrate-and-fire says how many tokens there are."""
        return str(self.base.get("predictor", "")).startswith("Cif")


@dataclass(frozen=True, kw_only=True)
class Property:
    """A sentence about all examples, and how to find one of which it is not true."""

    name: str
    wish: Wish
    holds: Callable[[Example, Subject], None]
    """Raises `Violation` for an example of which it is not true, `Undecided` for one that says nothing."""
    applies: Callable[[Subject], str] = lambda _subject: ""
    """Why it is not asked of this variant; empty when it is."""
    share: int = 1
    """How much of the examples it gets, relative to the others."""
    about_the_predictor: bool = False
    """Whether too few embeddings are its business; elsewhere an example that ends in that says nothing."""
    at_own_shape: bool = False
    """Whether the cell's own vocabulary and hidden size are an example of it."""


def anything(_subject: Subject) -> str:
    """It is asked of every variant."""
    return ""


def only_paraformer(subject: Subject) -> str:
    """It is asked of `Paraformer` and `ParaformerStreaming`."""
    return "" if subject.is_paraformer else f"{subject.base['model']} puts its loss together in its own way"


def only_with_predictor(subject: Subject) -> str:
    """It is asked of models with a CIF predictor."""
    return "" if subject.has_predictor else "the model has no CIF predictor"


def only_chunked(subject: Subject) -> str:
    """It is asked of streaming models."""
    return "" if subject.is_chunked else "the encoder does not work in chunks"
