"""A run against the baseline of its machine, in words: the line at a run's end, and the sections of the reports."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.core.cells import Device
from harness.performance.baselines.comparison import CellComparison, MetricComparison, MetricStatus, RunComparison
from harness.performance.baselines.metrics import CURVE, KINDS, LOSS_FIGURES
from harness.performance.baselines.noise import ALPHA
from harness.performance.baselines.records import Baseline
from harness.text import units

ACCEPT = "funasr-harness baseline accept RUN RUN RUN"
_MOST_LISTED = 20


@dataclass(frozen=True, kw_only=True)
class BaselineRow:
    """One figure of one cell, ready to be read."""

    cell: str
    figure: str
    baseline: str
    now: str
    difference: str
    bound: str
    standing: MetricStatus
    words: str


@dataclass(frozen=True, kw_only=True)
class Untold:
    """Cells of which nothing, or not this figure, could be said for one reason."""

    standing: MetricStatus
    reason: str
    cells: tuple[str, ...]

    @property
    def cells_in_words(self) -> str:
        """The one cell, or how many and the first of them."""
        if len(self.cells) == 1:
            return self.cells[0]
        return f"{units.plural(len(self.cells), 'cell')}, such as {self.cells[0]}"


@dataclass(frozen=True, kw_only=True)
class BaselineView:
    """All that is shown of a comparison."""

    tally: str
    """`3 cells: 1 changed, 2 within; 9 figures: 1 changed, 8 within`."""
    origins: tuple[str, ...]
    """A sentence for each baseline that the run was held against."""
    changed: tuple[BaselineRow, ...]
    others: tuple[BaselineRow, ...]
    """Within, without a baseline and without a figure."""
    untold: tuple[Untold, ...]
    alpha: float = ALPHA
    accept: str = ACCEPT


def view(comparison: RunComparison | None) -> BaselineView | None:
    """What is shown; None where there is no cell that a baseline could speak of, and none is expected."""
    if comparison is None or not _expected(comparison):
        return None
    rows = [_row(one.cell, figure) for one in comparison.cells for figure in one.figures if figure.figure]
    return BaselineView(
        tally=_tally(comparison.cells),
        origins=tuple(_origin(one) for one in comparison.baselines),
        changed=tuple(row for row in rows if row.standing is MetricStatus.CHANGED),
        others=tuple(row for row in rows if row.standing is not MetricStatus.CHANGED),
        untold=_untold(comparison.cells),
    )


def line(comparison: RunComparison, cells: Iterable[str] | None = None) -> str:
    """What is said at the end of a run, of all cells or of these; empty where there is nothing to compare."""
    wanted = None if cells is None else set(cells)
    mine = [one for one in comparison.cells if wanted is None or one.cell in wanted]
    if not mine or not _expected(comparison):
        return ""
    changed = [
        _row(one.cell, figure) for one in mine for figure in one.figures if figure.standing is MetricStatus.CHANGED
    ]
    lines = [f"against the baseline: {_tally(mine)}"]
    lines += [f"  changed: {row.cell}: {_sentence(row)}" for row in changed[:_MOST_LISTED]]
    if len(changed) > _MOST_LISTED:
        lines.append(f"  … and {len(changed) - _MOST_LISTED} more, in the report")
    lines += [f"  {_word(one.standing)}: {one.cells_in_words}: {one.reason}" for one in _untold(mine)]
    if changed:
        lines.append(f"  if it is meant, acknowledge it: {ACCEPT}")
    elif any(one.standing is MetricStatus.NO_BASELINE for one in mine):
        lines.append(f"  a baseline takes three runs or more, on a machine that does nothing else: {ACCEPT}")
    return "\n".join(lines)


def _expected(comparison: RunComparison) -> bool:
    """Whether silence would be taken for a pass: on a GPU always, on a CPU only where a baseline was accepted."""
    on_gpu = any(f"/{Device.CUDA}-" in one.cell for one in comparison.cells)
    calibrated = any(one.standing is not MetricStatus.NO_BASELINE for one in comparison.cells)
    return on_gpu or calibrated or bool(comparison.baselines)


def shown(figure: str, value: float | None) -> str:
    """A figure with its unit."""
    if figure == "step_seconds":
        return units.duration(value)
    if figure in (CURVE, *LOSS_FIGURES):
        return units.loss(value)
    return units.UNKNOWN if value is None else f"{value / 2**20:,.1f} MiB"


def words_of(figure: str) -> str:
    """What a figure is called."""
    return KINDS[figure].words if figure in KINDS else "losses, step by step"


def _row(cell: str, one: MetricComparison) -> BaselineRow:
    return BaselineRow(
        cell=cell,
        figure=words_of(one.figure),
        baseline=shown(one.figure, one.baseline),
        now=shown(one.figure, one.now),
        difference=units.UNKNOWN if one.difference is None else f"{100 * one.difference:+.3g} %",
        bound=units.UNKNOWN if one.bound is None else f"{100 * one.bound:.3g} %",
        standing=one.standing,
        words=one.words,
    )


def _sentence(row: BaselineRow) -> str:
    told = f"{row.figure} {row.baseline} → {row.now}, {row.words}"
    return told if row.difference == units.UNKNOWN else f"{told} ({row.difference}, the noise allows {row.bound})"


def _tally(cells: Sequence[CellComparison]) -> str:
    standings = [figure.standing for one in cells for figure in one.figures if figure.figure]
    told = units.plural(len(cells), "cell") + ": " + _counts([one.standing for one in cells])
    return f"{told}; {units.plural(len(standings), 'figure')}: {_counts(standings)}" if standings else told


def _counts(standings: Sequence[MetricStatus]) -> str:
    return ", ".join(f"{count} {_word(word)}" for word in MetricStatus if (count := standings.count(word)))


def _word(standing: MetricStatus) -> str:
    return standing.replace("_", " ")


def _untold(cells: Iterable[CellComparison]) -> tuple[Untold, ...]:
    found: dict[tuple[MetricStatus, str], list[str]] = defaultdict(list)
    for one in cells:
        for figure in one.figures:
            if figure.standing in (MetricStatus.NO_BASELINE, MetricStatus.NO_FIGURE):
                name = f"{words_of(figure.figure)}: " if figure.figure else ""
                found[figure.standing, name + figure.words].append(one.cell)
    return tuple(
        Untold(standing=standing, reason=reason, cells=tuple(cells)) for (standing, reason), cells in found.items()
    )


def _origin(baseline: Baseline) -> str:
    newest = max(baseline.acceptances, key=lambda one: one.accepted)
    commits = {(run.harness_commit or run.harness_version)[:12] for run in newest.runs}
    note = (
        " A CPU's baseline: it shows what became slower or larger here, and tells nothing of a GPU."
        if baseline.key.device is Device.CPU
        else ""
    )
    return (
        f"{baseline.key}: accepted {newest.accepted[:10]} from {units.plural(len(newest.runs), 'run')} of "
        f"{newest.matrix} (sha256 {newest.matrix_sha256[:12]}…), harness {', '.join(sorted(commits))}.{note}"
    )
