"""The sections of the Markdown report about change: where answers change, and where losses part."""

from __future__ import annotations

from collections.abc import Iterable

from harness.compare.transitions.recorded import Boundaries, Course, Interval, RecordedChange
from harness.core.release_order import in_words
from harness.report import labels as words
from harness.report.drift import Drift, DriftSeries, Turn
from harness.report.levels import NAME, SIGN
from harness.rules.levels import SHORT_OF_PASSED
from harness.text import units
from harness.text.markdown import block, code, md
from harness.text.sparkline import bars

_LONGEST_RANGE = 4000
_LONGEST_CAUSE = 2000


def boundaries_section(found: Boundaries | None) -> list[str]:
    """Every boundary of the run; nothing where no question was asked of two releases."""
    if found is None:
        return []
    unexplained = f"; {found.unexplained} not yet explained" if found.unexplained else ", each explained"
    steady = (
        f" {units.plural(found.steady, 'more question')} with one answer in all releases that were asked."
        if found.steady
        else ""
    )
    parts = [
        '<a id="boundaries"></a>',
        "## Where the answers change",
        "Every boundary between two neighbouring releases with different answers, which are how a cell ended and with "
        f"which signature: {found.changes}{unexplained}.{steady}",
    ]
    for course in found.courses:
        parts += _course(course)
    return parts


def _course(course: Course) -> list[str]:
    more = f" and {units.plural(len(course.questions) - 1, 'more question')}" if len(course.questions) > 1 else ""
    rows = [
        (md(in_words(one.spans), at_most=_LONGEST_RANGE), _answer(one), md(_why(one), at_most=_LONGEST_CAUSE))
        for one in course.intervals
    ]
    return [
        f'<a id="{course.anchor}"></a>',
        f"### {md(course.questions[0])}{more}",
        "The same for " + ", ".join(map(code, course.questions[1:])) + "." if more else "",
        _table(("releases", "answer", "why"), rows),
        "\n".join(_change(change) for change in course.changes),
    ]


def _answer(one: Interval) -> str:
    below = f" at {md(one.answer.below)}" if one.answer.below else ""
    signature = f"<br>{code(one.answer.signature)}" if one.answer.signature else ""
    grave = f" ({NAME[one.level]})" if one.level in SHORT_OF_PASSED else ""
    return f"{SIGN[one.level]} {words.STATUS_NAME[one.answer.status]}{grave}{below}{signature}"


def _why(one: Interval) -> str:
    if one.issues:
        return "; ".join(issue.title + ("" if issue.explained else ": not yet explained") for issue in one.issues)
    return one.reason if one.sound else "not yet explained"


def _change(change: RecordedChange) -> str:
    said = [f"begins: {issue.title}. Cause: {issue.cause}" for issue in change.begins]
    said += [f"ends: {issue.title}." for issue in change.ends]
    if not said and change.explained:
        said = [change.newer.reason or change.older.reason or "neither side fails"]
    if not change.explained:
        said.append("Not yet explained in full." if said else "not yet explained")
    if change.unasked:
        labels = ", ".join(change.unasked)
        said.append(f"Not asked between the two: {units.plural(len(change.unasked), 'release')} ({labels}).")
    lines = [f"- **{md(change.before)} → {md(change.after)}**: {md(' '.join(said), at_most=_LONGEST_CAUSE)}"]
    for note in change.commits:
        ran = f"; of what it changes, {', '.join(note.files)} ran in this cell" if note.files else ""
        among = (
            f"; or one of {units.plural(note.among, 'commit')} before it that cannot be judged" if note.among else ""
        )
        lines.append(
            f"  - Commit {code(note.commit[:12])} by {md(note.author)}, {md(note.date[:10])}: {md(note.subject)}"
            f"{md(ran, at_most=_LONGEST_RANGE)}{among}."
        )
    return "\n".join(lines)


def drift_section(found: Drift | None) -> list[str]:
    """The groups of equal curves and where they part; nothing where no two releases have a curve."""
    if found is None:
        return []
    unexplained = f"; {found.unexplained} not yet explained" if found.unexplained else ""
    parts = [
        '<a id="drift"></a>',
        "## Where the losses part",
        "On a CPU the same seed, data and configuration give the same losses to the last digit, so each change of the "
        f"curve is a change of the release. {units.plural(len(found.turns), 'parting')}{unexplained}. A cause is "
        "named only where what was measured, or a recording of both sides, supports it.",
    ]
    for lane in found.series:
        parts += _lane(lane)
    for turn in found.turns:
        parts += _turn(turn)
    return parts


def _lane(lane: DriftSeries) -> list[str]:
    rows = [
        (
            md(in_words(group.spans), at_most=_LONGEST_RANGE),
            f"K{group.curve.number}",
            bars(group.curve.losses),
            units.loss(group.curve.losses[0]),
            units.loss(group.curve.losses[-1]),
            str(group.steps),
            md("; ".join(group.notes)),
        )
        for group in lane.groups
    ]
    without = in_words(lane.without)
    return [
        f"### {md(lane.question)}",
        _table(("releases", "curve", "loss by step", "first", "last", "steps", ""), rows),
        f"Without a curve: {md(without, at_most=_LONGEST_RANGE)}." if without else "",
    ]


def _turn(turn: Turn) -> list[str]:
    weight = f" ({turn.cause.weight})" if turn.cause.explained else ""
    parts = [
        f'<a id="{turn.anchor}"></a>',
        f"#### {md(turn.before)} → {md(turn.after)}: {md(turn.cause.sort)}{weight}",
        f"{', '.join(map(code, turn.series))}: K{turn.curves[0].number} → K{turn.curves[1].number}.",
        " ".join(md(sentence, at_most=_LONGEST_CAUSE) for sentence in turn.cause.sentences),
    ]
    for change in turn.cause.changes:
        lines = [f"- {line}" for line in change.older] + [f"+ {line}" for line in change.newer]
        lines += [f"… {units.plural(change.more, 'more statement')}"] if change.more else []
        parts += [f"{code(change.file)} {code(change.function)}", block("\n".join(lines))]
    if turn.between:
        parts.append(f"Of {md(', '.join(turn.between), at_most=_LONGEST_RANGE)}, between the two, no curve is known.")
    return parts


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    from tabulate import tabulate

    return tabulate(list(rows), headers=list(head), tablefmt="pipe", disable_numparse=True)
