"""Releases share a curve only when every loss is equal to the last digit."""

from __future__ import annotations

import math

from report_factory import RELEASES, cell, judged, outcome, training, tuned

from harness.core.cells import Status
from harness.core.versions import Order, in_words
from harness.report.learning import Training, curve_key, group_curves
from harness.rules.levels import Level

ORDER = Order.of(RELEASES, ())


def groups_of(outcomes):
    return list(group_curves(judged(outcomes), ORDER).values())


def with_losses(release, losses, **fields):
    return tuned(release, metrics={**training(), "losses": losses}, **fields)


def test_equal_curves_are_one_group_over_trainers_and_releases():
    (group,) = groups_of(
        [tuned("1.4.0"), tuned("1.4.1"), tuned("1.4.1", "train_ds", evidence={"entry_is_native": False})]
    )
    assert (group.cells, in_words(group.releases)) == (3, "1.4.0, 1.4.1")
    assert [(use.entry, use.native, in_words(use.spans)) for use in group.uses] == [
        ("train", True, "1.4.0, 1.4.1"),
        ("train_ds", False, "1.4.1"),
    ]


def test_a_difference_in_the_last_digit_makes_two_groups():
    assert len(groups_of([with_losses("1.4.0", [10.0, 0.3]), with_losses("1.4.1", [10.0, 0.1 + 0.2])])) == 2


def test_curves_with_the_same_nan_are_equal():
    (group,) = groups_of([with_losses("1.4.0", [10.0, "nan"]), with_losses("1.4.1", [10.0, "nan"])])
    assert math.isnan(group.losses[1])


def test_models_do_not_share_curves():
    assert len(groups_of([tuned("1.4.0"), tuned("1.4.0", variant="paraformer")])) == 2


def test_a_cell_that_came_to_no_step_has_no_curve():
    assert curve_key(outcome(cell("1.4.0", "finetune@train"), Status.FAILED)) is None
    assert curve_key(outcome(cell("1.4.0", "loss_contract"), metrics={"losses": [1.0]})) is None


def test_a_failed_fine_tune_keeps_its_curve_and_says_that_it_failed():
    (group,) = groups_of([tuned("1.4.0"), tuned("1.4.1", status=Status.FAILED, reason="The loss did not fall.")])
    assert [use.level for use in group.uses] == [Level.BROKEN, Level.PASSED]


def test_figures_of_a_training_are_read_as_they_came():
    training_read = Training.of(training(steps=16))
    assert (training_read.steps, len(training_read.losses), len(training_read.epoch_losses)) == (16, 16, 8)
    assert training_read.step_seconds == 0.2
    assert training_read.peak_allocated_bytes is None
    assert [change.name for change in training_read.changes] == ["encoder", "predictor", "decoder"]


def test_metrics_of_another_kind_count_as_not_had():
    odd = Training.of({"steps": "16", "losses": 3, "stats": [1], "relative_change_by_group": None, "step_seconds": {}})
    assert (odd.steps, odd.losses, odd.statistics, odd.changes, odd.step_seconds) == (None, (), (), (), None)
