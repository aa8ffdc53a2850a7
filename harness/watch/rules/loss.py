"""The loss: is it finite, does it move, does it fall below what a prediction without the speech reaches?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.core.cells import Severity
from harness.watch.findings import WatchFinding
from harness.watch.records import TrainingStarted, TrainingStep
from harness.watch.rules.settings import WatchSettings, uniform_loss
from harness.watch.state import ATTENTION_LOSS, RankState, TrainingState, is_finite, losses_per_token, mean

LARGEST_EXPONENT = math.log(1.7976931348623157e308)
"""`math.exp` of more raises OverflowError, and the trainers print the perplexity `math.exp(loss)`."""

CLOSE_TO_OVERFLOW = 0.8

FIRST_TEST = 128
"""Steps after which the first test is made; the following ones after twice as many each."""

ALPHA = 1e-3
"""Of all tests of a training together: the k-th one, from 0 on, has ALPHA / 2**(k + 1)."""

LONG_ENOUGH = 10
"""Epochs after which a training from random weights should have left the baseline, where it may stand for a while."""

LEAST_FALL = 0.05
"""Of the baseline, over the steps of a test: a loss that falls by less stands still."""

AT_BASELINE = 0.9
"""Of the unigram baseline. The end of a sentence, which some models predict besides, lowers the best blind prediction
by up to 5 %."""

AS_RANDOM = 0.95
"""Of the loss of uniform scores. Freshly initialised models start at it or above."""

FIRST_STEPS = 8
ONE_TOKEN = math.log(2) + 0.01
"""Nats a token. Texts of one and the same token have at most ln 2 with the end of the sentence, which is one of two."""
ENOUGH_TOKENS = 100
LEAST_WINDOW = 32
CONSTANT_STEPS = 20


def about_loss(state: TrainingState, ended: bool) -> Iterator[WatchFinding]:
    """All rules of this module."""
    for rank in state.training_ranks:
        if rank.training is None:
            continue
        yield from _not_finite(rank)
        yield from _overflow(rank)
        yield from _constant(rank)
        yield from _start(rank, rank.training)
        yield from _not_learning(rank, rank.training, ended)
        yield from _diverged(rank)
        yield from _one_token(rank)


def _not_finite(rank: RankState) -> Iterator[WatchFinding]:
    bad = rank.first_not_finite
    if bad is None:
        return
    steps_taken = [step for step in rank.recent if step.step >= bad.step and not step.skipped]
    still_not_finite = bool(steps_taken) and not is_finite(steps_taken[-1]) and len(steps_taken) > 1
    norm = f", gradient norm {bad.gradient_norm:g}" if bad.gradient_norm is not None else ""
    yield WatchFinding(
        severity=Severity.BROKEN if still_not_finite or not bad.skipped else Severity.MINOR,
        rule="loss-not-finite",
        message="the loss is not a number any more, and so are the weights from this step on: nothing is learned"
        if still_not_finite or not bad.skipped
        else "the loss of a step was not finite; the trainer left the step out",
        step=bad.step,
        rank=rank.rank,
        evidence=(f"step {bad.step}: loss {_losses(bad)}{norm}", *_of_batch(bad)),
        remedy="lower the learning rate or lengthen the warm-up, set `++train_conf.grad_clip=5`, and train in float32 "
        "or bf16 instead of fp16; look at the rows of that batch",
    )


def _losses(step: TrainingStep) -> str:
    return ", ".join(f"{forward.loss:g}" for forward in step.forwards if forward.loss is not None)


def _of_batch(step: TrainingStep) -> Iterator[str]:
    if step.forwards:
        forward = step.forwards[-1]
        yield (
            f"its batch: {forward.utterances} utterances, the longest {forward.frames} frames and "
            f"{forward.tokens} tokens"
        )


def _overflow(rank: RankState) -> Iterator[WatchFinding]:
    for step in rank.recent:
        largest = max((forward.loss for forward in step.forwards if forward.loss is not None), default=0.0)
        if CLOSE_TO_OVERFLOW * LARGEST_EXPONENT < largest < math.inf:
            over = largest > LARGEST_EXPONENT
            yield WatchFinding(
                severity=Severity.BROKEN if over else Severity.WRONG,
                rule="loss-overflows-exp",
                message=f"a loss of {largest:.4g} {'exceeds' if over else 'is close to'} what the trainer's "
                f"`math.exp(loss)` takes ({LARGEST_EXPONENT:.0f}): printing its average ends the training",
                step=step.step,
                rank=rank.rank,
                evidence=tuple(_of_batch(step)),
                remedy="remove the rows whose text does not fit their audio, and lower the learning rate",
            )
            return


def overflow(step: int, rank: int, evidence: Sequence[str]) -> WatchFinding:
    """The training has ended by it."""
    return WatchFinding(
        severity=Severity.BROKEN,
        rule="loss-overflows-exp",
        message=f"the averaged loss exceeds {LARGEST_EXPONENT:.0f}, and the trainer's `math.exp(loss)`, which prints "
        "the perplexity, ended the training",
        step=step,
        rank=rank,
        evidence=tuple(evidence),
        remedy="remove the rows whose text does not fit their audio, and lower the learning rate",
    )


def _constant(rank: RankState) -> Iterator[WatchFinding]:
    steps = list(rank.recent)[-CONSTANT_STEPS:]
    if len(steps) < CONSTANT_STEPS:
        return
    norms = [step.gradient_norm for step in steps]
    if all(norm == 0.0 for norm in norms):
        yield WatchFinding(
            severity=Severity.BROKEN,
            rule="gradient-zero",
            message=f"the gradients of the last {CONSTANT_STEPS} steps are zero: no weight moves",
            step=steps[-1].step,
            rank=rank.rank,
            evidence=(f"steps {steps[0].step} to {steps[-1].step}: gradient norm 0",),
            remedy="look at `freeze_param` and at the loss: is anything trainable left that it depends on?",
        )
    if all(rate == 0.0 for step in steps for rate in step.learning_rates) and any(s.learning_rates for s in steps):
        yield WatchFinding(
            severity=Severity.BROKEN,
            rule="learning-rate-zero",
            message=f"the last {CONSTANT_STEPS} steps were taken at a learning rate of 0: no weight moves",
            step=steps[-1].step,
            rank=rank.rank,
            evidence=(f"steps {steps[0].step} to {steps[-1].step}",),
            remedy="give `++optim_conf.lr` a value, and look at `scheduler_conf`",
        )


def _start(rank: RankState, training: TrainingStarted) -> Iterator[WatchFinding]:
    uniform, first = uniform_loss(training), rank.first[:FIRST_STEPS]
    if uniform is None or not training.initialised_from or training.first_epoch or len(first) < FIRST_STEPS:
        return
    level = mean([loss for step in first for loss in losses_per_token(step, training)])
    if level is None or not math.isfinite(level) or level < AS_RANDOM * uniform:
        return
    yield WatchFinding(
        severity=Severity.WRONG,
        rule="start-at-random-level",
        message="the training starts at the loss of random weights, although `init_param` names a checkpoint: its "
        "weights were not loaded, or are not of these tokens and features",
        step=first[-1].step,
        rank=rank.rank,
        evidence=(
            f"{ATTENTION_LOSS} of the first {FIRST_STEPS} steps: {level:.3g} nats a token; equal scores for all "
            f"{training.vocabulary} tokens: {uniform:.3g}",
            f"init_param: {training.initialised_from}",
        ),
        remedy="run `funasr-harness preflight` on the model's folder: it names the fate of each tensor",
    )


@dataclass(frozen=True, kw_only=True)
class _Level:
    """The attention loss of the steps of one test, in units of the unigram baseline."""

    ratios: Sequence[float]
    first_step: int
    last_step: int
    baseline: float


def _not_learning(rank: RankState, training: TrainingStarted, ended: bool) -> Iterator[WatchFinding]:
    """Whether the loss stands at the baseline: both are decided by tests, so few falling losses are accused.

    Accused is a training in whose second half the loss is above `AT_BASELINE`, and does not fall by `LEAST_FALL`: both
    at the level of `ALPHA`, shared among the tests that are made as it grows.
    """
    settings = WatchSettings.of(training)
    for number_of_test, last in enumerate(_tests(rank, ended)):
        if settings.warmup_steps is not None and settings.scheduler == "warmuplr" and last < settings.warmup_steps:
            continue
        level = _level(rank, last)
        if level is None or not stands_at_baseline(level.ratios, ALPHA / 2 ** (number_of_test + 1)):
            continue
        early = not training.initialised_from and len(rank.epochs) < LONG_ENOUGH
        yield WatchFinding(
            severity=Severity.MINOR if early else Severity.BROKEN,
            rule="not-learning",
            message="the loss stands still at what a prediction reaches that never looks at the speech"
            + (", as it may for a while with random weights" if early else ": nothing is learned"),
            step=level.last_step,
            rank=rank.rank,
            evidence=(
                f"steps {level.first_step} to {level.last_step}: {ATTENTION_LOSS} is "
                f"{sum(level.ratios) / len(level.ratios):.2f} of the unigram baseline of your texts "
                f"({level.baseline:.3g} nats a token)",
                f"a training that falls by {LEAST_FALL:.0%} over these steps is accused in at most one of "
                f"{round(1 / ALPHA)} cases",
            ),
            remedy="look at the pairs of audio and text, at the learning rate, and at which parts are frozen",
        )
        return


def _tests(rank: RankState, ended: bool) -> list[int]:
    """The steps after which a test is made."""
    test_step, tests = FIRST_TEST, []
    while test_step <= rank.steps:
        tests.append(test_step)
        test_step *= 2
    if ended and tests and rank.steps >= 1.5 * tests[-1]:
        tests.append(rank.steps)
    return tests


def _level(rank: RankState, last: int) -> _Level | None:
    curve = rank.ratios
    chosen = [(step, ratio) for step, ratio in zip(curve.steps, curve.values, strict=True) if last / 2 < step <= last]
    if len(chosen) < FIRST_TEST // 2 or not all(math.isfinite(ratio) for _, ratio in chosen):
        return None
    baseline = next((step.unigram for step in reversed(rank.recent) if step.unigram), 0.0)
    return _Level(
        ratios=[ratio for _, ratio in chosen], first_step=chosen[0][0], last_step=chosen[-1][0], baseline=baseline
    )


def stands_at_baseline(ratios: Sequence[float], alpha: float) -> bool:
    """Whether a series is above `AT_BASELINE`, and falls by less than `LEAST_FALL` from its first to its last value."""
    from scipy.stats import linregress, t

    places = range(len(ratios))
    fit = linregress(places, ratios)
    bound, freedom = float(t.isf(alpha, len(ratios) - 2)), len(ratios) - 2
    spread = math.sqrt(sum((y - fit.intercept - fit.slope * x) ** 2 for x, y in zip(places, ratios, strict=True)))
    level_error = spread / math.sqrt(freedom * len(ratios))
    above = sum(ratios) / len(ratios) - bound * level_error > AT_BASELINE
    flat = fit.slope - bound * fit.stderr > -LEAST_FALL / (len(ratios) - 1)
    return bool(above and flat)


def _diverged(rank: RankState) -> Iterator[WatchFinding]:
    """A loss that has risen to twice its best level, and above where it began, for as long as the best was seen."""
    curve = rank.curves.get("loss")
    if curve is None or len(curve.values) < 4 * LEAST_WINDOW:
        return
    window = max(LEAST_WINDOW, len(curve.values) // 20)
    means = [_median(curve.values[at : at + window]) for at in range(0, len(curve.values) - window + 1, window)]
    best, last = min(means), means[-1]
    if not math.isfinite(last) or len(means) < 4 or last <= 2.0 * best or last <= means[0]:
        return
    yield WatchFinding(
        severity=Severity.BROKEN,
        rule="diverged",
        message="the loss has risen above where it began: the training diverges",
        step=curve.steps[-1],
        rank=rank.rank,
        evidence=(
            f"medians of {window} recorded steps: first {means[0]:.4g}, best {best:.4g} at step "
            f"{curve.steps[means.index(best) * window]}, last {last:.4g}",
        ),
        remedy="lower `++optim_conf.lr`, lengthen the warm-up, and take the checkpoint of the best step",
    )


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return ordered[len(ordered) // 2]


def _one_token(rank: RankState) -> Iterator[WatchFinding]:
    last = rank.recent[-1] if rank.recent else None
    if last is None or last.unigram is None or last.tokens_seen < ENOUGH_TOKENS or last.unigram > ONE_TOKEN:
        return
    yield WatchFinding(
        severity=Severity.BROKEN,
        rule="texts-of-one-token",
        message="nearly all tokens of the texts are one and the same (such as `<unk>`): the model learns to say that",
        step=last.step,
        rank=rank.rank,
        evidence=(f"{last.tokens_seen} tokens, entropy {last.unigram:.3g} nats a token",),
        remedy="compare the texts with tokens.json: script, case, spaces; `funasr-harness preflight` names the "
        "characters that it lacks",
    )
