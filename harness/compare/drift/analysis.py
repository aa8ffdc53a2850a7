"""The drift of a run: releases in groups of equal loss curves, where the groups diverge, and why as far as is known.

Computed once here; the terminal, the report and `drift --json` only format it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.compare.drift.causes import DriftCause, cause_of
from harness.compare.drift.curves import CurveSegment, CurveSeries, Losses, curve_series, relation
from harness.compare.drift.divergences import CurveDivergence, curve_divergences
from harness.compare.drift.recordings import DivergenceRecording
from harness.core.cells import Outcome
from harness.core.versions import Order, Span

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class DriftGroup:
    """Neighbouring releases with one curve."""

    releases: tuple[str, ...]
    """Oldest first."""
    spans: tuple[Span, ...]
    """The same releases as ranges of published ones."""
    losses: Losses
    notes: tuple[str, ...]
    """That the training stops early, or that the curve occurred before."""
    example: Outcome
    """Of the oldest release."""


@dataclass(frozen=True, kw_only=True)
class DriftSeries:
    """The releases of one question: a cell without its release."""

    name: str
    groups: tuple[DriftGroup, ...]
    without_curve: tuple[Span, ...]


@dataclass(frozen=True, kw_only=True)
class Drifted:
    """One divergence, in all the series in which it shows: those of both trainers where their curves are equal."""

    number: int
    """From 1."""
    series: tuple[str, ...]
    divergence: CurveDivergence
    """In the first of these series."""
    without_curve: tuple[str, ...]
    """Releases of the run between the two that have no curve."""
    unmeasured: tuple[str, ...]
    """Published releases between the two that are not in the run; with none of either, the divergence is exact."""
    recorded: bool
    """Whether both sides were run again with a recorder."""
    cause: DriftCause

    @property
    def before(self) -> str:
        """The last release of the older group."""
        return self.divergence.before

    @property
    def after(self) -> str:
        """The first release of the newer group."""
        return self.divergence.after

    @property
    def between(self) -> tuple[str, ...]:
        """All published releases between the two, none of which has a curve."""
        return (*self.without_curve, *self.unmeasured)

    @property
    def can_be_recorded(self) -> bool:
        """Whether a recording would say more: the losses differ, nothing explains it, and none was made."""
        return self.divergence.loss is not None and not self.recorded and not self.cause.explained

    @property
    def anchor(self) -> str:
        """The fragment of the page that leads here."""
        return f"divergence-{self.number}"


@dataclass(frozen=True, kw_only=True)
class Drift:
    """All of it."""

    series: tuple[DriftSeries, ...]
    divergences: tuple[Drifted, ...]

    @property
    def unexplained(self) -> int:
        """How many divergences nobody can explain yet."""
        return sum(not drifted.cause.explained for drifted in self.divergences)

    def to_json(self) -> dict[str, object]:
        """The record that `drift --json` prints."""
        return {
            "schema": SCHEMA,
            "series": [
                {
                    "name": series.name,
                    "groups": [
                        {"releases": list(group.releases), "losses": list(group.losses), "notes": list(group.notes)}
                        for group in series.groups
                    ],
                    "without_curve": [str(span) for span in series.without_curve],
                }
                for series in self.series
            ],
            "divergences": [_divergence_json(drifted) for drifted in self.divergences],
        }


def drift_of(
    outcomes: Iterable[Outcome],
    order: Order,
    recordings: Mapping[str, DivergenceRecording],
    *,
    fewest_releases: int = 1,
) -> Drift | None:
    """The drift of some outcomes; None where no series has a curve.

    Args:
        outcomes: Of any checks; those of `finetune` count.
        order: All releases that exist.
        recordings: By the key of their divergence.
        fewest_releases: A series with curves of fewer releases is left out.
    """
    all_series = [series for series in curve_series(outcomes) if _releases(series) >= fewest_releases]
    if not all_series:
        return None
    merged: dict[str, list[CurveDivergence]] = {}
    for divergence in (divergence for series in all_series for divergence in curve_divergences(series)):
        merged.setdefault(divergence.key, []).append(divergence)
    return Drift(
        series=tuple(_series(series, order) for series in all_series),
        divergences=tuple(
            _drifted(number, several, order, recordings.get(key))
            for number, (key, several) in enumerate(merged.items(), 1)
        ),
    )


def _releases(series: CurveSeries) -> int:
    return sum(len(segment.outcomes) for segment in series.segments)


def _series(series: CurveSeries, order: Order) -> DriftSeries:
    return DriftSeries(
        name=series.name,
        groups=tuple(_group(series, number, segment, order) for number, segment in enumerate(series.segments)),
        without_curve=order.spans({label for label, _ in series.missing}),
    )


def _group(series: CurveSeries, number: int, segment: CurveSegment, order: Order) -> DriftGroup:
    stopped = (f"stops early: {segment.stopped_early}",) if segment.stopped_early else ()
    return DriftGroup(
        releases=segment.releases,
        spans=order.spans(set(segment.releases)),
        losses=segment.losses,
        notes=(*stopped, *relation(series, number)),
        example=segment.outcomes[0],
    )


def _drifted(
    number: int, several: Sequence[CurveDivergence], order: Order, recording: DivergenceRecording | None
) -> Drifted:
    first = several[0]
    between = order.labels[order.labels.index(first.before) + 1 : order.labels.index(first.after)]
    return Drifted(
        number=number,
        series=tuple(divergence.series for divergence in several),
        divergence=first,
        without_curve=tuple(label for label in between if label in first.between),
        unmeasured=tuple(label for label in between if label not in first.between),
        recorded=recording is not None,
        cause=cause_of(first, recording),
    )


def _divergence_json(drifted: Drifted) -> dict[str, object]:
    return {
        "number": drifted.number,
        "before": drifted.before,
        "after": drifted.after,
        "series": list(drifted.series),
        "step": drifted.divergence.loss.step if drifted.divergence.loss else None,
        "kind": drifted.cause.kind.name.lower(),
        "change_of": drifted.cause.weight,
        "explained": drifted.cause.explained,
        "recorded": drifted.recorded,
        "sentences": list(drifted.cause.sentences),
        "functions": [
            {
                "file": change.file,
                "function": change.function,
                "older": list(change.older),
                "newer": list(change.newer),
                "more": change.more,
            }
            for change in drifted.cause.changes
        ],
        "without_curve": list(drifted.without_curve),
        "unmeasured": list(drifted.unmeasured),
    }
