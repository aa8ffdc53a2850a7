"""The answer: good releases have everything passed, and a fine-tune among it."""

from __future__ import annotations

import pytest
from report_factory import RELEASES, blocked, cell, judged, loss_failure, outcome, tuned

from harness.cells import Status
from harness.matrix.expansion import import_cell
from harness.report.advice import Standing, advise, standing
from harness.report.failures import group_failures
from harness.report.order import Order, in_words


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


def bad(release, rung="loss_contract", **place):
    return [outcome(cell(release, rung, **place), Status.FAILED, failure=loss_failure(320, 8404))]


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


def test_a_release_with_a_broken_other_trainer_is_good_and_that_is_told():
    other = outcome(cell("1.4.0", "finetune@train"), Status.FAILED, evidence={"entry_is_native": False})
    (variant,) = advice_of([*good("1.4.0")[:2], tuned("1.4.0", "train_ds"), other]).variants
    assert variant.newest == "1.4.0"
    assert variant.other_trainer[0].text == "Fine-tuning fails with train: failed (not yet explained)."


def test_a_trainer_that_did_not_get_to_say_whether_it_is_native_is_told_by_the_release():
    own, other = (outcome(cell("1.4.0", f"finetune@{entry}"), Status.CRASHED) for entry in ("train_ds", "train"))
    (variant,) = advice_of([outcome(cell("1.4.0", "construct")), own]).variants
    assert len(variant.fails) == 1
    (variant,) = advice_of([tuned("1.4.0", "train_ds"), other]).variants
    assert (variant.newest, len(variant.partly), len(variant.other_trainer)) == ("1.4.0", 0, 1)


def test_a_release_that_trains_with_a_fault_that_stops_nothing_is_good_and_the_fault_is_told():
    broken = outcome(cell("1.4.0", "properties"), Status.FAILED)
    fed = outcome(cell("1.4.0", "data@train_ds"), Status.FAILED, evidence={"entry_is_native": True})
    (variant,) = advice_of([*good("1.4.0")[:2], tuned("1.4.0", "train_ds"), broken, fed]).variants
    assert variant.newest == "1.4.0"
    assert [reason.text for reason in variant.silent] == [
        "A property of the model does not hold: failed (not yet explained).",
        "The trainer is fed something else than the files say with train_ds: failed (not yet explained).",
    ]


def test_a_release_whose_model_does_not_give_its_text_back_is_good_only_in_part():
    saved = outcome(cell("1.4.0", "decode@train_ds"), Status.FAILED)
    (variant,) = advice_of([*good("1.4.0")[:2], tuned("1.4.0", "train_ds"), saved]).variants
    assert (variant.newest, len(variant.partly)) == (None, 1)


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ({"construct": Status.PASSED}, Standing.PASSES),
        ({"construct": Status.PASSED, "finetune@train_ds": Status.PASSED}, Standing.TRAINS),
        ({"construct": Status.PASSED, "finetune@train_ds": Status.SKIPPED}, Standing.PASSES),
        ({"construct": Status.SKIPPED}, Standing.UNKNOWN),
        ({"construct": Status.ERRORED}, Standing.UNKNOWN),
        ({"construct": Status.PASSED, "finetune@train_ds": Status.ERRORED}, Standing.UNKNOWN),
        ({"construct": Status.CRASHED, "finetune@train_ds": Status.ERRORED}, Standing.FAILS),
        ({"construct": Status.TIMED_OUT, "finetune@train_ds": Status.PASSED}, Standing.PARTLY),
    ],
)
def test_what_was_not_learned_is_neither_good_nor_bad(statuses, expected):
    found = judged([outcome(cell("1.4.0", rung), status) for rung, status in statuses.items()])
    assert standing(found) is expected


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


def broken_promise(*unmet):
    evidence = {"entry_is_native": True, "training": {"unmet": list(unmet)}}
    return outcome(cell("1.4.0", "finetune@train_ds"), Status.FAILED, evidence=evidence)


def test_a_model_that_learned_though_a_promise_was_broken_is_fit_and_the_promise_is_told():
    (variant,) = advice_of([*good("1.4.0")[:2], broken_promise("schedule", "accumulation")]).variants
    assert variant.newest == "1.4.0"
    (reason,) = variant.silent
    assert reason.text.startswith("The model learns, but the trainer does not do as it is told with train_ds:")


@pytest.mark.parametrize(
    "unmet", [("schedule", "trend"), ("steps",), ("unigram",), ("start",), ("schedule", "optimizer"), ()]
)
def test_a_model_that_did_not_learn_is_not_fit_whatever_else_was_broken(unmet):
    (variant,) = advice_of([*good("1.4.0")[:2], broken_promise(*unmet)]).variants
    assert variant.newest is None
    assert variant.silent == ()
    assert variant.fails[0].text.startswith("Fine-tuning fails with train_ds:")
