"""The whole rule for a fine-tuning, with answers planted on both sides of each bound of its own."""

from __future__ import annotations

import math
from typing import Any

import pytest
from golden_files import assert_golden
from parsed import judge_training, judged
from training_scene import FALLING, RISING, invariants, metrics, seed_training

from harness.config.settings import MINIMUM_STEPS
from harness.core.cells import Cell, Outcome, Status
from harness.core.evidence.parsing import EvidenceMismatch
from harness.rules.apply import apply_rules
from harness.rules.training import CHANGE_FLOOR, HIGHEST_LOSS, LOWEST_LOSS, REQUIRED_GROUPS


def unmet(given: dict[str, Any]) -> tuple[str, ...]:
    verdict = judge_training(given)
    assert verdict.passed is not bool(verdict.unmet)
    assert bool(verdict.reasons) is bool(verdict.unmet)
    return verdict.unmet


def test_a_training_that_learns_passes_with_its_figures() -> None:
    verdict = judge_training(metrics())
    assert (verdict.passed, verdict.reasons, verdict.unmet) == (True, (), ())
    assert (verdict.steps, verdict.steps_expected, verdict.epochs) == (12, 12, 6)
    assert verdict.smallest_change == 0.02
    assert verdict.learning is not None
    assert verdict.learning.seeds[0].gain == pytest.approx(0.8)
    assert verdict.invariants is not None
    assert verdict.invariants.not_observed == ("accumulation", "ranks", "configuration", "frozen")


def test_nothing_at_all_is_no_training() -> None:
    verdict = judge_training({})
    assert verdict.unmet == ("steps", "losses", "parameters", "unigram", "accuracy", "trend", "hearing")
    assert verdict.steps is verdict.smallest_change is None


def test_a_trainer_that_takes_no_step_and_says_nothing_is_reported_for_that_alone() -> None:
    verdict = judge_training(metrics() | {"steps": 0, "losses": [], "epoch_losses": [], "trainings": [{"seed": 0}]})
    assert (verdict.unmet, len(verdict.reasons)) == (("steps",), 1)
    assert verdict.learning is verdict.invariants is None


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"steps_expected": 18}, "steps"),
        ({"losses": [*metrics()["losses"][:-1], "nan"]}, "losses"),
        ({"relative_change_by_group": {"encoder": 0.0, "predictor": 0.1, "decoder": 0.1}}, "parameters"),
        ({"trainings": [seed_training(epochs=(2.4, 1.3, 1.2, 1.1, 1.0, 0.9))]}, "unigram"),
        ({"trainings": [seed_training(accuracies=(0.0,) * 6)]}, "accuracy"),
        ({"trainings": [seed_training(epochs=(0.2,) * 6)]}, "trend"),
        ({"invariants": invariants(not_in_optimizer=["encoder.a"])}, "optimizer"),
    ],
)
def test_each_condition_alone_is_reported_by_its_name(changed: dict[str, Any], name: str) -> None:
    assert judge_training(metrics() | changed).unmet == (name,)


def test_what_is_not_met_makes_the_signature_in_a_fixed_order() -> None:
    cell = Cell.parse("1.4.16/paraformer/v8404-h320/reduced/finetune@train/cpu-fp32")
    broken = metrics(observed=invariants(not_in_optimizer=["a"]), learning_rates=[0.002] * 12, steps_expected=18)
    settled = apply_rules(Outcome(cell=cell, status=Status.PASSED, reason="", metrics=broken))
    assert settled.status is Status.FAILED
    assert settled.failure is not None
    assert settled.failure.signature == "NotTrained@steps+schedule+moving+optimizer"
    assert settled.evidence["training"]["learning"]["trend_test"] == "mann-kendall"


def test_a_sound_training_settles_as_passed_with_its_figures() -> None:
    cell = Cell.parse("1.4.16/paraformer/v8404-h320/reduced/finetune@train/cpu-fp32")
    settled = apply_rules(Outcome(cell=cell, status=Status.PASSED, reason="", metrics=metrics()))
    assert (settled.status, settled.failure) == (Status.PASSED, None)
    assert settled.evidence["training"]["unmet"] == ()


@pytest.mark.parametrize("expected", [10, 11, 13, 18])
def test_another_number_of_steps_than_configured_fails(expected: int) -> None:
    assert unmet(metrics(steps_expected=expected)) == ("steps",)


def test_where_the_number_of_steps_cannot_be_known_the_steps_taken_are_no_finding() -> None:
    unknown = metrics(steps_expected=None, steps_unknown="batches are made by token")
    assert "steps" not in unmet(unknown)
    assert "steps" in unmet(metrics(steps_expected=None))
    assert "steps" in unmet({**unknown, "steps": 0, "losses": []})
    assert "steps" in unmet({**unknown, "steps": None})
    assert unmet({**unknown, "steps_expected": 12}) == ()


def test_the_least_number_of_steps_is_enough_and_one_fewer_is_not() -> None:
    enough = metrics()
    assert enough["steps"] == MINIMUM_STEPS
    assert judge_training(enough).passed
    fewer = enough | {"steps": MINIMUM_STEPS - 1, "steps_expected": MINIMUM_STEPS - 1, "losses": enough["losses"][:-1]}
    assert "steps" in unmet(fewer)


def test_an_unknown_number_of_steps_fails() -> None:
    assert "steps" in unmet(metrics(steps=None))
    assert "steps" in unmet(metrics(steps=-1))


@pytest.mark.parametrize("steps", ["16", 16.0, True])
def test_a_number_of_steps_that_is_no_count_is_a_mismatch(steps: object) -> None:
    with pytest.raises(EvidenceMismatch, match=r"metrics.steps: expected a whole number"):
        judge_training(metrics(steps=steps))


def test_a_loss_too_few_or_too_many_fails() -> None:
    losses = metrics()["losses"]
    assert "steps" in unmet(metrics(losses=losses[:-1]))
    assert "steps" in unmet(metrics(losses=[*losses, 4.6]))


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", None, math.nan, math.inf])
@pytest.mark.parametrize("step", [0, 7, 11])
def test_one_loss_that_is_no_finite_number_fails(value: object, step: int) -> None:
    given = metrics()
    given["losses"][step] = value
    assert "losses" in unmet(given)


@pytest.mark.parametrize("value", ["4.6", True, 10**400, []])
def test_a_loss_that_is_no_number_is_a_mismatch(value: object) -> None:
    given = metrics()
    given["losses"][7] = value
    with pytest.raises(EvidenceMismatch, match=r"metrics.losses\[7\]: "):
        judge_training(given)


def test_a_finite_loss_may_be_as_high_as_the_bound_and_no_higher() -> None:
    given = metrics()
    given["losses"][5] = HIGHEST_LOSS
    assert judge_training(given).passed
    given["losses"][5] = math.nextafter(HIGHEST_LOSS, math.inf)
    assert unmet(given) == ("losses",)


def test_a_loss_may_be_rounded_below_zero_and_no_lower() -> None:
    given = metrics()
    given["losses"][11] = LOWEST_LOSS
    assert judge_training(given).passed
    given["losses"][11] = 2 * LOWEST_LOSS
    assert unmet(given) == ("losses",)


@pytest.mark.parametrize("group", REQUIRED_GROUPS)
def test_a_group_that_is_missing_fails(group: str) -> None:
    given = metrics()
    del given["relative_change_by_group"][group]
    assert unmet(given) == ("parameters",)
    assert judge_training(given).smallest_change is None


@pytest.mark.parametrize("group", REQUIRED_GROUPS)
@pytest.mark.parametrize("change", [None, "nan", "inf", math.nan])
def test_a_change_that_is_no_finite_number_fails(group: str, change: object) -> None:
    given = metrics()
    given["relative_change_by_group"][group] = change
    assert unmet(given) == ("parameters",)


@pytest.mark.parametrize("group", REQUIRED_GROUPS)
def test_a_group_has_to_move_by_more_than_the_floor(group: str) -> None:
    given = metrics()
    given["relative_change_by_group"][group] = math.nextafter(CHANGE_FLOOR, 1)
    assert judge_training(given).passed
    for still in (CHANGE_FLOOR, 1.2e-7, 0.0):
        given["relative_change_by_group"][group] = still
        assert unmet(given) == ("parameters",)
        assert judge_training(given).smallest_change == still


@pytest.mark.parametrize("changes", [None, [], "encoder"])
def test_changes_of_another_kind_are_a_mismatch(changes: object) -> None:
    with pytest.raises(EvidenceMismatch, match=r"metrics.relative_change_by_group: expected an object"):
        judge_training(metrics(relative_change_by_group=changes))
    assert len(judge_training(metrics(relative_change_by_group={})).reasons) == len(REQUIRED_GROUPS)


def test_a_loss_that_falls_by_a_sixth_while_the_model_learns_nothing_fails() -> None:
    """The upstream story: a loss that fell by 16 % in a model that had stopped learning."""
    epochs = [1.6 * (1 - 0.16 * part / 5) for part in range(6)]
    fallen = [seed_training(seed, epochs, accuracies=(0.25,) * 6) for seed in range(3)]
    assert judge_training(metrics(fallen)).unmet == ("unigram", "accuracy")


@pytest.mark.parametrize("name", sorted(metrics()))
@pytest.mark.parametrize("value", [None, True, -1, math.nan, "nan", [], [None], [[]], {}, 10**400])
def test_whatever_is_reported_is_judged_or_a_mismatch(name: str, value: object) -> None:
    verdict, mismatch = judged(judge_training, metrics() | {name: value})
    assert f"metrics.{name}" in mismatch if verdict is None else verdict.passed == (not verdict.reasons)


def test_seeds_are_judged_each_by_itself() -> None:
    trainings = [seed_training(0), seed_training(1, FALLING, (*RISING[:-1], 0.3))]
    assert judge_training(metrics(trainings)).unmet == ("accuracy",)


def test_the_groups_that_a_training_names_are_those_that_must_move() -> None:
    """A model without a predictor is not asked for one, and one with further parts is."""
    moved = {"encoder": 0.1, "decoder": 0.1, "hotwords": 0.0}
    named = {**metrics(), "relative_change_by_group": moved, "groups": ["encoder", "decoder"]}
    assert "parameters" not in judge_training(named).unmet
    assert "parameters" in judge_training({**named, "groups": ["encoder", "decoder", "hotwords"]}).unmet
    assert "parameters" in judge_training({**named, "groups": []}).unmet


LOSSES = metrics()["losses"]
MOVED = metrics()["relative_change_by_group"]
REPORTED: dict[str, dict[str, Any]] = {
    "nothing": {},
    "no step": metrics() | {"steps": 0, "losses": [], "epoch_losses": [], "trainings": [{"seed": 0}]},
    "steps too few": metrics(steps_expected=18),
    "few steps": metrics(steps=11, steps_expected=11, losses=LOSSES[:-1]),
    "a loss too few": metrics(losses=LOSSES[:-1]),
    "a loss that is no number": metrics(losses=[*LOSSES[:6], "nan", "inf", *LOSSES[8:]]),
    "losses out of bounds": metrics(losses=[*LOSSES[:6], 12345.6, -1.0, *LOSSES[8:]]),
    "groups": metrics(relative_change_by_group={"encoder": 1e-7, "predictor": "nan"}),
}


def test_the_wording_of_what_is_wrong_with_a_training() -> None:
    """Of the rule's own conditions; what an invariant or the learning rule says is tested there."""
    text = ""
    for scene, given in REPORTED.items():
        reasons = (reason for reason in judge_training(given).reasons if not reason.startswith(("Seed", "The trainer")))
        text += f"{scene}\n" + "".join(f"  {reason}\n" for reason in reasons)
    assert_golden("training.txt", text)
