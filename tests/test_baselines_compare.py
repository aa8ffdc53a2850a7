"""A run against the baseline of its machine: both sides of every bound, and all that leaves it without a baseline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from baseline_scene import CPU_CELL, GPU, GPU_CELL, LOSSES, MIB, accepted, cell, gpu_run, run
from report_factory import run_of

from harness.core.cells import Outcome, Status
from harness.performance.baselines import Baseline
from harness.performance.baselines.accept import offer
from harness.performance.baselines.compare import compare
from harness.performance.baselines.comparison import CellComparison, MetricComparison, MetricStatus, RunComparison
from harness.performance.baselines.metrics import KINDS, LOSS_FLOOR, measured
from harness.performance.baselines.noise import (
    ALPHA,
    LEAST_REPEATS,
    WIDEST,
    Noise,
    allowed,
    as_share,
    centre_of,
    noise_of,
)
from harness.rules.known_issues import KnownIssues
from harness.rules.verdicts import exit_code, judge
from harness.run.store import LoadedRun

BASELINE = accepted(run(0), run(1), run(2))
GPU_BASELINE = accepted(gpu_run(0), gpu_run(1), gpu_run(2))


def held(now: LoadedRun, *baselines: Baseline) -> RunComparison:
    return compare(now.outcomes, now.provenance, baselines or (BASELINE, GPU_BASELINE))


def only(comparison: RunComparison) -> CellComparison:
    (one,) = comparison.cells
    return one


def figure(comparison: RunComparison, name: str) -> MetricComparison:
    return next(one for one in only(comparison).figures if one.figure == name)


# Within and beyond.


def test_a_run_like_the_accepted_ones_is_within() -> None:
    comparison = held(run(9))
    assert only(comparison).standing is MetricStatus.WITHIN
    assert [one.figure for one in only(comparison).figures] == ["step_seconds", "peak_resident_bytes", "losses"]
    assert not comparison.changed()
    assert comparison.baselines == (BASELINE,)


@pytest.mark.parametrize(
    ("direction", "words"), [(+1, "slower"), (-1, "faster")], ids=["slower", "faster: an improvement counts too"]
)
def test_a_step_time_just_within_the_noise_is_no_change_and_one_just_beyond_is(direction: int, words: str) -> None:
    # Three repeats of one cell, 1 % apart: t(1 - 0.01 / 4, 2) = 14.09 for its two comparisons, times 1 %, times
    # sqrt(4 / 3): 16.3 % of the logarithm.
    bound = 14.089 * 0.01 * math.sqrt(4 / 3)
    for share, standing, said in ((0.99, MetricStatus.WITHIN, ""), (1.01, MetricStatus.CHANGED, words)):
        seconds = centre_of([0.495, 0.5, 0.505]) * math.exp(direction * bound * share)
        comparison = held(run(9, cell(seconds=seconds)))
        one = figure(comparison, "step_seconds")
        assert (one.standing, one.words) == (standing, said)
        assert one.bound == pytest.approx(math.expm1(bound), rel=1e-3)
        assert comparison.changed() is bool(said)


@pytest.mark.parametrize(("size", "standing"), [(9 * MIB, "changed"), (7 * MIB, "within")])
@pytest.mark.parametrize("sign", [1, -1])
def test_memory_that_repeats_exactly_may_differ_by_its_floor_alone(size: int, standing: str, sign: int) -> None:
    # Of 900 MiB, 1 % is 9 MiB as well as the least of 8; a little more counts.
    now = cell(peak_resident_bytes=900 * MIB + sign * (size + 200_000))
    one = figure(held(run(9, now)), "peak_resident_bytes")
    assert one.standing == standing
    assert one.words == ("" if standing == "within" else "more memory" if sign > 0 else "less memory")


@pytest.mark.parametrize(
    ("more", "standing"), [(10 * MIB - 1, "within"), (11 * MIB, "changed"), (-11 * MIB, "changed")]
)
def test_a_gpus_allocated_memory_may_differ_by_a_thousandth(more: int, standing: str) -> None:
    now = gpu_run(9, cell(GPU_CELL, allocated=10_000 * MIB + more, peak_reserved_bytes=None))
    assert figure(held(now), "peak_allocated_bytes").standing == standing
    # The floor of reserved memory is a piece of 20 MiB.
    assert figure(held(gpu_run(9, cell(GPU_CELL, allocated=10_019 * MIB))), "peak_reserved_bytes").standing == "within"


def changed_losses(step: int, share: float) -> list[float]:
    return [loss * (1 + share) if at == step else loss for at, loss in enumerate(LOSSES)]


@pytest.mark.parametrize(("share", "standing"), [(LOSS_FLOOR * 0.9, "within"), (LOSS_FLOOR * 1.1, "changed")])
@pytest.mark.parametrize("sign", [1, -1])
def test_losses_that_repeat_to_the_last_digit_are_held_step_by_step(share: float, standing: str, sign: int) -> None:
    one = figure(held(run(9, cell(losses=changed_losses(7, sign * share)))), "losses")
    assert one.standing == standing
    assert one.words == ("other losses from step 8 on" if standing == "changed" else "")
    assert one.difference == pytest.approx(sign * share, rel=1e-3)


def test_another_number_of_steps_is_other_losses() -> None:
    for steps in (24, 26):
        one = figure(held(run(9, cell(losses=[5.0] * steps))), "losses")
        assert (one.standing, one.words) == (
            MetricStatus.CHANGED,
            f"other losses: {steps} steps where the baseline has 25",
        )


def noisy(number: int, shift: float = 0.0) -> Outcome:
    """As a GPU gives them: every step a little different each time."""
    apart = (number % 3 - 1) * 0.002 + shift
    return cell(GPU_CELL, losses=[loss * (1 + apart * (step + 1) / 25) for step, loss in enumerate(LOSSES)])


def test_losses_that_do_not_repeat_are_held_against_their_noise() -> None:
    baseline = accepted(*(gpu_run(number, noisy(number)) for number in range(3)))
    assert baseline.acceptances[0].equal_curves == 0
    same = held(gpu_run(9, noisy(9, shift=0.001)), baseline)
    assert {one.figure: one.standing for one in only(same).figures if "loss" in one.figure} == {
        "first_loss": MetricStatus.WITHIN,
        "mean_loss": MetricStatus.WITHIN,
    }
    other = held(gpu_run(9, noisy(9, shift=0.1)), baseline)
    assert figure(other, "mean_loss").words == "other losses"
    shorter = held(gpu_run(9, cell(GPU_CELL, losses=LOSSES[:-1])), baseline)
    assert figure(shorter, "losses").words == "other losses: 24 steps where the baseline has 25"


# Uncalibrated, and without a figure.


@pytest.mark.parametrize(
    "fields",
    [
        {"driver": "555.10"},
        {"torch": "2.10.0+cu128"},
        {"gpus": ("Another GPU",)},
    ],
    ids=["another major version of the driver", "another torch", "another GPU"],
)
def test_on_another_machine_a_gpu_has_no_baseline(fields: dict[str, Any]) -> None:
    comparison = held(gpu_run(9, **fields))
    (one,) = only(comparison).figures
    assert (only(comparison).standing, one.figure) == (MetricStatus.NO_BASELINE, "")
    assert one.words.startswith("no baseline for ")
    assert not comparison.changed()
    assert comparison.baselines == ()


def test_another_minor_version_of_the_driver_and_a_second_gpu_of_the_kind_are_the_same_machine() -> None:
    assert only(held(gpu_run(9, driver="550.90.07"))).standing is MetricStatus.WITHIN
    assert only(held(gpu_run(9, gpus=(*GPU["gpus"], *GPU["gpus"])))).standing is MetricStatus.WITHIN


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"gpus": ("A", "B")}, "GPUs of several kinds (A, B)"),
        ({"gpus": ()}, "does not say which GPU or driver"),
        ({"driver": None}, "does not say which GPU or driver"),
        ({"matrix_sha256": "ef" * 32}, "of another matrix (small, sha256 abababababab…)"),
        ({"corpus_sha256": "ef" * 32}, "of another corpus"),
    ],
)
def test_what_cannot_be_compared_has_no_baseline_and_says_why(fields: dict[str, Any], said: str) -> None:
    one = only(held(gpu_run(9, **fields)))
    assert one.standing is MetricStatus.NO_BASELINE
    assert said in one.figures[0].words


def test_a_partition_of_a_gpu_is_not_taken_for_the_whole() -> None:
    now = gpu_run(9, cell(GPU_CELL, device={"kind": "MIG"}))
    assert "MIG" in only(held(now)).figures[0].words


def test_a_processor_with_other_cores_is_another() -> None:
    assert only(held(run(9, cpu_count=4))).standing is MetricStatus.NO_BASELINE
    assert only(held(run(9, processor="Another CPU"))).standing is MetricStatus.NO_BASELINE


def test_a_cell_that_the_baseline_lacks_has_no_baseline_among_others_that_are_not() -> None:
    new = CPU_CELL.replace("1.4.16", "1.4.17")
    comparison = held(run(9, cell(), cell(new)))
    assert [one.standing for one in comparison.cells] == [MetricStatus.WITHIN, MetricStatus.NO_BASELINE]
    assert comparison.cells[1].figures[0].words == "the baseline does not have this cell"
    assert comparison.counts == {MetricStatus.WITHIN: 1, MetricStatus.NO_BASELINE: 1}


@pytest.mark.parametrize("repeats", [1, 2])
def test_too_few_repeats_give_times_and_memory_no_tolerance(repeats: int) -> None:
    assert repeats < LEAST_REPEATS
    baseline = accepted(*map(run, range(repeats)))
    comparison = held(run(9, cell(seconds=50.0)), baseline)
    one = figure(comparison, "step_seconds")
    assert one.standing is MetricStatus.NO_BASELINE
    assert f"measured {repeats} of 3 times" in one.words
    assert not comparison.changed()
    assert comparison.baselines == (baseline,)
    # Losses that came twice to the last digit are held to that.
    other = held(run(9, cell(losses=changed_losses(0, 0.1))), baseline)
    assert other.changed() is (repeats == 2)


def test_a_cell_that_failed_has_no_figure_and_is_left_to_its_verdict() -> None:
    one = only(held(run(9, cell(status=Status.FAILED))))
    assert (one.standing, one.figures[0].words) == (MetricStatus.NO_FIGURE, "it failed")
    new = CPU_CELL.replace("1.4.16", "1.4.17")
    assert held(run(9, cell(new, Status.FAILED))).cells == ()


@pytest.mark.parametrize("losses", [["nan"] * 25, [*LOSSES[:-1], None], []])
def test_losses_that_are_no_numbers_are_no_figure(losses: Sequence[Any]) -> None:
    comparison = held(run(9, cell(losses=losses, step_seconds=[0.5] * 25)))
    assert figure(comparison, "losses").standing is MetricStatus.NO_FIGURE
    assert only(comparison).standing is MetricStatus.WITHIN


def test_a_figure_that_a_run_does_not_have_says_nothing_of_the_others() -> None:
    comparison = held(run(9, cell(step_seconds=["nan"] * 25, peak_resident_bytes=None)))
    assert figure(comparison, "step_seconds").words == "no figure in this run"
    assert only(comparison).standing is MetricStatus.WITHIN
    nothing = held(run(9, cell(losses=[], step_seconds=[], peak_resident_bytes=None)))
    assert only(nothing).standing is MetricStatus.NO_FIGURE


def test_where_another_process_computed_on_the_gpu_the_step_time_is_no_figure() -> None:
    shared = cell(GPU_CELL, seconds=5.0, device={"clean_at_start": False})
    comparison = held(gpu_run(9, shared))
    assert figure(comparison, "step_seconds").standing is MetricStatus.NO_FIGURE
    assert not comparison.changed()


def test_of_nothing_nothing_is_compared() -> None:
    assert held(run_of(())) == RunComparison()
    assert not RunComparison().changed()
    other = cell().cell.id.replace("finetune@train_ds", "loss_contract")
    assert held(run(9, cell(other))).cells == ()


def test_only_the_cells_that_were_asked_for_decide() -> None:
    comparison = held(run(9, cell(seconds=50.0)))
    assert comparison.changed([CPU_CELL])
    assert not comparison.changed(["another"])
    assert not comparison.changed([])


def test_what_changed_ends_a_run_like_a_regression_and_what_has_no_baseline_does_not() -> None:
    judged = judge([cell()], KnownIssues())
    changed, no_baseline = held(run(9, cell(seconds=50.0))), held(run(9, cpu_count=64))
    assert exit_code(judged) == exit_code(judged, changed=no_baseline.changed()) == 0
    assert exit_code(judged, changed=changed.changed()) == 1
    assert exit_code((), changed=True) == 1


# Figures, and the noise.


def test_the_step_time_is_the_median_after_warm_up() -> None:
    assert measured({"step_seconds": [9.0, 9.0, 9.0, 9.0, 9.0, *[0.5] * 20]}).value("step_seconds") == 0.5
    assert measured({"step_seconds": [9.0] * 10 + [0.5] * 90}).value("step_seconds") == 0.5
    assert measured({"step_seconds": [9.0]}).value("step_seconds") == 9.0
    assert measured({"step_seconds": []}).value("step_seconds") is None
    assert measured({}) == measured({"step_seconds": None, "losses": "nan", "peak_used_bytes": 0})


def test_a_loss_that_is_not_above_0_has_no_logarithm_and_is_no_figure() -> None:
    assert measured({"losses": [0.0, -1e-7]}).value("first_loss") is None
    assert measured({"losses": [0.0, 4.0]}).value("mean_loss") == 2.0


def test_the_noise_is_pooled_over_cells_that_every_run_has() -> None:
    apart = math.exp(0.02)
    rows = [[1.0, apart], [7.0 * apart, 7.0]]
    # Of each cell's two values the standard deviation is 0.02 / sqrt(2).
    assert noise_of(rows, runs=2) is None
    three = noise_of([[1.0, apart, 1.0], [7.0, 7.0, 7.0 * apart], [3.0]], runs=3)
    assert three is not None
    assert three.spread == pytest.approx(0.02 / math.sqrt(3))
    assert noise_of([], runs=3) is None
    assert noise_of([[1.0]] * 5, runs=1) is None


def test_cells_that_err_together_are_not_as_many_witnesses() -> None:
    day = [1.0, 1.1, 0.9]
    together = noise_of([[size * one for one in day] for size in (1.0, 2.0, 3.0, 4.0)], runs=3)
    assert together is not None
    assert together.degrees_of_freedom == pytest.approx(2.0)
    turns = [[1.0, 1.1, 0.9], [0.9, 1.0, 1.1], [1.1, 0.9, 1.0], [1.0, 0.9, 1.1]]
    apart = noise_of(turns, runs=3)
    assert apart is not None
    assert 4.0 < apart.degrees_of_freedom <= 8.0
    assert noise_of([[2.0, 2.0, 2.0]] * 4, runs=3) == Noise(spread=0.0, degrees_of_freedom=8.0)


def test_a_cell_that_scatters_more_than_the_others_has_a_tolerance_of_its_own() -> None:
    noise = Noise(spread=0.01, degrees_of_freedom=20.0)
    quiet, loud = (allowed(noise, [1.0, math.exp(by), math.exp(-by)], comparisons=4) for by in (0.001, 0.1))
    assert loud == pytest.approx(10 * quiet)
    assert allowed(Noise(spread=0.0, degrees_of_freedom=2.0), [5.0] * 3, comparisons=4) == 0.0


def test_a_figure_that_could_double_unseen_is_not_calibrated() -> None:
    assert as_share(math.log(WIDEST) * 0.999) == pytest.approx(1.0, abs=2e-3)
    assert as_share(math.log(WIDEST) * 1.001) is None
    assert as_share(5000.0) is None
    baseline = accepted(*(run(number, cell(seconds=0.5 * 2**number)) for number in range(3)))
    comparison = held(run(9, cell(seconds=50.0)), baseline)
    one = figure(comparison, "step_seconds")
    assert (one.standing, one.bound) == (MetricStatus.NO_BASELINE, None)
    assert "could double unseen" in one.words
    assert only(comparison).standing is MetricStatus.NO_BASELINE
    assert not comparison.changed()


def simulated(cells: int, slower: float = 1.0, *, random: Any) -> RunComparison:
    """Three runs accepted and a fourth held against them; every step time and memory scatters by 2 %."""
    names = [CPU_CELL.replace("1.4.16", f"1.4.{number}") for number in range(cells)]

    def one(number: int, factor: float = 1.0) -> LoadedRun:
        drawn = random.lognormal(0.0, 0.02, (cells, 2)).tolist()
        outcomes = [
            cell(name, seconds=0.5 * time * (factor if name == names[0] else 1), peak_resident_bytes=int(1e9 * memory))
            for name, (time, memory) in zip(names, drawn, strict=True)
        ]
        return run(number, *outcomes)

    baseline = accepted(*map(one, range(3)))
    return held(one(9, slower), baseline)


def test_unchanged_runs_are_accused_as_rarely_as_stated_and_a_slower_one_is_found() -> None:
    import numpy

    random = numpy.random.default_rng(1)
    accused = sum(simulated(5, random=random).changed() for _ in range(120))
    # 1.2 expected of 120 at the stated rate; the binomial's 99.9 % is 6.
    assert ALPHA == 0.01
    assert accused <= 6
    found = [simulated(5, 1.3, random=random) for _ in range(20)]
    assert sum(one.cells[0].standing is MetricStatus.CHANGED for one in found) >= 19


def test_every_figure_has_words_for_both_directions_and_a_floor() -> None:
    for kind in KINDS.values():
        assert kind.words
        assert kind.up
        assert kind.down
        assert kind.relative_floor > 0


def test_a_baseline_that_was_accepted_twice_holds_the_new_figures() -> None:
    slower = [run(10 + number, cell(seconds=0.7)) for number in range(3)]
    (after,) = offer(slower, (BASELINE,), accepted="2026-01-03T00:00:00Z").baselines
    assert held(run(20, cell(seconds=0.7)), after).changed() is False
    assert held(run(20, cell(seconds=0.5)), after).changed() is True
    assert after == replace(after, key=BASELINE.key)


# What cannot be held is told with all that is known.


def test_what_is_not_compared_names_its_cell_and_key() -> None:
    known = only(held(run(9)))
    for outcome, reason in (
        (cell(status=Status.FAILED), "it failed"),
        (cell(CPU_CELL.replace("paraformer/", "paraformer_streaming/")), "the baseline does not have this cell"),
    ):
        one = only(held(run(9, outcome)))
        assert (one.cell, one.key) == (outcome.cell.id, known.key)
        assert [figure.words for figure in one.figures] == [reason]
    one = only(held(run(9, matrix_sha256="cd" * 32)))
    assert (one.cell, one.key) == (CPU_CELL, known.key)
    (corpus,) = only(held(run(9, corpus_sha256="ef" * 32))).figures
    assert corpus.words == "the baseline is of another corpus"
    nowhere = only(held(gpu_run(9, gpus=())))
    assert (nowhere.cell, nowhere.key) == (GPU_CELL, None)


def test_a_failed_cell_of_an_unknown_machine_is_none_of_the_baselines_business() -> None:
    assert held(gpu_run(9, cell(GPU_CELL, Status.FAILED), gpus=())).cells == ()


def test_a_figure_with_too_few_repeats_is_reported_beside_them() -> None:
    two = accepted(run(0), run(1))
    one = figure(held(run(9, cell(seconds=0.75)), two), "step_seconds")
    centre = centre_of([0.495, 0.5])
    assert one.standing is MetricStatus.NO_BASELINE
    assert one.words == f"its noise is not known: measured 2 of {LEAST_REPEATS} times that are needed"
    assert (one.baseline, one.now) == (centre, 0.75)
    assert one.difference == pytest.approx(0.75 / centre - 1)


def test_a_figure_that_only_one_side_has_is_reported_so() -> None:
    gone = figure(held(run(9, cell(peak_resident_bytes=None))), "peak_resident_bytes")
    assert (gone.standing, gone.words) == (MetricStatus.NO_FIGURE, "no figure in this run")
    assert gone.baseline == pytest.approx(900 * MIB)
    new = figure(held(run(9, cell(peak_used_bytes=5 * MIB))), "peak_used_bytes")
    assert (new.standing, new.words) == (MetricStatus.NO_BASELINE, "no figure in the baseline")
    assert (new.baseline, new.now, new.difference) == (None, 5 * MIB, None)


def test_losses_without_repeats_are_reported_with_the_last_one() -> None:
    one = figure(held(run(9), accepted(run(0))), "losses")
    assert one.standing is MetricStatus.NO_BASELINE
    assert one.words == f"its noise is not known: measured 1 of {LEAST_REPEATS} times that are needed"
    assert one.now == LOSSES[-1]
    none = figure(held(run(9, cell(losses=["nan"] * 25))), "losses")
    assert (none.standing, none.words) == (MetricStatus.NO_FIGURE, "no figure in this run")
