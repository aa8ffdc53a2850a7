"""The answer: good releases have everything passed, and a fine-tune among it."""

from __future__ import annotations

import pytest
from report_factory import RELEASES, blocked, cell, judged, loss_failure, outcome, tuned

from harness.config.expansion import import_cell
from harness.core.cells import Check, Failure, Severity, Status
from harness.core.versions import Order, in_words
from harness.report.advice import ReleaseStanding, advise, standing_of
from harness.report.failures import group_failures
from harness.rules.levels import Level


def advice_of(outcomes, published=RELEASES):
    found = judged(outcomes)
    order = Order.of({item.outcome.cell.release for item in found}, published)
    return advise(found, group_failures(found, order), order)


def good(release, variant="paraformer_streaming"):
    return [
        outcome(import_cell(release)),
        outcome(cell(release, "construct", variant=variant)),
        tuned(release, variant=variant),
    ]


def bad(release, check="loss_contract", **place):
    return [outcome(cell(release, check, **place), Status.FAILED, failure=loss_failure(320, 8404))]


def test_a_release_of_which_only_the_other_trainer_ran_is_not_known():
    (variant,) = advice_of(
        [outcome(import_cell("1.4.16")), tuned("1.4.16", evidence={"entry_is_native": False})]
    ).variants
    assert variant.answers[0].standing is ReleaseStanding.UNKNOWN
    assert [reason.text for reason in variant.unknown] == ["Nothing was learned: no cell was run to an answer."]


def test_the_newest_release_that_trains_is_the_one_to_install():
    advice = advice_of([*good("1.0.0"), *good("1.0.1"), *bad("1.0.2")])
    (variant,) = advice.variants
    assert in_words(variant.trains) == "1.0.0, 1.0.1"
    assert (variant.newest, advice.newest_for_all) == ("1.0.1", "1.0.1")


def test_a_local_checkout_is_not_offered_to_pip():
    advice = advice_of([*good("1.0.0"), *good("1.4.9+local.1a2b3c4d")])
    assert advice.newest_for_all == "1.0.0"


def test_the_newest_for_all_is_good_for_each_variant():
    offline = "paraformer"
    advice = advice_of([*good("1.0.0"), *good("1.0.1"), *good("1.0.0", offline), *bad("1.0.1", variant=offline)])
    assert advice.newest_for_all == "1.0.0"
    assert [variant.newest for variant in advice.variants] == ["1.0.0", "1.0.1"]


def test_why_not_is_a_sentence_with_the_known_cause_and_a_link():
    (variant,) = advice_of([item for release in RELEASES[6:12] for item in bad(release)]).variants
    (reason,) = variant.fails
    assert reason.text == (
        "The loss does not fit: The attention loss of the streaming model gets hidden states instead of scores over "
        "the vocabulary."
    )
    assert in_words(reason.spans) == "1.0.6 – 1.0.11 (6 releases)"
    assert reason.anchor == "failure-1"


def test_a_failure_that_nobody_knows_is_called_so():
    (variant,) = advice_of(bad("1.4.0")).variants
    assert variant.fails[0].text.endswith(
        "AssertionError in funasr/losses/label_smoothing_loss.py:forward (not yet explained)."
    )


def test_a_failure_at_some_shapes_names_them():
    passing = [outcome(cell("1.4.0", "loss_contract")), tuned("1.4.0")]
    (variant,) = advice_of([*passing, *bad("1.4.0", shape="v8404-h512")]).variants
    assert variant.partly[0].text.startswith("The loss does not fit at v8404-h512 only:")
    assert variant.newest is None


def test_a_release_with_a_broken_other_trainer_is_good_and_that_is_reported():
    other = outcome(cell("1.4.0", "finetune@train"), Status.FAILED, evidence={"entry_is_native": False})
    (variant,) = advice_of([*good("1.4.0")[:2], tuned("1.4.0", "train_ds"), other]).variants
    assert variant.newest == "1.4.0"
    assert variant.other_trainer[0].text == "Fine-tuning fails with train: failed (not yet explained)."


def test_a_trainer_that_did_not_get_to_say_whether_it_is_native_is_reported_by_the_release():
    own, other = (outcome(cell("1.4.0", f"finetune@{entry}"), Status.CRASHED) for entry in ("train_ds", "train"))
    (variant,) = advice_of([outcome(cell("1.4.0", "construct")), own]).variants
    assert len(variant.fails) == 1
    (variant,) = advice_of([tuned("1.4.0", "train_ds"), other]).variants
    assert (variant.newest, len(variant.partly), len(variant.other_trainer)) == ("1.4.0", 0, 1)


def failed(check, signature, release="1.4.0", **evidence):
    failure = Failure(type="E", message="It is so", signature=signature)
    return outcome(cell(release, check), Status.FAILED, failure=failure, evidence=evidence)


def test_a_release_that_trains_with_something_wrong_is_good_and_the_headline_names_it():
    wrong = failed("properties", "PropertyFails@tokens_see_no_future")
    fed = failed("data@train_ds", "DataDiffers@long", entry_is_native=True)
    logged = failed("checkpoint@train_ds", "CheckpointBroken@resumes_losses", entry_is_native=True)
    (variant,) = advice_of([*good("1.4.0")[:2], tuned("1.4.0", "train_ds"), wrong, fed, logged]).variants
    assert (variant.newest, variant.partly) == ("1.4.0", ())
    assert [(reason.severity, reason.check, reason.text) for reason in variant.besides] == [
        (
            Severity.WRONG,
            Check.PROPERTIES,
            "properties: tokens_see_no_future: The cell is failed. (not yet explained).",
        ),
        (Severity.WRONG, Check.DATA, "data: long: The cell is failed. (not yet explained)."),
        (Severity.WRONG, Check.CHECKPOINT, "checkpoint: resumes_losses: The cell is failed. (not yet explained)."),
    ]
    (tested,) = variant.tested
    assert tested.in_words == (
        "passed: import, construct, finetune; wrong: properties, data, checkpoint; not run: loss_contract, decode"
    )
    assert variant.of("1.4.0") == variant.latest
    assert (variant.latest.standing, variant.latest.reasons) == (ReleaseStanding.TRAINS, variant.besides)


def test_a_release_that_trains_and_saves_something_else_is_good_only_in_part():
    saved = failed("checkpoint@train_ds", "CheckpointBroken@saved_whole", entry_is_native=True)
    (variant,) = advice_of([*good("1.4.0")[:2], tuned("1.4.0", "train_ds"), saved]).variants
    assert (variant.newest, variant.besides, variant.tested) == (None, (), ())
    (reason,) = variant.partly
    assert reason.severity is Severity.BROKEN
    assert reason.text.startswith("The saved model does not resume, average or load as it should: saved_whole:")
    assert variant.latest.tested.checks(Level.BROKEN) == (Check.CHECKPOINT,)


def test_wrong_comes_before_minor_and_newer_releases_before_older_ones():
    minor = failed("finetune@train_ds", "NotTrained@log+schedule", entry_is_native=True)
    older = failed("finetune@train_ds", "NotTrained@schedule", release="1.3.0", entry_is_native=True)
    (variant,) = advice_of([minor, older]).variants
    assert [(reason.severity, in_words(reason.spans)) for reason in variant.besides] == [
        (Severity.WRONG, "1.3.0, 1.4.0"),
        (Severity.MINOR, "1.4.0"),
    ]


def test_a_finding_of_a_cell_that_passed_is_reported_besides():
    found = {"code": "registered-twice", "message": "Two modules register it."}
    (variant,) = advice_of([outcome(cell("1.4.0", "construct"), evidence={"findings": [found]})]).variants
    assert in_words(variant.passes) == "1.4.0"
    (reason,) = variant.besides
    assert reason.text == "construct: registered-twice: Two modules register it. (not yet explained)."
    assert (reason.severity, reason.anchor) == (Severity.WRONG, "failure-1")


def test_what_was_not_trained_because_of_something_wrong_below_is_not_known():
    contract = failed("loss_contract", "LossNotTheSum@model")
    (variant,) = advice_of([contract, blocked(cell("1.4.0", "finetune@train_ds"), contract.cell)]).variants
    assert (variant.trains, variant.passes, variant.fails) == ((), (), ())
    assert variant.unknown[0].text.startswith("It was not fine-tuned: Not run: it depends on 1.4.0/")


def test_what_was_skipped_says_why():
    absent = outcome(cell("1.4.0", "construct"), Status.SKIPPED, "the release has no model 'EParaformer'")
    (variant,) = advice_of([outcome(import_cell("1.4.0")), absent]).variants
    assert variant.unknown[0].text == "It was skipped: the release has no model 'EParaformer'."


def test_what_the_users_own_input_caused_says_nothing_of_the_release():
    typo = failed("finetune@train_ds", "TypeError@funasr/bin/train_ds.py:main", yours={"reason": "no option lrr"})
    (variant,) = advice_of([*good("1.4.0")[:2], typo]).variants
    assert (variant.trains, variant.fails) == ((), ())
    assert "no option lrr" in variant.unknown[0].text


def test_a_release_whose_model_does_not_give_its_text_back_is_good_only_in_part():
    saved = outcome(cell("1.4.0", "decode@train_ds"), Status.FAILED)
    (variant,) = advice_of([*good("1.4.0")[:2], tuned("1.4.0", "train_ds"), saved]).variants
    assert (variant.newest, len(variant.partly)) == (None, 1)


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ({"construct": Status.PASSED}, ReleaseStanding.PASSES),
        ({"construct": Status.PASSED, "finetune@train_ds": Status.PASSED}, ReleaseStanding.TRAINS),
        ({"construct": Status.PASSED, "finetune@train_ds": Status.SKIPPED}, ReleaseStanding.PASSES),
        ({"construct": Status.SKIPPED}, ReleaseStanding.UNKNOWN),
        ({"construct": Status.ERRORED}, ReleaseStanding.UNKNOWN),
        ({"construct": Status.PASSED, "finetune@train_ds": Status.ERRORED}, ReleaseStanding.UNKNOWN),
        ({"construct": Status.CRASHED, "finetune@train_ds": Status.ERRORED}, ReleaseStanding.FAILS),
        ({"construct": Status.TIMED_OUT, "finetune@train_ds": Status.PASSED}, ReleaseStanding.PARTLY),
    ],
)
def test_what_was_not_learned_is_neither_good_nor_bad(statuses, expected):
    found = judged([outcome(cell("1.4.0", check), status) for check, status in statuses.items()])
    assert standing_of(found) is expected


def test_a_release_that_does_not_import_is_bad_for_every_variant():
    broken = outcome(import_cell("1.0.0"), Status.FAILED, failure=loss_failure(1, 2))
    blocked_ones = [
        blocked(cell("1.0.0", "construct", variant=name), broken.cell)
        for name in ("paraformer", "paraformer_streaming")
    ]
    advice = advice_of([broken, *blocked_ones])
    assert [variant.fails[0].text.split(":")[0] for variant in advice.variants] == ["The release does not import"] * 2
    assert not advice.fine_tuned
    assert advice.newest_for_all is None


def unmet_conditions(*unmet):
    signature = "NotTrained@" + "+".join(unmet)
    return failed("finetune@train_ds", signature, entry_is_native=True, training={"steps": 20, "unmet": list(unmet)})


@pytest.mark.parametrize("unmet", [("schedule",), ("schedule", "accumulation"), ("steps",), ("epochs", "log")])
def test_a_model_that_learned_though_not_as_configured_is_fit_and_what_is_wrong_is_reported(unmet):
    (variant,) = advice_of([*good("1.4.0")[:2], unmet_conditions(*unmet)]).variants
    assert variant.newest == "1.4.0"
    assert [reason.text.split(":")[1].strip() for reason in variant.besides] == list(unmet)


@pytest.mark.parametrize(
    "unmet", [("schedule", "trend"), ("unigram",), ("start",), ("schedule", "optimizer"), ("losses",)]
)
def test_a_model_that_did_not_learn_is_not_fit_whatever_else_was_broken(unmet):
    (variant,) = advice_of([*good("1.4.0")[:2], unmet_conditions(*unmet)]).variants
    assert variant.newest is None
    assert variant.besides == ()
    assert variant.fails[0].text.startswith("Fine-tuning fails:")
