"""Memory that grows from step to step: by as little as counts, by less, once, and in the harness's own doing."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.core.evidence.parsing import parse
from harness.core.evidence.training import InvariantObservations, TrainingMetrics
from harness.core.numbers import complete_values, numbers
from harness.rules.memory_growth import (
    GPU_GROWTH_BYTES,
    GROWTH_BYTES,
    LEAST_GROWTH_BYTES,
    LEAST_STEPS,
    _batches,
    _met_again,
    _p,
    _size,
    _slope,
    growth,
    growth_allowed,
    growth_reasons,
)
from harness.run.store import load_run

MIB = 1024**2
ROOT = Path(__file__).parent.parent
BATCHES = [[[row, row + 1]] for row in range(5)]
"""What each step of an epoch is fed."""
HELD = [4000 * MIB + size * MIB for size in (3, 17, 1, 9, 5)]
"""What tensors hold after each of them: the batch itself is still there, and batches differ."""


def on_gpu(series: list[Any], **changed: Any) -> dict[str, Any]:
    steps = [BATCHES[step % 5] for step in range(len(series))]
    return {"held_bytes": series, "peak_allocated_bytes": 1, "targets": {"steps": steps}, **changed}


def held(per_step: float, steps: int = 25) -> list[float]:
    return [HELD[step % 5] + per_step * step for step in range(steps)]


def record(values: dict[str, Any], trainable: Any = None) -> TrainingMetrics:
    """Metrics of which the series may have fractions of a byte."""
    series = {name: tuple(values[name]) for name in ("held_bytes", "peak_allocated_by_step") if name in values}
    known = parse(
        TrainingMetrics, {name: value for name, value in values.items() if name not in series}, place="metrics"
    )
    return replace(known, invariants=InvariantObservations(trainable_bytes=trainable), **series)


def reasons(metrics: dict[str, Any], trainable: float | None = None) -> str:
    found = growth_reasons(record(metrics, trainable))
    assert found is not None
    return " ".join(found)


def test_a_leak_of_a_mebibyte_a_step_on_a_gpu_is_found_among_batches_that_differ_by_more() -> None:
    assert reasons(on_gpu(held(MIB))) == (
        "Memory grew by 1.0 MiB a step, steps with the same batch compared, and never stopped."
    )
    # Not to be seen where batches are not told apart: they differ by sixteen times as much.
    assert not growth(held(MIB)).p <= 1e-3


@pytest.mark.parametrize(("size", "found"), [(0, False), (GPU_GROWTH_BYTES, False), (GPU_GROWTH_BYTES * 1.01, True)])
def test_on_a_gpu_memory_may_grow_by_as_much_as_the_harness_keeps_and_no_more(size: float, found: bool) -> None:
    assert bool(reasons(on_gpu(held(size)))) is found


def test_a_gpu_that_is_full_at_each_steps_peak_is_reported_apart() -> None:
    steady, growing = held(0), held(2 * MIB)
    said = reasons(on_gpu(steady, peak_allocated_by_step=growing))
    assert said.startswith("The peak of the GPU's allocated memory grew by 2.0 MiB a step")
    assert reasons(on_gpu(steady, peak_allocated_by_step=steady)) == ""


@pytest.mark.parametrize("at", range(1, 25))
def test_a_jump_is_no_growth_wherever_it_lies(at: int) -> None:
    jump = [one + (step >= at) * 500 * MIB for step, one in enumerate(held(0))]
    assert reasons(on_gpu(jump)) == ""
    assert reasons({"held_bytes": [700 * MIB + (step >= at) * 900 * MIB for step in range(25)]}) == ""


@pytest.mark.parametrize("steps", [40, 100])
def test_a_jump_in_a_longer_training_is_none_either(steps: int) -> None:
    for at in range(1, steps):
        jump = [700 * MIB + (step >= at) * 2000 * MIB for step in range(steps)]
        assert reasons({"held_bytes": jump}) == ""


def test_what_settles_once_all_batches_were_met_has_not_grown() -> None:
    settling = [one + min(step, 5) * 300 * MIB for step, one in enumerate(held(0))]
    assert reasons(on_gpu(settling)) == ""


def test_batches_that_come_again_within_an_epoch_are_compared_within_it_too() -> None:
    # As matrices/gpu.toml has them: three epochs of ten batches, of which five differ.
    assert "with the same batch" in reasons(on_gpu(held(MIB, steps=30), steps_of_epochs=[10] * 3))
    assert reasons(on_gpu(held(0, steps=30), steps_of_epochs=[10] * 3)) == ""


def test_where_batches_do_not_come_again_the_second_half_is_asked() -> None:
    alone = {**on_gpu(held(0)), "targets": {"steps": [[[row]] for row in range(25)]}}
    assert reasons(alone) == ""
    steady = [4000 * MIB + MIB * step for step in range(25)]
    assert "over the second half of the training" in reasons({**alone, "held_bytes": steady})


def test_batches_are_known_by_their_place_where_their_rows_are_not() -> None:
    unnamed = {**on_gpu(held(MIB)), "targets": None, "steps_of_epochs": [5] * 5}
    assert "with the same batch" in reasons(unnamed)
    uneven = {**unnamed, "steps_of_epochs": [5, 5, 5, 5, 4, 1]}
    assert reasons(uneven) == ""


def test_without_a_gpu_a_leak_as_large_as_stated_is_found_in_resident_memory() -> None:
    # As an allocator takes it: nothing for a while, then a piece of 64 MiB.
    def pieces(per_step: float) -> list[float]:
        return [700 * MIB + 64 * MIB * math.floor(per_step * step / (64 * MIB)) for step in range(60)]

    assert "Memory grew by" in reasons({"held_bytes": pieces(2 * GROWTH_BYTES)})
    assert reasons({"held_bytes": pieces(GROWTH_BYTES / 2)}) == ""


@pytest.mark.parametrize(
    "broken", [[], [1.0] * (LEAST_STEPS - 1), [None] * 25, [math.nan] * 25, [1.0] * 24 + [math.nan]]
)
def test_what_is_not_known_or_too_short_is_not_asked(broken: Any) -> None:
    assert growth_reasons(record({"held_bytes": broken})) is None
    assert growth_reasons(record(on_gpu(held(0), held_bytes=broken))) is None


def test_targets_of_other_steps_are_not_taken_for_these() -> None:
    assert reasons({**on_gpu(held(0)), "targets": {"steps": [BATCHES[0]] * 3}}) == ""


def test_memory_that_never_moves_has_no_p_and_has_not_grown() -> None:
    assert math.isnan(growth([5.0] * 24, [0] * 24).p)
    assert reasons(on_gpu([5.0] * 25)) == ""


def test_memory_in_no_order_is_accused_as_rarely_as_stated() -> None:
    import numpy

    random = numpy.random.default_rng(0)
    low = sum(
        growth(series, [step % 5 for step in range(25)]).p <= 0.05 for series in random.normal(0, 1, (300, 25)).tolist()
    )
    # 15 expected of 300; the binomial's 99.9 %.
    assert low <= 28


@pytest.mark.parametrize("name", ["later_checks", "training", "ranks", "architectures"])
def test_no_committed_training_is_accused(name: str) -> None:
    """Their processes' memory rises, by fragments: the test alone would accuse half, the least size none."""
    for outcome in load_run(ROOT / "reports" / name).outcomes:
        seen = outcome.training or TrainingMetrics()
        series = complete_values(numbers(seen.held_bytes))
        if series is None or len(series) < LEAST_STEPS:
            continue
        trainable = seen.invariants.trainable_bytes
        assert growth_reasons(seen) == (), outcome.cell.id
        # With a margin of two: what was seen of sound ones is not what just passes.
        assert growth(series).slope < growth_allowed(trainable) / 2, outcome.cell.id
        leaking = tuple(round(size + 2 * growth_allowed(trainable) * step) for step, size in enumerate(series))
        assert growth_reasons(replace(seen, held_bytes=leaking)) != (), outcome.cell.id


def test_the_bound_of_a_small_model_is_a_share_of_it() -> None:
    assert growth_allowed(None) == GROWTH_BYTES
    assert growth_allowed(0) == LEAST_GROWTH_BYTES
    assert growth_allowed(4 * MIB) == 2 * MIB


# The test for a trend by seasons, after Hirsch, Slack and Smith 1982; its figures here by hand.


@pytest.mark.parametrize(
    ("series", "seasons", "z"),
    [
        # S = 45, variance 10 * 9 * 25 / 18 = 125.
        (list(range(10)), [0] * 10, 44 / 125**0.5),
        (list(range(10, 0, -1)), [0] * 10, -44 / 125**0.5),
        # S = 12; three ties of two take 3 * 2 * 1 * 9 from 6 * 5 * 17.
        ([1, 1, 2, 2, 3, 3], [0] * 6, 11 / ((510 - 54) / 18) ** 0.5),
        # Two batches that take turns, each with S = 10 of five steps: variance 2 * 5 * 4 * 15 / 18.
        ([1, 100, 2, 101, 3, 102, 4, 103, 5, 104], [0, 1] * 5, 19 / (600 / 18) ** 0.5),
        # They cancel: S = 0.
        ([1, 104, 2, 103, 3, 102, 4, 101, 5, 100], [0, 1] * 5, 0.0),
        # S = 1 and S = -1 come to 0 by the correction.
        ([1, 2], [0, 0], 0.0),
        ([2, 1], [0, 0], 0.0),
    ],
)
def test_a_rise_is_as_unlikely_as_its_definition_says(series: list[float], seasons: list[int], z: float) -> None:
    assert _p(series, seasons) == pytest.approx(0.5 * math.erfc(z / 2**0.5))


def test_without_seasons_the_exact_test_is_one_sided() -> None:
    assert _p([1.0, 2.0, 3.0, 4.0], None) == pytest.approx(1 / 24)
    assert _p([4.0, 3.0, 2.0, 1.0], None) == pytest.approx(1.0)
    assert math.isnan(_p([1.0] * 6, [0] * 6))


def test_a_slope_is_the_median_of_those_between_steps_of_one_batch() -> None:
    series = [0.0, 100.0, 2.0, 104.0, 4.0, 108.0]
    assert _slope(series, [0, 1] * 3) == pytest.approx((1.0 + 2.0) / 2)
    assert _slope([0.0, 1.0, 10.0], None) == 5.0, "of 1, 9 and 5"
    assert _slope([5.0], None) == 0.0


@pytest.mark.parametrize(
    ("batches", "first"),
    [
        ([0, 1, 0, 1, 0, 1, 0, 1], 2),
        ([0, 1, 0, 1, 0, 1], None),
        ([0, 1, 2, 0, 1, 0, 1, 0, 1], None),
        ([0, 1, 2], None),
        ([], None),
    ],
    ids=["each comes three times more", "twice more", "one does not come again", "none does", "no steps"],
)
def test_batches_are_compared_from_where_they_come_again(batches: list[object], first: int | None) -> None:
    assert _met_again(batches) == first


def test_batches_that_are_not_known_are_reported_by_their_place_in_the_epoch() -> None:
    assert _batches(TrainingMetrics(steps_of_epochs=(3, 3))) == [0, 1, 2, 0, 1, 2]
    assert _batches(TrainingMetrics(steps_of_epochs=(3, 2))) is None
    assert _batches(TrainingMetrics(steps_of_epochs=(0, 0))) == []


@pytest.mark.parametrize(("size", "said"), [(300 * 1024, "300 KiB"), (MIB, "1.0 MiB"), (2.55 * MIB, "2.5 MiB")])
def test_a_size_is_reported_in_a_unit_that_suits_it(size: float, said: str) -> None:
    assert _size(size) == said


def test_on_a_cpu_steps_are_compared_whatever_their_batch() -> None:
    series = [900 * MIB + 9 * MIB * step for step in range(25)]
    metrics = {"held_bytes": series, "targets": {"steps": [BATCHES[step % 5] for step in range(25)]}}
    assert reasons(metrics) == "Memory grew by 9.0 MiB a step over the second half of the training, and never stopped."
