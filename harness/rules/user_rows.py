"""A user's rows: what a release's own limits leave of them, and what that means for a cell's outcome.

A cell that has no row to train on is never a pass, and says nothing against the release: the file is the cause.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from harness.core.cells import Failure, Outcome, Status
from harness.core.evidence import USER_ROWS
from harness.core.numbers import count, mapping, sequence
from harness.rules.user_errors import YOURS

SIGNATURE = "NoRowToTrainOn@user_rows"

_RAN = frozenset((Status.PASSED, Status.FAILED, Status.TIMED_OUT, Status.CRASHED))


def apply_user_rows(outcome: Outcome) -> Outcome:
    """The outcome, failed by the user's file where no row of it can be trained on; any other as it is."""
    rows = mapping(outcome.evidence.get(USER_ROWS))
    if not rows or count(rows.get("trainable")) != 0 or outcome.status not in _RAN:
        return outcome
    reason = f"{_no_row(rows)} {_what_happened(outcome)}"
    return replace(
        outcome,
        status=Status.FAILED,
        reason=reason,
        failure=Failure(type="NoRowToTrainOn", message=reason, signature=SIGNATURE),
        evidence={**outcome.evidence, YOURS: {"reason": reason}},
    )


def _no_row(rows: Mapping[str, Any]) -> str:
    first = mapping(next(iter(sequence(rows.get("reasons"))), None))
    frames = count(first.get("frames"))
    length = f"; its recording has {frames} frames of 10 ms" if frames is not None else ""
    return (
        f"no row of {rows.get('file')} can be trained on ({count(rows.get('listed'))} are listed): "
        f"line {first.get('line')}: {first.get('reason')}{length}."
    )


def _what_happened(outcome: Outcome) -> str:
    steps = count(outcome.metrics.get("steps"))
    if outcome.failure is not None:
        return f"The release ends with {outcome.failure.signature}."
    if outcome.status is not Status.PASSED:
        return f"The cell {outcome.status.replace('_', ' ')}: {outcome.reason}"
    if steps is None:
        return ""
    return f"The release took {steps} steps and ended without an error."


def rows_reasons(metrics: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Rows that the release's own limits allow and that did not reach training once an epoch.

    None where it was not observed, and where the training was cut short: that is a matter of steps.
    """
    found = mapping(metrics.get(USER_ROWS))
    missed = count(found.get("missed_count"))
    if missed is None or count(metrics.get("steps")) != count(metrics.get("steps_expected")):
        return None
    if not missed:
        return ()
    named = [mapping(one) for one in sequence(found.get("missed"))[:5]]
    lines = ", ".join(f"line {one.get('line')} {one.get('times')} times" for one in named)
    more = f" and {missed - len(named)} more" if missed > len(named) else ""
    return (f"Rows that its own limits allow reached training less often than there were epochs: {lines}{more}.",)
