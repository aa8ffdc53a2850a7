"""The largest batch that may still come, and the memory that it will need at the growth that was seen.

Every sampler of FunASR shuffles, so the batch that decides whether a card suffices may come late in an epoch. Its size
follows from the rows' own lengths and the sampler's rule (`harness.preflight.forecast.worst_batch`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import HarnessError
from harness.core.numbers import mapping, number
from harness.preflight.command import read_words
from harness.preflight.forecast.worst_batch import BY_ROWS, DEFAULT_SIZE, Batch, RowLength, worst_batch
from harness.text.units import memory
from harness.watch.forecast import Forecast
from harness.watch.records import ProcessStarted, TrainingStarted
from harness.watch.state import RankState

MOST_ROWS = 200_000
LONGEST_LINE = 2**20
LARGER = 1.05
"""By how much the coming batch exceeds what was seen before it is worth a line."""


@dataclass(frozen=True, kw_only=True)
class ComingBatch:
    """The largest batch that the sampler can make of the rows of a training."""

    batch: Batch
    padded: float
    """Utterances × stacked frames of the longest, as in the records."""


def coming_batch(process: ProcessStarted, training: TrainingStarted) -> ComingBatch | None:
    """From the rows that the command names and the configuration in force; None where either is not known."""
    path = _rows_file(process)
    stacked = number(mapping(training.in_force.get("frontend_conf")).get("lfr_n"))
    data = mapping(training.in_force.get("dataset_conf"))
    if path is None or stacked is None or stacked < 1:
        return None
    rows = [row for row in _rows(path) if row.source <= (number(data.get("max_source_length")) or row.source)]
    if not rows:
        return None
    size = number(data.get("batch_size")) or DEFAULT_SIZE
    batch = worst_batch(rows, str(data.get("batch_type") or BY_ROWS), max(1, int(size)))
    return ComingBatch(batch=batch, padded=batch.rows * batch.frames / stacked)


def _rows_file(process: ProcessStarted) -> Path | None:
    try:
        named = read_words([word for word in process.argv[1:] if word.startswith("+")]).train
    except HarnessError:
        return None
    return Path(process.working_directory) / named if named else None


def _rows(path: Path) -> Iterator[RowLength]:
    if not path.is_file():
        return
    with path.open("rb") as file:
        for line in range(1, MOST_ROWS + 1):
            text = file.readline(LONGEST_LINE)
            if not text:
                return
            try:
                row = json.loads(text)
            except (ValueError, RecursionError):
                continue
            source = number(row.get("source_len")) if isinstance(row, Mapping) else None
            if source is not None and source > 0:
                target = number(row.get("target_len")) or 0.0
                yield RowLength(key=str(row.get("key", f"line {line}")), line=line, source=source, target=target)


def forecast_of(coming: ComingBatch, ranks: Sequence[RankState]) -> Forecast | None:
    """Whether it may still come to a rank, and the memory that it needs.

    None once a rank has had a batch of about its size, and where batches are not shuffled and an epoch is over.
    """
    largest_so_far = max((rank.largest_padded for rank in ranks), default=0)
    if not largest_so_far or coming.padded < LARGER * largest_so_far or any(_repeats(rank) for rank in ranks):
        return None
    longest = coming.batch.longest[0].key
    size = f"{coming.batch.rows} utterances, the longest {coming.batch.frames:.0f} frames of 10 ms ({longest})"
    needed = needed_memory(max((rank.peaks for rank in ranks), key=len), coming.padded)
    return Forecast(
        label="the largest batch",
        value=f"may still come, {coming.padded / largest_so_far:.1f} times the largest so far"
        + (f"; predicted to need {memory(needed)}" if needed is not None else ""),
        detail=size,
    )


def _repeats(rank: RankState) -> bool:
    """Whether a rank's batches are those of the epochs before: then none is larger."""
    dataset_conf = mapping(rank.training.in_force.get("dataset_conf")) if rank.training else {}
    return dataset_conf.get("shuffle") is False and bool(rank.epochs)


def needed_memory(peaks: Sequence[tuple[float, float]], padded: float) -> float | None:
    """Peak bytes of a batch of so many padded frames, in a line through the peaks that were seen.

    Args:
        peaks: Padded frames and allocated bytes each time a batch raised the peak, three or more.
    """
    if len(peaks) < 3:
        return None
    middle = sum(size for size, _ in peaks) / len(peaks)
    level = sum(used for _, used in peaks) / len(peaks)
    spread = sum((size - middle) ** 2 for size, _ in peaks)
    if not spread:
        return None
    slope = sum((size - middle) * (used - level) for size, used in peaks) / spread
    return level + slope * (padded - middle) if slope > 0 else None
