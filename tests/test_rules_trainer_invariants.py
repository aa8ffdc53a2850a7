"""The trainer's invariants: each one kept, broken by as little as counts, and not observed."""

from __future__ import annotations

import math
from typing import Any

import pytest
from golden_files import assert_golden
from parsed import judge_invariants, judged
from training_scene import invariants, metrics, seed_training

from harness.rules.memory_growth import GROWTH_BYTES, growth_allowed
from harness.rules.trainer_invariants import (
    CLIP_TOLERANCE,
    GRADIENT_TOLERANCE,
    IDLE_SECONDS,
    INVARIANTS,
    OTHER_ROWS,
    WEIGHTS_TOLERANCE,
    warmup_rate,
)

MIB = 1024**2


def broken(given: dict[str, Any]) -> tuple[str, ...]:
    return tuple(name for name, reasons in judge_invariants(given).reasons.items() if reasons)


def unseen(given: dict[str, Any]) -> tuple[str, ...]:
    return judge_invariants(given).not_observed


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


AHEAD = [warmup_rate(0.002, 8, step + 2) for step in range(12)]
HALVED = [warmup_rate(0.001, 8, step + 1) for step in range(12)]
BY_FOURS = [0.00025 * (1 + step // 4) for step in range(12)]


@pytest.mark.parametrize("rates", [AHEAD, HALVED])
def test_a_rate_that_is_not_the_schedules_is_reported(rates: list[float]) -> None:
    assert broken(metrics(learning_rates=rates)) == ("schedule",)


@pytest.mark.parametrize("rates", [[0.00025] * 12, [0.0] * 12, BY_FOURS])
def test_a_rate_that_stands_still_is_reported_apart_from_one_that_runs_ahead(rates: list[float]) -> None:
    assert broken(metrics(learning_rates=rates)) == ("schedule", "moving")


def test_two_rates_are_too_few_to_stand_still() -> None:
    assert "moving" in unseen(metrics(learning_rates=[0.00025] * 2))
    assert "moving" in broken(metrics(learning_rates=[0.00025] * 3))
    assert "moving" in unseen(observed(warmup_steps=None))


def test_the_schedule_of_one_warmup_step_falls_from_the_first() -> None:
    rates = [warmup_rate(0.002, 1, step + 1) for step in range(12)]
    assert broken(metrics(learning_rates=rates, observed=invariants(warmup_steps=1))) == ()
    assert broken(metrics(learning_rates=rates[1:], observed=invariants(warmup_steps=1))) == ("schedule",)
    for steps in (0, 0.5, None):
        assert "schedule" in unseen(metrics(learning_rates=rates, observed=invariants(warmup_steps=steps)))
    assert "schedule" in unseen(observed(learning_rate=None))


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
    assert broken(observed(idle_seconds=[None, 1.0, 1.0], running_seconds=[0.1, None, 0.1, 9.0])) == ("idling",)
    assert "idling" in unseen(observed(idle_seconds=[None, 1.0], running_seconds=[0.1, None]))


@pytest.mark.parametrize(("apart", "expected"), [(0.9e-6, ()), (1.1e-6, ("schedule",))])
def test_a_rate_may_differ_by_rounding(apart: float, expected: Any) -> None:
    for factor in (1 + apart, 1 - apart):
        rates = [warmup_rate(0.002, 8, step + 1) * factor for step in range(12)]
        assert broken(metrics(learning_rates=rates)) == expected


@pytest.mark.parametrize("rates", [[], ["nan"] * 12, [None] * 12])
def test_rates_that_are_not_known_are_not_judged(rates: object) -> None:
    assert "schedule" in judge_invariants(metrics(learning_rates=rates)).not_observed


def test_an_epoch_too_few_is_reported() -> None:
    assert broken(metrics(epochs=5)) == ("epochs",)
    assert broken(metrics(epochs=None)) == ("epochs",)
    assert "epochs" in unseen(metrics(epochs_expected=None))


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


UNKNOWN = {"step": 0, "norm": None, "found_by_clipping": 11.0}


@pytest.mark.parametrize(
    ("norms", "expected"),
    [
        ([*measured(3.0, 3.0), *measured(5.1, None)], ("clipping",)),
        ([*measured(5.0, 11.0), *measured(6.0, 11.0)], ("clipping",)),
        ([UNKNOWN, *measured(5.0, 11.0)], ()),
        ([UNKNOWN, *measured(6.0, 11.0)], ("clipping",)),
    ],
)
def test_each_step_whose_norm_is_known_is_compared(norms: Any, expected: Any) -> None:
    assert broken(observed(norms_before_steps=norms)) == expected


def test_a_norm_that_is_not_known_says_nothing_of_clipping() -> None:
    assert "clipping" in unseen(observed(norms_before_steps=[UNKNOWN]))


def test_a_bound_below_one_is_clipped_to_as_well() -> None:
    assert broken(observed(gradient_clip=0.5, norms_before_steps=measured(0.5, 0.9))) == ()
    assert broken(observed(gradient_clip=0.5, norms_before_steps=measured(0.9, 0.9))) == ("clipping",)
    assert "clipping" in unseen(observed(gradient_clip=0.5, norms_before_steps=measured(0.4, None)))


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
    assert broken(observed(**{key: ["encoder.a"]})) == (name,)
    assert name in unseen(observed(**{key: None}))
    assert name in unseen(observed(**{key: ["encoder.a"]}, trainable_parameters=None))
    assert name in unseen(observed(**{key: ["encoder.a"]}, trainable_parameters=0))
    assert broken(observed(**{key: ["encoder.a"]}, trainable_parameters=1)) == (name,)


def test_a_checkpoint_that_is_not_there_is_the_reason_for_another_start() -> None:
    missing = "`init_param` a.pt does not exist"
    (reason,) = judge_invariants(observed(not_from_checkpoint=["encoder.a"], start_missing=missing)).reasons["start"]
    assert reason.startswith(f"{missing}: ")
    assert broken(observed(start_missing=missing)) == ()
    assert "start" in unseen(observed(not_from_checkpoint=None, start_missing=missing))


def test_parameters_that_the_configuration_freezes_may_not_move() -> None:
    def frozen(count: int | None, *moved: str) -> dict[str, Any]:
        return metrics(config_in_force={"frozen": count, "frozen_but_moved": list(moved)})

    assert broken(frozen(4, "encoder.a")) == ("frozen",)
    assert judge_invariants(frozen(4)).reasons["frozen"] == ()
    assert "frozen" in unseen(frozen(0, "encoder.a"))
    assert "frozen" in unseen(frozen(None, "encoder.a"))


def settings_in_force(count: int, source: str | None = "trainer.config") -> dict[str, Any]:
    changed = [{"key": f"train_conf.k{number}", "asked": number, "in_force": "x"} for number in range(count)]
    return observed(configuration=changed, configuration_source=source)


def test_the_trainer_works_with_the_settings_that_it_was_given() -> None:
    assert broken(settings_in_force(1)) == ("configuration",)
    assert [len(judge_invariants(settings_in_force(count)).reasons["configuration"]) for count in (0, 4, 5, 6)] == [
        *(0, 4, 5, 5)
    ]
    assert "configuration" in unseen(settings_in_force(1, None))
    assert "configuration" in unseen(settings_in_force(1, ""))


def test_gradients_that_were_not_cleared_are_reported() -> None:
    assert broken(observed(steps_begun_with_gradients=[1, 2, 3])) == ("clearing",)
    assert judge_invariants(observed(steps_begun_with_gradients=[])).reasons["clearing"] == ()
    assert "clearing" in unseen(observed(steps_begun_with_gradients=None))


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
    assert broken(metrics(accuracy_recomputed=[None, 0.5, *[None] * 10])) == ("statistics",)
    assert broken(metrics(accuracy_recomputed=[None, *seed_training()["stats"]["acc"][1:]])) == ()


def test_the_statistics_are_not_observed_where_neither_loss_nor_accuracy_is_known() -> None:
    without = {"accuracy_recomputed": [], "observed": invariants(loss_difference=None)}
    assert "statistics" in unseen(metrics(**without))
    assert judge_invariants(metrics(accuracy_recomputed=[])).reasons["statistics"] == ()
    assert judge_invariants(observed(loss_difference=None)).reasons["statistics"] == ()
    stats = {"loss_att": seed_training()["stats"]["loss_att"], "acc": [None, *seed_training()["stats"]["acc"][1:]]}
    assert broken(metrics(stats=stats)) == ()


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
    assert broken(metrics(targets=repeated)) == ("batches",)


def epochs_of(rows: list[int], *, size: int = 1, **changed: Any) -> dict[str, Any]:
    """Six epochs of `size` steps, each with these rows; two steps an epoch are expected."""
    targets = {**seed_training()["targets"], "steps": [[rows]] * 6 * size}
    return metrics(targets=targets, steps_of_epochs=[size] * 6, **changed)


@pytest.mark.parametrize(
    ("size", "least", "expected"),
    [(1, None, ()), (1, 7, ()), (1, 6, ("batches",)), (2, None, ("batches",)), (2, 6, ("batches",)), (3, None, ())],
)
def test_only_epochs_of_as_many_steps_as_expected_are_compared(size: int, least: int | None, expected: Any) -> None:
    """An epoch that is cut short, or that has steps too many, is a matter of steps."""
    assert broken(epochs_of([0, 0, 1, 1], size=size, steps_expected_least=least)) == expected


@pytest.mark.parametrize(
    ("rows", "optional", "expected"),
    [
        ([0, 1, 2, 3], [], ()),
        ([0, 1, 2], [], ("batches",)),
        ([0, 1, 2], [1], ("batches",)),
        ([0, 1, 2, 3, 3], [2], ("batches",)),
        ([0, 1, 2, 3, 4], [], ("batches",)),
        ([0, 1, 2, 3, 4], [1], ()),
        ([0, 1, 2, 3, 4, 4], [1], ("batches",)),
        ([0, 1, 2, 3, 4, 4], [1, 2], ()),
        ([0, 1, 2, 3, 4, 5, 5], [1, 2], ()),
        ([0, 1, 2, 3, 4, 4, 5, 5], [1, 2], ("batches",)),
    ],
)
def test_utterances_that_a_limit_may_leave_out_may_arrive_or_not(
    rows: list[int], optional: list[int], expected: Any
) -> None:
    """Each utterance is listed once; 4 and 5 are those about which the limit is in doubt."""
    given = epochs_of(rows, steps_expected_least=6, observed=invariants(listed=[1] * 4, listed_optional=optional))
    given["targets"] = {**given["targets"], "rows": [[5 + row, 2] for row in range(6)]}
    assert broken(given) == expected


@pytest.mark.parametrize(
    "changed",
    [
        {"steps_expected": None},
        {"steps_expected": 0},
        {"epochs_expected": None},
        {"epochs_expected": 0},
        {"targets": None},
        {"steps_of_epochs": [2] * 5},
        {"steps_of_epochs": [2] * 7},
        {"observed": invariants(listed=[])},
    ],
)
def test_without_all_that_is_compared_batches_are_not_observed(changed: dict[str, Any]) -> None:
    assert "batches" in unseen(metrics(**changed))


def test_all_batches_of_a_step_count() -> None:
    """A step that accumulates two batches brings the rows of both."""
    targets = {**seed_training()["targets"], "steps": [[[0, 1], [2, 3]]] * 12}
    assert broken(metrics(targets=targets)) == ()
    targets = {**seed_training()["targets"], "steps": [[[0, 1], [2, 2]]] * 12}
    assert broken(metrics(targets=targets)) == ("batches",)


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
    assert broken(accumulated(failure="AttributeError@funasr/train_utils/trainer.py:_train_epoch")) == ("accumulation",)


@pytest.mark.parametrize(
    ("key", "allowed"),
    [
        ("between_ranks", WEIGHTS_TOLERANCE),
        ("from_single", WEIGHTS_TOLERANCE),
        ("gradients_from_single", GRADIENT_TOLERANCE),
    ],
)
@pytest.mark.parametrize(("times", "expected"), [(1.0, ()), (1.01, ("ranks",)), (None, ("ranks",))])
def test_processes_train_one_model(key: str, allowed: float, times: float | None, expected: Any) -> None:
    run = {"between_ranks": 0.0, "from_single": 0.0, key: times and times * allowed}
    given = metrics(ranks={"same rows": run})
    assert broken(given) == expected
    assert len(judge_invariants(given).reasons["ranks"]) == len(expected)


@pytest.mark.parametrize(
    ("name", "differ", "expected"),
    [
        (OTHER_ROWS, False, ()),
        (OTHER_ROWS, True, ("ranks",)),
        (OTHER_ROWS, None, ("ranks",)),
        ("same rows", False, ("ranks",)),
    ],
)
def test_ranks_that_were_to_see_other_rows_and_saw_the_same_say_nothing_of_their_exchange(
    name: str, differ: bool | None, expected: Any
) -> None:
    assert broken(metrics(ranks={name: {"between_ranks": 0.25, "rows_differ": differ}})) == expected
    alone = {"from_single": 0.25, "rows_differ": differ}
    assert broken(metrics(ranks={name: alone})) == ("ranks",), "a single process is another matter"


@pytest.mark.parametrize(
    ("noise", "expected"), [(None, ("ranks",)), (1e-5, ("ranks",)), (0.5e-4, ()), ("nan", ("ranks",))]
)
def test_a_gpus_own_noise_lies_between_one_process_and_two_but_not_between_the_two(
    noise: object, expected: tuple[str, ...]
) -> None:
    assert broken(metrics(ranks={"same rows": {"from_single": 2e-4, "noise": noise}})) == expected
    assert broken(metrics(ranks={"same rows": {"between_ranks": 2e-4, "noise": noise}})) == ("ranks",)


@pytest.mark.parametrize(
    ("noise", "expected"), [(None, ("ranks",)), (1e-4, ("ranks",)), (0.5e-3, ()), ("nan", ("ranks",))]
)
def test_a_gpus_noise_of_gradients_is_allowed_to_gradients(noise: object, expected: tuple[str, ...]) -> None:
    run = {"gradients_from_single": 2e-3}
    assert broken(metrics(ranks={"same rows": {**run, "gradient_noise": noise}})) == expected
    assert broken(metrics(ranks={"same rows": {**run, "noise": noise}})) == ("ranks",)


SINGLE = [9.0, 8.0, 7.0]


def losses_of(mine: object, again: object = None, single: object = SINGLE) -> dict[str, Any]:
    losses = {"single": single, "again": again or [], "ranks": [SINGLE, mine]}
    return metrics(ranks={"same rows": {"losses": losses}})


@pytest.mark.parametrize(
    ("mine", "again", "same"),
    [
        (SINGLE, None, True),
        ([9.0, 8.0 * (1 + 0.9e-5), 7.0], None, True),
        ([9.0, 8.0 * (1 + 1.1e-5), 7.0], None, False),
        ([9.0, 8.0 * (1 - 1.1e-5), 7.0], None, False),
        ([9.0, 8.003, 7.0], [9.001, 8.0, 7.0], True),
        ([9.0, 8.005, 7.0], [9.001, 8.0, 7.0], False),
        ([9.0, 8.003, 7.0], [9.001], False),
        ([9.0, 8.0 * (1 + 0.9e-5), 7.0], [9.0 * (1 + 1e-9), 8.0, 7.0], True),
        ([9.0, 8.0], None, False),
        (["nan", 8.0, 7.0], None, False),
        ([], None, False),
    ],
)
def test_each_process_has_the_losses_of_one(mine: object, again: object, same: bool) -> None:
    assert broken(losses_of(mine, again)) == (() if same else ("ranks",))


def test_losses_below_zero_may_differ_by_as_much() -> None:
    single = [-9.0, -8.0]
    losses = {"single": single, "ranks": [[-9.0, -8.0 * (1 + 0.9e-5)]]}
    assert broken(metrics(ranks={"same rows": {"losses": losses}})) == ()
    losses = {"single": single, "ranks": [[-9.0, -8.0 * (1 + 1.1e-5)]]}
    assert broken(metrics(ranks={"same rows": {"losses": losses}})) == ("ranks",)


def test_of_each_rank_the_first_step_that_differs_is_reported() -> None:
    assert len(judge_invariants(losses_of([9.0, 8.5, 7.5])).reasons["ranks"]) == 1


def test_processes_for_which_there_were_too_few_gpus_are_not_asked() -> None:
    needed = {"not_measured": "2 processes need as many GPUs"}
    assert "ranks" in unseen(metrics(ranks=needed))
    assert "ranks" in unseen(metrics(ranks={**needed, "same rows": {"between_ranks": 0.25}}))


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


def test_a_large_statistic_may_be_printed_with_its_own_rounding() -> None:
    """Three decimals of a loss of 1000 are more than float32 holds; of the returned loss the losses are asked."""
    stats = {**seed_training()["stats"], "loss_pre": [1000.0] * 12}
    for name, losses, apart, expected in (
        ("loss_pre", [1.0] * 12, 0.010, ()),
        ("loss_pre", [1.0] * 12, 0.011, ("log",)),
        ("returned loss", [1000.0] * 12, 0.010, ()),
        ("returned loss", [1.0] * 12, 0.010, ("log",)),
    ):
        seen = invariants(log_differences={name: apart})
        assert ("log" in broken(metrics(stats=stats, losses=losses, observed=seen))) is bool(expected)
    without = {"stats": {**stats, "loss_pre": []}, "losses": [1000.0] * 12}
    assert "log" in broken(metrics(**without, observed=invariants(log_differences={"loss_pre": 0.000505})))
    negative = {"stats": {**stats, "loss_pre": [-1000.0, None] * 6}}
    assert "log" not in broken(metrics(**negative, observed=invariants(log_differences={"loss_pre": 0.010})))


def test_rows_that_are_listed_unequally_often_have_to_arrive_so() -> None:
    assert broken(observed(listed=[3, 2, 2, 1])) == ("batches",)


def test_a_later_epoch_is_looked_at_as_well() -> None:
    """In the third epoch alone, two rows stand in for the other two."""
    steps = [[[0, 1, 2, 3]]] * 12
    steps[4:6] = [[[0, 1, 0, 1]]] * 2
    assert broken(metrics(targets={**seed_training()["targets"], "steps": steps})) == ("batches",)


APART = {"between_ranks": 0.25, "losses": {"single": SINGLE, "ranks": [[9.0, 8.0, 7.5]] * 2}}
BROKEN_OFF = {"failure": "ValueError@funasr/bin/train.py:main"}


def test_both_trainings_of_several_processes_are_reported() -> None:
    given = metrics(ranks={"same rows": BROKEN_OFF, OTHER_ROWS: APART})
    assert len(judge_invariants(given).reasons["ranks"]) == 4
    # Of a training that broke off nothing else is compared.
    assert len(judge_invariants(metrics(ranks={"same rows": {**APART, **BROKEN_OFF}})).reasons["ranks"]) == 1


def test_a_rank_without_losses_hides_no_other() -> None:
    losses = {"single": SINGLE, "ranks": [[], [9.0, 8.0, 7.5]]}
    assert len(judge_invariants(metrics(ranks={"same rows": {"losses": losses}})).reasons["ranks"]) == 2
    nothing = {"single": [], "ranks": [SINGLE, SINGLE]}
    assert len(judge_invariants(metrics(ranks={"same rows": {"losses": nothing}})).reasons["ranks"]) == 2


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
    assert judge_invariants(metrics(epochs=6, config_in_force=stops)).reasons["epochs"] == ()
    assert judge_invariants(metrics(epochs=None, config_in_force=stops)).reasons["epochs"]
    never = {"train_conf": {"early_stopping_patience": 0}}
    assert judge_invariants(metrics(epochs=4, config_in_force=never)).reasons["epochs"]


@pytest.mark.parametrize(
    ("config", "seen", "kept"),
    [
        ({}, {}, True),
        ({}, {"log_lines": 24}, False),
        ({"accum_grad": 2}, {"log_lines": 24, "forwards": 24}, True),
        ({"accum_grad": 2}, {"log_lines": 25, "forwards": 24}, True),
        ({"accum_grad": 2}, {"log_lines": 12, "forwards": 24}, None),
        ({"accum_grad": 2}, {"log_lines": 13, "forwards": 24}, False),
        ({"accum_grad": 2}, {"log_lines": 26, "forwards": 24}, False),
        ({"train_conf": {"log_interval": 50}}, {"log_lines": 1}, None),
        ({"train_conf": {"log_interval": 1}}, {"log_lines": 11}, False),
        ({"train_conf": {}}, {"log_lines": 11}, False),
        ({"accum_grad": 0}, {"log_lines": 12}, True),
        ({"accum_grad": 1}, {"log_lines": 12}, True),
        ({"accum_grad": 1}, {"log_lines": 13}, False),
        ({}, {"log_lines": 1, "forwards": 1}, True),
        (None, {"log_lines": 11}, False),
    ],
)
def test_the_log_has_a_line_for_each_batch(config: Any, seen: dict[str, Any], kept: bool | None) -> None:
    verdict = judge_invariants(metrics(observed=invariants(**seen), config_in_force=config))
    assert verdict.reasons.get("log") == (None if kept is None else verdict.reasons["log"])
    assert ("log" in verdict.not_observed) is (kept is None)
    assert "log" in unseen(metrics(observed=invariants(**seen), config_in_force=config, steps=None))
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


FOUR = ["encoder.a", "encoder.b", "encoder.c", "encoder.d"]
REPORTED: dict[str, dict[str, Any]] = {
    "the schedule is a step ahead": metrics(learning_rates=AHEAD),
    "the peak is halved": metrics(learning_rates=HALVED),
    "the rate is that of the first step": metrics(learning_rates=[0.00025] * 12),
    "the rate is 0": metrics(learning_rates=[0.0] * 12),
    "the rate moves every fourth step": metrics(learning_rates=BY_FOURS),
    "an epoch too few": metrics(epochs=5),
    "no epoch seen": metrics(epochs=None),
    "waiting": observed(idle_seconds=[1.25] * 12, running_seconds=[0.5] * 12),
    "clipped too little": observed(norms_before_steps=measured(11.0, 12.5)),
    "not clipped": observed(norms_before_steps=measured(5.1, None)),
    "settings changed": settings_in_force(2),
    "frozen parameters moved": metrics(config_in_force={"frozen": 9, "frozen_but_moved": FOUR}),
    "started elsewhere": observed(not_from_checkpoint=FOUR),
    "started elsewhere, for want of a file": observed(not_from_checkpoint=FOUR, start_missing="no a.pt"),
    "without a gradient": observed(without_gradient=FOUR[:3]),
    "not in the optimizer": observed(not_in_optimizer=FOUR[:1]),
    "gradients not cleared": observed(steps_begun_with_gradients=[1, 2, 3]),
    "loss misstated": observed(loss_difference=0.125),
    "accuracy misstated": metrics(accuracy_recomputed=[0.25, 0.5, *seed_training()["stats"]["acc"][2:]]),
    "rows repeated": metrics(targets={**seed_training()["targets"], "steps": [[[0, 1, 0, 1]]] * 12}),
    "rows listed unequally": observed(listed=[3, 2, 2, 1]),
    "rows of the third epoch": metrics(
        targets={**seed_training()["targets"], "steps": [[[0, 1, 2, 3]]] * 4 + [[[0, 1, 0, 1]]] * 2 + [[[0]]] * 6}
    ),
    "half the log": observed(log_lines=6),
    "the log of accumulated batches": metrics(
        observed=invariants(log_lines=13, forwards=24), config_in_force={"accum_grad": 2}
    ),
    "another loss in the log": observed(log_differences={"loss_att": 0.5}),
    "no number in the log": observed(log_differences={"acc": "inf"}),
    "accumulation breaks off": accumulated(failure="AttributeError@funasr/train_utils/trainer.py:_train_epoch"),
    "accumulated twice": accumulated(relative_difference=0.5, norm_accumulated=3.0, norm_of_mean=1.5),
    "accumulated, as earlier records have it": accumulated(relative_difference=0.5, norm_accumulated=53.0),
    "accumulated without norms": accumulated(relative_difference=None, norm_accumulated=None, norm_at_once=None),
    "two trainings of two processes": metrics(ranks={"same rows": BROKEN_OFF, OTHER_ROWS: APART}),
    "unknown weights": metrics(ranks={"same rows": {"from_single": None, "gradients_from_single": 0.5}}),
    "a rank's loss": losses_of([9.0, 8.0 * (1 + 1.1e-5), 7.5]),
    "a rank with a loss too few": losses_of([9.0, 8.0]),
    "a rank without losses": losses_of(["nan", 8.0, 7.0]),
    "a single process without losses": losses_of(SINGLE, single=[]),
}


def test_the_wording_of_every_invariant() -> None:
    text = "".join(
        f"{scene}\n" + "".join(f"  {name}: {reason}\n" for name, found in verdict.items() for reason in found)
        for scene, verdict in ((scene, judge_invariants(given).reasons) for scene, given in REPORTED.items())
    )
    assert_golden("invariants.txt", text)
