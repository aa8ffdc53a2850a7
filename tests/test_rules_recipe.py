"""When the conditions of learning decide, and when the configuration in force says why they do not."""

from __future__ import annotations

from typing import Any

import pytest
from golden_files import assert_golden
from parsed import departure, judge_training
from training_scene import invariants, metrics, seed_training

RECIPE = {"learning_rate": 0.002, "warmup_steps": 8, "steps": 12}
FLAT = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
"""Epochs' losses over the constant prediction's, of a model that learns nothing."""
NOTHING = (0.0,) * 6


def seen(config: dict[str, Any], *, learns: bool = False, **changed: Any) -> dict[str, Any]:
    """A training in a configuration; by default it teaches nothing."""
    trainings = None if learns else [seed_training(epochs=FLAT, accuracies=NOTHING)]
    observed = invariants(12, **changed.pop("observed", {}))
    return metrics(
        trainings, observed=observed, config_in_force={"optim": "adam", **config}, **{"recipe": RECIPE, **changed}
    )


@pytest.mark.parametrize(
    ("config", "changed", "why"),
    [
        ({}, {}, ""),
        ({"optim": "adamw"}, {}, ""),
        ({}, {"observed": {"warmup_steps": 4}}, ""),
        ({"frozen": 30}, {}, "freezes 30 tensors"),
        ({"optim": "sgd"}, {}, "trains with `optim: sgd`"),
        ({"hotwords_alone": True}, {}, "over hotwords alone"),
        ({"hotwords_alone": False}, {}, ""),
        ({"scheduler": "noamlr"}, {"observed": {"warmup_steps": None}}, "schedule is `noamlr`"),
        ({}, {"observed": {"warmup_steps": 30000}}, "learning rates add up to"),
        ({}, {"observed": {"learning_rate": 0.02}}, "learning rate of 0.02 is above the recipe's 0.002"),
        ({}, {"steps_expected": None, "steps_unknown": "batches are made by token"}, "batches are made by token"),
        ({}, {"steps_expected": None}, "the number of steps is not known"),
        ({}, {"steps_expected": 11}, "learning rates add up to"),
        ({}, {"steps_expected": 0}, "the number of steps is not known"),
        ({}, {"observed": {"warmup_steps": 9}}, "learning rates add up to"),
        ({}, {"observed": {"learning_rate": 0.0019}}, "learning rates add up to"),
        ({}, {"observed": {"learning_rate": None}}, "the number of steps is not known"),
        ({}, {"observed": {"warmup_steps": None}}, "schedule is `warmuplr`"),
        ({}, {"observed": {"warmup_steps": 1, "learning_rate": 0.0021}}, "learning rate of 0.0021 is above"),
        ({}, {"observed": {"warmup_steps": 1}}, "learning rates add up to"),
        ({}, {"recipe": {**RECIPE, "warmup_steps": 1}}, ""),
        ({"optim": "sgd"}, {"recipe": None}, ""),
        # Where the recipe is not whole, nothing is compared with it.
        ({}, {"recipe": {**RECIPE, "steps": None}, "steps_expected": 11}, ""),
        ({}, {"recipe": {**RECIPE, "warmup_steps": 0}, "steps_expected": 11}, ""),
    ],
)
def test_learning_is_expected_where_the_configuration_trains_as_the_recipe_does(
    config: dict[str, Any], changed: dict[str, Any], why: str
) -> None:
    found = seen(config, **changed)
    assert why in departure(found)
    assert bool(departure(found)) is bool(why)
    verdict = judge_training(found)
    assert ("unigram" in verdict.unmet) is not bool(why)
    assert ("unigram" in verdict.not_observed) is bool(why)


def test_what_learned_all_the_same_passes_and_has_nothing_to_excuse() -> None:
    verdict = judge_training(seen({"optim": "sgd"}, learns=True))
    assert (verdict.unmet, verdict.not_observed) == ((), {})


def test_a_run_without_a_known_configuration_is_judged_as_before() -> None:
    assert departure({}) == departure(metrics()) == ""


def test_few_steps_prove_nothing_but_where_the_configuration_has_no_more() -> None:
    short = {"steps": 5, "steps_expected": 5, "losses": [1.0] * 5}
    assert any("fewer than 12" in reason for reason in judge_training(seen({}, **short, recipe=None)).reasons)
    verdict = judge_training(seen({}, **short))
    assert not any("fewer than 12" in reason for reason in verdict.reasons)
    assert "fewer than 12" in verdict.not_observed["steps"]


DEPARTURES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "as the recipe": ({}, {}),
    "frozen": ({"frozen": 30}, {}),
    "SeACo as published": ({"hotwords_alone": True}, {}),
    "another optimizer": ({"optim": "sgd"}, {}),
    "another schedule": ({"scheduler": "noamlr"}, {}),
    "batches by token": ({}, {"steps_expected": None, "steps_unknown": "batches are made by token"}),
    "steps not known": ({}, {"steps_expected": None}),
    "a higher rate": ({}, {"observed": {"learning_rate": 0.02}}),
    "a long warm-up": ({}, {"observed": {"warmup_steps": 30000}}),
}


def test_the_wording_of_each_departure_from_the_recipe() -> None:
    lines = [f"{scene}\n  {departure(seen(config, **changed))}\n" for scene, (config, changed) in DEPARTURES.items()]
    assert_golden("departures.txt", "".join(lines))


def test_a_group_that_the_configuration_freezes_need_not_move() -> None:
    still = {"relative_change_by_group": {"encoder": 0.0, "predictor": 0.1, "decoder": 0.1}}
    frozen = judge_training(seen({"frozen": 3, "frozen_groups": ["encoder"]}, learns=True, **still))
    assert "parameters" not in frozen.unmet
    assert frozen.smallest_change == 0.1
    assert "parameters" in judge_training(seen({"frozen": 3, "frozen_groups": ["decoder"]}, learns=True, **still)).unmet
    without = metrics(observed=invariants(12), **still)
    assert "parameters" in judge_training(without).unmet
