"""The cells of a run in batches, each of which one node runs in a process tree of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from harness.config.shards import dependent_groups
from harness.core.cells import Cell, Device, Outcome

_LEAST_SECONDS, _MOST_SECONDS = 60.0, 600.0
"""Each batch begins with importing torch, which takes seconds; and what is lost with a node is at most a batch."""
_BATCHES_PER_PLACE = 4
"""So many batches for each that can run at once, so that none runs alone for long at the end."""


@dataclass(frozen=True, kw_only=True)
class CellBatch:
    """Cells that one node runs."""

    number: int
    cells: tuple[Cell, ...]
    gpus: int
    """GPUs that it needs at once; 0 for cells on a CPU."""
    known: tuple[Outcome, ...] = ()
    """Outcomes, not judged yet, that its cells depend on: of cells of this batch, from before it was lost."""
    losses: int = 0
    """How often it was lost with its node."""

    def after_loss(self, outcomes: Sequence[Outcome]) -> CellBatch:
        """What is left of it: the cells without an outcome.

        Args:
            outcomes: What came before it was lost; those cells do not run again, whatever became of them.
        """
        finished = {outcome.cell for outcome in outcomes}
        left = tuple(cell for cell in self.cells if cell not in finished)
        return replace(self, cells=left, known=(*self.known, *outcomes), losses=self.losses + 1)


def make_batches(
    cells: Sequence[Cell], seconds: Callable[[Cell], float], *, places: int, gpus_for: Callable[[Cell], int]
) -> list[CellBatch]:
    """Batches of about the same duration, the longest first; cells that depend on each other are in one.

    Args:
        seconds: How long a cell is expected to take.
        places: How many batches can run at once.
        gpus_for: How many GPUs a cell has to itself.
    """
    total_seconds = sum(map(seconds, cells))
    enough = min(_MOST_SECONDS, max(_LEAST_SECONDS, total_seconds / (_BATCHES_PER_PLACE * max(1, places))))
    batches: list[list[Cell]] = []
    for on_gpu in (True, False):
        filling: list[Cell] = []
        for group in dependent_groups(cells):
            if any(cell.device is Device.CUDA for cell in group) is not on_gpu:
                continue
            filling = [*filling, *group]
            if sum(map(seconds, filling)) >= enough:
                batches.append(filling)
                filling = []
        if filling:
            batches.append(filling)
    batches.sort(key=lambda batch: -sum(map(seconds, batch)))
    return [
        CellBatch(number=number, cells=tuple(batch), gpus=max(map(gpus_for, batch)))
        for number, batch in enumerate(batches)
    ]
