"""What a user's rows mean for a cell's outcome."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from golden_files import assert_golden
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
    assert settled.reason.endswith(ended)
    (judged,) = judge([settled], KnownIssues(issues=()))
    assert (judged.verdict, judged.sentence) == (Verdict.YOURS, f"It failed: {settled.reason}")


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


@pytest.mark.parametrize("reasons", [[], [{**NONE["reasons"][0], "frames": None}]])
def test_a_file_of_which_less_is_known_is_the_cause_all_the_same(reasons: list[Any]) -> None:
    settled = apply_rules(outcome(evidence={"user_rows": {**NONE, "reasons": reasons}}))
    assert (settled.status, settled.failure and settled.failure.signature) == (Status.FAILED, NO_ROW)
    assert settled.failure is not None
    assert (settled.failure.type, settled.failure.message) == ("NoRowToTrainOn", settled.reason)
    assert settled.evidence["yours"] == {"reason": settled.reason}
    assert settled.evidence["user_rows"]["listed"] == 8


def lost_rows(**changed: Any) -> Any:
    rows = {"listed": 8, "expected": 8, "arrived": 8, "missed": [], "missed_count": 0, "unforeseen": [], **changed}
    metrics = {"steps": 4, "steps_expected": 4, "epochs": 2, "user_rows": rows}
    return judge_invariants(metrics).reasons.get("batches")


def test_rows_that_all_arrive_keep_the_invariant_whatever_their_texts() -> None:
    assert lost_rows() == ()
    assert lost_rows(unforeseen=[3]) == (), "what arrives besides is no loss"


def test_a_row_that_its_own_limits_allow_and_that_never_arrives_is_the_releases() -> None:
    assert len(lost_rows(missed=[{"line": 3, "times": 0}], missed_count=1)) == 1
    assert len(lost_rows(missed=[{"line": 3, "times": 0}, {"line": 5, "times": 1}], missed_count=9)) == 1


@pytest.mark.parametrize("rows", [{"listed": 8, "expected": 8}, None, {"missed_count": None}])
def test_what_was_not_observed_accuses_nobody(rows: Any) -> None:
    metrics = {"steps": 4, "steps_expected": 4, "epochs": 2, "user_rows": rows}
    assert "batches" in judge_invariants(metrics).not_observed


def test_a_training_that_was_cut_short_is_a_matter_of_steps() -> None:
    rows = {"missed": [{"line": 3, "times": 0}], "missed_count": 1}
    metrics = {"steps": 3, "steps_expected": 4, "epochs": 2, "user_rows": rows}
    assert "batches" in judge_invariants(metrics).not_observed


KEY_ERROR = Failure(type="KeyError", message="'prompt'", signature="KeyError@funasr/datasets/index_ds.py:__init__")
FEW: list[Any] = [{"line": line, "times": line % 2} for line in range(1, 6)]
REPORTED: dict[str, str] = {
    "no step": apply_rules(outcome()).reason,
    "steps": apply_rules(outcome(metrics={"steps": 4})).reason,
    "a check without steps": apply_rules(outcome(check="data@train")).reason,
    "an exception": apply_rules(outcome(Status.FAILED, reason="KeyError", failure=KEY_ERROR)).reason,
    "no answer in time": apply_rules(outcome(Status.TIMED_OUT, reason="no answer after 600 s")).reason,
    "a length that is not known": apply_rules(
        outcome(evidence={"user_rows": {**NONE, "reasons": [{**NONE["reasons"][0], "frames": None}]}})
    ).reason,
    "no reasons": apply_rules(outcome(evidence={"user_rows": {**NONE, "reasons": []}})).reason,
    "one row lost": lost_rows(missed=FEW[:1], missed_count=1)[0],
    "five rows lost": lost_rows(missed=FEW, missed_count=5)[0],
    "six rows lost": lost_rows(missed=[*FEW, {"line": 9, "times": 0}], missed_count=6)[0],
}


def test_the_wording_of_what_became_of_a_users_rows() -> None:
    assert_golden("user_rows.txt", "".join(f"{scene}\n  {reason}\n" for scene, reason in REPORTED.items()))
