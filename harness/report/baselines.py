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
    """A sentence for each baseline that the run was compared with."""
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
    rows = [_row(cell.cell, figure) for cell in comparison.cells for figure in cell.figures if figure.figure]
    return BaselineView(
        tally=_tally(comparison.cells),
        origins=tuple(_origin(baseline) for baseline in comparison.baselines),
        changed=tuple(row for row in rows if row.standing is MetricStatus.CHANGED),
        others=tuple(row for row in rows if row.standing is not MetricStatus.CHANGED),
        untold=_without_comparison(comparison.cells),
    )


def line(comparison: RunComparison, cells: Iterable[str] | None = None) -> str:
    """What is said at the end of a run, of all cells or of these; empty where there is nothing to compare."""
    selected = None if cells is None else set(cells)
    compared = [cell for cell in comparison.cells if selected is None or cell.cell in selected]
    if not compared or not _expected(comparison):
        return ""
    changed = [
        _row(cell.cell, figure)
        for cell in compared
        for figure in cell.figures
        if figure.standing is MetricStatus.CHANGED
    ]
    lines = [f"against the baseline: {_tally(compared)}"]
    lines += [f"  changed: {row.cell}: {_sentence(row)}" for row in changed[:_MOST_LISTED]]
    if len(changed) > _MOST_LISTED:
        lines.append(f"  … and {len(changed) - _MOST_LISTED} more, in the report")
    lines += [
        f"  {_word(untold.standing)}: {untold.cells_in_words}: {untold.reason}"
        for untold in _without_comparison(compared)
    ]
    if changed:
        lines.append(f"  if it is meant, acknowledge it: {ACCEPT}")
    elif any(cell.standing is MetricStatus.NO_BASELINE for cell in compared):
        lines.append(f"  a baseline takes three runs or more, on a machine that does nothing else: {ACCEPT}")
    return "\n".join(lines)


def _expected(comparison: RunComparison) -> bool:
    """Whether silence would be taken for a pass: on a GPU always, on a CPU only where a baseline was accepted."""
    on_gpu = any(f"/{Device.CUDA}-" in cell.cell for cell in comparison.cells)
    calibrated = any(cell.standing is not MetricStatus.NO_BASELINE for cell in comparison.cells)
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


def _row(cell: str, metric: MetricComparison) -> BaselineRow:
    return BaselineRow(
        cell=cell,
        figure=words_of(metric.figure),
        baseline=shown(metric.figure, metric.baseline),
        now=shown(metric.figure, metric.now),
        difference=units.UNKNOWN if metric.difference is None else f"{100 * metric.difference:+.3g} %",
        bound=units.UNKNOWN if metric.bound is None else f"{100 * metric.bound:.3g} %",
        standing=metric.standing,
        words=metric.words,
    )


def _sentence(row: BaselineRow) -> str:
    comparison_text = f"{row.figure} {row.baseline} → {row.now}, {row.words}"
    return (
        comparison_text
        if row.difference == units.UNKNOWN
        else f"{comparison_text} ({row.difference}, the noise allows {row.bound})"
    )


def _tally(cells: Sequence[CellComparison]) -> str:
    standings = [figure.standing for cell in cells for figure in cell.figures if figure.figure]
    text = units.plural(len(cells), "cell") + ": " + _counts([cell.standing for cell in cells])
    return f"{text}; {units.plural(len(standings), 'figure')}: {_counts(standings)}" if standings else text


def _counts(standings: Sequence[MetricStatus]) -> str:
    return ", ".join(f"{count} {_word(word)}" for word in MetricStatus if (count := standings.count(word)))


def _word(standing: MetricStatus) -> str:
    return standing.replace("_", " ")


def _without_comparison(cells: Iterable[CellComparison]) -> tuple[Untold, ...]:
    cells_by_reason: dict[tuple[MetricStatus, str], list[str]] = defaultdict(list)
    for cell in cells:
        for figure in cell.figures:
            if figure.standing in (MetricStatus.NO_BASELINE, MetricStatus.NO_FIGURE):
                name = f"{words_of(figure.figure)}: " if figure.figure else ""
                cells_by_reason[figure.standing, name + figure.words].append(cell.cell)
    return tuple(
        Untold(standing=standing, reason=reason, cells=tuple(cells))
        for (standing, reason), cells in cells_by_reason.items()
    )


def _origin(baseline: Baseline) -> str:
    newest = max(baseline.acceptances, key=lambda acceptance: acceptance.accepted)
    commits = {(run.harness_commit or run.harness_version)[:12] for run in newest.runs}
    note = (
        " A CPU's baseline: it shows what became slower or larger here, and says nothing about a GPU."
        if baseline.key.device is Device.CPU
        else ""
    )
    return (
        f"{baseline.key}: accepted {newest.accepted[:10]} from {units.plural(len(newest.runs), 'run')} of "
        f"{newest.matrix} (sha256 {newest.matrix_sha256[:12]}…), harness {', '.join(sorted(commits))}.{note}"
    )
