"""Which releases' processes start, and when: of those whose cells probably end alike, one at first.

A cell can only be left out while its release's process has not been started. So a release waits while one runs that
is the same in everything that cells of this kind are known to use, and starts only if that one's record differs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from harness.core.cells import Cell
from harness.core.wire import PlannedCell, ReleaseBatch
from harness.run.plan import Plan
from harness.run.reuse.reuse import Reuse


class Admission:
    """Says which batches of a plan may start."""

    def __init__(self, plan: Plan, reuse: Reuse) -> None:
        self._reuse = reuse
        self._cells: Mapping[int, Cell] = plan.cells
        self._jobs = plan.settings.jobs
        self._batches = {batch.index: batch for batch in _spread(plan.batches)}
        self.restart()

    def restart(self) -> None:
        """The process tree has ended and is started again: nothing runs."""
        self._waiting = dict(self._batches)
        self._admitted: dict[int, ReleaseBatch] = {}
        self.may_run: set[int] = set()
        """Numbers of the cells whose batch may have a process by now."""

    def next(self, settled: Collection[int]) -> list[int]:
        """Admit as many batches as can run now.

        Args:
            settled: The cells that have an outcome.

        Returns:
            Their indexes in the plan.
        """
        self._admitted = {index: batch for index, batch in self._admitted.items() if _left(batch, settled)}
        admitted: list[int] = []
        settled_cells = frozenset(settled)
        base_first = self._reuse.awaits_base(
            cell for number, cell in self._cells.items() if number not in settled_cells
        )
        for index, batch in list(self._waiting.items()):
            if len(self._admitted) >= self._jobs:
                break
            left = _left(batch, settled)
            if not left:
                del self._waiting[index]
            elif batch.foreign() <= settled_cells and not (
                (base_first and self._may_take_over(left)) or self._may_be_spared(left, settled)
            ):
                self._admitted[index] = self._waiting.pop(index)
                self.may_run.update(cell.number for cell in batch.cells)
                admitted.append(index)
        return admitted

    def _may_take_over(self, left: Iterable[PlannedCell]) -> bool:
        """Whether one of these cells may take over an outcome of the base."""
        return any(cell.release != self._reuse.base and self._reuse.answers(cell) for cell, _ in self._with_cells(left))

    def _may_be_spared(self, left: Iterable[PlannedCell], settled: Collection[int]) -> bool:
        """Whether what runs may show that one of these cells need not run."""
        waiting = self._with_cells(left)
        running = self._with_cells(cell for batch in self._admitted.values() for cell in _left(batch, settled))
        return any(
            self._reuse.probably_alike(waiting_cell, running_cell)
            for waiting_cell in waiting
            for running_cell in running
        )

    def _with_cells(self, planned: Iterable[PlannedCell]) -> list[tuple[Cell, Mapping[str, Any]]]:
        """The cells with their requests; what finds out an order of registrations is none."""
        return [
            (self._cells[planned_cell.number], planned_cell.request)
            for planned_cell in planned
            if planned_cell.number in self._cells
        ]


def _left(batch: ReleaseBatch, settled: Collection[int]) -> list[PlannedCell]:
    return [cell for cell in batch.cells if cell.number not in settled]


def _spread(batches: Sequence[ReleaseBatch]) -> list[ReleaseBatch]:
    """What entering takes first; then the first batch, the last, and so on by halves: neighbours are mostly alike."""
    imports = [batch for batch in batches if all(cell.informs for cell in batch.cells)]
    others = [batch for batch in batches if batch not in imports]
    order: dict[int, None] = dict.fromkeys((0, len(others) - 1)) if others else {}
    step = len(others)
    while step > 1:
        step = -(-step // 2)
        order |= dict.fromkeys(range(step, len(others), step))
    return imports + [others[place] for place in order]
