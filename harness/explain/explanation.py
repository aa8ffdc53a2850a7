"""What is said of a log: each explanation has an owner, a cause if it is known, evidence and what to do."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from harness.core.cells import Severity


class Owner(StrEnum):
    """Whose doing it is."""

    FUNASR = "FunASR"
    YOURS = "yours"
    MACHINE = "machine"
    UNKNOWN = "not known"


@dataclass(frozen=True, kw_only=True)
class LogExplanation:
    """One thing that a log shows."""

    owner: Owner
    rule: str
    """Short, unique: a known issue's id, or a rule of ours."""
    severity: Severity
    title: str
    """What happened, in one sentence."""
    cause: str = ""
    """Why; empty where it is not known."""
    releases: str = ""
    """Of a known issue, where it is: `1.0.12 – 1.0.17`."""
    remedy: str = ""
    commands: tuple[str, ...] = ()
    """Lines of ours to type: `preflight`, or the cell that shows it."""
    evidence: tuple[str, ...] = ()
    """What the log and the releases' code show, a line each. Data from outside: whoever prints it escapes it."""
    upstream: tuple[str, ...] = ()
    at: int = 0
    """The line of the log, from 1; 0 where it is no single one."""
    count: int = 1
    ranks: tuple[str, ...] = ()

    @property
    def explained(self) -> bool:
        """Whether its cause is known."""
        return bool(self.cause)


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


@dataclass(frozen=True, kw_only=True)
class LogReport:
    """All that is said of one log."""

    source: str
    """The file's name, `standard input` or `the command line`."""
    release: str
    """`1.0.14 (as you say)`, or that it is not known."""
    facts: tuple[str, ...] = ()
    """What the log is: lines, steps, epochs, last loss; a line each."""
    explanations: tuple[LogExplanation, ...] = ()
    notes: tuple[str, ...] = ()
    """What else there is to say and is no fault."""
    of_a_training: bool = True
    """Whether there is any line of FunASR's trainers in it."""

    @property
    def fine(self) -> bool:
        """Whether nothing wrong was found."""
        return not self.explanations

    @property
    def all_explained(self) -> bool:
        """Whether a cause is known for all that is wrong."""
        return all(explanation.explained for explanation in self.explanations)


_NUMBERS = re.compile(r"\d+")


def merged(explanations: Sequence[LogExplanation]) -> tuple[LogExplanation, ...]:
    """The same explanation once, whatever numbers are in it, with how often and in which ranks."""
    by_title: dict[tuple[str, str], LogExplanation] = {}
    for explanation in explanations:
        key = (explanation.rule, _NUMBERS.sub("#", explanation.title))
        former = by_title.get(key)
        if former is None:
            by_title[key] = explanation
            continue
        ranks = tuple(dict.fromkeys((*former.ranks, *explanation.ranks)))
        better = explanation if len(explanation.evidence) > len(former.evidence) else former
        by_title[key] = replace(better, count=former.count + explanation.count, ranks=ranks)
    return tuple(by_title.values())
