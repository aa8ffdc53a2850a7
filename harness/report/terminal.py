"""The end of a run in the terminal: the answer for each variant, then statuses by check and what needs attention."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence

from tabulate import tabulate

from harness.core.cells import Check, Outcome, Severity, Status, Verdict
from harness.core.versions import Order, in_words
from harness.report.advice import Advice, ReleaseAnswer, ReleaseStanding, VariantAdvice, advise
from harness.report.labels import LEVEL_NAME
from harness.report.reasons import Reason
from harness.report.training_rule import Judgement
from harness.rules.levels import Level
from harness.rules.verdicts import JudgedOutcome
from harness.run.provenance import ReuseFacts
from harness.text.plain import one_line
from harness.text.units import plural

TITLE = "Which releases can be fine-tuned?"
_MOST_REASONS = 3
_LONGEST = 180
_SAID_OF_THE_NEWEST = (Level.PASSED, Level.BROKEN, Level.FAULT, Level.YOURS)
"""Levels of which the checks are named; what is wrong or minor is written out, and what was not run is no answer."""


def answer(judged: Sequence[JudgedOutcome], published: Sequence[str], *, width: int) -> str:
    """The answer for every variant; empty where no cell is about one.

    Args:
        judged: The outcomes that it is drawn from.
        published: All releases that exist, so that ranges end where one of them was not run.
        width: Columns of the terminal.
    """
    order = Order.of({item.outcome.cell.release for item in judged}, published)
    advice = advise(judged, (), order)
    if not advice.variants:
        return ""
    lines = [_wrapped(line, depth, width) for variant in advice.variants for depth, line in _lines(variant, advice)]
    return "\n".join([TITLE, *lines])


_Line = tuple[int, str]
"""How far a line is set in, and what it says."""


def _lines(advice: VariantAdvice, all_advice: Advice) -> Iterator[_Line]:
    if advice.trains:
        yield 0, f"{advice.variant}: can be fine-tuned with {in_words(advice.trains)}"
    elif all_advice.fine_tuned and (_was_tuned(advice) or not advice.passes):
        yield 0, f"{advice.variant}: no release of this run is known to be fit for fine-tuning"
    else:
        yield 0, f"{advice.variant}: nothing was fine-tuned"
    if advice.passes:
        yield 1, f"nothing broken, and nothing fine-tuned: {in_words(advice.passes)}"
    yield from _listed("can be fine-tuned, with something broken", advice.partly)
    yield from _listed("cannot be fine-tuned" if all_advice.fine_tuned else "broken", advice.fails)
    yield from _listed("not known", advice.unknown)
    yield from _newest(advice.latest)


def _was_tuned(advice: VariantAdvice) -> bool:
    return any((Check.FINETUNE, Level.NOT_RUN) not in release.tested.levels for release in advice.answers)


def _listed(title: str, reasons: Sequence[Reason]) -> Iterator[_Line]:
    if reasons:
        yield 1, f"{title}:"
        yield from ((2, f"{in_words(reason.spans)}: {_phrase(reason)}") for reason in reasons[:_MOST_REASONS])
        yield from _more(reasons)


def _newest(latest: ReleaseAnswer) -> Iterator[_Line]:
    """What the checks of the newest release came to, and what is wrong with it."""
    checks = [
        f"{LEVEL_NAME[level]}: {', '.join(passed)}"
        for level in _SAID_OF_THE_NEWEST
        if (passed := latest.tested.checks(level))
    ]
    nothing = "no check passed" if latest.reasons else "no check came to an answer"
    yield 1, f"the newest here, {latest.release}: {'; '.join(checks) or nothing}"
    # Of a release that cannot be fine-tuned the reason stands above.
    broken = [] if latest.standing is ReleaseStanding.FAILS else [Severity.BROKEN]
    for severity in (*broken, Severity.WRONG):
        reasons = [reason for reason in latest.reasons if reason.severity is severity]
        yield from ((2, f"{severity}: {_phrase(reason)}") for reason in reasons[:_MOST_REASONS])
        yield from _more(reasons)
    if minor := sum(reason.severity is Severity.MINOR for reason in latest.reasons):
        yield 2, f"minor: {plural(minor, 'deviation')}, in the report"


def _phrase(reason: Reason) -> str:
    return one_line(reason.text, at_most=_LONGEST).rstrip(".")


def _more(reasons: Sequence[Reason]) -> Iterator[_Line]:
    if (count := len(reasons) - _MOST_REASONS) > 0:
        yield 2, f"and {count} more, in the report"


def _wrapped(text: str, depth: int, width: int) -> str:
    indent = "  " * depth
    return textwrap.fill(
        text,
        width=max(width, 40),
        initial_indent=indent,
        subsequent_indent=f"{indent}    ",
        break_long_words=False,
        break_on_hyphens=False,
    )


_MOST_LISTED = 20

_OF_THE_USER = (Verdict.YOURS, Verdict.UNDECIDED)
_NEEDS_ATTENTION = (Verdict.REGRESSION, Verdict.UNEXPECTED_PASS, *_OF_THE_USER, Verdict.FAULT)


def _why(judged: JudgedOutcome) -> str:
    """Of a user's own input the judge's sentence says more than the release's exception."""
    return judged.sentence if judged.verdict in _OF_THE_USER else judged.outcome.reason or judged.sentence


def reuse_line(reuse: ReuseFacts) -> str:
    """What a run says of the cells that it did not run."""
    if reuse.refuted:
        return (
            f"reuse of outcomes was wrong for {reuse.refuted[0]}: a fault of the harness. Cells of its check that "
            "were reused are run instead."
        )
    return (
        f"{plural(reuse.reused, 'cell')} not run: all code and files that they use are as for a cell that ran; "
        f"{reuse.confirmed} more were drawn, run nevertheless, and ended as predicted"
    )


def summary(judged: Sequence[JudgedOutcome]) -> str:
    """The table at the end of a run: statuses by check, then what needs a person's attention."""
    checks = list(
        dict.fromkeys(item.outcome.cell.check for item in sorted(judged, key=lambda j: j.outcome.cell.check.position))
    )
    counts = Counter((item.outcome.cell.check, item.outcome.status) for item in judged)
    statuses = [status for status in Status if any(counts[check, status] for check in checks)]
    rows = [(str(check), *(counts[check, status] or "" for status in statuses)) for check in checks]
    table = tabulate(rows, headers=("check", *map(str, statuses)))
    verdicts = Counter(item.verdict for item in judged)
    lines = [table, "", ", ".join(f"{verdicts[verdict]} {verdict}" for verdict in Verdict if verdicts[verdict])]
    attention = [item for item in judged if item.verdict in _NEEDS_ATTENTION]
    lines += [f"  {item.verdict}: {item.outcome.cell.id}: {_why(item)}" for item in attention[:_MOST_LISTED]]
    if len(attention) > _MOST_LISTED:
        lines.append(f"  … and {len(attention) - _MOST_LISTED} more, in the report")
    lines += [f"  note: {item.outcome.cell.id}: {note}" for item in judged if (note := _note(item.outcome))]
    return "\n".join(lines)


def _note(outcome: Outcome) -> str:
    """What a training with a user's own input could not show."""
    evidence = outcome.training_evidence
    of_user = outcome.common.own_settings or outcome.common.user_rows
    if evidence is None or evidence.training is None or not of_user:
        return ""
    reasons = Judgement.of(evidence).not_observed
    return f"not observed: {reasons}" if reasons else ""
