"""Outcomes held against known issues, each rule with its planted case, and the exit status of a run."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from golden_files import assert_golden
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import outcomes as any_outcomes

from harness.core.cells import Cell, Check, Failure, Outcome, Severity, Status, Verdict
from harness.core.evidence.properties import PropertyEvidence
from harness.rules.known_issues import FAILURES, KnownIssue, KnownIssues
from harness.rules.verdicts import JudgedOutcome, exit_code, judge
from harness.worker.checks import properties

LISTED = "AssertionError@funasr/losses/label_smoothing_loss.py:forward"
OTHER = "TypeError@funasr/models/paraformer/model.py:forward"

KNOWN = KnownIssues(
    issues=(
        KnownIssue(
            id="streaming",
            title="hidden states enter the loss",
            severity=Severity.BROKEN,
            releases="<1.0.12",
            variants=("paraformer_streaming",),
            checks=(Check.LOSS_CONTRACT,),
            signatures=(LISTED,),
            cause="c",
            seen="s",
        ),
        KnownIssue(
            id="hangs",
            title="the loader waits forever",
            severity=Severity.BROKEN,
            releases="==1.2.0",
            checks=(Check.FINETUNE,),
            status=Status.TIMED_OUT,
            cause="c",
            seen="s",
        ),
    )
)


def outcome(name: str, status: Status = Status.PASSED, signature: str = "", blocked_by: str = "") -> Outcome:
    return Outcome(
        cell=Cell.parse(name),
        status=status,
        reason="" if status is Status.PASSED else "a reason",
        failure=Failure(type="E", message="m", signature=signature) if signature else None,
        evidence={"blocked_by": blocked_by} if blocked_by else {},
    )


def contract(release: str = "1.0.11", variant: str = "paraformer_streaming") -> str:
    return f"{release}/{variant}/v8404-h320/reduced/loss_contract/cpu-fp32"


def finetune(release: str = "1.0.11", variant: str = "paraformer_streaming") -> str:
    return f"{release}/{variant}/v8404-h320/reduced/finetune@train/cpu-fp32"


def one(*outcomes: Outcome) -> JudgedOutcome:
    """The verdict on the last of these."""
    return judge(outcomes, KNOWN)[-1]


def test_a_pass_that_nothing_speaks_against_is_as_expected() -> None:
    judged = one(outcome(contract("1.0.12")))
    assert (judged.verdict, judged.issue) == (Verdict.AS_EXPECTED, None)


def test_a_pass_where_a_failure_is_listed_is_unexpected() -> None:
    judged = one(outcome(contract()))
    assert (judged.verdict, judged.issue) == (Verdict.UNEXPECTED_PASS, KNOWN.issues[0])


def test_a_pass_is_as_expected_where_the_fault_varies_with_the_machine() -> None:
    varying = KnownIssues(issues=(replace(KNOWN.issues[0], varies="the order of a sum"),))
    assert judge([outcome(contract())], varying)[0].verdict is Verdict.AS_EXPECTED
    assert judge([outcome(contract(), Status.FAILED, LISTED)], varying)[0].verdict is Verdict.KNOWN
    assert judge([outcome(contract(), Status.FAILED, OTHER)], varying)[0].verdict is Verdict.REGRESSION


def test_a_failure_as_listed_is_known() -> None:
    judged = one(outcome(contract(), Status.FAILED, LISTED))
    assert (judged.verdict, judged.issue, judged.also) == (Verdict.KNOWN, KNOWN.issues[0], ())


def test_a_failure_with_another_signature_than_listed_is_a_regression() -> None:
    judged = one(outcome(contract(), Status.FAILED, OTHER))
    assert (judged.verdict, judged.issue, judged.severity) == (Verdict.REGRESSION, KNOWN.issues[0], Severity.BROKEN)


@pytest.mark.parametrize("status", [Status.TIMED_OUT, Status.CRASHED, Status.OUT_OF_MEMORY])
def test_a_failure_with_another_status_than_listed_is_a_regression(status: Status) -> None:
    assert one(outcome(contract(), status, LISTED)).verdict is Verdict.REGRESSION
    assert one(outcome(contract(), status)).verdict is Verdict.REGRESSION


@pytest.mark.parametrize("status", FAILURES)
def test_a_failure_that_is_not_listed_is_a_regression(status: Status) -> None:
    judged = one(outcome(contract("1.0.12"), status, LISTED))
    assert (judged.verdict, judged.issue) == (Verdict.REGRESSION, None)


def test_a_time_out_as_listed_is_known_without_a_signature() -> None:
    assert one(outcome(finetune("1.2.0"), Status.TIMED_OUT)).verdict is Verdict.KNOWN


def test_the_issue_that_fits_is_found_among_several() -> None:
    second = replace(KNOWN.issues[0], id="second", signatures=(OTHER,))
    [judged] = judge([outcome(contract(), Status.FAILED, OTHER)], KnownIssues(issues=(*KNOWN.issues, second)))
    assert (judged.verdict, judged.issue) == (Verdict.KNOWN, second)


def test_an_error_of_the_machine_is_a_fault_even_where_a_failure_is_listed() -> None:
    assert one(outcome(contract(), Status.ERRORED)).verdict is Verdict.FAULT
    assert one(outcome(contract("1.0.12"), Status.ERRORED)).verdict is Verdict.FAULT


def test_what_was_skipped_is_as_expected_even_where_a_failure_is_listed() -> None:
    assert one(outcome(contract(), Status.SKIPPED)).verdict is Verdict.AS_EXPECTED


def test_what_a_known_failure_blocks_is_known_with_its_issue() -> None:
    below = outcome(contract(), Status.FAILED, LISTED)
    judged = one(below, outcome(finetune(), Status.BLOCKED, blocked_by=contract()))
    assert (judged.verdict, judged.issue) == (Verdict.KNOWN, KNOWN.issues[0])


@pytest.mark.parametrize(("status", "signature"), [(Status.FAILED, OTHER), (Status.ERRORED, ""), (Status.CRASHED, "")])
def test_what_a_regression_or_fault_blocks_follows(status: Status, signature: str) -> None:
    judged = one(outcome(contract(), status, signature), outcome(finetune(), Status.BLOCKED, blocked_by=contract()))
    assert (judged.verdict, judged.issue, judged.severity) == (Verdict.FOLLOWS, None, None)


def test_a_chain_of_blocked_cells_is_followed_to_its_end_in_any_order() -> None:
    construct = contract().replace("loss_contract", "construct")
    chain = [
        outcome(finetune(), Status.BLOCKED, blocked_by=contract()),
        outcome(contract(), Status.BLOCKED, blocked_by=construct),
        outcome(construct, Status.FAILED, OTHER),
    ]
    assert [judged.verdict for judged in judge(chain, KNOWN)] == [
        Verdict.FOLLOWS,
        Verdict.FOLLOWS,
        Verdict.REGRESSION,
    ]


def test_a_blocked_cell_whose_blocker_is_not_there_is_a_fault() -> None:
    assert one(outcome(finetune(), Status.BLOCKED, blocked_by=contract())).verdict is Verdict.FAULT
    assert one(outcome(finetune(), Status.BLOCKED)).verdict is Verdict.FAULT


def test_a_blocked_cell_whose_blocker_passed_is_a_fault() -> None:
    below = outcome(contract("1.0.12"))
    judged = one(below, outcome(finetune("1.0.12"), Status.BLOCKED, blocked_by=contract("1.0.12")))
    assert judged.verdict is Verdict.FAULT


def test_a_blocked_cell_whose_blocker_passed_unexpectedly_is_a_fault() -> None:
    judged = one(outcome(contract()), outcome(finetune(), Status.BLOCKED, blocked_by=contract()))
    assert judged.verdict is Verdict.FAULT


def test_what_a_skipped_cell_blocks_is_as_expected() -> None:
    below = outcome(contract(), Status.SKIPPED)
    assert one(below, outcome(finetune(), Status.BLOCKED, blocked_by=contract())).verdict is Verdict.AS_EXPECTED


def test_evidence_without_its_declared_form_is_a_fault_of_that_cell_alone() -> None:
    malformed = replace(outcome(contract("1.0.18")), evidence={"findings": [{"code": "found"}]})
    first, second = judge([malformed, outcome(contract("1.0.19"))], KNOWN)
    assert (first.verdict, first.outcome.status) == (Verdict.FAULT, Status.ERRORED)
    assert second.verdict is Verdict.AS_EXPECTED


def test_cells_that_block_each_other_are_faults_and_no_endless_loop() -> None:
    circle = [
        outcome(finetune(), Status.BLOCKED, blocked_by=contract()),
        outcome(contract(), Status.BLOCKED, blocked_by=finetune()),
    ]
    assert {judged.verdict for judged in judge(circle, KNOWN)} == {Verdict.FAULT}


@settings(max_examples=30)
@given(st.lists(any_outcomes, max_size=4))
def test_every_outcome_gets_one_verdict_in_its_place_and_a_sentence(outcomes: list[Outcome]) -> None:
    judged = judge(outcomes, KNOWN)
    assert [one.outcome.cell for one in judged] == [given.cell for given in outcomes]
    # What an earlier release of the run had and a later one lacks is a failure, and what is malformed is a fault.
    pairs = [(one.outcome, given.as_declared()) for one, given in zip(judged, outcomes, strict=True)]
    kept = [(found, given) for found, given in pairs if given.status is not Status.SKIPPED]
    assert [found for found, _ in kept] == [given for _, given in kept]
    assert all(one.sentence for one in judged)


@given(any_outcomes)
def test_nothing_but_a_pass_or_a_skip_is_as_expected_by_itself(given_outcome: Outcome) -> None:
    [judged] = judge([given_outcome], KnownIssues())
    expected = given_outcome.status in (Status.PASSED, Status.SKIPPED)
    assert (judged.verdict is Verdict.AS_EXPECTED) == expected


PASSED = outcome(contract("1.0.12"))
LISTED_FAILURE = outcome(contract(), Status.FAILED, LISTED)
REGRESSION = outcome(contract("1.0.14"), Status.FAILED, OTHER)
UNEXPECTED = outcome(contract("1.0.10"))
FAULT = outcome(contract("1.0.15"), Status.ERRORED)
CAUSE = "mine.yaml sets `optim_conf.lrr`."
YOUR_OWN = replace(REGRESSION, evidence={"yours": {"reason": CAUSE}})


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        ([PASSED], 0),
        ([PASSED, LISTED_FAILURE, YOUR_OWN], 2),
        ([YOUR_OWN, REGRESSION], 1),
        ([YOUR_OWN, FAULT], 3),
        ([PASSED, LISTED_FAILURE], 0),
        ([PASSED, REGRESSION], 1),
        ([PASSED, UNEXPECTED], 1),
        ([PASSED, FAULT], 3),
        ([FAULT, REGRESSION], 1),
        ([FAULT, UNEXPECTED], 1),
        ([], 3),
    ],
)
def test_the_exit_status_says_what_the_worst_verdict_is(outcomes: list[Outcome], code: int) -> None:
    assert exit_code(judge(outcomes, KNOWN)) == code


def test_what_a_user_s_own_input_causes_is_theirs_and_names_it() -> None:
    judged = one(YOUR_OWN)
    assert (judged.verdict, judged.issue, judged.severity) == (Verdict.YOURS, None, None)
    above = one(YOUR_OWN, outcome(finetune("1.0.14"), Status.BLOCKED, blocked_by=contract("1.0.14")))
    assert above.verdict is Verdict.YOURS


def test_a_cause_of_the_user_s_hides_neither_a_known_issue_nor_a_fault_nor_a_pass() -> None:
    for plain in (LISTED_FAILURE, FAULT, PASSED):
        assert one(replace(plain, evidence={"yours": {"reason": CAUSE}})).verdict is one(plain).verdict
    assert one(replace(REGRESSION, evidence={"yours": {}})).verdict is Verdict.REGRESSION


def test_a_planned_cell_without_an_outcome_is_no_success() -> None:
    judged = judge([PASSED], KNOWN)
    assert exit_code(judged, planned=[PASSED.cell]) == 0
    assert exit_code(judged, planned=[PASSED.cell, FAULT.cell]) == 3
    assert exit_code(judge([REGRESSION], KNOWN), planned=[PASSED.cell]) == 1
    assert exit_code(judged, missing=1) == 3
    assert exit_code(judge([REGRESSION], KNOWN), missing=1) == 1


def test_what_fails_otherwise_than_listed_names_the_issue_that_it_was_listed_in() -> None:
    judged = one(outcome(contract(), Status.FAILED, OTHER))
    assert judged.issue is KNOWN.issues[0]
    assert one(outcome(contract("1.3.0"), Status.FAILED, OTHER)).issue is None


def test_what_depends_on_a_blocked_cell_is_judged_by_the_first_that_failed() -> None:
    bottom = outcome(contract(), Status.FAILED, LISTED)
    middle = outcome(finetune(), Status.BLOCKED, blocked_by=contract())
    top = outcome(finetune().replace("finetune", "decode"), Status.BLOCKED, blocked_by=finetune())
    judged = one(bottom, middle, top)
    assert (judged.verdict, judged.issue) == (Verdict.KNOWN, KNOWN.issues[0])
    assert judged.outcome is top


def test_a_search_that_the_time_limit_stopped_accuses_nobody_and_a_hang_does() -> None:
    name = "1.4.16/paraformer/v8404-h320/reduced/properties/cpu-fp32"
    hangs = outcome(name, Status.TIMED_OUT, "Timeout@funasr/models/paraformer/model.py:forward")
    stopped = replace(hangs, evidence={properties.STOPPED: ["parts_add_up"]})
    (accused,), (spared,) = judge([hangs], KNOWN), judge([stopped], KNOWN)
    assert (accused.verdict, accused.severity) == (Verdict.REGRESSION, Severity.BROKEN)
    assert (spared.verdict, spared.severity, spared.defects) == (Verdict.FAULT, None, ())
    assert exit_code([spared]) == 3
    # A check that came to its end is judged by what it found, whatever else it says.
    assert judge([replace(stopped, status=Status.FAILED)], KNOWN)[0].verdict is Verdict.REGRESSION


def test_what_the_check_says_of_itself_is_what_the_judge_reads() -> None:
    assert properties.STOPPED in {field.name for field in fields(PropertyEvidence)}


ABOVE = outcome(finetune(), Status.BLOCKED, blocked_by=contract())
TRAINED = finetune("1.3.0")


def trained_issue(name: str, signature: str) -> KnownIssue:
    return replace(
        KNOWN.issues[0],
        id=name,
        title=f"About {name}",
        releases=">=1",
        checks=(Check.FINETUNE,),
        variants=(),
        signatures=(signature,),
    )


SCHEDULE, RANKS = trained_issue("schedule", "NotTrained@schedule"), trained_issue("ranks", "NotTrained@ranks")
MOVING = trained_issue("moving", "NotTrained@moving")
TWICE = trained_issue("twice", "Finding@registered-twice")
ALTERNATIVES = (
    replace(KNOWN.issues[0], signatures=(LISTED, OTHER)),
    replace(KNOWN.issues[1], releases="<2", checks=(Check.LOSS_CONTRACT,)),
)
SEARCHED = outcome("1.4.16/paraformer/v8404-h320/reduced/properties/cpu-fp32", Status.TIMED_OUT)


def trained(signature: str = "", *findings: str) -> Outcome:
    """A training that failed with this signature, or passed; with these findings."""
    given = outcome(TRAINED, Status.FAILED if signature else Status.PASSED, signature)
    return replace(given, evidence={"findings": [{"code": code, "message": "m"} for code in findings]})


SENTENCES: dict[str, tuple[tuple[KnownIssue, ...], tuple[Outcome, ...]]] = {
    "passed": ((), (PASSED,)),
    "skipped": ((), (outcome(contract("1.0.12"), Status.SKIPPED),)),
    "errored": ((), (FAULT,)),
    "passed, and is listed": (KNOWN.issues, (UNEXPECTED,)),
    "failed as listed": (KNOWN.issues, (LISTED_FAILURE,)),
    "failed in another way": (KNOWN.issues, (outcome(contract(), Status.FAILED, OTHER),)),
    "timed out in another way": (KNOWN.issues, (outcome(contract(), Status.TIMED_OUT),)),
    "failed in a third way": (ALTERNATIVES, (outcome(contract(), Status.FAILED, "X@y"),)),
    "failed": (KNOWN.issues, (REGRESSION,)),
    "ran out of memory": ((), (outcome(contract("1.3.0"), Status.OUT_OF_MEMORY),)),
    "timed out": ((), (outcome(contract("1.3.0"), Status.TIMED_OUT),)),
    "failed by the user's settings": ((), (YOUR_OWN,)),
    "a search that was stopped": ((), (replace(SEARCHED, evidence={properties.STOPPED: ["parts_add_up"]}),)),
    "blocked by a known failure": (KNOWN.issues, (LISTED_FAILURE, ABOVE)),
    "blocked by a regression": (KNOWN.issues, (outcome(contract(), Status.FAILED, OTHER), ABOVE)),
    "blocked by a skipped cell": (KNOWN.issues, (outcome(contract(), Status.SKIPPED), ABOVE)),
    "blocked by a pass": (KNOWN.issues, (outcome(contract()), ABOVE)),
    "blocked by a cell that is not there": (KNOWN.issues, (ABOVE,)),
    "blocked by nothing": (KNOWN.issues, (replace(ABOVE, evidence={}),)),
    "one part, listed": ((SCHEDULE,), (trained("NotTrained@schedule"),)),
    "two parts, listed": ((SCHEDULE, RANKS), (trained("NotTrained@schedule+ranks"),)),
    "three parts, one listed": ((SCHEDULE,), (trained("NotTrained@schedule+clipping+batches"),)),
    "one part of two": ((SCHEDULE, RANKS), (trained("NotTrained@schedule"),)),
    "one part of three": ((SCHEDULE, RANKS, MOVING), (trained("NotTrained@schedule"),)),
    "two findings, one listed": ((TWICE,), (trained("", "registered-twice", "cuda-call"),)),
    "a failure and a finding, both listed": ((SCHEDULE, TWICE), (trained("NotTrained@schedule", "registered-twice"),)),
    "a finding that is gone": ((TWICE,), (trained(),)),
}


def test_the_wording_of_every_verdict() -> None:
    text = ""
    for scene, (issues, outcomes) in SENTENCES.items():
        judged = judge(outcomes, KnownIssues(issues=issues))[-1]
        assert judged.outcome.cell is outcomes[-1].cell
        text += f"{scene}\n  {judged.verdict}: {judged.sentence}\n"
    assert_golden("verdicts.txt", text)
