"""Compares a run with the baseline of its machine: what is within the noise, and what changed, either way.

A cell is `no_baseline` where there is no baseline for its GPU or processor, driver, torch and precision, none for the
cell, or one of another matrix or corpus; a figure also where the baseline has too few repeats to tell its noise from,
or repeats that scatter too much. That is neither a pass nor a failure. What lies beyond the noise is `changed`: slower
and faster, more memory and less, and other losses alike, because an improvement that nobody acknowledges hides the next
worsening.

Losses are held step by step where every repeat of every cell gave the same to the last digit, as on a CPU. Where they
did not, the first step's loss and the mean of all are compared within the noise of those. The noise, its source and its
error rates are in `harness/performance/baselines/noise.py`; what is smaller than a figure's floor is never a change.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from harness.core.cells import Outcome
from harness.performance.baselines.comparison import CellComparison, MetricComparison, MetricStatus, RunComparison
from harness.performance.baselines.keys import Key, NoKey, key_of
from harness.performance.baselines.metrics import (
    CURVE,
    KINDS,
    LEAST_CURVES,
    LOSS_FIGURES,
    LOSS_FLOOR,
    STORED,
    MeasuredTraining,
    comparable,
    measured,
)
from harness.performance.baselines.noise import LEAST_REPEATS, Noise, allowed, as_share, centre_of
from harness.performance.baselines.records import Acceptance, Baseline, BaselineEntry
from harness.run.provenance import Provenance


def compare(outcomes: Sequence[Outcome], origin: Provenance, baselines: Iterable[Baseline]) -> RunComparison:
    """Hold the judged outcomes of a run, made where `origin` says, against the baselines.

    Outcomes that a baseline could not speak of are left out: other checks, and what did not pass, which the verdicts
    are about, unless a baseline has the cell.
    """
    known = {baseline.key: baseline for baseline in baselines}
    matches = [match for outcome in outcomes if (match := _matched(outcome, origin, known)) is not None]
    comparisons = sum(len(match.asked) for match in matches)
    used = {match.cell.key for match in matches if match.asked or any(figure.figure for figure in match.cell.figures)}
    return RunComparison(
        cells=tuple(_compared(match, comparisons) for match in matches),
        baselines=tuple(baseline for key, baseline in known.items() if key in used),
    )


@dataclass(frozen=True, kw_only=True)
class _TestedFigure:
    """A figure that is to be compared within its noise."""

    figure: str
    now: float
    repeats: tuple[float, ...]
    noise: Noise


@dataclass(frozen=True, kw_only=True)
class _Matched:
    """A cell with what was found for it, before it is known how many comparisons the run makes."""

    cell: CellComparison
    """With what is settled already."""
    asked: tuple[_TestedFigure, ...] = ()


def _matched(outcome: Outcome, origin: Provenance, known: Mapping[Key, Baseline]) -> _Matched | None:
    key = key_of(outcome, origin)
    name = outcome.cell.id
    if isinstance(key, NoKey):
        return _without_figures(name, None, MetricStatus.NO_BASELINE, key.reason) if comparable(outcome) else None
    baseline = known.get(key)
    entry = baseline.cells.get(name) if baseline else None
    if not comparable(outcome):
        return _without_figures(name, key, MetricStatus.NO_FIGURE, f"it {outcome.status}") if entry else None
    if baseline is None or entry is None:
        lack = f"no baseline for {key}" if baseline is None else "the baseline does not have this cell"
        return _without_figures(name, key, MetricStatus.NO_BASELINE, lack)
    acceptance = baseline.acceptance_of(entry)
    if other := _other_work(acceptance, origin):
        return _without_figures(name, key, MetricStatus.NO_BASELINE, other)
    return _figures(CellComparison(cell=name, key=key, figures=()), measured(outcome.metrics), baseline, entry)


def _without_figures(name: str, key: Key | None, standing: MetricStatus, words: str) -> _Matched:
    figure = MetricComparison(figure="", standing=standing, words=words)
    return _Matched(cell=CellComparison(cell=name, key=key, figures=(figure,)))


def _other_work(acceptance: Acceptance, origin: Provenance) -> str:
    """Why a cell of the same name was not the same work; empty where it was."""
    if acceptance.matrix_sha256 != origin.matrix_sha256:
        return f"the baseline is of another matrix ({acceptance.matrix}, sha256 {acceptance.matrix_sha256[:12]}…)"
    if acceptance.corpus_sha256 != origin.corpus_sha256:
        return "the baseline is of another corpus"
    return ""


def _figures(cell: CellComparison, now: MeasuredTraining, baseline: Baseline, entry: BaselineEntry) -> _Matched:
    decided, to_test = [], []
    acceptance, tolerated = baseline.acceptance_of(entry), baseline.tolerated(entry)
    names = list(STORED)
    if acceptance.equal_curves or len(entry.curves) < LEAST_CURVES or now.curve is None:
        decided.append(_curve(now.curve, entry.curves))
    elif len({len(now.curve), *map(len, entry.curves)}) > 1:
        decided.append(_another_length(now.curve, entry.curves[-1]))
    else:
        names += LOSS_FIGURES
    for name in names:
        value, repeats = now.value(name), entry.values(name)
        if value is not None and name in tolerated:
            to_test.append(_TestedFigure(figure=name, now=value, repeats=repeats, noise=acceptance.noise[name]))
        elif value is not None or repeats:
            decided.append(_unasked(name, value, repeats))
    return _Matched(cell=replace(cell, figures=tuple(decided)), asked=tuple(to_test))


def _unasked(name: str, value: float | None, repeats: Sequence[float]) -> MetricComparison:
    centre = centre_of(repeats) if repeats else None
    if value is None:
        return MetricComparison(
            figure=name, standing=MetricStatus.NO_FIGURE, words="no figure in this run", baseline=centre
        )
    words = _too_few(len(repeats)) if repeats else "no figure in the baseline"
    return MetricComparison(
        figure=name,
        standing=MetricStatus.NO_BASELINE,
        words=words,
        baseline=centre,
        now=value,
        difference=value / centre - 1 if centre else None,
    )


def _too_few(repeats: int) -> str:
    return f"its noise is not known: measured {repeats} of {LEAST_REPEATS} times that are needed"


def _curve(now: Sequence[float] | None, curves: Sequence[Sequence[float]]) -> MetricComparison:
    """Losses held step by step; every repeat had the same."""
    if now is None:
        return MetricComparison(figure=CURVE, standing=MetricStatus.NO_FIGURE, words="no figure in this run")
    if len(curves) < LEAST_CURVES:
        words = _too_few(len(curves))
        return MetricComparison(figure=CURVE, standing=MetricStatus.NO_BASELINE, words=words, now=now[-1])
    then = curves[-1]
    if len(now) != len(then):
        return _another_length(now, then)
    differences = [abs(a - b) / max(abs(b), 1e-12) for a, b in zip(now, then, strict=True)]
    worst = max(range(len(differences)), key=differences.__getitem__)
    beyond = [step for step, difference in enumerate(differences, 1) if difference > LOSS_FLOOR]
    return MetricComparison(
        figure=CURVE,
        standing=MetricStatus.CHANGED if beyond else MetricStatus.WITHIN,
        words=f"other losses from step {beyond[0]} on" if beyond else "",
        baseline=then[worst],
        now=now[worst],
        difference=(now[worst] - then[worst]) / max(abs(then[worst]), 1e-12),
        bound=LOSS_FLOOR,
    )


def _another_length(now: Sequence[float], then: Sequence[float]) -> MetricComparison:
    words = f"other losses: {len(now)} steps where the baseline has {len(then)}"
    return MetricComparison(figure=CURVE, standing=MetricStatus.CHANGED, words=words, baseline=then[-1], now=now[-1])


def _compared(match: _Matched, comparisons: int) -> CellComparison:
    order = [*KINDS, CURVE]
    comparisons_of_cell = [*match.cell.figures, *(_against(tested, comparisons) for tested in match.asked)]
    comparisons_of_cell.sort(key=lambda figure: order.index(figure.figure) if figure.figure else -1)
    return replace(match.cell, figures=tuple(comparisons_of_cell))


def _against(tested: _TestedFigure, comparisons: int) -> MetricComparison:
    kind, centre = KINDS[tested.figure], centre_of(tested.repeats)
    noise = allowed(tested.noise, tested.repeats, comparisons=comparisons)
    bound = max(noise, math.log1p(kind.relative_floor))
    difference, share = tested.now / centre - 1, as_share(bound)
    if share is None:
        return MetricComparison(
            figure=tested.figure,
            standing=MetricStatus.NO_BASELINE,
            words="its repeats scatter so much that it could double unseen",
            baseline=centre,
            now=tested.now,
            difference=difference,
        )
    beyond = abs(math.log(tested.now / centre)) > bound and abs(tested.now - centre) > kind.floor
    direction = kind.up if tested.now > centre else kind.down
    return MetricComparison(
        figure=tested.figure,
        standing=MetricStatus.CHANGED if beyond else MetricStatus.WITHIN,
        words=direction if beyond else "",
        baseline=centre,
        now=tested.now,
        difference=difference,
        bound=max(share, kind.floor / centre),
    )
