"""Releases against each other, seeds paired: what scatter allows, and what it does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from parsed import training_figure
from training_scene import seed_training

from harness.core.cells import Cell, Outcome, Status
from harness.rules.convergence import CONVERGENCE, apply_convergence, convergence

NOISE = (0.00, 0.01, -0.01)
"""How far each seed's curve lies from the mean."""


def figures(level: float, noise: Sequence[float] = NOISE) -> list[dict[str, Any]]:
    """Trainings whose mean loss is `level` times the constant prediction's, up to each seed's own."""
    return [seed_training(seed, epochs=[level + apart] * 6) for seed, apart in enumerate(noise)]


def outcome(
    release: str,
    trainings: Sequence[dict[str, Any]],
    *,
    entry: str = "train",
    variant: str = "paraformer",
    status: Status = Status.PASSED,
) -> Outcome:
    cell = Cell.parse(f"{release}/{variant}/v8404-h320/reduced/finetune@{entry}/cpu-fp32")
    return Outcome(cell=cell, status=status, reason="", metrics={"trainings": list(trainings)})


def test_a_training_is_measured_in_units_of_the_constant_prediction() -> None:
    assert training_figure(seed_training(epochs=[0.4] * 6)) == pytest.approx(0.4)
    for broken in ({"criterion": None}, {"targets": {}}, {"stats": {"loss_att": ["nan"] * 12}}, {"stats": {}}):
        assert training_figure(seed_training(**broken)) is None
    assert training_figure({}) is None


def test_equal_curves_are_no_difference_whatever_the_spread() -> None:
    found = convergence(
        [outcome("1.4.0", figures(0.5, (0.0, 0.0, 0.0))), outcome("1.4.1", figures(0.5, (0.0, 0.0, 0.0)))]
    )
    (one,) = found.values()
    assert (one.same, one.within_noise, one.difference, one.bound) == (True, True, 0.0, None)
    assert one.reference == "1.4.0/paraformer/v8404-h320/reduced/finetune@train/cpu-fp32"


def test_a_difference_within_the_scatter_of_the_seeds_is_kept_and_one_beyond_is_not() -> None:
    # Each release's seeds scatter by 0.01 and there are two: 4 degrees of freedom, t(0.995) = 4.604, so the bound is
    # 4.604 * 0.01 * sqrt(2 / 3) = 0.0376.
    for apart, kept in ((0.037, True), (0.038, False), (-0.037, True), (-0.038, False)):
        (one,) = convergence([outcome("1.4.0", figures(0.5)), outcome("1.4.1", figures(0.5 + apart))]).values()
        assert one.bound == pytest.approx(0.0376, abs=1e-4)
        assert (one.degrees_of_freedom, one.seeds) == (4, 3)
        assert one.difference == pytest.approx(apart)
        assert one.within_noise is kept


def test_a_release_beyond_the_bound_fails_with_a_sentence() -> None:
    before, after = apply_convergence([outcome("1.4.0", figures(0.5)), outcome("1.4.1", figures(0.8))])
    assert (before.status, CONVERGENCE in before.evidence) == (Status.PASSED, False)
    assert after.status is Status.FAILED
    assert after.failure is not None
    assert (after.failure.type, after.failure.signature) == ("NotTrained", "NotTrained@convergence")
    assert after.failure.message == after.reason
    assert after.evidence[CONVERGENCE]["spread"] == pytest.approx(0.01)
    _, faster = apply_convergence([outcome("1.4.0", figures(0.8)), outcome("1.4.1", figures(0.5))])
    assert (after.reason, faster.reason) == tuple(
        f"It learns {speed} than 1.4.0: over 3 seeds its loss differs by {difference} of the constant prediction's, "
        "where their scatter allows 0.038."
        for speed, difference in (("slower", "+0.300"), ("faster", "-0.300"))
    )


def test_what_is_within_the_bound_passes_with_its_figures() -> None:
    _, after = apply_convergence([outcome("1.4.0", figures(0.5)), outcome("1.4.1", figures(0.51))])
    assert (after.status, after.failure) == (Status.PASSED, None)
    assert after.evidence[CONVERGENCE]["difference"] == pytest.approx(0.01)


def test_a_single_seed_is_never_accused() -> None:
    assert convergence([outcome("1.4.0", figures(0.5)[:1]), outcome("1.4.1", figures(0.9)[:1])]) == {}


def test_two_seeds_are_enough_and_cheap_constant_predictions_are_ones_too() -> None:
    (one,) = convergence([outcome("1.4.0", figures(0.5)[:2]), outcome("1.4.1", figures(0.9)[:2])]).values()
    assert (one.seeds, one.degrees_of_freedom, one.within_noise) == (2, 2, False)
    targets = {"rows": [[7, 7, 7, 7, 7, 7, 7, 8]], "steps": [[[0]]] * 12}
    cheap = seed_training(targets=targets, criterion={"classes": 8404, "smoothing": 0.0, "normalize_length": True})
    assert training_figure(cheap) is not None


def test_seeds_are_paired_by_number() -> None:
    shifted = [{**training, "seed": training["seed"] + 2} for training in figures(0.5)]
    (one,) = convergence([outcome("1.4.0", figures(0.5)), outcome("1.4.1", shifted)]).values()
    assert (one.seeds, one.bound, one.within_noise) == (1, None, True)


def test_the_reference_is_the_newest_older_release_that_passed_by_the_same_way() -> None:
    outcomes = [
        outcome("1.4.10", figures(0.5)),
        outcome("1.4.2", figures(0.5)),
        outcome("1.4.9", figures(0.9), status=Status.FAILED),
        outcome("1.4.8", figures(0.9), entry="train_ds"),
        outcome("1.4.7", figures(0.9), variant="paraformer_streaming"),
        outcome("1.4.3", figures(0.5)),
    ]
    found = convergence(outcomes)
    assert {name.partition("/")[0]: one.reference.partition("/")[0] for name, one in found.items()} == {
        "1.4.3": "1.4.2",
        "1.4.10": "1.4.3",
    }


def test_releases_with_equal_curves_count_once_in_the_spread() -> None:
    alone = convergence([outcome("1.4.0", figures(0.5)), outcome("1.4.9", figures(0.6))])
    many = convergence(
        [outcome(f"1.4.{number}", figures(0.5)) for number in range(5)] + [outcome("1.4.9", figures(0.6))]
    )
    one, other = (found["1.4.9/paraformer/v8404-h320/reduced/finetune@train/cpu-fp32"] for found in (alone, many))
    assert (one.bound, one.degrees_of_freedom) == (other.bound, other.degrees_of_freedom)


def test_each_distinct_pair_of_curves_counts_as_a_comparison() -> None:
    """Of three releases two pairs differ: t(1 - 0.01 / 4, 6) = 4.317. A pair that is equal costs nothing."""
    different = [outcome(f"1.4.{number}", figures(0.5 + number / 100)) for number in range(3)]
    for outcomes in (different, [*different, outcome("1.4.3", figures(0.52))]):
        found = convergence(outcomes)
        first = found["1.4.1/paraformer/v8404-h320/reduced/finetune@train/cpu-fp32"]
        assert first.bound == pytest.approx(4.317 * 0.01 * (2 / 3) ** 0.5, rel=1e-3)
        assert (first.degrees_of_freedom, first.spread) == (6, pytest.approx(0.01))


def test_releases_that_train_on_other_rows_of_a_users_file_are_not_compared() -> None:
    def with_rows(release: str, expected: int | None, level: float = 0.5) -> Outcome:
        given = outcome(release, figures(level))
        rows = {} if expected is None else {"user_rows": {"expected": expected}}
        return replace(given, metrics={**given.metrics, **rows})

    assert convergence([with_rows("1.4.0", 44), with_rows("1.4.1", 43, 0.9)]) == {}
    assert convergence([with_rows("1.4.0", 44), with_rows("1.4.1", None, 0.9)]) == {}
    (one,) = convergence([with_rows("1.4.0", 44), with_rows("1.4.1", 44, 0.9)]).values()
    assert not one.within_noise


def test_of_nothing_nothing_is_compared() -> None:
    assert convergence([]) == {}
    assert apply_convergence([]) == ()
    assert convergence([outcome("1.4.0", []), outcome("1.4.1", [{"seed": 0}, {"seed": 1}])]) == {}


def test_a_local_release_is_held_against_the_published_one_below_it() -> None:
    (one,) = convergence([outcome("1.4.16+local.1a2b3c4d", figures(0.5)), outcome("1.4.16", figures(0.5))]).values()
    assert one.reference.startswith("1.4.16/")


def test_sound_releases_are_accused_as_rarely_as_stated() -> None:
    """Runs of four releases that only draw other numbers: 200 of them, at one accusation in 100 runs or fewer."""
    import numpy

    random = numpy.random.default_rng(0)
    accused = 0
    for _ in range(200):
        outcomes = [outcome(f"1.4.{number}", figures(0.5, random.normal(0.0, 0.01, 3).tolist())) for number in range(4)]
        accused += not all(one.within_noise for one in convergence(outcomes).values())
    # The binomial's 99.9 % at the stated rate: 2 expected of 200.
    assert accused <= 8, f"{accused} of 200"
