"""How much the benchmarks measure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is measured."""

    releases: int | None = None
    """So many, spread over all that are published; None for all."""
    shapes: tuple[tuple[int, ...], tuple[int, ...]] = ((8404, 8501), (320, 512))
    """Vocabulary sizes and hidden sizes."""
    sample: int = 8
    """Cells that are run the naive way."""
    repetitions: int = 5
    """Of what is short."""
    pairs: int = 5
    """Trainings with and without the observer."""
    epoch: int = 24
    """Optimizer steps of an epoch."""


SIZES = {
    "full": Size(),
    "tiny": Size(releases=2, shapes=((8404,), (320,)), sample=2, repetitions=1, pairs=1, epoch=4),
}
