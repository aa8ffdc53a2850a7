"""A fault that a log shows without any exception: the form that all rules for them share."""

from __future__ import annotations

from harness.core.cells import Severity
from harness.explain.explanation import LogExplanation, Owner


def silent_fault(
    rule: str,
    title: str,
    *,
    owner: Owner = Owner.YOURS,
    severity: Severity = Severity.WRONG,
    cause: str = "",
    remedy: str,
    commands: tuple[str, ...] = (),
    evidence: tuple[str, ...] = (),
) -> LogExplanation:
    """A fault of the user's own that makes a training wrong, unless something else is said."""
    return LogExplanation(
        rule=rule,
        title=title,
        owner=owner,
        severity=severity,
        cause=cause,
        remedy=remedy,
        commands=commands,
        evidence=evidence,
    )
