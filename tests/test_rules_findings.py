"""Findings: what is read of an outcome's evidence, and the verdicts that they give."""

from __future__ import annotations

from typing import Any

import pytest
from report_factory import blocked, cell, outcome

from harness.core.cells import Check, Failure, Outcome, Severity, Status, Verdict
from harness.core.evidence.common import Finding
from harness.rules.code_that_ran import CodePlace
from harness.rules.known_issues import KnownIssue, KnownIssues
from harness.rules.verdicts import JudgedOutcome, judge

CELL = "1.4.16/-/-/-/import/cpu-fp32"


def read(findings: Any) -> tuple[Finding, ...] | None:
    return outcome(CELL, evidence={"findings": findings}).common.findings


def test_a_finding_is_read_with_its_place_and_detail() -> None:
    entry = {
        "code": "key-registered-twice",
        "message": "Two modules register ParaformerSANMDecoder.",
        "place": "funasr/models/e_paraformer/decoder.py",
        "detail": {"winner": "e_paraformer"},
    }
    (finding,) = read([entry]) or ()
    assert finding == Finding(**entry)
    assert finding.signature == "Finding@key-registered-twice"


def test_place_and_detail_may_be_missing() -> None:
    assert read([{"code": "a", "message": "m"}]) == (Finding(code="a", message="m"),)


def test_an_outcome_without_the_key_was_not_looked_at_and_an_empty_list_was() -> None:
    assert outcome(CELL).common.findings is None
    assert read([]) == ()


@pytest.mark.parametrize(
    "findings",
    [
        *([None], [3], ["text"], [[]], [{}], [{"code": "a"}], [{"code": "A b", "message": "m"}], [{"message": 1}]),
        *(3, "text", {"code": "a", "message": "m"}),
        *([{"code": "a", "message": "m", "place": 3}], [{"code": "a", "message": "m", "detail": []}]),
    ],
)
def test_findings_of_another_form_make_the_cell_errored(findings: Any) -> None:
    read_anew = outcome(CELL, evidence={"findings": findings}).as_declared()
    assert read_anew.status is Status.ERRORED
    assert read_anew.reason.startswith("its result is malformed: evidence.findings")


TUNED = cell("1.4.16", "finetune@train_ds", variant="paraformer")
TWICE = {"code": "registered-twice", "message": "Two modules register it."}
CUDA = {"code": "cuda-call", "message": "It calls .cuda().", "place": "funasr/models/paraformer/model.py:sampler"}


def issue(name: str, *signatures: str, code: str = "", severity: Severity = Severity.MINOR) -> KnownIssue:
    return KnownIssue(
        id=name,
        title=f"About {name}",
        severity=severity,
        releases=">=1.0",
        code=(CodePlace.parse(code),) if code else (),
        checks=(Check.FINETUNE,),
        signatures=signatures,
        cause="c",
        seen=TUNED.id,
    )


TWICE_LISTED = issue("twice", "Finding@registered-twice")
CUDA_LISTED = issue("cuda", "Finding@cuda-call", code="funasr/models/paraformer/model.py:Paraformer")


def with_findings(*found: Any, signature: str = "", **evidence: Any) -> Outcome:
    failure = Failure(type="E", message="m", signature=signature) if signature else None
    status = Status.FAILED if signature else Status.PASSED
    return outcome(TUNED, status, failure=failure, evidence={"findings": list(found), **evidence})


def one(given: Outcome, *issues: KnownIssue) -> JudgedOutcome:
    return judge([given], KnownIssues(issues=issues))[0]


def test_a_pass_with_a_finding_that_no_issue_lists_is_a_regression_that_names_it() -> None:
    judged = one(with_findings(TWICE, CUDA), TWICE_LISTED)
    assert judged.verdict is Verdict.REGRESSION
    assert [(one.signature, one.severity, one.issue, one.message) for one in judged.defects] == [
        ("Finding@registered-twice", Severity.MINOR, TWICE_LISTED, "Two modules register it."),
        ("Finding@cuda-call", Severity.WRONG, None, "It calls .cuda()."),
    ]
    assert judged.severity is Severity.WRONG


def test_each_part_of_a_failure_has_its_own_severity() -> None:
    judged = one(with_findings(TWICE, signature="NotTrained@schedule+accuracy+log"), SCHEDULE)
    parts = ("schedule", "accuracy", "log", "registered-twice", "ranks", "")
    assert [judged.severity_of(part) for part in parts] == [
        *(Severity.WRONG, Severity.BROKEN, Severity.MINOR, Severity.WRONG, None, None)
    ]


def test_a_pass_whose_findings_are_all_listed_is_known() -> None:
    judged = one(with_findings(TWICE, CUDA), TWICE_LISTED, CUDA_LISTED)
    assert (judged.verdict, judged.issue, judged.also) == (Verdict.KNOWN, TWICE_LISTED, (CUDA_LISTED,))
    assert judged.severity is Severity.MINOR


def test_a_pass_without_findings_is_as_expected() -> None:
    assert one(with_findings()).verdict is Verdict.AS_EXPECTED
    assert one(with_findings()).severity is None


def test_the_same_code_at_another_place_is_not_the_listed_one() -> None:
    elsewhere = {**CUDA, "place": "funasr/models/sanm/encoder.py:forward"}
    assert one(with_findings(CUDA, elsewhere), CUDA_LISTED).verdict is Verdict.REGRESSION
    assert one(with_findings({**CUDA, "place": ""}), CUDA_LISTED).verdict is Verdict.KNOWN


def test_a_place_may_name_several_files() -> None:
    both = "funasr/models/sanm/encoder.py:A and funasr/models/paraformer/model.py:A"
    assert one(with_findings({**CUDA, "place": both}), CUDA_LISTED).verdict is Verdict.KNOWN


def test_a_trainers_fault_may_show_in_what_it_calls() -> None:
    listed = issue("device", "Finding@device-ignored", code="funasr/train_utils/trainer_ds.py:Trainer")
    found = {"code": "device-ignored", "message": "m", "place": "funasr/train_utils/device_funcs.py:to_device"}
    assert one(with_findings(found), listed).verdict is Verdict.KNOWN


def test_a_finding_that_is_listed_and_no_longer_shows_is_an_unexpected_pass() -> None:
    judged = one(with_findings(CUDA), TWICE_LISTED, CUDA_LISTED)
    assert (judged.verdict, judged.issue, judged.also) == (Verdict.UNEXPECTED_PASS, TWICE_LISTED, ())


def test_an_outcome_in_which_nothing_was_looked_for_contradicts_no_finding() -> None:
    assert one(outcome(TUNED), TWICE_LISTED).verdict is Verdict.AS_EXPECTED


def test_a_finding_of_code_that_does_not_run_is_not_missed() -> None:
    elsewhere = issue("scama", "Finding@cuda-call", code="funasr/models/scama/model.py:SCAMA")
    assert one(with_findings(), elsewhere).verdict is Verdict.AS_EXPECTED
    assert one(with_findings(TWICE), elsewhere, TWICE_LISTED).verdict is Verdict.KNOWN


SCHEDULE = issue("schedule", "NotTrained@schedule", severity=Severity.WRONG)


def test_a_known_failure_with_a_finding_that_no_issue_lists_is_a_regression() -> None:
    failed = with_findings(TWICE, signature="NotTrained@schedule")
    assert one(failed, SCHEDULE).verdict is Verdict.REGRESSION
    judged = one(failed, SCHEDULE, TWICE_LISTED)
    assert (judged.verdict, judged.issue, judged.also) == (Verdict.KNOWN, SCHEDULE, (TWICE_LISTED,))
    assert judged.severity is Severity.WRONG


def test_a_regression_stays_one_with_listed_findings() -> None:
    judged = one(with_findings(TWICE, signature="NotTrained@schedule"), TWICE_LISTED)
    assert judged.verdict is Verdict.REGRESSION
    assert [one.severity for one in judged.defects] == [Severity.WRONG, Severity.MINOR]


def test_a_check_that_broke_off_misses_no_finding_and_one_that_came_to_its_end_does() -> None:
    stopped = issue("stopped", "TypeError@funasr/bin/train_ds.py:main")
    assert one(with_findings(signature=stopped.signatures[0]), stopped, TWICE_LISTED).verdict is Verdict.KNOWN
    ended = with_findings(signature="NotTrained@schedule")
    assert one(ended, SCHEDULE, TWICE_LISTED).verdict is Verdict.UNEXPECTED_PASS


def test_an_issue_that_may_fail_or_be_found_shows_either_way() -> None:
    either = issue("either", "NotTrained@schedule", "Finding@registered-twice")
    assert one(with_findings(TWICE), either).verdict is Verdict.KNOWN
    assert one(with_findings(signature="NotTrained@schedule"), either).verdict is Verdict.KNOWN
    assert one(with_findings(), either).verdict is Verdict.UNEXPECTED_PASS
    moving = issue("moving", "NotTrained@moving")
    assert one(with_findings(TWICE, signature="NotTrained@moving"), either, moving).verdict is Verdict.KNOWN


def test_what_was_not_run_has_no_defects() -> None:
    failed = outcome(cell("1.4.16", "loss_contract", variant="paraformer"), Status.FAILED, "r",
                     failure=Failure(type="E", message="m", signature="LossWidth@x"))  # fmt: skip
    first, second = judge([failed, blocked(TUNED, failed.cell)], KnownIssues())
    assert [one.severity for one in first.defects] == [Severity.BROKEN]
    assert (second.verdict, second.defects, second.severity) == (Verdict.FOLLOWS, (), None)


def test_each_part_of_a_failure_is_a_defect_with_its_own_issue_and_words() -> None:
    reasons = {"schedule": ["Step 4 was early."], "clipping": ["11 at 5 leaves 11."]}
    evidence = {"training": {"steps": 20, "invariants": {"reasons": reasons}}}
    failed = with_findings(signature="NotTrained@schedule+clipping", **evidence)
    first, second = one(failed, SCHEDULE).defects
    assert (first.signature, first.issue, first.title) == ("NotTrained@schedule", SCHEDULE, "About schedule")
    assert (second.signature, second.issue, second.title) == ("NotTrained@clipping", None, "11 at 5 leaves 11.")


@pytest.mark.parametrize(
    ("check", "signature", "evidence", "message"),
    [
        ("data@train", "DataDiffers@long+once", {"questions": [("long", "It is lost."), ("once", "")]}, "It is lost."),
        ("checkpoint@train", "CheckpointBroken@saved_whole", {"questions": [("saved_whole", "Not so.")]}, "Not so."),
        ("properties", "PropertyFails@parts_add_up", {"properties": [("parts_add_up", "3 is not 4.")]}, "3 is not 4."),
        ("decode@train", "NotDecoded@error_rate", {}, "The cell is failed."),
        ("data@train", "DataDiffers@once", {"questions": [("long", "It is lost.")]}, "The cell is failed."),
        ("finetune@train", "NotTrained@trend", {"training": {"learning": {"reasons": {"trend": ["a", "b"]}}}}, "a b"),
        ("finetune@train", "NotTrained@ranks", {"training": {"learning": {"reasons": {}}}}, "The cell is failed."),
    ],
)
def test_a_defect_says_what_its_check_says_of_that_part(
    check: str, signature: str, evidence: dict[str, Any], message: str
) -> None:
    listed = {
        key: [{"name": name, "status": "fails", "message": text} for name, text in entries]
        if key != "training"
        else entries
        for key, entries in evidence.items()
    }
    failure = Failure(type="E", message="m", signature=signature)
    failed = outcome(cell("1.4.16", check, variant="paraformer"), Status.FAILED, failure=failure, evidence=listed)
    assert one(failed).defects[0].message == message
