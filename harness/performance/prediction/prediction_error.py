"""Predicted and measured memory: the peaks of GPU trainings, and what is predicted for them without a GPU.

A prediction is for the largest batch that the training had, padded as the collator padded it. It is made afresh from
the model, never from what was measured, and stored in the outcome; the report shows the error of each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from harness.core.cells import Cell, Device, Outcome
from harness.core.errors import HarnessError
from harness.core.numbers import any_number

MEASURED = ("peak_allocated_bytes", "peak_reserved_bytes")
LARGEST = "largest_batch"
_PREDICTED = {name: name.replace("peak", "predicted") for name in MEASURED}


@dataclass(frozen=True, kw_only=True)
class TrainingBatch:
    """The largest batch of a training."""

    utterances: int
    frames: int
    """Stacked frames of the longest utterance, as the model gets them."""
    tokens: int
    """Of the longest text."""

    @classmethod
    def of(cls, metrics: Mapping[str, object]) -> TrainingBatch | None:
        """As the training recorded it; None where it did not."""
        recorded = metrics.get(LARGEST)
        if not isinstance(recorded, Mapping):
            return None
        sizes = [size for name in ("utterances", "frames", "tokens") if isinstance(size := recorded.get(name), int)]
        if len(sizes) != 3 or min(sizes) < 1:
            return None
        return cls(utterances=sizes[0], frames=sizes[1], tokens=sizes[2])


Ask = Callable[[Cell, TrainingBatch], Mapping[str, int]]
"""Predicts `predicted_allocated_bytes` and `predicted_reserved_bytes`; raises `HarnessError` where it cannot."""


def unpredicted_trainings(outcomes: Iterable[Outcome]) -> tuple[tuple[Outcome, TrainingBatch], ...]:
    """GPU trainings whose peaks were measured and of which nothing was predicted yet."""
    unpredicted = []
    for outcome in outcomes:
        metrics, batch = outcome.metrics, TrainingBatch.of(outcome.metrics)
        measured = all(any_number(metrics.get(name)) is not None for name in MEASURED)
        predicted = any(any_number(metrics.get(name)) is not None for name in _PREDICTED.values())
        if outcome.cell.device is Device.CUDA and measured and not predicted and batch is not None:
            unpredicted.append((outcome, batch))
    return tuple(unpredicted)


def predicted(outcomes: Iterable[Outcome], ask: Ask, on_lack: Callable[[str], None]) -> Iterator[Outcome]:
    """Those that lacked a prediction, with it; equal predictions are made once.

    Args:
        on_lack: Told of each for which none can be had, and why; it stays as it was.
    """
    known: dict[tuple[object, ...], Mapping[str, int] | HarnessError] = {}
    for outcome, batch in unpredicted_trainings(outcomes):
        cell = outcome.cell
        key = (cell.release, cell.variant, cell.dimensions, cell.depth, cell.precision, batch)
        if key not in known:
            try:
                known[key] = ask(cell, batch)
            except HarnessError as error:
                known[key] = error
        answer = known[key]
        if isinstance(answer, HarnessError):
            on_lack(f"no prediction for {cell.id}: {answer.what}")
        else:
            yield replace(outcome, metrics={**outcome.metrics, **answer})


def error_of(metrics: Mapping[str, object], name: str) -> float | None:
    """By how much a prediction missed one of `MEASURED`, as a share of what was measured; None where one is missing."""
    measured, predicted = any_number(metrics.get(name)), any_number(metrics.get(_PREDICTED[name]))
    return predicted / measured - 1 if measured and predicted is not None else None
