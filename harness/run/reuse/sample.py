"""Cells that run although they could be reused: whether they end as predicted shows whether reuse is right."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Collection, Hashable

from harness.core.cells import Cell, Check

ONE_IN = 16
"""Of so many units with a cell that could be reused, all such cells of one run."""
_LEAST_ONE_IN = 20
"""Of each check at least one cell in so many, and the first."""


def by_itself(source: random.Random) -> bool:
    """Whether a cell is drawn that costs more than all others of its unit: one of so many, independent of others."""
    return not source.randrange(ONE_IN)


def of_release(cell: Cell) -> Hashable:
    """The unit where there are many releases: to enter one costs as much as a cell."""
    return cell.release


def of_model(cell: Cell) -> Hashable:
    """The unit where there is one release: its models, each of which has its checks in a row."""
    return cell.release, cell.variant, cell.dimensions, cell.depth, cell.device, cell.precision


class ReuseSample:
    """Draws while a run goes on, when it is not known yet how many cells can be reused."""

    def __init__(
        self, checks: Collection[Check], source: random.Random, unit: Callable[[Cell], Hashable] = of_release
    ) -> None:
        self._checks = checks
        self._random = source
        self._unit = unit
        """What is drawn as a whole."""
        self._drawn: dict[Hashable, bool] = {}
        """By unit."""
        self._left, self._place = 1, 1
        """Of the present block, whose first is one unit long."""
        self._offered: Counter[Check] = Counter()
        self._taken: Counter[Check] = Counter()
        self._cells: set[str] = set()
        self._expected: set[tuple[Hashable, Check]] = set()
        """Of drawn units, the checks that have not been offered: counted as taken."""

    def has(self, cell: Cell) -> bool:
        """Whether a cell was drawn."""
        return cell.id in self._cells

    def draws(self, cell: Cell) -> bool:
        """Whether to run this cell, which could be reused and was not offered before."""
        if not self._was_expected(cell):
            self._offered[cell.check] += 1
            lacks = self._taken[cell.check] * _LEAST_ONE_IN < self._offered[cell.check]
            unit = self._unit(cell)
            known = self._drawn.get(unit)
            self._drawn[unit] = (self._next() if known is None else known) or lacks
            if not self._drawn[unit]:
                return False
            self._taken[cell.check] += 1
            if not known:
                self._expect_later_checks(cell)
        self._cells.add(cell.id)
        return True

    def ran(self, cell: Cell, predicted: bool) -> None:
        """Note that a cell ran, because it was drawn or because its release's process had started."""
        if cell.id in self._cells:
            return
        change = int(predicted) - int(self._was_expected(cell))
        self._offered[cell.check] += change
        self._taken[cell.check] += change

    def _expect_later_checks(self, cell: Cell) -> None:
        for check in self._checks:
            if check.position > cell.check.position:
                self._expected.add((self._unit(cell), check))
                self._offered[check] += 1
                self._taken[check] += 1

    def _was_expected(self, cell: Cell) -> bool:
        place = self._unit(cell), cell.check
        expected = place in self._expected
        self._expected.discard(place)
        return expected

    def _next(self) -> bool:
        """One at a random place in each block."""
        drawn = self._left == self._place
        self._left -= 1
        if not self._left:
            self._left, self._place = ONE_IN, self._random.randint(1, ONE_IN)
        return drawn
