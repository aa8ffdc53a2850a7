"""Findings of several parts: `DataDiffers@long+path_aishell` is two things that are wrong with one cell.

Each part may have a known issue of its own, with its own range of releases and its own cause. The cell is known when
the issues that are listed for it explain every part, and all of them still show.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from harness.core.cells import Outcome
from harness.core.evidence.checkpoint import CheckpointEvidence
from harness.core.evidence.data import DataEvidence
from harness.core.evidence.properties import PropertyEvidence
from harness.core.evidence.questions import AnswerStatus
from harness.core.evidence.training import TrainingEvidence
from harness.core.evidence.verdicts import TrainingVerdict
from harness.rules.known_issues import KnownIssue

_FINDING = re.compile(r"(?P<kind>[A-Z]\w*)@(?P<names>[a-z0-9_]+(?:\+[a-z0-9_]+)*)")

_ALWAYS = frozenset({"steps", "losses", "parameters"})
"""What every rule about a training has asked, whatever else it asks since."""
_LEARNED = frozenset({"unigram", "accuracy", "trend"})
_NOT_TESTED = ("not_tested", "does_not_apply")


@dataclass(frozen=True, kw_only=True)
class CompoundSignature:
    """A check's own finding, taken apart."""

    kind: str
    names: frozenset[str]

    @classmethod
    def of(cls, signature: str) -> CompoundSignature | None:
        """Read a signature; None for that of a traceback, whose place is a file."""
        match = _FINDING.fullmatch(signature)
        return cls(kind=match["kind"], names=frozenset(match["names"].split("+"))) if match else None


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """How the listed issues account for a finding."""

    issues: tuple[KnownIssue, ...]
    """Those of which a signature shows."""
    unexplained: tuple[str, ...]
    """Parts of the finding that no issue lists."""
    absent: tuple[KnownIssue, ...]
    """Issues that list parts of such a finding, none of which shows."""


def conflicts_with(outcome: Outcome, issue: KnownIssue) -> bool:
    """Whether that an issue does not show in an outcome says anything: not of what the cell was never asked."""
    if not issue.expects_failure:
        return False
    tested = _tested_names(outcome)
    findings = [CompoundSignature.of(signature) for signature in issue.failing]
    return tested is None or not findings or any(compound is None or compound.names <= tested for compound in findings)


def _tested_names(outcome: Outcome) -> frozenset[str] | None:
    """The parts that the cell's check tested; None where it does not say."""
    match outcome.common:
        case TrainingEvidence(training=TrainingVerdict() as verdict):
            learned = _LEARNED if verdict.learning else frozenset[str]()
            return _ALWAYS | learned | frozenset(verdict.invariants.reasons if verdict.invariants else ())
        case DataEvidence(questions=tuple() as entries) | CheckpointEvidence(questions=tuple() as entries):
            return frozenset(entry.name for entry in entries if entry.status is not AnswerStatus.NOT_TESTED)
        case PropertyEvidence(properties=tuple() as results):
            return frozenset(entry.name for entry in results if entry.status not in _NOT_TESTED)
    return None


def explain(outcome: Outcome, listed: Sequence[KnownIssue]) -> Explanation | None:
    """Hold a finding's parts against the issues that cover its cell; None when the failure is no such finding."""
    finding = CompoundSignature.of(outcome.failure.signature) if outcome.failure else None
    if finding is None:
        return None
    shown: list[KnownIssue] = []
    absent: list[KnownIssue] = []
    explained: set[str] = set()
    for issue in listed:
        compounds = [
            compound
            for signature in issue.signatures
            if (compound := CompoundSignature.of(signature)) and compound.kind == finding.kind
        ]
        showing = [compound for compound in compounds if compound.names <= finding.names]
        for compound in showing:
            explained |= compound.names
        if showing:
            shown.append(issue)
        elif compounds and conflicts_with(outcome, issue):
            absent.append(issue)
    unexplained = tuple(sorted(finding.names - explained))
    return Explanation(issues=tuple(shown), unexplained=unexplained, absent=tuple(absent))
