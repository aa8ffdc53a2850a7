"""Where the code that a known issue blames runs: by tracebacks, by what the release built, by the variant's config."""

from __future__ import annotations

from typing import Any

import pytest

from harness.core.cells import Cell, Check, Entry, Failure, Frame, Outcome, Severity, Status, Verdict
from harness.rules.code_that_ran import CodePlace, CodeThatRan
from harness.rules.known_issues import KnownIssue, KnownIssues
from harness.rules.verdicts import JudgedOutcome, judge

SAMPLERS = "funasr/datasets/audio_datasets/samplers.py:BatchSampler"
TRAINER = "funasr/train_utils/trainer.py:Trainer"
PREDICTOR = "funasr/models/paraformer/cif_predictor.py:CifPredictorV2"
TRANSFORMER = "funasr/models/transformer/model.py:Transformer"
STREAMING = "funasr/models/paraformer_streaming/model.py:ParaformerStreaming"


def cell(variant: str, check: str = "finetune@train", release: str = "1.0.17") -> Cell:
    return Cell.parse(f"{release}/{variant}/v8404-h320/reduced/{check}/cpu-fp32")


def outcome(at: Cell, signature: str = "", files: tuple[str, ...] = (), **evidence: Any) -> Outcome:
    """A failure with this signature and traceback; without a signature, a pass."""
    frames = tuple(Frame(file=file, line=1, function="f", code="") for file in files)
    return Outcome(
        cell=at,
        status=Status.FAILED if signature else Status.PASSED,
        reason="a reason" if signature else "",
        failure=Failure(type="E", message="m", frames=frames, signature=signature) if signature else None,
        evidence=evidence,
    )


def issue(*code: str, signature: str = "NotTrained@steps", check: Check = Check.FINETUNE) -> KnownIssue:
    return KnownIssue(
        id="one",
        title="One",
        severity=Severity.WRONG,
        releases=">=1.0",
        code=tuple(map(CodePlace.parse, code)),
        checks=(check,),
        signatures=(signature,),
        cause="c",
        seen="s",
    )


def judged(*outcomes: Outcome, by: KnownIssue) -> JudgedOutcome:
    """The verdict on the last of these."""
    return judge(outcomes, KnownIssues(issues=(by,)))[-1]


@pytest.mark.parametrize("variant", ["paraformer", "bicif_paraformer", "conformer", "of_the_users_own"])
def test_what_the_samplers_do_is_known_with_every_variant(variant: str) -> None:
    assert judged(outcome(cell(variant), "NotTrained@steps"), by=issue(SAMPLERS)).verdict is Verdict.KNOWN


def test_a_trainers_fault_is_known_with_that_trainer_only() -> None:
    failure = "NotTrained@steps"
    assert judged(outcome(cell("paraformer"), failure), by=issue(TRAINER)).verdict is Verdict.KNOWN
    other = outcome(cell("paraformer", "finetune@train_ds"), failure)
    assert judged(other, by=issue(TRAINER)).verdict is Verdict.REGRESSION
    assert judged(outcome(other.cell), by=issue(TRAINER)).verdict is Verdict.AS_EXPECTED


def test_a_models_fault_is_known_where_the_config_names_its_class() -> None:
    known = issue(PREDICTOR, signature="PropertyFails@a", check=Check.PROPERTIES)
    for variant in ("paraformer", "paraformer_streaming", "contextual_paraformer"):
        failed = outcome(cell(variant, "properties"), "PropertyFails@a")
        assert judged(failed, by=known).verdict is Verdict.KNOWN, variant
        assert judged(outcome(failed.cell), by=known).verdict is Verdict.UNEXPECTED_PASS, variant


@pytest.mark.parametrize("variant", ["bicif_paraformer", "conformer", "of_the_users_own"])
def test_a_models_fault_does_not_cover_a_variant_without_its_class(variant: str) -> None:
    known = issue(PREDICTOR, signature="PropertyFails@a", check=Check.PROPERTIES)
    failed = outcome(cell(variant, "properties"), "PropertyFails@a")
    assert judged(failed, by=known).verdict is Verdict.REGRESSION
    assert judged(outcome(failed.cell), by=known).verdict is Verdict.AS_EXPECTED


def test_a_class_is_found_by_what_the_release_built_base_classes_included() -> None:
    known = issue(TRANSFORMER, signature="PropertyFails@a", check=Check.PROPERTIES)
    built = outcome(cell("conformer", "construct"), code=[TRANSFORMER, "funasr/models/conformer/model.py:Conformer"])
    failed = outcome(cell("conformer", "properties"), "PropertyFails@a")
    assert judged(built, failed, by=known).verdict is Verdict.KNOWN
    assert judged(built, outcome(failed.cell), by=known).verdict is Verdict.UNEXPECTED_PASS
    assert judged(failed, by=known).verdict is Verdict.REGRESSION
    elsewhere = outcome(cell("sanm", "construct"), code=[TRANSFORMER])
    assert judged(elsewhere, failed, by=known).verdict is Verdict.REGRESSION
    newer = outcome(cell("conformer", "construct", "1.0.18"), code=[TRANSFORMER])
    assert judged(newer, failed, by=known).verdict is Verdict.REGRESSION


def test_of_two_modules_that_register_one_name_the_one_that_was_built_counts() -> None:
    known = issue("funasr/models/paraformer/decoder.py:ParaformerSANMDecoder", signature="PropertyFails@a",
                  check=Check.PROPERTIES)  # fmt: skip
    failed = outcome(cell("paraformer", "properties"), "PropertyFails@a")
    copy = outcome(
        cell("paraformer", "construct"), code=["funasr/models/e_paraformer/decoder.py:ParaformerSANMDecoder"]
    )
    assert judged(failed, by=known).verdict is Verdict.KNOWN
    assert judged(copy, failed, by=known).verdict is Verdict.REGRESSION


def test_a_traceback_shows_which_code_ran() -> None:
    signature = "AssertionError@funasr/losses/label_smoothing_loss.py:forward"
    known = issue(STREAMING, signature=signature, check=Check.LOSS_CONTRACT)
    file = STREAMING.partition(":")[0]
    through = outcome(cell("of_the_users_own", "loss_contract"), signature, (file,))
    assert judged(through, by=known).verdict is Verdict.KNOWN
    other = outcome(cell("paraformer", "loss_contract"), signature, ("funasr/models/paraformer/model.py",))
    assert judged(other, by=known).verdict is Verdict.REGRESSION


def test_an_issue_without_code_covers_what_its_other_keys_say() -> None:
    assert judged(outcome(cell("conformer"), "NotTrained@steps"), by=issue()).verdict is Verdict.KNOWN


def test_the_import_check_goes_through_every_module() -> None:
    at = Cell.parse("1.0.17/-/-/-/import/cpu-fp32")
    known = issue(STREAMING, signature="Finding@registered-twice", check=Check.IMPORT)
    found = {"code": "registered-twice", "message": "m", "place": "decoder_classes ParaformerSANMDecoder"}
    assert judged(outcome(at, findings=[found]), by=known).verdict is Verdict.KNOWN
    assert judged(outcome(at, findings=[]), by=known).verdict is Verdict.UNEXPECTED_PASS
    assert judged(outcome(at), by=known).verdict is Verdict.AS_EXPECTED


def test_a_ctc_is_named_by_its_settings() -> None:
    ran = CodeThatRan.expected(cell("paraformer", "properties"))
    assert ran.has(CodePlace.parse("funasr/models/ctc/ctc.py:CTC"))
    assert not ran.has(CodePlace.parse("funasr/models/scama/model.py:SCAMA"))


def test_before_a_cell_has_run_its_variant_and_entry_point_say_what_will() -> None:
    ran = CodeThatRan.expected(cell("paraformer"))
    assert (ran.entry, ran.whole) == (Entry.TRAIN, False)
    assert ran.has(CodePlace.parse(TRAINER))
    assert not ran.has(CodePlace.parse("funasr/bin/train_ds.py:main"))
    imported = CodeThatRan.expected(Cell.parse("1.0.17/-/-/-/import/cpu-fp32"))
    assert (imported.entry, imported.whole, imported.named) == (None, True, frozenset())
    assert imported.has(CodePlace.parse("funasr/bin/train_ds.py:main"))


@pytest.mark.parametrize(
    "text",
    ["", "samplers.py", "funasr/../x.py:A", "funasr/models/paraformer/model.py", "funasr/models/ctc/ctc.py:forward",
     "funasr/bin/train.py:", "funasr/bin/train.py:main()"],
)  # fmt: skip
def test_what_names_no_code_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected a file|name the class"):
        CodePlace.parse(text)


def test_a_place_is_written_as_it_was_read() -> None:
    for text in (SAMPLERS, "funasr/bin/train.py", f"{PREDICTOR}.forward"):
        assert str(CodePlace.parse(text)) == text
    assert CodePlace.parse(f"{PREDICTOR}.forward").class_name == "CifPredictorV2"
    assert CodePlace.parse("funasr/bin/train_ds.py:main").entry is Entry.TRAIN_DS
