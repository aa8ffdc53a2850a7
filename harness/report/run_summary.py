"""The table that ends a run in the terminal: statuses by check, then what needs attention."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tabulate import tabulate

from harness.core.cells import Status, Verdict
from harness.rules.verdicts import JudgedOutcome

_MOST_LISTED = 20

_NEEDS_ATTENTION = (Verdict.REGRESSION, Verdict.UNEXPECTED_PASS, Verdict.YOURS, Verdict.FAULT)


def _why(one: JudgedOutcome) -> str:
    """Of a user's own input the judge's sentence says more than the release's exception."""
    return one.sentence if one.verdict is Verdict.YOURS else one.outcome.reason or one.sentence


def summary(judged: Sequence[JudgedOutcome]) -> str:
    """The table at the end of a run: statuses by check, then what needs a person's attention."""
    checks = list(
        dict.fromkeys(one.outcome.cell.check for one in sorted(judged, key=lambda j: j.outcome.cell.check.position))
    )
    counts = Counter((one.outcome.cell.check, one.outcome.status) for one in judged)
    statuses = [status for status in Status if any(counts[check, status] for check in checks)]
    rows = [(str(check), *(counts[check, status] or "" for status in statuses)) for check in checks]
    table = tabulate(rows, headers=("check", *map(str, statuses)))
    verdicts = Counter(one.verdict for one in judged)
    lines = [table, "", ", ".join(f"{verdicts[verdict]} {verdict}" for verdict in Verdict if verdicts[verdict])]
    attention = [one for one in judged if one.verdict in _NEEDS_ATTENTION]
    lines += [f"  {one.verdict}: {one.outcome.cell.id}: {_why(one)}" for one in attention[:_MOST_LISTED]]
    if len(attention) > _MOST_LISTED:
        lines.append(f"  … and {len(attention) - _MOST_LISTED} more, in the report")
    return "\n".join(lines)
