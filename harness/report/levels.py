"""The level of a cell: passed, or how grave what is wrong with it is, or why it says nothing about the release."""

from __future__ import annotations

from enum import StrEnum

from harness.cells import Status, Verdict
from harness.judge.verdicts import Judged
from harness.report.words import STATUS_SIGN


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
    def of(cls, item: Judged) -> Level:
        """The level of one cell."""
        status = item.outcome.status
        if item.verdict is Verdict.YOURS:
            return cls.YOURS
        if status is Status.ERRORED or (item.verdict is Verdict.FAULT and status is not Status.BLOCKED):
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

SIGN: dict[Level, str] = {
    Level.BROKEN: "✗",
    Level.FAULT: "?",
    Level.YOURS: "Y",
    Level.NOT_RUN: "∙",
    Level.WRONG: "≠",
    Level.MINOR: "≈",
    Level.PASSED: "✓",
}
"""Legible without colour."""

NAME: dict[Level, str] = {level: level.value.replace("_", " ") for level in Level} | {
    Level.FAULT: "fault of the machine",
    Level.YOURS: "your input",
}

MEANING: dict[Level, str] = {
    Level.BROKEN: "the model cannot be trained, or the result is not the model",
    Level.FAULT: "the harness or the machine failed; this says nothing about the release",
    Level.YOURS: "a key, a value or a file of the user's is the cause; this says nothing about the release",
    Level.NOT_RUN: "not asked for, or a check that it depends on did not pass, or the question does not arise here",
    Level.WRONG: "it trains something other than configured",
    Level.MINOR: "a deviation that does not change what is learned",
    Level.PASSED: "the check found nothing wrong",
}

_OWN_SIGN = (Status.TIMED_OUT, Status.CRASHED, Status.OUT_OF_MEMORY, Status.SKIPPED)


def sign(item: Judged) -> str:
    """The sign of one cell: its level's, or of its status where that says more."""
    status = item.outcome.status
    return STATUS_SIGN[status] if status in _OWN_SIGN else SIGN[Level.of(item)]


def gravest(levels: list[Level]) -> Level:
    """The gravest of several levels; `NOT_RUN` of none."""
    ranks = list(Level)
    return min(levels, key=ranks.index, default=Level.NOT_RUN)
