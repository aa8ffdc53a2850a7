"""Whether a model learned, with answers planted on both sides of each bound."""

from __future__ import annotations

import math
from typing import Any

import pytest
from parsed import judge_learning, judged
from training_scene import CRITERION, FALLING, RISING, constant_loss, heard, seed_training

from harness.core.evidence.verdicts import LearningVerdict
from harness.rules.learning import ACCURACY_ALPHA, CONDITIONS, GAIN, TREND_ALPHA, _trend


def unmet(verdict: LearningVerdict) -> tuple[str, ...]:
    return tuple(name for name in CONDITIONS if verdict.reasons[name])


def test_a_sound_training_is_taken_for_one_with_all_its_figures() -> None:
    verdict = judge_learning([seed_training()])
    assert unmet(verdict) == ()
    (figures,) = verdict.seeds
    assert figures.epochs == pytest.approx(FALLING)
    assert figures.constant_loss == pytest.approx(constant_loss())
    assert figures.gain == pytest.approx(0.8)
    assert (figures.first_accuracy, figures.last_accuracy) == pytest.approx((0.0, 0.8))
    assert figures.constant_accuracy == 4 / 15
    assert figures.accuracy_p < ACCURACY_ALPHA
    assert verdict.trend_test == "mann-kendall"
    assert verdict.trend_p is not None
    assert verdict.trend_p < 1e-4


def test_several_seeds_are_the_blocks_of_pages_test() -> None:
    verdict = judge_learning([seed_training(seed) for seed in range(3)])
    assert unmet(verdict) == ()
    assert verdict.trend_test == "page"
    assert verdict.trend_p == pytest.approx(1 / math.factorial(6) ** 3, rel=1e-3)


def test_the_gain_may_be_at_its_bound_and_no_lower() -> None:
    bound = 1.0 - GAIN
    at = (*FALLING[:2], 1.1, 1.0, 0.9, bound * (1 - 1e-9))
    below = (*FALLING[:2], 1.1, 1.0, 0.9, bound * (1 + 1e-9))
    assert unmet(judge_learning([seed_training(epochs=at)])) == ()
    assert unmet(judge_learning([seed_training(epochs=below)])) == ("unigram",)


def test_a_loss_that_falls_to_what_never_listening_reaches_is_no_learning() -> None:
    verdict = judge_learning([seed_training(epochs=(2.7, 2.0, 1.6, 1.3, 1.1, 1.0))])
    assert unmet(verdict) == ("unigram",)
    assert "a constant prediction that never listens" in verdict.reasons["unigram"][0]


def test_a_loss_that_falls_while_nothing_more_is_heard_is_no_learning() -> None:
    """Paraformer's sampler lets the loss fall by reading the right tokens; the first pass still hears none of them."""
    assert unmet(judge_learning([seed_training(accuracies=(0.0, 0.2, 0.27, 0.27, 0.27, 0.27))])) == ("accuracy",)


def test_of_a_users_rows_hearing_decides_and_not_what_is_known_by_heart() -> None:
    little = (0.0, 0.2, 0.27, 0.27, 0.27, 0.27)
    own = judge_learning([seed_training(accuracies=little, hearing=heard(of="training"))])
    assert unmet(own) == ()
    assert own.hearing[0].not_observed.startswith("accuracy: 27.0% of the tokens were right in the last epoch")
    deaf = heard((0, 1), of="training")
    assert unmet(judge_learning([seed_training(accuracies=little, hearing=deaf)])) == ("accuracy", "hearing")
    words = judge_learning([seed_training(accuracies=little, hearing=heard())])
    assert unmet(words) == ("accuracy",)


def test_accuracy_has_to_be_beyond_chance() -> None:
    # Of the last epoch's 30 tokens 17 are the fewest with P(at least so many | 4 of 15 each) <= 0.001.
    for right, expected in ((17, ()), (16, ("accuracy",))):
        verdict = judge_learning([seed_training(accuracies=(*RISING[:-1], right / 30))])
        assert unmet(verdict) == expected
        assert (verdict.seeds[0].accuracy_p <= ACCURACY_ALPHA) is (expected == ())


def test_accuracy_has_to_rise() -> None:
    assert unmet(judge_learning([seed_training(accuracies=(0.8,) * 6)])) == ("accuracy",)


def test_one_seed_that_does_not_learn_is_named() -> None:
    verdict = judge_learning([seed_training(0), seed_training(1, accuracies=(0.0,) * 6)])
    assert unmet(verdict) == ("accuracy",)
    assert verdict.reasons["accuracy"][0].startswith("Seed 1: 0.0% of the tokens")


def test_epochs_in_no_order_are_no_trend() -> None:
    shuffled = (0.5, 0.7, 0.4, 0.7, 0.6, 0.3)
    assert unmet(judge_learning([seed_training(epochs=shuffled)])) == ("trend",)
    verdict = judge_learning([seed_training(seed, epochs=shuffled[seed:] + shuffled[:seed]) for seed in range(3)])
    assert "trend" in unmet(verdict)
    assert verdict.trend_p is not None
    assert verdict.trend_p > TREND_ALPHA


@pytest.mark.parametrize(
    ("steps", "p", "expected"),
    [
        # Of n! orders of n steps one falls throughout, n - 1 do but for one pair of neighbours.
        ((9, 8, 7, 6, 5), 1 / 120, ()),
        ((9, 8, 7, 5, 6), 5 / 120, ("trend",)),
        ((9, 8, 7, 6, 5, 4), 1 / 720, ()),
        ((9, 8, 7, 6, 4, 5), 6 / 720, ()),
        ((9, 8, 6, 7, 4, 5), 20 / 720, ("trend",)),
    ],
)
def test_of_one_seed_the_steps_are_asked(steps: tuple[int, ...], p: float, expected: tuple[str, ...]) -> None:
    test, found = _trend([[3.0, 2.0, 1.0]], [[float(one) for one in steps]])
    assert (test, found) == ("mann-kendall", pytest.approx(p))
    assert (found is not None and found <= TREND_ALPHA) is (expected == ())


def test_of_several_seeds_the_epochs_are_asked() -> None:
    # Of the 3! ** 2 orders of three epochs in two seeds one falls in both; in three seeds 1 of 216.
    assert _trend([[3.0, 2.0, 1.0]] * 2, [[]] * 2) == ("page", pytest.approx(1 / 36))
    assert _trend([[3.0, 2.0, 1.0]] * 3, [[]] * 3) == ("page", pytest.approx(1 / 216))


def test_equal_epochs_are_no_trend() -> None:
    assert unmet(judge_learning([seed_training(epochs=(0.5,) * 6)])) == ("trend",)
    assert _trend([[1.0, 1.0, 1.0]], [[1.0] * 6]) == ("mann-kendall", 1.0)
    assert unmet(judge_learning([seed_training(seed, epochs=(0.5,) * 6) for seed in range(3)])) == ("trend",)


@pytest.mark.parametrize("epochs", [2, 1])
def test_too_few_epochs_have_no_trend(epochs: int) -> None:
    verdict = judge_learning([seed_training(epochs=(2.0, 0.2)[:epochs], accuracies=(0.0, 0.9)[:epochs])])
    assert "trend" in unmet(verdict)
    assert verdict.trend_test is None


def test_seeds_of_unlike_length_have_no_trend() -> None:
    verdict = judge_learning([seed_training(0), seed_training(1, epochs=FALLING[1:], accuracies=RISING[1:])])
    assert "Too few epochs for a trend test, or unequal numbers: 6, 5." in verdict.reasons["trend"]


def test_no_training_at_all_meets_nothing() -> None:
    assert unmet(judge_learning([])) == CONDITIONS


UNKNOWN = "it is not known what the label-smoothing loss was to be computed for."
MISSING = "the attention loss or the accuracy of a step is missing or not a finite number."
UNEQUAL = "its losses, accuracies and targets are not of the same steps."
STATS = seed_training()["stats"]
BAD: list[tuple[str, dict[str, Any], str]] = [
    ("no criterion", {"criterion": None}, UNKNOWN),
    ("no targets", {"targets": {"rows": [], "steps": []}}, UNKNOWN),
    ("no statistics", {"stats": {}}, MISSING),
    ("nan", {"stats": {**STATS, "loss_att": ["nan"] * 12}}, MISSING),
    ("one nan", {"stats": {**STATS, "acc": [*STATS["acc"][:-1], math.nan]}}, MISSING),
    ("a loss too few", {"stats": {**STATS, "loss_att": [1.0] * 11}}, UNEQUAL),
    ("epochs of other steps", {"steps_of_epochs": [2] * 5}, UNEQUAL),
    ("an empty epoch", {"steps_of_epochs": [12, 0]}, UNEQUAL),
    (
        "one token only",
        {"targets": {"rows": [[7, 7]], "steps": [[[0]]] * 12}},
        "the constant prediction has nothing to lose: every token is the same.",
    ),
]


@pytest.mark.parametrize(("changed", "said"), [pytest.param(value, said, id=name) for name, value, said in BAD])
def test_what_cannot_be_read_counts_against_the_training_and_is_reported(changed: dict[str, Any], said: str) -> None:
    verdict = judge_learning([seed_training(3, **changed)])
    # What was heard does not depend on losses and targets; of this training it was not recorded.
    assert verdict.reasons == {**dict.fromkeys(CONDITIONS, (f"Seed 3: {said}",)), "hearing": ()}
    assert (verdict.seeds, verdict.trend_test) == ((), None)


def test_where_one_seed_cannot_be_read_no_trend_is_asked_of_the_others() -> None:
    verdict = judge_learning([seed_training(0), seed_training(1, stats={})])
    assert (verdict.trend_test, verdict.trend_p) == (None, None)
    assert verdict.reasons["trend"] == (f"Seed 1: {MISSING}",)


def test_a_constant_prediction_that_costs_little_is_one_still() -> None:
    """Of two tokens in one proportion it costs less than 1, and a model can learn more than that."""
    targets = {"rows": [[7, 7, 7, 7, 7, 7, 7, 8]], "steps": [[[0]]] * 12}
    criterion = {**CRITERION, "smoothing": 0.0}
    verdict = judge_learning([seed_training(targets=targets, criterion=criterion)])
    (figures,) = verdict.seeds
    assert 0 < figures.constant_loss < 1


def test_each_reason_states_its_figures() -> None:
    high = judge_learning([seed_training(epochs=(2.7, 2.0, 1.6, 1.3, 1.1, 1.0))])
    bound = constant_loss()
    assert high.seeds[0].first_loss == pytest.approx(2.7 * bound)
    assert high.reasons["unigram"] == (
        f"Seed 0: the attention loss came to {bound:.4g} in the last epoch, where a constant prediction that never "
        f"listens costs {bound:.4g}; at most {(1 - GAIN) * bound:.4g} is required.",
    )
    deaf = judge_learning([seed_training(accuracies=(0.2, 0.2, 0.27, 0.27, 0.27, 0.3))])
    assert deaf.reasons["accuracy"] == (
        "Seed 0: 30.0% of the tokens were right in the last epoch (20.0% in the first), "
        f"where 26.7% can be right without hearing (p = {deaf.seeds[0].accuracy_p:.2g}).",
    )
    assert judge_learning([]).reasons["trend"] == ("No training was seen.",)


@pytest.mark.parametrize(("seeds", "test"), [(1, "the Mann-Kendall test"), (3, "Page's trend test")])
def test_the_test_of_the_trend_is_named(seeds: int, test: str) -> None:
    verdict = judge_learning([seed_training(seed, epochs=(0.5,) * 6) for seed in range(seeds)])
    (reason,) = verdict.reasons["trend"]
    assert reason.startswith(f"The losses do not fall beyond chance: {test} gives p = ")
    assert reason.endswith(f", at most {TREND_ALPHA} is required.")


@pytest.mark.parametrize("name", sorted(seed_training()))
@pytest.mark.parametrize("value", [None, True, -1, math.nan, "nan", [], [None], [[[]]], {}, {"acc": 3}])
def test_whatever_is_reported_is_judged_or_a_mismatch(name: str, value: object) -> None:
    verdict, mismatch = judged(judge_learning, [seed_training(**{name: value}), {name: value}])
    assert f"training.{name}" in mismatch if verdict is None else unmet(verdict)


def test_the_trend_of_trainings_that_learn_nothing_is_as_rare_as_stated() -> None:
    """Losses that come in no order, as those of a learning rate of 0 do: drawn 1000 times for either test."""
    import numpy

    random = numpy.random.default_rng(0)
    for seeds in (1, 3):
        drawn = (random.uniform(0.5, 0.6, (seeds, 12)).tolist() for _ in range(1000))
        tests = (_trend([seed[:6] for seed in one], one) for one in drawn)
        found = sum(p is not None and p <= TREND_ALPHA for _, p in tests)
        # The binomial's 99.9 % at the stated rate: 10 expected of 1000.
        assert found <= 21, f"{found} of 1000 with {seeds} seeds"


def test_accuracy_counts_only_where_hearing_helps() -> None:
    """Two utterances of one length: the end of the sentence is right without hearing, the words are not."""
    rows, steps = [[5, 6, 2], [7, 8, 2]], 12
    targets = {"rows": rows, "frames": [30, 30], "steps": [[[0, 1]]] * steps}
    half = judge_learning([seed_training(targets={**targets, "right": [[["101", "001"]]] * steps})])
    (figures,) = half.seeds
    assert (figures.last_accuracy, figures.constant_accuracy) == (0.25, 0.5)
    assert "accuracy" in unmet(half)
    # Each epoch of two steps has eight places: all right by chance once in 256 at one half each.
    right = [[["001", "001"]]] * 2 + [[["111", "111"]]] * (steps - 2)
    (figures,) = judge_learning([seed_training(targets={**targets, "right": right})]).seeds
    assert (figures.first_accuracy, figures.last_accuracy, figures.accuracy_p) == (0.0, 1.0, pytest.approx(1 / 256))


def test_accuracy_says_nothing_where_each_utterance_is_alone_with_its_length() -> None:
    targets = {"rows": [[5, 6, 2], [7, 8, 2]], "frames": [30, 31], "steps": [[[0, 1]]] * 12}
    verdict = judge_learning([seed_training(targets={**targets, "right": [[["111", "111"]]] * 12})])
    assert "accuracy" not in unmet(verdict)
    assert verdict.seeds[0].accuracy_p is None


def test_what_was_not_heard_is_named_with_its_seed() -> None:
    verdict = judge_learning([seed_training(0, hearing=heard()), seed_training(1, hearing=heard(own=[1, 0]))])
    assert "hearing" in unmet(verdict)
    assert all(reason.startswith("Seed 1: In evaluation mode") for reason in verdict.reasons["hearing"])
    assert unmet(judge_learning([seed_training(hearing=heard())])) == ()
