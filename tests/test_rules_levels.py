"""The level of a cell: from its status, its verdict and its gravest defect."""

from __future__ import annotations

import pytest
from report_factory import cell, outcome

from harness.core.cells import Severity, Status, Verdict
from harness.rules.defects import Defect
from harness.rules.levels import SHORT_OF_PASSED, Level, gravest
from harness.rules.verdicts import JudgedOutcome

CELL = cell("1.4.16", "finetune@train")


def item(status: Status, verdict: Verdict, severity: Severity | None = None) -> JudgedOutcome:
    """A cell with this verdict, and with one defect of this severity."""
    defects = () if severity is None else (Defect(signature="A@b", severity=severity, issue=None, message="m"),)
    return JudgedOutcome(outcome=outcome(CELL, status, "a reason"), verdict=verdict, sentence="s", defects=defects)


@pytest.mark.parametrize(
    ("status", "verdict", "severity", "level"),
    [
        (Status.PASSED, Verdict.AS_EXPECTED, None, Level.PASSED),
        (Status.PASSED, Verdict.UNEXPECTED_PASS, None, Level.PASSED),
        (Status.PASSED, Verdict.KNOWN, Severity.MINOR, Level.MINOR),
        (Status.PASSED, Verdict.REGRESSION, Severity.WRONG, Level.WRONG),
        (Status.FAILED, Verdict.KNOWN, Severity.BROKEN, Level.BROKEN),
        (Status.FAILED, Verdict.KNOWN, Severity.WRONG, Level.WRONG),
        (Status.FAILED, Verdict.KNOWN, Severity.MINOR, Level.MINOR),
        (Status.FAILED, Verdict.KNOWN, None, Level.BROKEN),
        (Status.CRASHED, Verdict.KNOWN, None, Level.BROKEN),
        (Status.TIMED_OUT, Verdict.KNOWN, None, Level.BROKEN),
        (Status.OUT_OF_MEMORY, Verdict.KNOWN, None, Level.BROKEN),
        (Status.FAILED, Verdict.REGRESSION, None, Level.BROKEN),
        (Status.FAILED, Verdict.YOURS, None, Level.YOURS),
        (Status.FAILED, Verdict.YOURS, Severity.BROKEN, Level.YOURS),
        (Status.BLOCKED, Verdict.YOURS, None, Level.YOURS),
        (Status.ERRORED, Verdict.FAULT, None, Level.FAULT),
        (Status.ERRORED, Verdict.FOLLOWS, None, Level.FAULT),
        (Status.TIMED_OUT, Verdict.FAULT, None, Level.FAULT),
        (Status.TIMED_OUT, Verdict.FAULT, Severity.WRONG, Level.FAULT),
        (Status.BLOCKED, Verdict.FAULT, None, Level.NOT_RUN),
        (Status.BLOCKED, Verdict.KNOWN, None, Level.NOT_RUN),
        (Status.BLOCKED, Verdict.FOLLOWS, None, Level.NOT_RUN),
        (Status.SKIPPED, Verdict.AS_EXPECTED, None, Level.NOT_RUN),
    ],
)
def test_a_cell_has_the_level_of_what_is_wrong_with_it(
    status: Status, verdict: Verdict, severity: Severity | None, level: Level
) -> None:
    assert Level.of(item(status, verdict, severity)) is level


def test_a_check_answers_where_it_came_to_an_end_that_is_not_broken() -> None:
    assert {level for level in Level if level.answers} == {Level.WRONG, Level.MINOR, Level.PASSED}


def test_the_severities_are_levels() -> None:
    assert tuple(level.value for level in SHORT_OF_PASSED) == tuple(Severity)


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ([], Level.NOT_RUN),
        ([Level.PASSED], Level.PASSED),
        ([Level.PASSED, Level.NOT_RUN, Level.MINOR], Level.NOT_RUN),
        ([Level.MINOR, Level.WRONG, Level.PASSED], Level.WRONG),
        ([Level.YOURS, Level.FAULT, Level.NOT_RUN], Level.FAULT),
        ([*Level], Level.BROKEN),
    ],
)
def test_the_gravest_of_several_levels(levels: list[Level], expected: Level) -> None:
    assert gravest(levels) is expected
    assert gravest(levels[::-1]) is expected
