"""Findings of several parts, each with a known issue of its own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.core.cells import Cell, Check, Failure, Outcome, Severity, Status, Verdict
from harness.rules.known_issues import KnownIssue, KnownIssues
from harness.rules.multi_part import CompoundSignature
from harness.rules.verdicts import JudgedOutcome, judge

CELL = Cell.parse("1.4.16/paraformer/v8404-h320/reduced/data@train_ds/cpu-fp32")


def issue(name: str, *signatures: str) -> KnownIssue:
    return KnownIssue(
        id=name,
        title=name,
        severity=Severity.BROKEN,
        releases=">=1.0",
        checks=(Check.DATA,),
        signatures=signatures,
        cause="so",
        seen=CELL.id,
    )


LONG, PATH = issue("long-lost", "DataDiffers@long"), issue("path", "DataDiffers@path_aishell+path_space")


def judged(signature: str, *issues: KnownIssue) -> JudgedOutcome:
    failure = Failure(type="X", message="m", signature=signature)
    outcome = Outcome(cell=CELL, status=Status.FAILED, reason="r", failure=failure)
    [one] = judge([outcome], KnownIssues(issues=issues))
    return one


def test_a_finding_is_known_when_its_issues_explain_every_part() -> None:
    one = judged("DataDiffers@long+path_aishell+path_space", LONG, PATH)
    assert (one.verdict, one.issue, one.also) == (Verdict.KNOWN, LONG, (PATH,))


def test_a_part_that_no_issue_lists_is_a_regression_and_a_defect_of_its_own() -> None:
    one = judged("DataDiffers@long+once", LONG)
    assert (one.verdict, one.issue) == (Verdict.REGRESSION, LONG)
    assert [(defect.signature, defect.issue) for defect in one.defects] == [
        ("DataDiffers@long", LONG),
        ("DataDiffers@once", None),
    ]


def test_a_part_that_no_issue_lists_counts_before_a_listed_one_that_does_not_show() -> None:
    one = judged("DataDiffers@long+once", PATH, LONG)
    assert (one.verdict, one.issue, one.also) == (Verdict.REGRESSION, LONG, ())


def test_a_listed_part_that_does_not_show_is_an_unexpected_pass() -> None:
    one = judged("DataDiffers@long", LONG, PATH)
    assert (one.verdict, one.issue, one.also) == (Verdict.UNEXPECTED_PASS, PATH, (LONG,))


def test_half_of_what_one_issue_lists_is_not_that_issue() -> None:
    assert judged("DataDiffers@long+path_space", LONG, PATH).verdict is Verdict.REGRESSION


def test_an_issue_may_list_alternatives() -> None:
    either = issue("either", "DataDiffers@a", "DataDiffers@a+b")
    assert judged("DataDiffers@a", either).verdict is Verdict.KNOWN
    assert judged("DataDiffers@a+b", either).verdict is Verdict.KNOWN
    assert judged("DataDiffers@b", either).verdict is Verdict.REGRESSION


def test_parts_of_another_kind_explain_nothing() -> None:
    assert judged("DataDiffers@long", issue("other", "PropertyFails@long")).verdict is Verdict.REGRESSION


def test_an_issue_of_another_kind_for_the_same_cell_is_not_missed() -> None:
    traceback = issue("crash", "KeyError@funasr/x.py:f")
    assert judged("DataDiffers@long", LONG, traceback).verdict is Verdict.KNOWN
    assert judged("KeyError@funasr/x.py:f", LONG, traceback).verdict is Verdict.KNOWN


@pytest.mark.parametrize(
    ("signature", "names"),
    [
        ("NotTrained@steps", {"steps"}),
        ("NotTrained@descent+steps", {"steps", "descent"}),
        ("RuntimeError@funasr/models/x.py:forward", None),
        ("ProjectionNotCalled@decoder.output_layer", None),
        ("NotTrained@", None),
        ("NotTrained@a+", None),
        ("", None),
    ],
)
def test_a_finding_is_reported_from_the_signature_of_a_traceback(signature: str, names: set[str] | None) -> None:
    finding = CompoundSignature.of(signature)
    assert (set(finding.names) if finding else None) == names


def passed(**evidence: object) -> Verdict:
    check = "finetune" if "training" in evidence else "properties" if "properties" in evidence else "data"
    cell = replace(CELL, check=Check(check), entry=None if check == "properties" else CELL.entry)
    outcome = Outcome(cell=cell, status=Status.PASSED, reason="", evidence=evidence)
    known = replace(issue("schedule", "NotTrained@schedule"), checks=(Check(check),))
    [one] = judge([outcome], KnownIssues(issues=(known,)))
    return one.verdict


@pytest.mark.parametrize(
    ("evidence", "verdict"),
    [
        ({}, Verdict.UNEXPECTED_PASS),
        ({"training": {"invariants": {"reasons": {"schedule": []}}}}, Verdict.UNEXPECTED_PASS),
        ({"training": {"invariants": {"reasons": {"clipping": []}}}}, Verdict.AS_EXPECTED),
        ({"training": {"steps": 12}}, Verdict.AS_EXPECTED),
        ({"training": {"learning": {}, "invariants": {}}}, Verdict.AS_EXPECTED),
        ({"questions": [{"name": "schedule", "status": "holds"}]}, Verdict.UNEXPECTED_PASS),
        ({"questions": [{"name": "schedule", "status": "not_tested"}]}, Verdict.AS_EXPECTED),
        ({"properties": [{"name": "schedule", "status": "does_not_apply"}]}, Verdict.AS_EXPECTED),
    ],
)
def test_what_was_not_asked_contradicts_no_issue(evidence: dict[str, object], verdict: Verdict) -> None:
    assert passed(**evidence) is verdict


def test_a_finding_with_a_part_missing_that_was_not_asked_is_known() -> None:
    failure = Failure(type="X", message="m", signature="DataDiffers@long")
    evidence = {"questions": [{"name": "long", "status": "fails"}, {"name": "path_aishell", "status": "not_tested"}]}
    outcome = Outcome(cell=CELL, status=Status.FAILED, reason="r", failure=failure, evidence=evidence)
    [one] = judge([outcome], KnownIssues(issues=(LONG, PATH)))
    assert one.verdict is Verdict.KNOWN


TRAINED = Cell.parse("1.4.16/paraformer/v8404-h320/reduced/finetune@train/cpu-fp32")


@pytest.mark.parametrize(
    ("training", "listed", "verdict"),
    [
        # What every rule asked: the steps, the losses, the parameters.
        ({}, "steps", Verdict.UNEXPECTED_PASS),
        ({"learning": {}}, "parameters", Verdict.UNEXPECTED_PASS),
        # Whether it learned is asked since there is a verdict about it.
        ({}, "accuracy", Verdict.AS_EXPECTED),
        ({"learning": {}}, "accuracy", Verdict.UNEXPECTED_PASS),
        # Of the invariants those that were asked.
        ({"invariants": {"reasons": {"schedule": ()}}}, "schedule", Verdict.UNEXPECTED_PASS),
        ({"invariants": {"reasons": {"schedule": ()}}}, "ranks", Verdict.AS_EXPECTED),
        ({"invariants": None}, "schedule", Verdict.AS_EXPECTED),
    ],
)
def test_a_pass_contradicts_an_issue_only_where_the_cell_was_asked_about_it(
    training: dict[str, object], listed: str, verdict: Verdict
) -> None:
    known = KnownIssue(
        id="known",
        title="known",
        severity=Severity.BROKEN,
        releases=">=1.0",
        checks=(Check.FINETUNE,),
        signatures=(f"NotTrained@{listed}",),
        cause="so",
        seen=TRAINED.id,
    )
    outcome = Outcome(cell=TRAINED, status=Status.PASSED, reason="", evidence={"training": training})
    [one] = judge([outcome], KnownIssues(issues=(known,)))
    assert one.verdict is verdict
