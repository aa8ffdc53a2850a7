"""The rule for whether a model learned, with answers planted on both sides of each of its bounds."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.judge.training import (
    CHANGE_FLOOR,
    DESCENT_RATIO,
    HIGHEST_LOSS,
    LOWEST_LOSS,
    MINIMUM_EPOCHS,
    MINIMUM_STEPS,
    REQUIRED_GROUPS,
    TrainingVerdict,
    judge_training,
    theil_sen,
)


def metrics(means: list[float], **changed: Any) -> dict[str, Any]:
    """What a sound training of two steps an epoch reports, the two batches of unlike length."""
    losses = [mean * factor for mean in means for factor in (0.8, 1.2)]
    return {
        "steps": len(losses),
        "steps_expected": len(losses),
        "losses": losses,
        "epoch_losses": means,
        "relative_change_by_group": {"encoder": 0.02, "predictor": 0.03, "decoder": 0.05, "other": 0.0},
        **changed,
    }


FALLING = [10.1, 9.0, 8.0, 7.0, 6.0, 5.0, 4.8, 4.6]


def reasons(given: dict[str, Any]) -> str:
    verdict = judge_training(given)
    assert not verdict.passed
    assert verdict.reasons
    return " ".join(verdict.reasons)


def test_a_training_that_learns_passes_with_its_figures() -> None:
    verdict = judge_training(metrics(FALLING))
    assert verdict == TrainingVerdict(
        passed=True,
        reasons=(),
        unmet=(),
        steps=16,
        steps_expected=16,
        epochs=8,
        first_epoch_loss=10.1,
        last_epoch_loss=4.6,
        ratio=4.6 / 10.1,
        slope=theil_sen(FALLING),
        smallest_change=0.02,
    )


def test_unlike_batches_within_an_epoch_do_not_matter() -> None:
    given = metrics(FALLING)
    given["losses"] = [loss for mean in FALLING for loss in (mean * 1.9, mean * 0.1)]
    assert judge_training(given).passed


def test_nothing_at_all_is_no_training() -> None:
    verdict = judge_training({})
    assert not verdict.passed
    assert verdict.epochs == 0
    assert verdict.steps is verdict.ratio is verdict.slope is verdict.smallest_change is None
    text = " ".join(verdict.reasons)
    assert verdict.unmet == ("steps", "losses", "parameters", "descent")
    for part in ("not known how many", "No loss was seen", "encoder", "predictor", "decoder", "No epoch"):
        assert part in text


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"steps_expected": 18}, "steps"),
        ({"losses": [*metrics(FALLING)["losses"][:-1], "nan"]}, "losses"),
        ({"relative_change_by_group": {"encoder": 0.0, "predictor": 0.1, "decoder": 0.1}}, "parameters"),
        ({"epoch_losses": [7.0] * 8}, "descent"),
    ],
)
def test_each_condition_alone_is_told_by_its_name(changed: dict[str, Any], name: str) -> None:
    assert judge_training(metrics(FALLING, **changed)).unmet == (name,)


def test_empty_lists_are_no_training() -> None:
    assert "No loss was seen." in reasons(metrics([]))


def test_fewer_steps_than_asked_for_fail() -> None:
    assert "took 16 of 18 steps" in reasons(metrics(FALLING, steps_expected=18))


def test_more_steps_than_asked_for_fail() -> None:
    assert "took 16 of 14 steps" in reasons(metrics(FALLING, steps_expected=14))


def test_the_least_number_of_steps_is_enough_and_one_fewer_is_not() -> None:
    enough = metrics(FALLING[: MINIMUM_STEPS // 2])
    assert enough["steps"] == MINIMUM_STEPS
    assert judge_training(enough).passed
    fewer = enough | {"steps": MINIMUM_STEPS - 1, "steps_expected": MINIMUM_STEPS - 1, "losses": enough["losses"][:-1]}
    assert "11 steps; fewer than 12 prove nothing" in reasons(fewer)


@pytest.mark.parametrize("steps", [None, "16", 16.0, True, -1])
def test_a_number_of_steps_that_is_no_count_fails(steps: object) -> None:
    assert "not known how many" in reasons(metrics(FALLING, steps=steps))


def test_a_loss_too_few_fails() -> None:
    assert "15 losses for 16 steps" in reasons(metrics(FALLING, losses=metrics(FALLING)["losses"][:-1]))


def test_a_loss_too_many_fails() -> None:
    assert "17 losses for 16 steps" in reasons(metrics(FALLING, losses=[*metrics(FALLING)["losses"], 4.6]))


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", None, math.nan, math.inf, "4.6", True])
@pytest.mark.parametrize("step", [0, 7, 15])
def test_one_loss_that_is_no_finite_number_fails_and_is_named(value: object, step: int) -> None:
    given = metrics(FALLING)
    given["losses"][step] = value
    assert f"The loss of step {step + 1} is {value}, not a finite number." in reasons(given)


@pytest.mark.parametrize("value", ["nan", None, math.nan])
def test_an_epoch_whose_mean_is_no_finite_number_fails(value: object) -> None:
    text = reasons(metrics(FALLING, epoch_losses=[*FALLING[:-1], value]))
    assert "mean loss of epoch 8 is not a finite number" in text


def test_a_finite_loss_may_be_as_high_as_the_bound_and_no_higher() -> None:
    given = metrics(FALLING)
    given["losses"][5] = HIGHEST_LOSS
    assert judge_training(given).passed
    given["losses"][5] = math.nextafter(HIGHEST_LOSS, math.inf)
    assert "The loss of step 6 is 10000, which no loss of this task can be." in reasons(given)


def test_an_absurd_but_finite_loss_fails() -> None:
    given = metrics(FALLING)
    given["losses"][0] = 3e38
    assert "step 1 is 3e+38" in reasons(given)


def test_a_loss_may_be_rounded_below_zero_and_no_lower() -> None:
    given = metrics(FALLING)
    given["losses"][15] = LOWEST_LOSS
    assert judge_training(given).passed
    given["losses"][15] = 2 * LOWEST_LOSS
    assert "step 16" in reasons(given)


@pytest.mark.parametrize("group", REQUIRED_GROUPS)
def test_a_group_that_is_missing_fails(group: str) -> None:
    given = metrics(FALLING)
    del given["relative_change_by_group"][group]
    assert f"Nothing is known of the {group}'s parameters." in reasons(given)
    assert judge_training(given).smallest_change is None


@pytest.mark.parametrize("group", REQUIRED_GROUPS)
@pytest.mark.parametrize("change", [None, "nan", "inf", math.nan])
def test_a_change_that_is_no_finite_number_fails(group: str, change: object) -> None:
    given = metrics(FALLING)
    given["relative_change_by_group"][group] = change
    assert f"The {group}'s parameters changed by {change}" in reasons(given)


@pytest.mark.parametrize("group", REQUIRED_GROUPS)
def test_a_group_has_to_move_by_more_than_the_floor(group: str) -> None:
    given = metrics(FALLING)
    given["relative_change_by_group"][group] = math.nextafter(CHANGE_FLOOR, 1)
    assert judge_training(given).passed
    for still in (CHANGE_FLOOR, 1.2e-7, 0.0):
        given["relative_change_by_group"][group] = still
        assert f"The {group}'s parameters did not move" in reasons(given)


def test_a_group_that_nobody_asks_about_may_stand_still() -> None:
    assert judge_training(metrics(FALLING)).passed
    assert metrics(FALLING)["relative_change_by_group"]["other"] == 0.0


@pytest.mark.parametrize("changes", [None, [], "encoder"])
def test_changes_of_another_kind_are_changes_that_are_not_known(changes: object) -> None:
    assert "Nothing is known of the encoder" in reasons(metrics(FALLING, relative_change_by_group=changes))


def test_a_loss_that_stays_the_same_fails() -> None:
    text = reasons(metrics([9.0] * 8))
    assert "did not fall enough" in text
    assert "does not point down" in text


def test_a_loss_that_rises_fails() -> None:
    text = reasons(metrics(FALLING[::-1]))
    assert "did not fall enough" in text
    assert "does not point down" in text


def test_the_last_epoch_may_be_at_the_ratio_and_no_higher() -> None:
    # Eight is a power of two, so that dividing by it gives the bound to the last bit.
    first = 8.0
    last = first * DESCENT_RATIO
    between = [(first + last) / 2] * 4
    assert judge_training(metrics([first, *between, last])).passed
    above = math.nextafter(last, first)
    assert "to 0.900 of its start where at most 0.9 is asked" in reasons(metrics([first, *between, above]))


def test_a_lucky_last_epoch_does_not_make_a_trend() -> None:
    text = reasons(metrics([5.0, 6.0, 7.0, 8.0, 9.0, 4.0]))
    assert "does not point down" in text
    assert "did not fall enough" not in text


def test_a_single_bad_epoch_does_not_break_a_trend() -> None:
    assert judge_training(metrics([10.0, 9.0, 30.0, 7.0, 6.0, 5.0])).passed


def test_a_trend_of_exactly_zero_does_not_point_down() -> None:
    verdict = judge_training(metrics([10.0, 10.0, 10.0, 10.0, 10.0, 8.0]))
    assert verdict.slope == 0
    assert len(verdict.reasons) == 1
    assert "does not point down" in verdict.reasons[0]


def test_too_few_epochs_for_a_trend_fail() -> None:
    def of(means: list[float]) -> dict[str, Any]:
        losses = [mean for mean in means for _ in range(12)]
        return metrics(means, losses=losses, steps=len(losses), steps_expected=len(losses))

    assert judge_training(of([10.0, 8.0, 6.0])).passed
    assert MINIMUM_EPOCHS == 3
    assert "had 2 epochs; a trend needs 3" in reasons(of([10.0, 6.0]))
    assert "had 1 epochs; a trend needs 3" in reasons(of([10.0]))


def test_means_that_are_not_means_of_the_losses_fail() -> None:
    given = metrics(FALLING, losses=[9.0] * 16)
    assert "are not means of the steps' losses" in reasons(given)


def test_more_epochs_than_losses_fail() -> None:
    assert "are not means" in reasons(metrics(FALLING, losses=[7.0] * 5))


def test_means_may_be_rounded() -> None:
    means = [10.0, 9.0, 8.0, 7.0, 6.0, 5.0]
    given = metrics(means, losses=[mean for mean in means for _ in range(2)])
    assert judge_training(
        given | {"epoch_losses": [means[0] * (1 + 1e-7), *means[1:-1], means[-1] * (1 - 1e-7)]}
    ).passed


@pytest.mark.parametrize("first", [0.0, -1e-7, 5e-324])
def test_a_first_epoch_without_loss_leaves_nothing_to_fall(first: float) -> None:
    given = metrics([first, 0.5, 0.4, 0.3, 0.2, 0.1])
    assert "a fall cannot be measured against it" in reasons(given)


def test_the_slope_is_the_median_of_the_pairs() -> None:
    # By hand: 4→3 -1, 4→2 -1, 4→-1 -5/3, 3→2 -1, 3→-1 -2, 2→-1 -3.
    assert theil_sen([4.0, 3.0, 2.0, -1.0]) == pytest.approx((-1 + -5 / 3) / 2)


@given(st.floats(min_value=-5, max_value=5), st.floats(min_value=-5, max_value=5), st.integers(2, 12))
def test_the_slope_of_a_line_is_its_own(slope: float, start: float, points: int) -> None:
    assert theil_sen([start + slope * point for point in range(points)]) == pytest.approx(slope, abs=1e-9)


def test_numbers_too_large_for_a_float_are_no_losses() -> None:
    assert "not a finite number" in reasons(metrics(FALLING, losses=[10**400] * 16))


def test_means_whose_differences_overflow_do_not_point_down() -> None:
    huge = [1.7e308, -1.7e308, 1.7e308, -1.7e308, 1.7e308, -1.7e308]
    assert "does not point down" in reasons(metrics(FALLING, epoch_losses=huge))


anything = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
lists = st.lists(anything, max_size=20)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "steps": anything,
            "steps_expected": anything,
            "losses": anything | lists,
            "epoch_losses": anything | lists,
            "relative_change_by_group": anything | st.dictionaries(st.sampled_from(REQUIRED_GROUPS), anything),
        },
    )
)
def test_whatever_is_reported_is_judged_without_an_exception(given: dict[str, Any]) -> None:
    verdict = judge_training(given)
    assert verdict.passed == (not verdict.reasons)


@given(st.lists(st.floats(min_value=0.01, max_value=100), min_size=6, max_size=12))
def test_no_training_passes_whose_last_epoch_is_no_better_than_its_first(means: list[float]) -> None:
    if means[-1] >= means[0]:
        assert not judge_training(metrics(means)).passed
