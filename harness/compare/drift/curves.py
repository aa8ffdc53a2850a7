"""The loss curves of a run's releases, in segments of releases whose curves are equal bit for bit."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.core.cells import Cell, Check, Outcome, Status
from harness.core.numbers import any_numbers
from harness.core.versions import release_key

Losses = tuple[float | None, ...]
"""One per optimizer step; NaN and the infinities among them, None where a loss is no number."""


@dataclass(frozen=True, kw_only=True)
class CurveSegment:
    """Neighbouring releases with one curve."""

    digest: str
    """Of the losses, bit for bit."""
    outcomes: tuple[Outcome, ...]
    """Oldest release first."""

    @property
    def losses(self) -> Losses:
        """The curve."""
        return losses_of(self.outcomes[0])

    @property
    def releases(self) -> tuple[str, ...]:
        """Their labels, oldest first."""
        return tuple(outcome.cell.release for outcome in self.outcomes)

    @property
    def option_sets(self) -> tuple[tuple[str, ...], ...]:
        """The notes on these releases' trainer options, each once."""
        return tuple(dict.fromkeys(trainer_options_of(outcome) for outcome in self.outcomes))

    @property
    def stopped_early(self) -> str:
        """The signature of what ended the training of all of them; empty where one ran to its end."""
        ends = {
            outcome.failure.signature if outcome.failure else str(outcome.status)
            for outcome in self.outcomes
            if _stopped_early(outcome)
        }
        return ", ".join(sorted(ends)) if all(map(_stopped_early, self.outcomes)) else ""


@dataclass(frozen=True, kw_only=True)
class CurveSeries:
    """The releases of one question: a cell in which the release is left open."""

    name: str
    """The cell's id without the release."""
    cell: Cell
    """Of some release."""
    segments: tuple[CurveSegment, ...]
    """Oldest first."""
    missing: tuple[tuple[str, str], ...]
    """Releases without a curve, oldest first, each with the reason."""

    def between(self, number: int) -> tuple[str, ...]:
        """Releases without a curve between a segment and the next."""
        before, after = self.segments[number].releases[-1], self.segments[number + 1].releases[0]
        first, last = release_key(before), release_key(after)
        return tuple(label for label, _ in self.missing if first < release_key(label) < last)


def curve_series(outcomes: Iterable[Outcome]) -> tuple[CurveSeries, ...]:
    """The series of a run, by name; those without any curve are left out."""
    by_name: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        if outcome.cell.check is Check.FINETUNE:
            by_name[series_name(outcome.cell)].append(outcome)
    all_series = (_series(name, members) for name, members in sorted(by_name.items()))
    return tuple(series for series in all_series if series.segments)


def series_name(cell: Cell) -> str:
    """A cell's id without the release."""
    return cell.id.partition("/")[2]


def losses_of(outcome: Outcome) -> Losses:
    """The curve of an outcome; empty where there is none."""
    return any_numbers(outcome.metrics.get("losses"))


def digest_of(losses: Losses) -> str:
    """Equal for curves that are equal bit for bit, NaN being equal to NaN; empty for no curve."""
    if not losses:
        return ""
    return hashlib.sha256(json.dumps([repr(loss) for loss in losses]).encode()).hexdigest()[:16]


def trainer_options_of(outcome: Outcome) -> tuple[str, ...]:
    """How this release's trainer options differ from those of the newest."""
    notes = outcome.evidence.get("trainer_options")
    return tuple(map(str, notes)) if isinstance(notes, Sequence) and not isinstance(notes, str) else ()


def is_prefix(shorter: Losses, longer: Losses) -> bool:
    """Whether one curve is the beginning of another, and not all of it."""
    return len(shorter) < len(longer) and list(map(repr, shorter)) == list(map(repr, longer[: len(shorter)]))


def relation(series: CurveSeries, number: int) -> tuple[str, ...]:
    """Whether a segment's curve came before in its series, or is the beginning of another's."""
    segment = series.segments[number]
    notes = [
        f"the curve of {other.releases[0]} again"
        for other in series.segments[:number]
        if other.digest == segment.digest
    ][:1]
    beginnings = [other for other in series.segments if is_prefix(segment.losses, other.losses)]
    if beginnings:
        notes.append(f"the beginning of the curve of {beginnings[-1].releases[0]}")
    return tuple(notes)


def _series(name: str, members: Sequence[Outcome]) -> CurveSeries:
    ordered = sorted(members, key=lambda outcome: release_key(outcome.cell.release))
    rows: list[tuple[str, list[Outcome]]] = []
    missing = []
    for outcome in ordered:
        digest = digest_of(losses_of(outcome))
        if not digest:
            missing.append((outcome.cell.release, outcome.reason))
        elif rows and rows[-1][0] == digest:
            rows[-1][1].append(outcome)
        else:
            rows.append((digest, [outcome]))
    segments = tuple(CurveSegment(digest=digest, outcomes=tuple(several)) for digest, several in rows)
    return CurveSeries(name=name, cell=ordered[-1].cell, segments=segments, missing=tuple(missing))


def _stopped_early(outcome: Outcome) -> bool:
    if outcome.status in (Status.TIMED_OUT, Status.CRASHED, Status.OUT_OF_MEMORY):
        return True
    # A finding of the rules comes after a training that ran to its end.
    return outcome.status is Status.FAILED and outcome.failure is not None and bool(outcome.failure.frames)
