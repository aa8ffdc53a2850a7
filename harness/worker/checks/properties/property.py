"""Properties: the model under test, when a property applies, and when two values count as equal.

Values that are equal on paper differ by rounding, because sums are taken in another order. Comparisons run in double
precision, where that is about 1e-15 of the value. But parts of some predictors stay in single precision (`cif`
adds up in float32, `cif_v1` rounds its sums to it), which leaves about 1e-7 for each token. `TOLERANCE` is a hundred
times more. A fault (a padded frame that counts, a future frame that is seen) changes a value by about the frame's share
in it: a hundredth and more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.worker.checks.properties.examples import Example, ExampleSpec


@dataclass(frozen=True, kw_only=True)
class ModelUnderTest:
    """The cell's variant, release and dimensions."""

    base: Mapping[str, Any]
    """The variant's own config."""
    install_dir: str
    groups: Mapping[str, Sequence[str]]
    vocab_size: int
    hidden_size: int

    @property
    def is_paraformer(self) -> bool:
        """Whether the loss is that of `Paraformer.forward`; other models of the family add parts of their own."""
        return self.base["model"] in ("Paraformer", "ParaformerStreaming")

    @property
    def is_chunked(self) -> bool:
        """Whether the encoder works in chunks."""
        return "chunk_size" in self.base.get("encoder_conf", {})

    @property
    def has_predictor(self) -> bool:
        """Whether a continuous integrate-and-fire (CIF) predictor predicts the number of tokens."""
        return str(self.base.get("predictor", "")).startswith("Cif")


@dataclass(frozen=True, kw_only=True)
class Property:
    """A statement about all examples, and how to search for a counter-example."""

    name: str
    spec: ExampleSpec
    holds: Callable[[Example, ModelUnderTest], None]
    """Raises `Violation` for a counter-example, `Undecided` for an example that decides nothing."""
    applies: Callable[[ModelUnderTest], str] = lambda _tested: ""
    """Why it does not apply to this variant; empty if it does."""
    share: int = 1
    """Its share of the examples, relative to the other properties."""
    about_the_predictor: bool = False
    """Whether too few embeddings violate it; for other properties such an example decides nothing."""
    at_own_dimensions: bool = False
    """Whether the cell's own vocabulary and hidden size are one of its examples."""


def every_variant(_tested: ModelUnderTest) -> str:
    """Applies to every variant."""
    return ""


def only_paraformer(tested: ModelUnderTest) -> str:
    """Applies to `Paraformer` and `ParaformerStreaming`."""
    return "" if tested.is_paraformer else f"{tested.base['model']} composes its loss differently"


def only_with_predictor(tested: ModelUnderTest) -> str:
    """Applies to models with a CIF predictor."""
    return "" if tested.has_predictor else "the model has no CIF predictor"


def only_chunked(tested: ModelUnderTest) -> str:
    """Applies to streaming models."""
    return "" if tested.is_chunked else "the encoder has no chunks"


class Violation(AssertionError):
    """A property does not hold for an example; the message has the values."""


class Undecided(Exception):
    """Rounding alone decides this example, so it is discarded."""


class TooFewEmbeddings(Undecided):
    """The predictor gave fewer embeddings than tokens, and the forward pass failed.

    A violation only for properties about the predictor: else all properties would report it.
    """


TOLERANCE = 1e-5
"""Relative to the value or to 1, whichever is larger."""


def check_equal(subject: str, first: float | None, second: float | None, *, tolerance: float = TOLERANCE) -> None:
    """Compare two values; two missing ones are equal.

    Raises:
        Violation: they differ by more than the tolerance, only one exists, or one is not finite.
    """
    if first is None and second is None:
        return
    if first is None or second is None:
        raise Violation(f"{subject}: {first} and {second}")
    if not (math.isfinite(first) and math.isfinite(second)):
        raise Violation(f"{subject}: {first:.9g} and {second:.9g}, not finite")
    if abs(first - second) > tolerance * max(1.0, abs(first), abs(second)):
        raise Violation(f"{subject}: {first:.9g} and {second:.9g}, {abs(first - second):.3g} apart")


def check_equal_gradients(subject: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> None:
    """Compare the gradients of all parameters, relative to the largest of them.

    Raises:
        Violation: names the parameter with the largest difference.
    """
    if first.keys() != second.keys():
        names = sorted(first.keys() ^ second.keys())
        raise Violation(f"{subject}: only one of the two has a gradient of {', '.join(names[:4])}")
    size = max((float(gradient.abs().max()) for gradient in first.values() if gradient.numel()), default=0.0)
    worst, distance = "", 0.0
    for name, gradient in first.items():
        if not bool(gradient.isfinite().all() and second[name].isfinite().all()):
            raise Violation(f"{subject}: the gradient of {name} is not finite")
        difference = float((gradient - second[name]).abs().max()) if gradient.numel() else 0.0
        if difference > distance:
            worst, distance = name, difference
    # A gradient sums many products, so its rounding is relative to the largest one, not to its own size.
    if distance > TOLERANCE * max(1.0, size):
        raise Violation(
            f"{subject}: the gradients of {worst} are {distance:.3g} apart, the largest gradient is {size:.3g}"
        )
