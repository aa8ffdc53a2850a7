"""What a run says while it goes on and at its end."""

from __future__ import annotations

import io
import re

import pytest
from report_factory import ISSUES, LOSS_SIGNATURE, RELEASES, blocked, cell, outcome
from rich.console import Console

from harness import terminal
from harness.cells import Failure, Outcome, Status
from harness.judge.verdicts import judge
from harness.terminal import Display, say, summary

KNOWN = RELEASES[6]
NEW = RELEASES[-1]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What is drawn on a terminal of 120 columns."""
    monkeypatch.delenv("CI", raising=False)
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=120, highlight=False, legacy_windows=False)
    monkeypatch.setattr(terminal, "_console", console)
    return file


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time as the display reads it; the last number is now."""
    now = [100.0]
    monkeypatch.setattr("harness.terminal.time.monotonic", lambda: now[-1])
    return now


def test_what_looks_like_markup_is_said_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    say("[bold]1.0[/bold] [/nothing] :smile:", style="yellow")
    assert capsys.readouterr() == ("", "[bold]1.0[/bold] [/nothing] :smile:\n")


def test_a_long_line_is_not_broken(capsys: pytest.CaptureFixture[str]) -> None:
    say("x" * 500)
    assert capsys.readouterr().err == "x" * 500 + "\n"


def test_without_a_terminal_the_state_is_told_at_intervals_and_at_the_end(
    capsys: pytest.CaptureFixture[str], clock: list[float]
) -> None:
    with Display(total=4) as display:
        for number, seconds in enumerate((101.0, 120.0, 121.0)):
            clock.append(seconds)
            display.started(cell(RELEASES[number], "construct"))
            display.done(outcome(cell(RELEASES[number], "construct"), Status.FAILED if number else Status.PASSED))
    assert capsys.readouterr().err.splitlines() == [
        "1/4 cells in 20 s: 1 passed, about 60 s left",
        "3/4 cells in 21 s: 2 failed, 1 passed, about 7 s left",
    ]


def test_nothing_is_foretold_before_the_first_outcome(capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    with Display(total=4):
        clock.append(130.0)
    assert capsys.readouterr().err == "0/4 cells in 30 s: starting\n"


def test_a_run_of_no_cells_can_be_displayed(capsys: pytest.CaptureFixture[str]) -> None:
    with Display(total=0):
        pass
    assert capsys.readouterr().err.startswith("0/0 cells")


def test_the_state_is_told_even_when_the_run_breaks_off(capsys: pytest.CaptureFixture[str]) -> None:
    def run() -> None:
        with Display(total=2) as display:
            display.done(outcome(cell(NEW, "construct")))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    assert capsys.readouterr().err.startswith("1/2 cells")


def test_a_warning_is_marked_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    with Display(total=1) as display:
        display.warn("a process could not be ended")
    assert capsys.readouterr().err.startswith("warning: a process could not be ended\n")


def test_a_terminal_shows_what_is_done_and_what_runs(drawn: io.StringIO) -> None:
    with Display(total=2) as display:
        display.started(cell(NEW, "construct"))
        display.done(outcome(cell(NEW, "construct"), Status.FAILED))
        display.started(cell(NEW, "loss_contract"))
    told = drawn.getvalue()
    assert "1 failed" in told
    assert re.search(r"1/2 +\d+:\d\d:\d\d", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", told))
    assert f"{cell(NEW, 'loss_contract').id}"[:40] in told


def test_a_terminal_in_a_ci_is_told_line_by_line(drawn: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with Display(total=1) as display:
        display.done(outcome(cell(NEW, "construct")))
    assert drawn.getvalue().splitlines() == ["1/1 cells in 0 s: 1 passed"]


def failed(release: str, signature: str) -> Outcome:
    """A `loss_contract` cell that failed so."""
    failure = Failure(type="E", message="", signature=signature)
    return outcome(cell(release, "loss_contract"), Status.FAILED, "It did not fit.", failure=failure)


def test_the_summary_counts_statuses_by_check_in_the_order_of_the_ladder() -> None:
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
