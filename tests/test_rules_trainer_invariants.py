"""The trainer's invariants: each one kept, broken by as little as counts, and not observed."""

from __future__ import annotations

import math
from typing import Any

import pytest
from parsed import judge_invariants, judged
from training_scene import invariants, metrics, seed_training

from harness.rules.memory_growth import GROWTH_BYTES, growth_allowed
from harness.rules.trainer_invariants import (
    CLIP_TOLERANCE,
    GRADIENT_TOLERANCE,
    IDLE_SECONDS,
    INVARIANTS,
    WEIGHTS_TOLERANCE,
    warmup_rate,
)

MIB = 1024**2


def broken(given: dict[str, Any]) -> tuple[str, ...]:
    return tuple(name for name, reasons in judge_invariants(given).reasons.items() if reasons)


def sentence(given: dict[str, Any]) -> str:
    return " ".join(reason for reasons in judge_invariants(given).reasons.values() for reason in reasons)


def observed(**changed: Any) -> dict[str, Any]:
    return metrics(observed=invariants(**changed))


def test_a_sound_trainer_keeps_every_invariant_that_is_checked() -> None:
    verdict = judge_invariants(metrics())
    assert broken(metrics()) == ()
    assert verdict.not_observed == ("accumulation", "ranks", "configuration", "frozen")


def test_of_nothing_nothing_is_asked() -> None:
    assert judge_invariants({}).not_observed == tuple(INVARIANTS)
    assert judge_invariants({}).reasons == {}


def test_the_schedule_rises_in_a_line_and_falls_with_the_root() -> None:
    rates = [warmup_rate(0.002, 8, step) for step in (1, 4, 8, 32)]
    assert rates == pytest.approx([0.00025, 0.001, 0.002, 0.001])


@pytest.mark.parametrize(
    ("rates", "said"),
    [
        ([warmup_rate(0.002, 8, step + 2) for step in range(12)], "(the schedule has it at step 2)"),
        ([warmup_rate(0.001, 8, step + 1) for step in range(12)], "its schedule says 0.00025"),
    ],
)
def test_a_rate_that_is_not_the_schedules_is_reported_with_its_step(rates: list[float], said: str) -> None:
    given = metrics(learning_rates=rates)
    assert broken(given) == ("schedule",)
    assert said in sentence(given)


@pytest.mark.parametrize(
    ("rates", "said"),
    [
        ([0.00025] * 12, "Step 2 was taken at a learning rate of 0.00025 (the schedule has it at step 1)"),
        ([0.00025] * 12, "Step 2 and 10 more were taken at the learning rate of the step before"),
        ([0.0] * 12, "learning rate of 0;"),
        ([0.00025 * (1 + step // 4) for step in range(12)], "Step 2 and 8 more were taken"),
    ],
)
def test_a_rate_that_stands_still_is_reported_apart_from_one_that_runs_ahead(rates: list[float], said: str) -> None:
    given = metrics(learning_rates=rates)
    assert broken(given) == ("schedule", "moving")
    assert said in sentence(given)


def test_two_rates_are_too_few_to_stand_still() -> None:
    assert "moving" in judge_invariants(metrics(learning_rates=[0.00025] * 2)).not_observed
    assert "moving" in judge_invariants(observed(warmup_steps=None)).not_observed


@pytest.mark.parametrize(
    ("idle", "running", "expected"),
    [
        (IDLE_SECONDS, 0.1, ()),
        (IDLE_SECONDS * 1.1, 0.1, ("idling",)),
        (1.0, 1.0, ()),
        (1.0, 0.9, ("idling",)),
    ],
)
def test_a_step_may_not_lie_idle_longer_than_it_works(idle: float, running: float, expected: Any) -> None:
    assert broken(observed(idle_seconds=[idle] * 12, running_seconds=[running] * 12)) == expected


def test_one_step_that_stalls_is_no_idling_trainer_and_what_was_not_counted_is_not_asked() -> None:
    assert broken(observed(idle_seconds=[*[0.0] * 11, 60.0])) == ()
    assert "idling" in judge_invariants(observed(idle_seconds=[None] * 12, running_seconds=[None] * 12)).not_observed
    assert "idling" in judge_invariants(observed(idle_seconds=[])).not_observed


def test_a_rate_may_differ_by_rounding() -> None:
    rates = [warmup_rate(0.002, 8, step + 1) * (1 + 1e-9) for step in range(12)]
    assert broken(metrics(learning_rates=rates)) == ()


@pytest.mark.parametrize("rates", [[], ["nan"] * 12, [None] * 12])
def test_rates_that_are_not_known_are_not_judged(rates: object) -> None:
    assert "schedule" in judge_invariants(metrics(learning_rates=rates)).not_observed


def test_an_epoch_too_few_is_reported() -> None:
    assert broken(metrics(epochs=5)) == ("epochs",)
    assert broken(metrics(epochs=None)) == ("epochs",)


def measured(norm: float, found: float | None) -> list[dict[str, Any]]:
    return [{"step": 3, "norm": norm, "found_by_clipping": found}]


@pytest.mark.parametrize(
    ("norm", "found", "expected"),
    [
        (5.0, 11.0, ()),
        (5.0 * (1 + CLIP_TOLERANCE * 0.9), 11.0, ()),
        (5.0 * (1 + CLIP_TOLERANCE * 1.1), 11.0, ("clipping",)),
        (11.0, 11.0, ("clipping",)),
        (0.0, 11.0, ("clipping",)),
        (5.0 / 65536, 11.0 * 65536, ("clipping",)),
        (3.0, 3.0, ()),
        (3.0, None, ()),
        (5.0, None, ()),
        (5.1, None, ("clipping",)),
    ],
)
def test_gradients_are_as_large_as_clipping_leaves_them(norm: float, found: float | None, expected: Any) -> None:
    assert broken(observed(norms_before_steps=measured(norm, found))) == expected


@pytest.mark.parametrize("clip", [None, 0, -1, "nan"])
def test_where_no_norm_is_stated_clipping_is_not_asked(clip: object) -> None:
    assert "clipping" in judge_invariants(observed(gradient_clip=clip)).not_observed


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("without_gradient", "gradients"),
        ("not_in_optimizer", "optimizer"),
        ("not_from_checkpoint", "start"),
    ],
)
def test_parameters_that_are_left_out_are_named(key: str, name: str) -> None:
    given = observed(**{key: ["encoder.a", "encoder.b", "encoder.c", "encoder.d"]})
    assert broken(given) == (name,)
    assert "encoder.a, encoder.b, encoder.c and 1 more" in sentence(given)


def test_gradients_that_were_not_cleared_are_reported() -> None:
    given = observed(steps_begun_with_gradients=[1, 2, 3])
    assert broken(given) == ("clearing",)
    assert "Step 2 and 2 more" in sentence(given)


@pytest.mark.parametrize(("apart", "expected"), [(0.9e-5, ()), (1.1e-5, ("statistics",)), (None, ())])
def test_the_statistic_loss_is_the_loss(apart: float | None, expected: Any) -> None:
    assert broken(observed(loss_difference=apart)) == expected


@pytest.mark.parametrize(("apart", "expected"), [(0.9e-5, ()), (1.1e-5, ("statistics",)), (0.5, ("statistics",))])
def test_the_statistic_acc_is_the_accuracy(apart: float, expected: Any) -> None:
    counted = seed_training()["stats"]["acc"]
    given = metrics(accuracy_recomputed=[counted[0] + apart, *counted[1:]])
    assert broken(given) == expected


def test_an_accuracy_that_could_not_be_counted_is_not_held_against_it() -> None:
    assert broken(metrics(accuracy_recomputed=[None] * 12)) == ()


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ({"loss_att": 0.0005}, ()),
        ({"loss_att": 0.0011}, ("log",)),
        ({"returned loss": 2.0}, ("log",)),
        ({"acc": "inf"}, ("log",)),
    ],
)
def test_what_is_logged_is_what_was_computed_to_the_printed_digit(differences: Any, expected: Any) -> None:
    assert broken(observed(log_differences=differences)) == expected


def test_a_log_of_another_number_of_steps_is_reported() -> None:
    assert broken(observed(log_lines=6)) == ("log",)
    assert "log" in judge_invariants(observed(log_lines=0)).not_observed


def test_batches_that_repeat_are_reported() -> None:
    training = seed_training()
    repeated = {**training["targets"], "steps": [[[0, 1, 0, 1]]] * 12}
    given = metrics(targets=repeated)
    assert broken(given) == ("batches",)
    assert "Epoch 1 brought 2 utterances 4 to 4 times; 4 are listed 2 to 2 times." in sentence(given)


def test_epochs_that_are_cut_short_are_not_a_matter_of_batches() -> None:
    targets = {**seed_training()["targets"], "steps": [[[0, 1, 2, 3]]] * 6}
    assert broken(metrics(targets=targets, steps_of_epochs=[1] * 6)) == ()


def grown(per_step: float, steps: int = 24) -> list[int]:
    return [700 * MIB + int(per_step * step) for step in range(steps)]


def test_memory_may_grow_as_much_as_stated_and_no_more() -> None:
    assert broken(metrics(held_bytes=grown(GROWTH_BYTES))) == ()
    assert broken(metrics(held_bytes=grown(GROWTH_BYTES * 1.1))) == ("memory",)


@pytest.mark.parametrize(
    ("trainable", "bound"), [(None, 8 * MIB), (64 * MIB, 8 * MIB), (4 * MIB, 2 * MIB), (MIB, MIB), (0, MIB)]
)
def test_a_small_model_may_grow_by_less(trainable: int | None, bound: int) -> None:
    assert growth_allowed(trainable) == bound


def test_a_copy_of_a_small_models_gradients_at_each_step_is_seen() -> None:
    size = int(2.6 * MIB)
    kept = metrics(held_bytes=grown(size))
    assert broken(kept) == ()
    kept["invariants"] = {**kept["invariants"], "trainable_bytes": size}
    assert broken(kept) == ("memory",)


def test_memory_that_wanders_or_settles_has_not_grown() -> None:
    wandering = [700 * MIB + (step % 2) * 500 * MIB for step in range(24)]
    settling = [700 * MIB + min(step, 11) * 50 * MIB for step in range(24)]
    assert broken(metrics(held_bytes=wandering)) == broken(metrics(held_bytes=settling)) == ()
    assert "memory" in judge_invariants(metrics(held_bytes=grown(1e9, steps=11))).not_observed
    assert "memory" in judge_invariants(metrics(held_bytes=[None] * 24)).not_observed


def accumulated(**changed: Any) -> dict[str, Any]:
    found = {"batches": 2, "norm_at_once": 26.5, "norm_accumulated": 26.5, "relative_difference": 1e-6}
    return metrics(accumulation={**found, **changed})


@pytest.mark.parametrize(
    ("apart", "expected"),
    [
        (GRADIENT_TOLERANCE, ()),
        (GRADIENT_TOLERANCE * 1.01, ("accumulation",)),
        (0.5, ("accumulation",)),
        (None, ("accumulation",)),
        ("nan", ("accumulation",)),
    ],
)
def test_an_accumulated_gradient_is_that_of_a_large_batch(apart: object, expected: Any) -> None:
    assert broken(accumulated(relative_difference=apart)) == expected


def test_accumulating_that_breaks_off_is_reported() -> None:
    given = accumulated(failure="AttributeError@funasr/train_utils/trainer.py:_train_epoch")
    assert broken(given) == ("accumulation",)
    assert "Accumulating over 2 batches ends in AttributeError" in sentence(given)


@pytest.mark.parametrize("key", ["between_ranks", "from_single"])
@pytest.mark.parametrize(
    ("apart", "expected"), [(WEIGHTS_TOLERANCE, ()), (WEIGHTS_TOLERANCE * 1.01, ("ranks",)), (None, ("ranks",))]
)
def test_processes_end_with_one_model(key: str, apart: float | None, expected: Any) -> None:
    run = {"between_ranks": 0.0, "from_single": 0.0, key: apart}
    assert broken(metrics(ranks={"same rows": run})) == expected


@pytest.mark.parametrize(
    ("noise", "expected"), [(None, ("ranks",)), (1e-5, ("ranks",)), (0.5e-4, ()), ("nan", ("ranks",))]
)
def test_a_gpus_own_noise_lies_between_one_process_and_two_but_not_between_the_two(
    noise: object, expected: tuple[str, ...]
) -> None:
    assert broken(metrics(ranks={"same rows": {"from_single": 2e-4, "noise": noise}})) == expected
    assert broken(metrics(ranks={"same rows": {"between_ranks": 2e-4, "noise": noise}})) == ("ranks",)


SINGLE = [9.0, 8.0, 7.0]


@pytest.mark.parametrize(
    ("mine", "again", "said"),
    [
        (SINGLE, None, None),
        ([9.0, 8.0 * (1 + 0.9e-5), 7.0], None, None),
        ([9.0, 8.0 * (1 + 1.1e-5), 7.0], None, "rank 1 has a loss of 8.00009 at step 2, a single process 8."),
        ([9.0, 8.003, 7.0], [9.001, 8.0, 7.0], None),
        ([9.0, 8.005, 7.0], [9.001, 8.0, 7.0], "rank 1 has a loss of 8.005 at step 2"),
        ([9.0, 8.003, 7.0], [9.001], "rank 1 has a loss of 8.003 at step 2"),
        ([9.0, 8.0], None, "rank 1 has not the losses of a single process: there are 2 losses for 3 losses."),
        (["nan", 8.0, 7.0], None, "there are no losses for 3 losses."),
        ([], None, "there are no losses for 3 losses."),
    ],
)
def test_each_process_has_the_losses_of_one(mine: object, again: object, said: str | None) -> None:
    losses = {"single": SINGLE, "again": again or [], "ranks": [SINGLE, mine]}
    given = metrics(ranks={"same rows": {"losses": losses}})
    assert broken(given) == (("ranks",) if said else ())
    assert said is None or said in sentence(given)


def test_processes_for_which_there_were_too_few_gpus_are_not_asked() -> None:
    assert "ranks" in judge_invariants(metrics(ranks={"not_measured": "2 processes need as many GPUs"})).not_observed


def test_processes_that_break_off_are_reported() -> None:
    assert broken(metrics(ranks={"same rows": {"failure": "ValueError@funasr/bin/train.py:main"}})) == ("ranks",)


@pytest.mark.parametrize("name", sorted(invariants()))
@pytest.mark.parametrize(
    "value", [None, True, -1, math.nan, "nan", [], [None], [[]], {}, {"step": None}, pytest.param(10**400, id="huge")]
)
def test_whatever_is_reported_is_judged_or_a_mismatch(name: str, value: object) -> None:
    for given in (metrics(observed={name: value}), observed(**{name: value})):
        verdict, mismatch = judged(judge_invariants, given)
        known = verdict and {*verdict.reasons, *verdict.not_observed}
        assert f"metrics.invariants.{name}" in mismatch if known is None else known == set(INVARIANTS)


def test_each_broken_invariant_is_reported_with_its_figures() -> None:
    for given, said in (
        (
            observed(norms_before_steps=measured(11.0, 12.5)),
            "Step 4 was taken with a gradient of norm 11, where clipping 12.5 at 5 leaves 5.",
        ),
        (
            observed(norms_before_steps=measured(5.1, None)),
            "Step 4 was taken with a gradient of norm 5.1, without clipping; 5 is configured.",
        ),
        (
            observed(loss_difference=0.125),
            "The statistic `loss` is not the loss that was returned: up to 12.50% apart.",
        ),
        (
            metrics(accuracy_recomputed=[0.75, *seed_training()["stats"]["acc"][1:]]),
            "The statistic `acc` says 0 where the first pass got 0.75 right.",
        ),
        (
            accumulated(relative_difference=0.5, norm_accumulated=3.0, norm_of_mean=1.5),
            "The gradient accumulated over 2 batches is not the mean of theirs: "
            "norm 3 against 1.5, relative difference 0.5.",
        ),
        (
            observed(without_gradient=["encoder.a", "encoder.b", "encoder.c"]),
            "encoder.a, encoder.b, encoder.c never received a gradient.",
        ),
        (
            metrics(learning_rates=[0.001] * 12, observed=invariants(learning_rate=None)),
            "Step 2 and 10 more were taken at the learning rate of the step before; its schedule moves at each.",
        ),
    ):
        assert sentence(given) == said


def test_of_several_accuracies_the_one_that_is_furthest_off_is_reported() -> None:
    stated = seed_training()["stats"]["acc"]
    counted = [stated[0] + 0.25, stated[1] + 0.5, *stated[2:]]
    assert "says 0 where the first pass got 0.5 right" in sentence(metrics(accuracy_recomputed=counted))


def test_a_large_statistic_may_be_printed_with_its_own_rounding() -> None:
    """Three decimals of a loss of 1000 are more than float32 holds; of the returned loss the losses are asked."""
    stats = {**seed_training()["stats"], "loss_pre": [1000.0] * 12}
    for name, losses, apart, expected in (
        ("loss_pre", [1.0] * 12, 0.010, ()),
        ("loss_pre", [1.0] * 12, 0.011, ("log",)),
        ("returned loss", [1000.0] * 12, 0.010, ()),
        ("returned loss", [1.0] * 12, 0.010, ("log",)),
    ):
        told = invariants(log_differences={name: apart})
        assert "log" in broken(metrics(stats=stats, losses=losses, observed=told)) or not expected
        assert ("log" in broken(metrics(stats=stats, losses=losses, observed=told))) is bool(expected)


def test_rows_that_are_listed_unequally_often_are_reported_so() -> None:
    given = metrics(observed=invariants(listed=[3, 2, 2, 1]))
    assert "Epoch 1 brought 4 utterances 2 to 2 times; 4 are listed 1 to 3 times." in sentence(given)


def test_a_later_epoch_is_looked_at_as_well() -> None:
    """In the third epoch alone, two rows stand in for the other two."""
    steps = [[[0, 1, 2, 3]]] * 12
    steps[4:6] = [[[0, 1, 0, 1]]] * 2
    given = metrics(targets={**seed_training()["targets"], "steps": steps})
    assert "Epoch 3 brought 2 utterances" in sentence(given)


def test_both_trainings_of_several_processes_are_reported() -> None:
    failed = {"failure": "ValueError@funasr/bin/train.py:main"}
    apart = {"between_ranks": 0.25, "losses": {"single": SINGLE, "ranks": [[9.0, 8.0, 7.5]] * 2}}
    given = metrics(ranks={"same rows": failed, "accumulating other rows": apart})
    assert judge_invariants(given).reasons["ranks"] == (
        "Training with two processes (same rows) ends in ValueError@funasr/bin/train.py:main.",
        "With two processes (accumulating other rows) the two processes end with different weights: "
        "relative difference 0.25.",
        "With two processes (accumulating other rows) rank 0 has a loss of 7.5 at step 3, a single process 7.",
        "With two processes (accumulating other rows) rank 1 has a loss of 7.5 at step 3, a single process 7.",
    )
    unknown = metrics(ranks={"same rows": {"from_single": None}})
    assert sentence(unknown) == (
        "With two processes (same rows) the weights are not those of a single process: relative difference unknown."
    )


def test_a_rank_without_losses_hides_no_other() -> None:
    losses = {"single": SINGLE, "ranks": [[], [9.0, 8.0, 7.5]]}
    reasons = judge_invariants(metrics(ranks={"same rows": {"losses": losses}})).reasons["ranks"]
    assert [reason.split(") ")[1][:6] for reason in reasons] == ["rank 0", "rank 1"]


def test_clipping_that_had_nothing_to_do_is_not_observed() -> None:
    below = [{"step": 0, "norm": 0.4, "found_by_clipping": 0.4}, {"step": 1, "norm": 0.7, "found_by_clipping": None}]
    found = metrics(observed=invariants(gradient_clip=1.0, norms_before_steps=below))
    assert "clipping" in judge_invariants(found).not_observed
    reached = [*below, {"step": 2, "norm": 1.3, "found_by_clipping": None}]
    found = metrics(observed=invariants(gradient_clip=1.0, norms_before_steps=reached))
    assert judge_invariants(found).reasons["clipping"]


def test_another_scheduler_than_warmup_is_not_observed() -> None:
    found = metrics(observed=invariants(warmup_steps=None), learning_rates=[0.5] * 12)
    assert {"schedule", "moving"} <= set(judge_invariants(found).not_observed)


def test_early_stopping_may_end_before_the_last_epoch_and_not_run_more() -> None:
    stops = {"train_conf": {"early_stopping_patience": 2}}
    assert "epochs" in judge_invariants(metrics(epochs=4, config_in_force=stops)).not_observed
    assert judge_invariants(metrics(epochs=4)).reasons["epochs"]
    assert judge_invariants(metrics(epochs=7, config_in_force=stops)).reasons["epochs"]


@pytest.mark.parametrize(
    ("config", "told", "kept"),
    [
        ({}, {}, True),
        ({}, {"log_lines": 24}, False),
        ({"accum_grad": 2}, {"log_lines": 24, "forwards": 24}, True),
        ({"accum_grad": 2}, {"log_lines": 25, "forwards": 24}, True),
        ({"accum_grad": 2}, {"log_lines": 12, "forwards": 24}, None),
        ({"accum_grad": 2}, {"log_lines": 13, "forwards": 24}, False),
        ({"accum_grad": 2}, {"log_lines": 26, "forwards": 24}, False),
        ({"train_conf": {"log_interval": 50}}, {"log_lines": 1}, None),
    ],
)
def test_the_log_has_a_line_for_each_batch(config: dict[str, Any], told: dict[str, Any], kept: bool | None) -> None:
    verdict = judge_invariants(metrics(observed=invariants(**told), config_in_force=config))
    assert verdict.reasons.get("log") == (None if kept is None else verdict.reasons["log"])
    assert ("log" in verdict.not_observed) is (kept is None)
    if kept is not None:
        assert (not verdict.reasons["log"]) is kept


def test_epochs_that_can_only_be_counted_by_validations_are_not_observed_with_validations_within_them() -> None:
    within = {"train_conf": {"validate_interval": 2}}
    counted = metrics(epochs=10, config_in_force=within, observed=invariants(epochs_numbered=False))
    assert "epochs" in judge_invariants(counted).not_observed
    numbered = metrics(epochs=10, config_in_force=within, observed=invariants(epochs_numbered=True))
    assert judge_invariants(numbered).reasons["epochs"]
    without = metrics(epochs=10, observed=invariants(epochs_numbered=False))
    assert judge_invariants(without).reasons["epochs"]


def test_rows_of_epochs_that_end_within_a_step_are_not_observed() -> None:
    cut = metrics(targets={"rows": [[5, 2]], "steps": [[[0]]] * 12})
    assert judge_invariants(cut).reasons["batches"]
    assert "batches" in judge_invariants({**cut, "epochs_end_within_steps": True}).not_observed
