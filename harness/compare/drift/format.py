"""What `drift` prints: the groups of each series, then the divergences with what is known of each."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from harness.compare.drift.analysis import Drift, Drifted, DriftGroup
from harness.compare.drift.divergences import CurveDivergence
from harness.compare.drift.recordings import RecordedEdit
from harness.core.versions import in_words
from harness.run.repeat_commands import PROGRAM
from harness.text import units
from harness.text.plain import plain
from harness.text.units import bars


def render_drift(drift: Drift, *, matrix: str) -> str:
    """The whole output.

    Args:
        drift: The analysis of a run.
        matrix: The file that the run was made from, for the command that continues the search.
    """
    parts = []
    for series in drift.series:
        lines = [series.name, *map(_group, series.groups)]
        if series.without_curve:
            lines.append(f"  without a curve: {in_words(series.without_curve)}")
        parts.append("\n".join(lines))
    parts += ["\n".join(_divergence(drifted, matrix)) for drifted in drift.divergences]
    return "\n\n".join(parts)


def _group(group: DriftGroup) -> str:
    ends = f"{units.loss(group.losses[0])} → {units.loss(group.losses[-1])}"
    notes = "".join(f"; {note}" for note in group.notes)
    steps = units.plural(len(group.losses), "step")
    return plain(f"  {in_words(group.spans):<34} {bars(group.losses)}  {ends} in {steps}{notes}")


def _divergence(drifted: Drifted, matrix: str) -> Iterator[str]:
    weight = f" ({drifted.cause.weight})" if drifted.cause.explained else ""
    yield f"divergence {drifted.number}: {drifted.before} → {drifted.after}: {drifted.cause.kind}{weight}"
    yield from (f"  in {name}" for name in drifted.series)
    yield from (f"  {plain(sentence)}" for sentence in drifted.cause.sentences)
    yield from (line for change in drifted.cause.changes for line in _change(change))
    if drifted.without_curve:
        yield f"  Without a curve between the two: {', '.join(drifted.without_curve)}."
    if drifted.unmeasured:
        yield f"  Not measured between the two: {', '.join(drifted.unmeasured)}."
        yield f"  To find the release: {_bisect(drifted.divergence, matrix)}"


def _bisect(divergence: CurveDivergence, matrix: str) -> str:
    """The command that searches between the two, for the same question."""
    cell = divergence.other.cell
    options = {
        "--check": f"{cell.check}@{cell.entry}",
        "--variant": cell.variant,
        "--dimensions": cell.dimensions,
        "--depth": cell.depth,
        "--device": cell.device,
        "--precision": cell.precision,
        "--good": divergence.before,
        "--bad": divergence.after,
        "--matrix": matrix,
    }
    words = [str(word) for pair in options.items() for word in pair]
    return shlex.join([PROGRAM, "bisect", "--by", "curve", *words])


def _change(change: RecordedEdit) -> Iterator[str]:
    yield f"    {change.file} {change.function}"
    yield from (f"      - {plain(line)}" for line in change.older)
    yield from (f"      + {plain(line)}" for line in change.newer)
    if change.more:
        yield f"      … {units.plural(change.more, 'more statement')}"
