"""Did the model learn? The rule, its sources and its error rates are in docs/checks.md#rules-for-learning.

Each seed's training has to meet all but the third, which takes all of them together.

- `unigram`: over the last epoch the attention loss is below what a constant prediction of the corpus's unigram
  distribution reaches on the same batches, by at least `GAIN` of the way from there to the lowest loss there is, 0.
- `accuracy`: in the last epoch the decoder's first pass got more tokens right than the best prediction that hears
  nothing (`harness/rules/deaf_baseline.py`): by a binomial test at `ACCURACY_ALPHA`.
- `trend`: the losses, in units of the constant prediction's, fall: Page's trend test over the epochs with the seeds as
  blocks, at `TREND_ALPHA`. A single seed has no blocks; there the Mann-Kendall test is made over the steps.
- `hearing`: after the training, what is right is right because of the speech (`harness/rules/hearing.py`).

`unigram` and `trend` rest on the loss, which is that of the decoder's second pass: Paraformer's sampler shows it the
right tokens at most of the places where its first pass was wrong, and the loss is taken at those places too. They say
that something was learned, and nothing about hearing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from harness.core.evidence.training import SeedTraining
from harness.core.evidence.verdicts import HearingVerdict, LearningVerdict, SeedFigures
from harness.core.numbers import complete_values, mean, number, numbers
from harness.rules.deaf_baseline import TargetsWithPlaces
from harness.rules.hearing import TRAINED, judge_hearing
from harness.rules.unigram import Criterion, Unigram, UnigramTargets, step_losses

GAIN = 0.25
"""Sound trainings gained 0.69 to 0.81 when this was set, in six releases and both variants; one that says the same
whatever it hears gains nothing."""

ACCURACY_ALPHA = 1e-3
"""How often a guesser that is right as often as the constant prediction, by chance, would be taken for a learner."""

TREND_ALPHA = 0.01
"""How often a training whose epochs come in no order would be taken for one that falls; three epochs of three seeds
can meet it."""

LEAST_EPOCHS = 3
"""Below that there is no order to speak of."""

CONDITIONS = ("unigram", "accuracy", "trend", "hearing")


def judge_learning(trainings: Sequence[SeedTraining]) -> LearningVerdict:
    """Apply the rule at the head of this module to the trainings of a cell, one for each seed.

    What was not observed, or is not finite, counts against the training.
    """
    read = [(training.seed, _read(training)) for training in trainings]
    hearing = tuple(judge_hearing(training) for training in trainings)
    learned = [training for _, training in read if isinstance(training, _Training)]
    known = tuple(_figures(training) for training in learned)
    unknown = tuple(f"Seed {seed}: {text}" for seed, text in read if isinstance(text, str))
    unknown = unknown or (() if read else ("No training was seen.",))
    # Of a user's own rows, each another: whoever hears them may still know fewer of them than who knows all by heart.
    listening = {verdict.seed for verdict in hearing if verdict.of == TRAINED and verdict.modes and not verdict.reasons}
    excused = {
        figures.seed: text for figures in known if figures.seed in listening and (text := _about_accuracy(figures))
    }
    hearing = tuple(_with_accuracy(verdict, excused.get(verdict.seed)) for verdict in hearing)
    test, p = (
        _trend([figures.epochs for figures in known], [training.steps for training in learned])
        if not unknown
        else (None, None)
    )
    return LearningVerdict(
        reasons={
            "unigram": (*unknown, *_about(known, _about_gain)),
            "accuracy": (
                *unknown,
                *_about([figures for figures in known if figures.seed not in excused], _about_accuracy),
            ),
            "trend": unknown or _about_trend(test, p, known),
            "hearing": _about_hearing(hearing) if hearing else unknown,
        },
        seeds=known,
        trend_test=test,
        trend_p=p,
        hearing=hearing,
    )


def _with_accuracy(hearing: HearingVerdict, accuracy: str | None) -> HearingVerdict:
    """With what `accuracy` would have said among what was not observed."""
    reasons = (hearing.not_observed, f"accuracy: {accuracy}" if accuracy else "")
    return replace(hearing, not_observed="; ".join(filter(None, reasons)))


@dataclass(frozen=True, kw_only=True)
class _Training:
    """One training whose figures are all there, one of each for every step."""

    seed: int | None
    losses: Sequence[float]
    accuracies: Sequence[float]
    constant: Sequence[float]
    """The constant prediction's losses."""
    targets: UnigramTargets
    places: TargetsWithPlaces | None
    """None in records from before places were recorded."""
    unigram: Unigram
    epochs: Sequence[range]
    """The steps of each epoch."""

    @property
    def steps(self) -> tuple[float, ...]:
        """Each step's attention loss over the constant prediction's."""
        return tuple(loss / bound for loss, bound in zip(self.losses, self.constant, strict=True))


def _read(training: SeedTraining) -> _Training | str:
    """The training, or why it cannot be judged."""
    criterion, targets = Criterion.of(training.criterion), UnigramTargets.of(training.targets)
    if criterion is None or targets is None:
        return "it is not known what the label-smoothing loss was to be computed for."
    losses, accuracies = (complete_values(numbers(training.stats.get(name))) for name in ("loss_att", "acc"))
    if losses is None or accuracies is None:
        return "the attention loss or the accuracy of a step is missing or not a finite number."
    sizes = training.steps_of_epochs
    if any(size <= 0 for size in sizes) or not sum(sizes) == len(losses) == len(accuracies) == len(targets.steps):
        return "its losses, accuracies and targets are not of the same steps."
    unigram = Unigram.of(criterion, targets.counts())
    constant = step_losses(unigram, targets)
    if any(loss <= 0.0 for loss in constant):
        return "the constant prediction has nothing to lose: every token is the same."
    ends = list(accumulate(sizes))
    return _Training(
        seed=training.seed,
        losses=losses,
        accuracies=accuracies,
        constant=constant,
        targets=targets,
        places=TargetsWithPlaces.of(training.targets),
        unigram=unigram,
        epochs=[range(end - size, end) for end, size in zip(ends, sizes, strict=True)],
    )


def _figures(training: _Training) -> SeedFigures:
    means = [mean([training.losses[step] for step in epoch]) for epoch in training.epochs]
    bounds = [mean([training.constant[step] for step in epoch]) for epoch in training.epochs]
    accuracy = _accuracy(training)
    return SeedFigures(
        seed=training.seed,
        first_loss=means[0],
        last_loss=means[-1],
        constant_loss=bounds[-1],
        gain=1.0 - means[-1] / bounds[-1],
        epochs=tuple(loss / bound for loss, bound in zip(means, bounds, strict=True)),
        first_accuracy=accuracy.first,
        last_accuracy=accuracy.last,
        constant_accuracy=accuracy.chance,
        accuracy_p=accuracy.p,
    )


@dataclass(frozen=True, kw_only=True)
class _Accuracy:
    first: float
    last: float
    chance: float
    p: float | None


def _accuracy(training: _Training) -> _Accuracy:
    """The first pass in the first epoch and in the last, and the share that is possible without using the speech.

    The binomial distribution has a heavier upper tail than the sum of places with different shares (Hoeffding 1956),
    so the mean share accuses rather than excuses.
    """
    if training.places is not None:
        first, last = (training.places.right_in(epoch) for epoch in (training.epochs[0], training.epochs[-1]))
        p = _binomial(last.right, last.places, last.deaf) if last.places else None
        return _Accuracy(first=first.share, last=last.share, chance=last.deaf, p=p)
    before, (hits, total) = (
        _right(training.accuracies, training.targets, epoch) for epoch in (training.epochs[0], training.epochs[-1])
    )
    chance = training.unigram.accuracy
    return _Accuracy(
        first=before[0] / before[1], last=hits / total, chance=chance, p=_binomial(round(hits), total, chance)
    )


def _right(accuracies: Sequence[float], targets: UnigramTargets, span: range) -> tuple[float, int]:
    """How many tokens of these steps were right, and of how many."""
    return sum(accuracies[step] * targets.tokens(step) for step in span), sum(map(targets.tokens, span))


def _binomial(hits: int, total: int, chance: float) -> float:
    """P(at least so many hits | each hits with `chance`), exactly."""
    from scipy.stats import binomtest

    return float(binomtest(min(max(hits, 0), total), total, min(chance, 1.0), alternative="greater").pvalue)


def _trend(epochs: Sequence[Sequence[float]], steps: Sequence[Sequence[float]]) -> tuple[str | None, float | None]:
    """The test's name and its p, of each seed's epochs or of the one seed's steps.

    Both are None where epochs are too few, or not the same number for each seed.
    """
    lengths = {len(block) for block in epochs}
    if len(lengths) != 1 or min(lengths) < LEAST_EPOCHS:
        return None, None
    from scipy.stats import kendalltau, page_trend_test

    if len(epochs) == 1:
        (losses,) = steps
        if len(set(losses)) == 1:
            return "mann-kendall", 1.0
        return "mann-kendall", number(float(kendalltau(range(len(losses)), losses, alternative="less").pvalue))
    falling = list(range(lengths.pop(), 0, -1))
    return "page", float(page_trend_test([list(block) for block in epochs], predicted_ranks=falling).pvalue)


def _about(known: Sequence[SeedFigures], about: Callable[[SeedFigures], str | None]) -> tuple[str, ...]:
    return tuple(f"Seed {figures.seed}: {text}" for figures in known if (text := about(figures)))


def _about_gain(figures: SeedFigures) -> str | None:
    if figures.gain >= GAIN:
        return None
    return (
        f"the attention loss came to {figures.last_loss:.4g} in the last epoch, where a constant prediction that never "
        f"listens costs {figures.constant_loss:.4g}; at most {(1 - GAIN) * figures.constant_loss:.4g} is required."
    )


def _about_accuracy(figures: SeedFigures) -> str | None:
    if figures.accuracy_p is None or (
        figures.accuracy_p <= ACCURACY_ALPHA and figures.last_accuracy > figures.first_accuracy
    ):
        return None
    return (
        f"{figures.last_accuracy:.1%} of the tokens were right in the last epoch ({figures.first_accuracy:.1%} in the "
        f"first), where {figures.constant_accuracy:.1%} can be right without hearing (p = {figures.accuracy_p:.2g})."
    )


def _about_hearing(verdicts: Sequence[HearingVerdict]) -> tuple[str, ...]:
    return tuple(f"Seed {verdict.seed}: {reason}" for verdict in verdicts for reason in verdict.reasons)


def _about_trend(test: str | None, p: float | None, known: Sequence[SeedFigures]) -> tuple[str, ...]:
    if p is None:
        lengths = ", ".join(str(len(figures.epochs)) for figures in known) or "no"
        return (f"Too few epochs for a trend test, or unequal numbers: {lengths}.",)
    if p <= TREND_ALPHA:
        return ()
    name = "Page's trend test" if test == "page" else "the Mann-Kendall test"
    return (f"The losses do not fall beyond chance: {name} gives p = {p:.2g}, at most {TREND_ALPHA} is required.",)
