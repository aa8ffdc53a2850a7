"""When the conditions of learning decide, and when the configuration in force says why they do not."""

from __future__ import annotations

from typing import Any

import pytest
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
