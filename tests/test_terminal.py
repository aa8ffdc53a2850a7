"""What a run says while it goes on and at its end."""

from __future__ import annotations

import pytest
from report_factory import ISSUES, LOSS_SIGNATURE, RELEASES, blocked, cell, outcome

from harness.core.cells import Failure, Outcome, Status
from harness.report.terminal import summary
from harness.rules.verdicts import judge
from harness.text.terminal import say

KNOWN = RELEASES[6]
NEW = RELEASES[-1]


def test_what_looks_like_markup_is_said_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    say("[bold]1.0[/bold] [/nothing] :smile:", style="yellow")
    assert capsys.readouterr() == ("", "[bold]1.0[/bold] [/nothing] :smile:\n")


def test_a_long_line_is_not_broken(capsys: pytest.CaptureFixture[str]) -> None:
    say("x" * 500)
    assert capsys.readouterr().err == "x" * 500 + "\n"


def failed(release: str, signature: str) -> Outcome:
    """A `loss_contract` cell that failed so."""
    failure = Failure(type="E", message="", signature=signature)
    return outcome(cell(release, "loss_contract"), Status.FAILED, "It did not fit.", failure=failure)


def test_the_summary_counts_statuses_by_check_in_the_order_of_the_checks() -> None:
    some = [
        outcome(cell(NEW, "finetune@train")),
        outcome(cell(NEW, "construct")),
        outcome(cell(KNOWN, "construct")),
        failed(KNOWN, LOSS_SIGNATURE),
    ]
    table, _, rest = summary(judge(some, ISSUES)).partition("\n\n")
    assert [line.split() for line in table.splitlines() if "-" not in line] == [
        ["check", "passed", "failed"],
        ["construct", "2"],
        ["loss_contract", "1"],
        ["finetune", "1"],
    ]
    assert rest == "3 as_expected, 1 known"


def test_what_needs_a_person_is_named_and_the_rest_is_not() -> None:
    new, known = failed(NEW, "E@funasr/new.py:f"), failed(KNOWN, LOSS_SIGNATURE)
    fixed = outcome(cell(RELEASES[7], "loss_contract"))
    above = blocked(cell(NEW, "finetune@train"), new.cell)
    fault = outcome(cell(NEW, "construct"), Status.ERRORED, "The disk is full.")
    yours = outcome(
        cell(NEW, "data@train"), Status.FAILED, "TypeError.", evidence={"yours": {"reason": "mine.yaml sets `lrr`."}}
    )
    lines = summary(judge([new, known, fixed, above, fault, yours], ISSUES)).splitlines()
    assert [line for line in lines if line.startswith("  ")] == [
        f"  regression: {new.cell.id}: It did not fit.",
        f"  unexpected_pass: {fixed.cell.id}: "
        f"It passed, and is listed as failing ({ISSUES.issues[0].id}: {ISSUES.issues[0].title}).",
        f"  fault: {fault.cell.id}: The disk is full.",
        f"  yours: {yours.cell.id}: It failed: mine.yaml sets `lrr`.",
    ]


def test_a_long_list_of_regressions_is_cut_short_and_says_so() -> None:
    many = [failed(release, "E@funasr/new.py:f") for release in RELEASES[20:55]]
    lines = summary(judge(many, ISSUES)).splitlines()
    assert sum(line.startswith("  regression: ") for line in lines) == 20
    assert lines[-1] == "  … and 15 more, in the report"


def test_nothing_can_be_summarised() -> None:
    assert summary([]).strip().startswith("check")
