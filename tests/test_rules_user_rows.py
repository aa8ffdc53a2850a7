"""What a user's rows mean for a cell's outcome."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from parsed import judge_invariants

from harness.core.cells import Cell, Failure, Outcome, Status, Verdict
from harness.rules.apply import apply_rules
from harness.rules.known_issues import KnownIssues
from harness.rules.user_input import NO_ROW
from harness.rules.verdicts import judge

CELL = "1.4.16/paraformer/v8404-h320/reduced/{}/cpu-fp32"
NONE = {
    "file": "mine.jsonl",
    "listed": 8,
    "trainable": 0,
    "reasons": [{"line": 1, "key": "a", "reason": "source_len is 29920, above max_token_length 2048", "frames": 187}],
}


def outcome(status: Status = Status.PASSED, *, check: str = "finetune@train", **others: Any) -> Outcome:
    usual: dict[str, Any] = {"reason": "", "metrics": {"steps": 0}, "evidence": {"user_rows": NONE}}
    return Outcome(cell=Cell.parse(CELL.format(check)), status=status, **{**usual, **others})


@pytest.mark.parametrize("check", ["finetune@train", "data@train_ds", "checkpoint@train", "decode@train"])
def test_a_cell_without_a_row_to_train_on_is_the_users_and_never_a_pass(check: str) -> None:
    counts = check.startswith(("finetune", "decode"))
    ended = "The release took 0 steps and ended without an error." if counts else ""
    settled = apply_rules(outcome(check=check))
    assert (settled.status, settled.failure and settled.failure.signature) == (Status.FAILED, NO_ROW)
    assert settled.reason == (
        "no row of mine.jsonl can be trained on (8 are listed): line 1: source_len is 29920, above max_token_length "
        f"2048; its recording has 187 frames of 10 ms. {ended}".strip()
    )
    (judged,) = judge([settled], KnownIssues(issues=()))
    assert judged.verdict is Verdict.YOURS
    assert "line 1: source_len is 29920" in judged.sentence


def test_what_the_release_raises_on_such_a_file_is_not_booked_as_its_own() -> None:
    failure = Failure(type="KeyError", message="'prompt'", signature="KeyError@funasr/datasets/index_ds.py:__init__")
    settled = apply_rules(outcome(Status.FAILED, reason="KeyError", failure=failure))
    assert settled.failure is not None
    assert settled.failure.signature == NO_ROW
    assert settled.reason.endswith("The release ends with KeyError@funasr/datasets/index_ds.py:__init__.")


@pytest.mark.parametrize("status", [Status.ERRORED, Status.OUT_OF_MEMORY, Status.SKIPPED, Status.BLOCKED])
def test_an_outcome_that_says_nothing_about_rows_stays(status: Status) -> None:
    one = outcome(status, reason="a reason")
    assert apply_rules(one) is one


@pytest.mark.parametrize("status", [Status.TIMED_OUT, Status.CRASHED])
def test_a_release_that_does_not_survive_such_a_file_is_not_accused_for_it(status: Status) -> None:
    settled = apply_rules(outcome(status, reason="no answer after 600 s"))
    assert settled.status is Status.FAILED
    assert settled.reason.endswith("no answer after 600 s")
    assert settled.evidence["yours"]["reason"] == settled.reason


@pytest.mark.parametrize("rows", [{**NONE, "trainable": 1}, {}, None])
def test_a_cell_with_a_row_to_train_on_is_judged_as_any(rows: Any) -> None:
    one = outcome(Status.FAILED, reason="x", evidence={"user_rows": rows})
    assert apply_rules(one) is one
    passed = apply_rules(replace(one, status=Status.PASSED))
    assert passed.failure is not None
    assert passed.failure.signature.startswith("NotTrained@")


def lost_rows(**changed: Any) -> Any:
    rows = {"listed": 8, "expected": 8, "arrived": 8, "missed": [], "missed_count": 0, "unforeseen": [], **changed}
    metrics = {"steps": 4, "steps_expected": 4, "epochs": 2, "user_rows": rows}
    return judge_invariants(metrics).reasons.get("batches")


def test_rows_that_all_arrive_keep_the_invariant_whatever_their_texts() -> None:
    assert lost_rows() == ()
    assert lost_rows(unforeseen=[3]) == (), "what arrives besides is no loss"


def test_a_row_that_its_own_limits_allow_and_that_never_arrives_is_the_releases() -> None:
    (reason,) = lost_rows(missed=[{"line": 3, "times": 0}, {"line": 5, "times": 1}], missed_count=9)
    assert reason == (
        "Rows that its own limits allow reached training less often than there were epochs: "
        "line 3 0 times, line 5 1 times and 7 more."
    )


@pytest.mark.parametrize("rows", [{"listed": 8, "expected": 8}, None, {"missed_count": None}])
def test_what_was_not_observed_accuses_nobody(rows: Any) -> None:
    metrics = {"steps": 4, "steps_expected": 4, "epochs": 2, "user_rows": rows}
    assert "batches" in judge_invariants(metrics).not_observed


def test_a_training_that_was_cut_short_is_a_matter_of_steps() -> None:
    rows = {"missed": [{"line": 3, "times": 0}], "missed_count": 1}
    metrics = {"steps": 3, "steps_expected": 4, "epochs": 2, "user_rows": rows}
    assert "batches" in judge_invariants(metrics).not_observed
