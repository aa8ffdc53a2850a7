"""What is wrong with a cell, one by one: each part of its failure and each finding, with severity and known issue."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.core.cells import Outcome, Severity
from harness.core.numbers import mapping, sequence
from harness.rules.findings import Finding, findings_of
from harness.rules.known_issues import FAILURES, KnownIssue
from harness.rules.multi_part import CompoundSignature
from harness.rules.severity import derived

UNKNOWN_FINDING = Severity.WRONG
"""Of a finding that no known issue lists: the check went on, so it is not `broken`, and nobody has said that it is
`minor`."""


@dataclass(frozen=True, kw_only=True)
class Defect:
    """One thing that is wrong with a cell."""

    signature: str
    """`NotTrained@schedule`, `Finding@CODE`, or `Type@file:function`; the status where there is no signature."""
    severity: Severity
    issue: KnownIssue | None
    """The known issue that covers it."""
    message: str
    """What was seen, in one sentence."""

    @property
    def title(self) -> str:
        """The issue's title, or what was seen where no issue covers it."""
        return self.issue.title if self.issue else self.message


def defects_of(outcome: Outcome, listed: Sequence[KnownIssue]) -> tuple[Defect, ...]:
    """The defects of an outcome, those that failed the cell first; empty where nothing is wrong.

    Args:
        outcome: Any outcome.
        listed: The known issues that cover its cell and whose code runs in it.
    """
    failed = tuple(_of_failure(outcome, listed)) if outcome.status in FAILURES else ()
    found = tuple(
        Defect(
            signature=finding.signature,
            severity=issue.severity if issue else UNKNOWN_FINDING,
            issue=issue,
            message=finding.message,
        )
        for finding in findings_of(outcome) or ()
        for issue in [covering(finding, listed)]
    )
    return (*failed, *found)


def covering(finding: Finding, listed: Iterable[KnownIssue]) -> KnownIssue | None:
    """The known issue that lists a finding, in that place where both name one."""
    return next((issue for issue in listed if finding.signature in issue.found and issue.is_at(finding.place)), None)


def _of_failure(outcome: Outcome, listed: Sequence[KnownIssue]) -> Iterator[Defect]:
    signature = outcome.failure.signature if outcome.failure else str(outcome.status)
    parts = CompoundSignature.of(signature) if outcome.failure else None
    if parts is None:
        issue = next((issue for issue in listed if issue.fits(outcome.status, outcome.failure)), None)
        severity = issue.severity if issue else derived(outcome)
        yield Defect(signature=signature, severity=severity, issue=issue, message=outcome.reason)
        return
    for name in signature.partition("@")[2].split("+"):
        issue = next((issue for issue in listed if _lists(issue, parts, name)), None)
        yield Defect(
            signature=f"{parts.kind}@{name}",
            severity=issue.severity if issue else derived(outcome, name),
            issue=issue,
            message=message_of(outcome, name) or outcome.reason,
        )


def _lists(issue: KnownIssue, parts: CompoundSignature, name: str) -> bool:
    """Whether an issue shows in a failure, and accounts for this part of it."""
    own = [one for signature in issue.failing if (one := CompoundSignature.of(signature)) and one.kind == parts.kind]
    return any(name in one.names and one.names <= parts.names for one in own)


def message_of(outcome: Outcome, name: str) -> str:
    """What a check says of one of its conditions, questions or properties; empty where it says nothing of it."""
    for key in ("questions", "properties"):
        for entry in map(mapping, sequence(outcome.evidence.get(key))):
            if entry.get("name") == name and entry.get("message"):
                return str(entry["message"])
    training = mapping(outcome.evidence.get("training"))
    reasons: dict[str, object] = {}
    for part in ("learning", "promises"):
        reasons |= _reasons(mapping(training.get(part)))
    return " ".join(str(reason) for reason in sequence(reasons.get(name)))


def _reasons(part: Mapping[str, object]) -> Mapping[str, object]:
    return mapping(part.get("reasons"))
