"""What `drift` prints: the groups of each lane, then its partings with what is known of each."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence

from harness.compare.drift.causes import DriftCause, cause_of
from harness.compare.drift.curves import CurveSegment, CurveSeries, relation
from harness.compare.drift.evidence import CurveDivergence
from harness.compare.drift.recordings import DivergenceRecording, RecordedEdit
from harness.run.repeat_commands import PROGRAM
from harness.text import units
from harness.text.plain import plain
from harness.text.sparkline import bars


def told(
    lane: CurveSeries,
    partings: Mapping[int, CurveDivergence],
    recordings: Mapping[str, DivergenceRecording],
    *,
    published: Sequence[str],
    matrix: str,
) -> Iterator[str]:
    """One lane, line by line.

    Args:
        lane: With at least one stretch.
        partings: Of this lane, by the number that they are called by.
        recordings: By the parting's key.
        published: The labels of all published releases, oldest first: a parting between two neighbours is exact.
        matrix: The file that the run was made from.
    """
    yield lane.name
    for number, stretch in enumerate(lane.stretches):
        yield _stretch(stretch) + "".join(f"; {note}" for note in relation(lane, number))
    if lane.missing:
        yield f"  without a curve: {', '.join(label for label, _ in lane.missing)}"
    for number, parting in partings.items():
        yield ""
        yield from _parting(number, parting, cause_of(parting, recordings.get(parting.key)), published, matrix)


def _stretch(stretch: CurveSegment) -> str:
    releases = stretch.releases
    span = releases[0] if len(releases) == 1 else f"{releases[0]} – {releases[-1]} ({len(releases)} releases)"
    ends = f"{units.loss(stretch.losses[0])} → {units.loss(stretch.losses[-1])}"
    broken = f", breaks off: {stretch.broke_off}" if stretch.broke_off else ""
    return f"  {span:<34} {bars(stretch.losses)}  {ends} in {units.plural(len(stretch.losses), 'step')}{broken}"


def _parting(
    number: int, parting: CurveDivergence, cause: DriftCause, published: Sequence[str], matrix: str
) -> Iterator[str]:
    weight = f" ({cause.weight})" if cause.explained else ""
    yield f"parting {number}: {parting.before} → {parting.after}: {cause.sort}{weight}"
    yield from (f"  {plain(sentence)}" for sentence in cause.sentences)
    yield from (line for change in cause.changes for line in _change(change))
    if parting.between:
        between = ", ".join(parting.between)
        yield f"  Without a curve between the two: {between}."
    if unmeasured := _unmeasured(parting, published):
        yield f"  Not measured between the two: {', '.join(unmeasured)}."
        yield f"  To find the release: {_bisect(parting, matrix)}"


def _bisect(parting: CurveDivergence, matrix: str) -> str:
    """The command that searches between the two, for the same question."""
    cell = parting.other.cell
    asked = {
        "--check": f"{cell.check}@{cell.entry}",
        "--variant": cell.variant,
        "--shape": cell.dimensions,
        "--depth": cell.depth,
        "--device": cell.device,
        "--precision": cell.precision,
        "--good": parting.before,
        "--bad": parting.after,
        "--matrix": matrix,
    }
    words = [str(word) for pair in asked.items() for word in pair]
    return shlex.join([PROGRAM, "bisect", "--by", "curve", *words])


def _unmeasured(parting: CurveDivergence, published: Sequence[str]) -> tuple[str, ...]:
    """Published releases between the two of which the run has no outcome at all."""
    if parting.before not in published or parting.after not in published:
        return ()
    between = published[published.index(parting.before) + 1 : published.index(parting.after)]
    return tuple(label for label in between if label not in parting.between)


def _change(change: RecordedEdit) -> Iterator[str]:
    yield f"    {change.file} {change.function}"
    yield from (f"      - {plain(line)}" for line in change.older)
    yield from (f"      + {plain(line)}" for line in change.newer)
    if change.more:
        yield f"      … {change.more} more statements"
