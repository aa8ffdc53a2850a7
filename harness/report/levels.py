"""How a cell's level is shown: its sign, its name and its meaning."""

from __future__ import annotations

from harness.core.cells import Status
from harness.report.labels import STATUS_SIGN
from harness.rules.levels import Level
from harness.rules.verdicts import JudgedOutcome

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


def sign(item: JudgedOutcome) -> str:
    """The sign of one cell: its level's, or of its status where that says more."""
    status = item.outcome.status
    return STATUS_SIGN[status] if status in _OWN_SIGN else SIGN[Level.of(item)]
