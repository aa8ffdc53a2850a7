"""Compares neighbouring segments of a series by the metrics of their trainings; runs nothing.

A step's loss depends on the batch, the weights and the forward pass. The weights depend on the gradients, the learning
rate and the optimizer of the steps before. So the first metric that differs shows where to look.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.compare.drift.curves import CurveSegment, CurveSeries, is_prefix, losses_of, trainer_options_of
from harness.core.cells import Outcome
from harness.core.numbers import any_numbers


@dataclass(frozen=True, kw_only=True)
class FirstDifference:
    """The first step at which one metric differs."""

    figure: str
    """`loss`, `learning rate`, `gradient norm`, or the name of a statistic."""
    step: int
    """Counted from 1."""
    mine: float | None
    other: float | None

    @property
    def relative(self) -> float | None:
        """The difference, relative to the larger value; None where one is no finite number."""
        if self.mine is None or self.other is None or not math.isfinite(self.mine) or not math.isfinite(self.other):
            return None
        return abs(self.mine - self.other) / (max(abs(self.mine), abs(self.other)) or 1.0)


@dataclass(frozen=True, kw_only=True)
class CurveDivergence:
    """Where a segment ends and the next begins."""

    series: str
    number: int
    """Of the divergence in its series, from 0."""
    before: str
    """The last release of the older segment."""
    after: str
    """The first of the newer."""
    between: tuple[str, ...]
    """Releases without a curve between the two; with none of these, and all releases measured, it is exact."""
    mine: Outcome
    other: Outcome
    digests: tuple[str, str]
    steps: tuple[int, int]
    """How many optimizer steps each has."""
    loss: FirstDifference | None
    """None where one curve is the beginning of the other."""
    figures: tuple[FirstDifference, ...]
    """The other metrics that differ, in the order of the step."""
    same_rows: bool | None
    """Whether the batch of the first step with different losses has the same utterances; None if not known."""
    options_gone: tuple[str, ...]
    options_new: tuple[str, ...]
    same_beginning: bool
    """Whether one curve is the beginning of the other."""
    stopped_early: tuple[str, str]
    """What ended each training early, if anything did."""

    @property
    def key(self) -> str:
        """The key of its recording: the same for both trainers where their curves are equal."""
        base, _, entry = self.series.partition("@")
        series = f"{base}/{entry.partition('/')[2]}" if entry else base
        return f"{series} {self.before} {self.after} {self.digests[0]} {self.digests[1]}"

    @property
    def same_asked(self) -> bool:
        """Whether both trainers got the same options."""
        return not self.options_gone and not self.options_new


def curve_divergences(series: CurveSeries) -> tuple[CurveDivergence, ...]:
    """Where the curves of a series change, oldest first."""
    return tuple(
        _divergence(series, number, series.segments[number], series.segments[number + 1])
        for number in range(len(series.segments) - 1)
    )


def _divergence(series: CurveSeries, number: int, before: CurveSegment, after: CurveSegment) -> CurveDivergence:
    mine, other = before.outcomes[-1], after.outcomes[0]
    my_losses, other_losses = losses_of(mine), losses_of(other)
    loss = _first(("loss", my_losses, other_losses))
    option_sets = trainer_options_of(mine), trainer_options_of(other)
    return CurveDivergence(
        series=series.name,
        number=number,
        before=mine.cell.release,
        after=other.cell.release,
        between=series.between(number),
        mine=mine,
        other=other,
        digests=(before.digest, after.digest),
        steps=(len(my_losses), len(other_losses)),
        loss=loss,
        figures=_figures(mine, other),
        same_rows=_same_rows(mine, other, loss.step) if loss else None,
        options_gone=tuple(note for note in option_sets[0] if note not in option_sets[1]),
        options_new=tuple(note for note in option_sets[1] if note not in option_sets[0]),
        same_beginning=is_prefix(my_losses, other_losses) or is_prefix(other_losses, my_losses),
        stopped_early=(before.stopped_early, after.stopped_early),
    )


def _figures(mine: Outcome, other: Outcome) -> tuple[FirstDifference, ...]:
    rows = [
        ("learning rate", _numbers(mine, "learning_rates"), _numbers(other, "learning_rates")),
        ("gradient norm", _numbers(mine, "gradient_norms"), _numbers(other, "gradient_norms")),
    ]
    stats = mine.metrics.get("stats"), other.metrics.get("stats")
    if isinstance(stats[0], Mapping) and isinstance(stats[1], Mapping):
        names = [name for name in stats[0] if name in stats[1] and name != "loss"]
        rows += [(name, any_numbers(stats[0][name]), any_numbers(stats[1][name])) for name in names]
    differences = [difference for row in rows if (difference := _first(row))]
    return tuple(sorted(differences, key=lambda difference: difference.step))


def _numbers(outcome: Outcome, name: str) -> tuple[float | None, ...]:
    return any_numbers(outcome.metrics.get(name))


def _first(row: tuple[str, Sequence[float | None], Sequence[float | None]]) -> FirstDifference | None:
    name, mine, other = row
    for step, (my_value, other_value) in enumerate(zip(mine, other, strict=False), 1):
        if repr(my_value) != repr(other_value):
            return FirstDifference(figure=name, step=step, mine=my_value, other=other_value)
    return None


def _same_rows(mine: Outcome, other: Outcome, step: int) -> bool | None:
    """Whether both steps' forward passes had the same targets, as token ids."""
    my_rows, other_rows = _rows(mine, step), _rows(other, step)
    return None if my_rows is None or other_rows is None else my_rows == other_rows


def _rows(outcome: Outcome, step: int) -> object:
    targets = outcome.metrics.get("targets")
    if not isinstance(targets, Mapping):
        return None
    rows, steps = targets.get("rows"), targets.get("steps")
    if not isinstance(rows, Sequence) or not isinstance(steps, Sequence) or not 0 < step <= len(steps):
        return None
    try:
        return [[rows[index] for index in batch] for batch in steps[step - 1]]
    except (TypeError, IndexError):
        return None
