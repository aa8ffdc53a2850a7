"""Records of a comparison between a run and the baseline of its machine; `compare.py` makes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from harness.performance.baselines.keys import Key
from harness.performance.baselines.records import Baseline


class MetricStatus(StrEnum):
    """A figure, or a cell, against the baseline; the gravest first."""

    CHANGED = "changed"
    NO_BASELINE = "no_baseline"
    NO_FIGURE = "no_figure"
    WITHIN = "within"


@dataclass(frozen=True, kw_only=True)
class MetricComparison:
    """One figure of a cell against the baseline."""

    figure: str
    """By the names of `KINDS`, or `losses`; empty for the cell as a whole."""
    standing: MetricStatus
    words: str = ""
    """`slower`, `less memory`, `other losses`, …, where it changed; else why it could not be compared, or nothing."""
    baseline: float | None = None
    """Seconds, bytes or a loss, as the next."""
    now: float | None = None
    difference: float | None = None
    """Relative to the baseline; of losses step by step the largest of any step."""
    bound: float | None = None
    """The largest difference that counts as none: relative, upwards; downwards it is a little smaller."""


@dataclass(frozen=True, kw_only=True)
class CellComparison:
    """One cell against the baseline."""

    cell: str
    key: Key | None
    figures: tuple[MetricComparison, ...]

    @property
    def standing(self) -> MetricStatus:
        """The gravest of its figures; a figure that could not be had says nothing of the others."""
        statuses = {figure.standing for figure in self.figures}
        if (
            MetricStatus.WITHIN in statuses
            and MetricStatus.CHANGED not in statuses
            and MetricStatus.NO_BASELINE not in statuses
        ):
            return MetricStatus.WITHIN
        return next((word for word in MetricStatus if word in statuses), MetricStatus.NO_FIGURE)


@dataclass(frozen=True, kw_only=True)
class RunComparison:
    """A run against the baselines that are here."""

    cells: tuple[CellComparison, ...] = ()
    """Those that a baseline could speak of, in the run's order."""
    baselines: tuple[Baseline, ...] = ()
    """Those that any of them was compared with."""

    def changed(self, cells: Iterable[str] | None = None) -> bool:
        """Whether anything changed, of all cells or of these."""
        chosen = None if cells is None else set(cells)
        return any(
            cell.standing is MetricStatus.CHANGED for cell in self.cells if chosen is None or cell.cell in chosen
        )

    @property
    def counts(self) -> Mapping[MetricStatus, int]:
        """How many cells stand how."""
        return Counter(cell.standing for cell in self.cells)
