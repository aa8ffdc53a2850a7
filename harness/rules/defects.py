"""What is wrong with a cell, one by one: each part of its failure and each finding, with severity and known issue."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from harness.core.cells import Outcome, Severity
from harness.core.evidence.checkpoint import CheckpointEvidence
from harness.core.evidence.common import Finding
from harness.core.evidence.data import DataEvidence
from harness.core.evidence.properties import PropertyEvidence, PropertyResult
from harness.core.evidence.questions import Question
from harness.core.evidence.training import TrainingEvidence
from harness.core.evidence.verdicts import TrainingVerdict
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
        outcome: object outcome.
        listed: The known issues that cover its cell and whose code runs in it.
    """
    failed = tuple(_of_failure(outcome, listed)) if outcome.status in FAILURES else ()
    findings = tuple(
        Defect(
            signature=finding.signature,
            severity=issue.severity if issue else UNKNOWN_FINDING,
            issue=issue,
            message=finding.message,
        )
        for finding in outcome.common.findings or ()
        for issue in [covering(finding, listed)]
    )
    return (*failed, *findings)


def covering(finding: Finding, listed: Iterable[KnownIssue]) -> KnownIssue | None:
    """The known issue that lists a finding, in that place where both name one."""
    return next(
        (issue for issue in listed if finding.signature in issue.finding_signatures and issue.is_at(finding.place)),
        None,
    )


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
    compounds = [
        compound
        for signature in issue.failing
        if (compound := CompoundSignature.of(signature)) and compound.kind == parts.kind
    ]
    return any(name in compound.names and compound.names <= parts.names for compound in compounds)


def message_of(outcome: Outcome, name: str) -> str:
    """What a check says of one of its conditions, questions or properties; empty where it says nothing of it."""
    evidence = outcome.common
    match evidence:
        case CheckpointEvidence() | DataEvidence():
            entries: Sequence[Question | PropertyResult] = evidence.questions or ()
        case PropertyEvidence():
            entries = evidence.properties or ()
        case TrainingEvidence(training=TrainingVerdict(learning=learning, invariants=invariants)):
            reasons = {**(learning.reasons if learning else {}), **(invariants.reasons if invariants else {})}
            return " ".join(reasons.get(name, ()))
        case _:
            return ""
    return next((entry.message for entry in entries if entry.name == name and entry.message), "")
