"""Whose a failure with a user's own input is, by how the same check of the release ends on stock input."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from test_rules_user_errors import CELL, MODEL, failed
from training_scene import metrics

from harness.core.cells import Cell, Check, Outcome, Severity, Status, Verdict
from harness.core.evidence import OWN_SETTINGS
from harness.report.terminal import summary
from harness.rules.apply import apply_rules
from harness.rules.known_issues import KnownIssue, KnownIssues
from harness.rules.learning import CONDITIONS
from harness.rules.stock_input import attribute_by_stock_input, awaits_stock_input
from harness.rules.verdicts import EXIT_EXPECTED, EXIT_FAULT, EXIT_UNEXPECTED, EXIT_YOURS, exit_code, judge

STOCK = "1.4.16/paraformer/v8404-h320/reduced/finetune@train_ds/cpu-fp32"
SHAPES = "Given groups=1, weight of size [128, 128, 3], expected 128 channels, but got 64 channels instead"
OWN = {"predictor_conf.idim": 128, "encoder_conf.num_blocks": 4}


def on_stock(status: str, signature: str = "") -> dict[str, str]:
    return {"cell": STOCK, "status": status, "signature": signature}


def judged(outcome: Outcome) -> tuple[Verdict, str, int]:
    (item,) = judge([apply_rules(outcome)], KnownIssues())
    return item.verdict, item.sentence, exit_code([item])


BROKEN = f"RuntimeError@{MODEL}"


@pytest.mark.parametrize(
    ("stock", "verdict", "status"),
    [
        (on_stock("passed"), Verdict.YOURS, EXIT_YOURS),
        (on_stock("failed", BROKEN), Verdict.REGRESSION, EXIT_UNEXPECTED),
        (on_stock("failed", "KeyError@funasr/bin/train_ds.py:main"), Verdict.UNDECIDED, EXIT_FAULT),
        (on_stock("timed_out"), Verdict.UNDECIDED, EXIT_FAULT),
        (on_stock("errored"), Verdict.UNDECIDED, EXIT_FAULT),
        (on_stock("skipped"), Verdict.UNDECIDED, EXIT_FAULT),
        (None, Verdict.UNDECIDED, EXIT_FAULT),
    ],
)
@pytest.mark.parametrize("own", [{"settings": OWN}, {"rows": "mine.jsonl"}, {"settings": OWN, "rows": "mine.jsonl"}])
def test_an_exception_is_whose_stock_input_says(
    own: dict[str, Any], stock: dict[str, str] | None, verdict: Verdict, status: int
) -> None:
    outcome = failed("RuntimeError", SHAPES, place=MODEL, on_stock_input=stock, **own)
    assert judged(outcome)[::2] == (verdict, status)
    assert awaits_stock_input(outcome) is (stock is None or stock["status"] in ("errored", "skipped"))


@pytest.mark.parametrize(
    ("stock", "verdict"),
    [(None, Verdict.UNDECIDED), (on_stock("passed"), Verdict.YOURS), (on_stock("failed"), Verdict.REGRESSION)],
)
def test_the_name_of_a_key_that_stock_input_has_too_accuses_nobody(
    stock: dict[str, str] | None, verdict: Verdict
) -> None:
    """A folder of other sizes sets `output_size` to another number; that a release refuses the key is not its doing."""
    outcome = failed("TypeError", "unexpected keyword argument 'output_size'", {"encoder_conf.output_size": 64})
    assert outcome.failure is not None
    own = {**outcome.evidence[OWN_SETTINGS], "shared": ["encoder_conf.output_size"]}
    alike = stock and {**stock, "signature": outcome.failure.signature if stock["status"] == "failed" else ""}
    evidence = {OWN_SETTINGS: own, **({"on_stock_input": alike} if alike else {})}
    assert judged(replace(outcome, evidence=evidence))[0] is verdict
    if verdict is Verdict.YOURS:
        said = judged(replace(outcome, evidence=evidence))[1]
        assert "What differs is yours: `encoder_conf.output_size: 64`, which the message names, among the" in said
    # Its value is the user's own.
    value = failed("KeyError", "'adamm'", {"optim": "adamm"})
    shared = {OWN_SETTINGS: {**value.evidence[OWN_SETTINGS], "shared": ["optim"]}}
    assert judged(replace(value, evidence=shared))[0] is Verdict.YOURS


def test_without_anything_of_the_users_it_is_the_releases_whatever_else() -> None:
    assert judged(failed("RuntimeError", SHAPES, place=MODEL))[0] is Verdict.REGRESSION


def test_the_sentence_says_what_differs() -> None:
    outcome = failed("RuntimeError", SHAPES, OWN, place=MODEL, rows="mine.jsonl", on_stock_input=on_stock("passed"))
    assert judged(outcome)[1] == (
        f"It failed: RuntimeError: {SHAPES}; the same check of stock input passes in this release ({STOCK}). What "
        "differs is yours: the settings of mine.yaml (`predictor_conf.idim`, `encoder_conf.num_blocks`); the rows of "
        "mine.jsonl."
    )
    folder = {**outcome.evidence, OWN_SETTINGS: {"file": "my-model/config.yaml", "settings": {}, "stock": "paraformer"}}
    said = judged(replace(outcome, evidence=folder))[1]
    assert "the settings of my-model/config.yaml, its tokens and its weights; the rows of mine.jsonl" in said


def test_a_time_out_and_a_lack_of_memory_are_compared_by_their_status() -> None:
    for status in (Status.TIMED_OUT, Status.OUT_OF_MEMORY):
        given = failed("X", "no answer", OWN, on_stock_input=on_stock(str(status)))
        alike = replace(given, status=status, failure=None)
        assert judged(alike)[0] is Verdict.REGRESSION
        passes = replace(alike, evidence={**alike.evidence, "on_stock_input": on_stock("passed")})
        assert judged(passes)[0] is Verdict.YOURS


def test_findings_share_their_parts() -> None:
    own = failed("DataDiffers", "x", rows="mine.jsonl", place="rows+long")
    alike = {**own.evidence, "on_stock_input": on_stock("failed", "DataDiffers@long+tokens")}
    other = {**own.evidence, "on_stock_input": on_stock("failed", "DataDiffers@tokens")}
    assert judged(replace(own, evidence=alike))[0] is Verdict.REGRESSION
    assert judged(replace(own, evidence=other))[0] is Verdict.UNDECIDED


def trained(stock: dict[str, str] | None, **changed: Any) -> Outcome:
    """A training with a user's model folder that learned nothing."""
    deaf = metrics(**changed)
    for training in deaf["trainings"]:
        training["stats"]["acc"] = [0.0] * len(training["stats"]["acc"])
        training["stats"]["loss_att"] = [9.0] * len(training["stats"]["loss_att"])
    deaf["accuracy_recomputed"] = deaf["trainings"][0]["stats"]["acc"]
    deaf["losses"] = [9.5] * len(deaf["losses"])
    evidence: dict[str, Any] = {OWN_SETTINGS: {"file": "mine/config.yaml", "settings": OWN, "stock": "paraformer"}}
    outcome = Outcome(cell=CELL, status=Status.PASSED, reason="", metrics=deaf, evidence=evidence)
    measured = apply_rules(outcome)
    if stock is None:
        return measured
    # As `harness.commands.stock_input` writes it again.
    return apply_rules(replace(measured, evidence={**measured.evidence, "on_stock_input": stock}))


def learning_of(outcome: Outcome) -> set[str]:
    assert outcome.failure is not None
    return set(outcome.failure.signature.partition("@")[2].split("+"))


def test_that_a_users_rows_were_not_learned_is_not_observed_where_the_stock_model_learns() -> None:
    before = trained(None)
    assert learning_of(before) >= {"unigram", "trend"}
    assert judged(before)[0] is Verdict.UNDECIDED
    assert awaits_stock_input(before)
    after = trained(on_stock("passed"))
    assert after.status is Status.PASSED
    assert judged(after)[::2] == (Verdict.AS_EXPECTED, EXIT_EXPECTED)
    verdict = after.training_evidence and after.training_evidence.training
    assert verdict is not None
    assert set(verdict.not_observed) == learning_of(before)
    printed = summary(judge([after], KnownIssues()))
    assert f"note: {CELL.id}: not observed: " in printed
    assert "that the stock model learned says nothing about how fast these are learned" in printed


def test_a_release_that_teaches_the_stock_model_nothing_is_accused_with_a_users_folder_too() -> None:
    fault = trained(on_stock("failed", "NotTrained@unigram+accuracy+trend+hearing"))
    assert judged(fault)[::2] == (Verdict.REGRESSION, EXIT_UNEXPECTED)
    partly = trained(on_stock("failed", "NotTrained@unigram"))
    assert judged(partly)[0] is Verdict.REGRESSION
    assert learning_of(partly) == {"unigram"}


def test_what_the_configuration_in_force_says_is_kept_or_not_whatever_stock_input_shows() -> None:
    for stock in (None, on_stock("errored"), on_stock("passed")):
        late = trained(stock, learning_rates=[0.1] * len(metrics()["losses"]))
        assert judged(late)[0] is Verdict.REGRESSION, stock
        assert "schedule" in learning_of(late)
    assert not learning_of(late) & set(CONDITIONS)


def test_a_known_fault_of_the_trainer_does_not_make_a_regression_of_what_the_user_did_not_learn() -> None:
    """As in 1.0.18, whose fault in the schedule is known: stock input decides about the other findings only."""
    known = KnownIssue(
        id="schedule",
        title="The schedule is another",
        severity=Severity.WRONG,
        releases=(CELL.release,),
        variants=(),
        checks=(Check.FINETUNE,),
        signatures=("NotTrained@schedule",),
        cause="c",
        remedy="r",
        upstream=(),
        seen=CELL.id,
    )
    verdicts = {}
    for name, stock in (
        ("none", None),
        ("learns", on_stock("passed")),
        ("deaf", on_stock("failed", "NotTrained@unigram")),
    ):
        late = trained(stock, learning_rates=[0.1] * len(metrics()["losses"]))
        alone = {part for part in learning_of(late) if part not in CONDITIONS}
        issue = replace(known, signatures=tuple(f"NotTrained@{part}" for part in sorted(alone)))
        (item,) = judge([late], KnownIssues(issues=(issue,)))
        verdicts[name] = item.verdict
        assert awaits_stock_input(late) is (stock is None)
    assert verdicts == {"none": Verdict.UNDECIDED, "learns": Verdict.KNOWN, "deaf": Verdict.REGRESSION}


@pytest.mark.parametrize("stock", [None, on_stock("passed")])
def test_losses_that_are_no_numbers_are_the_users_where_stock_input_gives_numbers(stock: dict[str, str] | None) -> None:
    given = failed("NotTrained", "The loss of step 3 is nan", OWN, place="losses", on_stock_input=stock)
    assert judged(given)[0] is (Verdict.YOURS if stock else Verdict.UNDECIDED)


def test_what_passed_and_what_is_the_users_already_stay() -> None:
    named = failed("TypeError", "unexpected 'lrr'", {"optim_conf.lrr": 0.1}, on_stock_input=on_stock("passed"))
    once = apply_rules(named)
    assert attribute_by_stock_input(once) is once
    passed = replace(named, status=Status.PASSED, failure=None, reason="")
    assert attribute_by_stock_input(passed) is passed


def skipped(name: str, settings: dict[str, Any], release: str = "1.4.16") -> tuple[Verdict, str]:
    own = {"file": "mine/config.yaml", "settings": settings, "stock": "paraformer"}
    outcome = Outcome(
        cell=replace(Cell.parse(CELL.id.replace("finetune@train_ds", "construct")), release=release),
        status=Status.SKIPPED,
        reason=f"the release has no encoder {name!r}",
        evidence={OWN_SETTINGS: own, "absent": f"encoder_classes/{name}"},
    )
    return judged(outcome)[:2]


def test_a_component_that_only_the_users_config_names_is_no_pass() -> None:
    verdict, sentence = skipped("SANMEncoderr", {"encoder": "SANMEncoderr"})
    assert verdict is Verdict.YOURS
    assert 'mine/config.yaml sets `encoder: SANMEncoderr`, which 1.4.16 does not have; did you mean "SANMEncoder"?' in (
        sentence
    )
    # One that the config does not name, and one of the harness's own variants that the release is too old for.
    assert skipped("EParaformerEncoder", {"encoder": "Other"})[0] is Verdict.AS_EXPECTED
    sense_voice = "SenseVoiceEncoderSmall"
    assert skipped(sense_voice, {"encoder": sense_voice}, release="1.0.17")[0] is Verdict.AS_EXPECTED
    assert skipped("SANMEncoder", {"encoder": "SANMEncoder"})[0] is not Verdict.YOURS
