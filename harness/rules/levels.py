"""The level of a cell: passed, or how grave what is wrong with it is, or why it says nothing about the release."""

from __future__ import annotations

from enum import StrEnum

from harness.core.cells import Status, Verdict
from harness.rules.verdicts import JudgedOutcome


class Level(StrEnum):
    """What a reader is to think of a cell, the gravest first."""

    BROKEN = "broken"
    FAULT = "fault"
    YOURS = "yours"
    NOT_RUN = "not_run"
    WRONG = "wrong"
    MINOR = "minor"
    PASSED = "passed"

    @classmethod
    def of(cls, item: JudgedOutcome) -> Level:
        """The level of one cell."""
        status = item.outcome.status
        if item.verdict is Verdict.YOURS:
            return cls.YOURS
        unknown = item.verdict in (Verdict.FAULT, Verdict.UNDECIDED)
        if status is Status.ERRORED or (unknown and status is not Status.BLOCKED):
            return cls.FAULT
        if item.severity:
            return cls(item.severity.value)
        if status is Status.PASSED:
            return cls.PASSED
        return cls.NOT_RUN if status in (Status.BLOCKED, Status.SKIPPED) else cls.BROKEN

    @property
    def answers(self) -> bool:
        """Whether the check came to an answer, and that is not `broken`."""
        return self in (Level.WRONG, Level.MINOR, Level.PASSED)


SHORT_OF_PASSED = (Level.BROKEN, Level.WRONG, Level.MINOR)
"""Levels that are severities."""


def gravest(levels: list[Level]) -> Level:
    """The gravest of several levels; `NOT_RUN` of none."""
    ranks = list(Level)
    return min(levels, key=ranks.index, default=Level.NOT_RUN)
