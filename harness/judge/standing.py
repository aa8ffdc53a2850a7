"""How a run stands against the baseline of its machine, figure by figure; `harness/judge/baseline.py` tells it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from harness.baselines.keys import Key
from harness.baselines.records import Baseline


class Standing(StrEnum):
    """A figure, or a cell, against the baseline; the gravest first."""

    CHANGED = "changed"
    UNCALIBRATED = "uncalibrated"
    NO_FIGURE = "no_figure"
    WITHIN = "within"


@dataclass(frozen=True, kw_only=True)
class Against:
    """One figure of a cell against the baseline."""

    figure: str
    """By the names of `KINDS`, or `losses`; empty for the cell as a whole."""
    standing: Standing
    words: str = ""
    """`slower`, `less memory`, `other losses`, …, where it changed; else why it could not be told, or nothing."""
    baseline: float | None = None
    """Seconds, bytes or a loss, as the next."""
    now: float | None = None
    difference: float | None = None
    """Relative to the baseline; of losses step by step the largest of any step."""
    bound: float | None = None
    """The largest difference that counts as none: relative, upwards; downwards it is a little smaller."""


@dataclass(frozen=True, kw_only=True)
class CellAgainst:
    """One cell against the baseline."""

    cell: str
    key: Key | None
    figures: tuple[Against, ...]

    @property
    def standing(self) -> Standing:
        """The gravest of its figures; a figure that could not be had says nothing of the others."""
        found = {one.standing for one in self.figures}
        if Standing.WITHIN in found and Standing.CHANGED not in found and Standing.UNCALIBRATED not in found:
            return Standing.WITHIN
        return next((word for word in Standing if word in found), Standing.NO_FIGURE)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A run against the baselines that are here."""

    cells: tuple[CellAgainst, ...] = ()
    """Those that a baseline could speak of, in the run's order."""
    baselines: tuple[Baseline, ...] = ()
    """Those that any of them was held against."""

    def changed(self, cells: Iterable[str] | None = None) -> bool:
        """Whether anything changed, of all cells or of these."""
        wanted = None if cells is None else set(cells)
        return any(one.standing is Standing.CHANGED for one in self.cells if wanted is None or one.cell in wanted)

    @property
    def counts(self) -> Mapping[Standing, int]:
        """How many cells stand how."""
        return Counter(one.standing for one in self.cells)
