"""The largest batch that a sampler can make of a user's rows, by FunASR's rules for each `batch_type`.

Every sampler of FunASR shuffles before it makes batches, so whatever rows its rule allows can meet in one. A batch is
padded to its longest row. With `example`, `batch_size` counts rows; with `token` and `length`, rows times the longest
`source_len` (`length` adds `target_len`), and one row that is longer by itself makes a batch of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

BY_ROWS = "example"
DEFAULT_SIZE = 100
"""Of FunASR's samplers before 1.1; the later ones require it."""


@dataclass(frozen=True, kw_only=True)
class RowLength:
    """One row that reaches training."""

    key: str
    line: int
    source: float
    """`source_len`: frames of 10 ms."""
    target: float
    """`target_len`: tokens."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Rows that are trained on at once."""

    rows: int
    frames: float
    """Of the longest, in 10 ms."""
    tokens: float
    """Of the longest text."""
    longest: tuple[RowLength, ...]
    """The rows that can make it, the longest first; only the first few."""


def worst_batch(rows: Sequence[RowLength], batch_type: str, batch_size: int) -> Batch:
    """The batch that takes most memory: the longest row, with as many others as its rule lets in."""
    by_length = sorted(rows, key=lambda row: row.source, reverse=True)
    if batch_type == BY_ROWS:
        return _batch(by_length, min(batch_size, len(rows)), by_length)
    candidates = []
    for first in range(0, len(by_length), max(1, len(by_length) // 64)):
        longest = by_length[first]
        length = longest.source + (longest.target if batch_type == "length" else 0.0)
        count = max(1, min(int(batch_size // max(length, 1.0)), len(by_length) - first))
        candidates.append(_batch(by_length[first:], count, by_length[first:]))
    return max(candidates, key=lambda batch: (batch.rows * batch.frames, batch.frames))


def in_their_type(batch: Batch, rows_that_fit: int, batch_type: str) -> int:
    """The `batch_size` that lets no more than so many of the longest rows into a batch."""
    if batch_type == BY_ROWS:
        return rows_that_fit
    return int(rows_that_fit * (batch.frames + (batch.tokens if batch_type == "length" else 0.0)))


def _batch(rows: Sequence[RowLength], count: int, among: Iterable[RowLength]) -> Batch:
    chosen = tuple(rows[:count])
    # Any row that is no longer may be among them, so the longest text may be too.
    tokens = max((row.target for row in among), default=0.0) if count > 1 else chosen[0].target
    return Batch(rows=count, frames=chosen[0].source, tokens=tokens, longest=chosen[:3])
