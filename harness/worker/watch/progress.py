"""What an epoch's training batches and a validation have come to so far."""

from __future__ import annotations

import collections
import time
from typing import Any

from .batches import BatchFacts, RowsSeen
from .scalars import ScalarCopies


class EpochProgress:
    """The training batches of an epoch so far."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.batches = 0
        self._utterances = 0
        self._without_step = 0
        self._rows = RowsSeen()

    def add(self, facts: BatchFacts) -> None:
        """Another batch."""
        self.batches += 1
        self._without_step += 1
        self._utterances += facts.utterances
        self._rows.add(facts)

    def stepped(self) -> None:
        """An optimizer step has used the batches so far."""
        self._without_step = 0

    def fields(self) -> dict[str, Any]:
        """As `records.EpochEnded`."""
        return {
            "batches": self.batches,
            "utterances": self._utterances,
            "distinct": self._rows.distinct(),
            "batches_without_step": self._without_step,
        }


class ValidationProgress:
    """The evaluation passes so far: their sums, and what is still on its way from a GPU."""

    def __init__(self, began: float | None) -> None:
        """`began` is when the trainer set the evaluation mode; None if it did not."""
        self._ended = time.perf_counter()
        self._began = self._ended if began is None else began
        self._batches = 0
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self._waiting: collections.deque[Any] = collections.deque()

    def add(self, loss: Any, stats: dict[str, Any], event: Any, scalars: ScalarCopies) -> None:
        """Another pass."""
        self._batches += 1
        self._ended = time.perf_counter()
        self._waiting.append((event, loss, stats))
        while self._waiting and (self._waiting[0][0] is None or self._waiting[0][0].query()):
            self._take(scalars)

    def _take(self, scalars: ScalarCopies) -> None:
        _, loss, stats = self._waiting.popleft()
        for name, value in {**stats, "": loss}.items():
            number = scalars.read(value)
            if number is not None:
                self._sums[name] = self._sums.get(name, 0.0) + number
                self._counts[name] = self._counts.get(name, 0) + 1

    def fields(self, scalars: ScalarCopies, complete: bool) -> dict[str, Any]:
        """As `records.Validated`: means over the passes."""
        while complete and self._waiting:
            self._take(scalars)
        means = {name: total / self._counts[name] for name, total in self._sums.items()}
        loss = means.pop("", None)
        return {"batches": self._batches, "loss": loss, "stats": means, "seconds": self._ended - self._began}
