"""Releases in groups of equal loss curves, where the groups part, and why as far as it is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.compare.drift.causes import DriftCause, cause_of
from harness.compare.drift.curves import CurveSegment, CurveSeries, curve_series, relation
from harness.compare.drift.evidence import CurveDivergence, curve_divergences
from harness.compare.drift.recordings import DivergenceRecording
from harness.core.cells import Outcome
from harness.core.release_order import Order, Span
from harness.report.learning import CurveGroup, CurveKey, curve_key
from harness.rules.verdicts import JudgedOutcome


@dataclass(frozen=True, kw_only=True)
class Group:
    """Neighbouring releases with one curve."""

    curve: CurveGroup
    """The picture and number that it has in the section about learning."""
    spans: tuple[Span, ...]
    steps: int
    notes: tuple[str, ...]
    """What else is to be said: that it breaks off, or that the curve came before."""


@dataclass(frozen=True, kw_only=True)
class DriftSeries:
    """The releases of one question."""

    question: str
    groups: tuple[Group, ...]
    without: tuple[Span, ...]
    """Releases without a curve."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A parting, in all the lanes that it shows in."""

    number: int
    before: str
    after: str
    between: tuple[str, ...]
    """Published releases between the two of which no curve is known; none where the boundary is exact."""
    series: tuple[str, ...]
    cause: DriftCause
    curves: tuple[CurveGroup, CurveGroup]
    recorded: bool

    @property
    def anchor(self) -> str:
        """The fragment that leads here."""
        return f"parting-{self.number}"


@dataclass(frozen=True, kw_only=True)
class Drift:
    """All of it."""

    series: tuple[DriftSeries, ...]
    turns: tuple[Turn, ...]

    @property
    def unexplained(self) -> int:
        """How many partings nobody can explain yet."""
        return sum(not turn.cause.explained for turn in self.turns)


def drift_of(
    judged: Sequence[JudgedOutcome],
    order: Order,
    curves: Mapping[CurveKey, CurveGroup],
    recordings: Mapping[str, DivergenceRecording],
) -> Drift | None:
    """The drift of a run; None where no two releases have a curve at the same question."""
    found = [lane for lane in curve_series(item.outcome for item in judged) if _releases(lane) > 1]
    if not found:
        return None
    merged: dict[str, list[CurveDivergence]] = {}
    for parting in (parting for lane in found for parting in curve_divergences(lane)):
        merged.setdefault(parting.key, []).append(parting)
    turns = tuple(
        _turn(number, several, order, curves, recordings.get(key))
        for number, (key, several) in enumerate(merged.items(), 1)
    )
    return Drift(series=tuple(_lane(lane, order, curves) for lane in found), turns=turns)


def _releases(lane: CurveSeries) -> int:
    return sum(len(stretch.outcomes) for stretch in lane.stretches)


def _lane(lane: CurveSeries, order: Order, curves: Mapping[CurveKey, CurveGroup]) -> DriftSeries:
    return DriftSeries(
        question=lane.name,
        groups=tuple(_group(lane, number, stretch, order, curves) for number, stretch in enumerate(lane.stretches)),
        without=order.spans({label for label, _ in lane.missing}),
    )


def _group(
    lane: CurveSeries, number: int, stretch: CurveSegment, order: Order, curves: Mapping[CurveKey, CurveGroup]
) -> Group:
    broken = (f"breaks off: {stretch.broke_off}",) if stretch.broke_off else ()
    return Group(
        curve=_curve(stretch.outcomes[0], curves),
        spans=order.spans(set(stretch.releases)),
        steps=len(stretch.losses),
        notes=(*broken, *relation(lane, number)),
    )


def _turn(
    number: int,
    several: Sequence[CurveDivergence],
    order: Order,
    curves: Mapping[CurveKey, CurveGroup],
    recording: DivergenceRecording | None,
) -> Turn:
    one = several[0]
    first, last = order.labels.index(one.before), order.labels.index(one.after)
    return Turn(
        number=number,
        before=one.before,
        after=one.after,
        between=order.labels[first + 1 : last],
        series=tuple(parting.lane for parting in several),
        cause=cause_of(one, recording),
        curves=(_curve(one.mine, curves), _curve(one.other, curves)),
        recorded=recording is not None,
    )


def _curve(outcome: Outcome, curves: Mapping[CurveKey, CurveGroup]) -> CurveGroup:
    key = curve_key(outcome)
    assert key is not None
    return curves[key]
