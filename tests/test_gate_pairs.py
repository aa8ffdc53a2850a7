"""What a pair of outcomes tells: regressed, fixed, the same, or nothing of the two."""

from __future__ import annotations

import pytest

from harness.compare.gate.pairs import Result, pair, questions, roots
from harness.core.cells import Cell, Failure, Frame, Outcome, Status
from harness.core.evidence import BLOCKED_BY

REST = "paraformer/v8404-h320/reduced/{}/cpu-fp32"


def outcome(
    label: str, status: str, *, check: str = "loss_contract", signature: str = "A@f", frames: int = 1
) -> Outcome:
    frame = Frame(file="funasr/m.py", line=1, function="f", code="x")
    failure = Failure(type="A", message="m", signature=signature, frames=(frame,) * frames)
    blocked = {BLOCKED_BY: f"{label}/{REST.format('construct')}"} if status == "blocked" else {}
    return Outcome(
        cell=Cell.parse(f"{label}/{REST.format(check)}"),
        status=Status(status),
        reason="" if status == "passed" else "why",
        failure=failure if status == "failed" else None,
        evidence=blocked,
    )


@pytest.mark.parametrize(
    ("mine", "other", "result", "reason"),
    [
        ("passed", "passed", Result.SAME, ""),
        ("failed", "passed", Result.REGRESSED, ""),
        ("crashed", "passed", Result.REGRESSED, ""),
        ("timed_out", "passed", Result.REGRESSED, ""),
        ("blocked", "passed", Result.REGRESSED, ""),
        ("skipped", "passed", Result.REGRESSED, "no longer has it"),
        ("passed", "failed", Result.FIXED, ""),
        ("passed", "blocked", Result.FIXED, ""),
        ("passed", "skipped", Result.SAME, "only the source has it"),
        ("failed", "failed", Result.SAME, "in the same way"),
        ("blocked", "blocked", Result.SAME, ""),
        ("failed", "timed_out", Result.SPURIOUS, "differently"),
        ("blocked", "failed", Result.SPURIOUS, "on different checks"),
        ("failed", "blocked", Result.SPURIOUS, "on different checks"),
        ("failed", "skipped", Result.SPURIOUS, "does not have it"),
        ("errored", "passed", Result.SPURIOUS, "a fault of the harness or the machine"),
        ("passed", "errored", Result.SPURIOUS, "a fault of the harness or the machine"),
    ],
)
def test_two_statuses_tell_this(mine: str, other: str, result: Result, reason: str) -> None:
    found = pair(outcome("2.0", mine), outcome("1.0", other))
    assert found.result is result
    assert reason in found.reason


def test_two_ways_of_failing_are_not_the_same() -> None:
    found = pair(outcome("2.0", "failed", signature="A@f"), outcome("1.0", "failed", signature="B@g"))
    assert (found.result, found.reason) == (Result.SPURIOUS, "both fail, differently: A@f instead of B@g")


def test_a_mismatch_that_figures_alone_judged_is_reported_as_it_was_measured() -> None:
    found = pair(
        outcome("2.0", "failed", check="finetune@train", frames=0), outcome("1.0", "passed", check="finetune@train")
    )
    assert (found.result, found.reason) == (Result.REGRESSED, "")


def test_a_regression_that_follows_from_another_is_not_explained_twice() -> None:
    pairs = [
        pair(outcome("2.0", "failed", check="construct"), outcome("1.0", "passed", check="construct")),
        pair(outcome("2.0", "blocked"), outcome("1.0", "passed")),
        pair(outcome("2.0", "skipped", check="finetune@train"), outcome("1.0", "passed", check="finetune@train")),
    ]
    assert [one.mine.cell.check for one in roots(pairs)] == ["construct"]
    assert pairs[1].follows == f"2.0/{REST.format('construct')}"


def test_each_question_of_a_matrix_is_put_to_both() -> None:
    cells = [Cell.parse(f"{label}/{REST.format('construct')}") for label in ("1.0.12", "1.0.17", "1.0.18")]
    (found,) = questions(cells, "2.0", "1.0")
    assert [cell.release for cell in found] == ["2.0", "1.0"]
