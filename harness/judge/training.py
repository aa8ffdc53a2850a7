"""Did the model learn? One rule, stated here, for every release.

A fine-tuning passes when all of this is so:

1. The optimizer took every step that was asked for, and at least `MINIMUM_STEPS`; each gave a loss.
2. Every loss is a finite number, not below `LOWEST_LOSS` and not above `HIGHEST_LOSS`.
3. The parameters of each group of `REQUIRED_GROUPS` moved by more than `CHANGE_FLOOR`, relative to their norm.
4. The loss fell: the mean over the last epoch is at most `DESCENT_RATIO` of the mean over the first,
   and the Theil-Sen slope of the epochs' means (the median of the slopes between all pairs of epochs) is negative.

Steps are not compared with each other, because the batches of one epoch hold different utterances:
a batch of long ones costs more than a batch of short ones whatever the model has learned.
Epochs hold the same utterances, so their means can be compared.
The ratio asks how far the loss fell, the slope whether it was falling throughout and not by one lucky last epoch;
the median makes the slope deaf to a single bad epoch (Theil 1950; Sen 1968, doi:10.1080/01621459.1968.10480934).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median
from typing import Any

MINIMUM_STEPS = 12
"""Fewer optimizer steps show that a trainer starts, not that it trains."""

MINIMUM_EPOCHS = 3
"""Below three points a slope is the ratio once more."""

DESCENT_RATIO = 0.9
"""Measured with Adam at 1e-3 on eight utterances: 12 steps take the loss of a model that learns to 0.46 of its start
(10.1 → 4.6). A model that learns nothing stays at 1.0, but for dropout. 0.9 lies between, on the lenient side,
because an optimizer in its warm-up has done less."""

REQUIRED_GROUPS = ("encoder", "predictor", "decoder")
"""The parts of a Paraformer that the published recipes train; none is frozen."""

CHANGE_FLOOR = 1e-6
"""Eight rounding units of fp32 (2**-23 = 1.2e-7): what was only cast, moved or saved and loaded stays below it,
while one step of Adam moves each weight by about the learning rate, some 1e-2 of a weight at 1e-3."""

HIGHEST_LOSS = 1e4
"""A blind guess over 8501 tokens costs ln 8501 = 9.05 a token; summed over 1000 tokens, minutes of
speech, that is 9.05e3. What lies above is no longer a loss but a calculation gone wrong."""

LOWEST_LOSS = -1e-6
"""Cross-entropy, Kullback-Leibler divergence and absolute error are not negative; the rest is rounding."""

MEAN_TOLERANCE = 1e-6
"""Relative: how far rounding may carry the mean of an epoch beyond the smallest and largest loss of the run."""


@dataclass(frozen=True, kw_only=True)
class TrainingVerdict:
    """Whether a fine-tuning is accepted as one, and the figures that say so."""

    passed: bool
    reasons: tuple[str, ...]
    """One sentence for each condition that is not met; empty when it passed."""
    unmet: tuple[str, ...]
    """The conditions that are not met, by name: `steps`, `losses`, `parameters`, `descent`."""
    steps: int | None
    steps_expected: int | None
    epochs: int
    first_epoch_loss: float | None
    last_epoch_loss: float | None
    ratio: float | None
    """Mean loss of the last epoch over that of the first; None where it has no meaning."""
    slope: float | None
    """Theil-Sen slope, in loss per epoch; None where it has no meaning."""
    smallest_change: float | None
    """The smallest relative change among the required groups; None when one of them is not known."""


def judge_training(metrics: Mapping[str, Any]) -> TrainingVerdict:
    """Hold the metrics of a `finetune` cell against the rule at the head of this module.

    A value that is missing, None, or spelt "nan" or "inf" counts against the training; it never raises.
    """
    steps, expected = _count(metrics.get("steps")), _count(metrics.get("steps_expected"))
    losses, epochs = _sequence(metrics.get("losses")), _sequence(metrics.get("epoch_losses"))
    changes = metrics.get("relative_change_by_group")
    changes = changes if isinstance(changes, Mapping) else {}
    means = [_number(value) for value in epochs]
    known_means = [mean for mean in means if mean is not None]
    whole = len(known_means) == len(means) and bool(means)
    ratio = _ratio(known_means) if whole else None
    slope = theil_sen(known_means) if whole and len(means) >= 2 else None
    moved = [_number(changes.get(group)) for group in REQUIRED_GROUPS]
    conditions = {
        "steps": _about_steps(steps, expected, len(losses)),
        "losses": _about_losses(losses),
        "parameters": _about_changes(changes),
        "descent": _about_epochs(known_means, losses, ratio, slope) if whole else [_no_means(means)],
    }
    reasons = tuple(reason for found in conditions.values() for reason in found)
    return TrainingVerdict(
        passed=not reasons,
        reasons=reasons,
        unmet=tuple(name for name, found in conditions.items() if found),
        steps=steps,
        steps_expected=expected,
        epochs=len(means),
        first_epoch_loss=means[0] if means else None,
        last_epoch_loss=means[-1] if means else None,
        ratio=ratio,
        slope=slope,
        smallest_change=min((change for change in moved if change is not None), default=None)
        if None not in moved
        else None,
    )


def theil_sen(values: Sequence[float]) -> float:
    """The median of the slopes between all pairs of points, the points one unit apart (Sen 1968); two or more."""
    return median((later - earlier) / (j - i) for (i, earlier), (j, later) in combinations(enumerate(values), 2))


def _about_steps(steps: int | None, expected: int | None, losses: int) -> list[str]:
    reasons = []
    if steps is None or expected is None:
        reasons.append("It is not known how many optimizer steps were taken or asked for.")
    elif steps != expected:
        reasons.append(f"The optimizer took {steps} of {expected} steps.")
    if steps is not None and steps < MINIMUM_STEPS:
        reasons.append(f"The optimizer took {steps} steps; fewer than {MINIMUM_STEPS} prove nothing.")
    if steps is not None and losses != steps:
        reasons.append(f"There are {losses} losses for {steps} steps.")
    return reasons


def _about_losses(losses: Sequence[object]) -> list[str]:
    numbers = [_number(value) for value in losses]
    reasons = []
    if not losses:
        reasons.append("No loss was seen.")
    if None in numbers:
        step = numbers.index(None)
        reasons.append(f"The loss of step {step + 1} is {losses[step]}, not a finite number.")
    absurd = [
        (step, number)
        for step, number in enumerate(numbers, 1)
        if number is not None and not LOWEST_LOSS <= number <= HIGHEST_LOSS
    ]
    if absurd:
        step, number = absurd[0]
        reasons.append(f"The loss of step {step} is {number:.6g}, which no loss of this task can be.")
    return reasons


def _about_changes(changes: Mapping[str, object]) -> list[str]:
    reasons = []
    for group in REQUIRED_GROUPS:
        change = _number(changes.get(group))
        if group not in changes:
            reasons.append(f"Nothing is known of the {group}'s parameters.")
        elif change is None:
            reasons.append(f"The {group}'s parameters changed by {changes[group]}, not a finite number.")
        elif change <= CHANGE_FLOOR:
            reasons.append(f"The {group}'s parameters did not move (relative change {change:.3g}).")
    return reasons


def _no_means(means: Sequence[float | None]) -> str:
    if not means:
        return "No epoch was completed, so it is not known whether the loss fell."
    return f"The mean loss of epoch {means.index(None) + 1} is not a finite number, so it is not known whether it fell."


def _about_epochs(
    means: Sequence[float], losses: Sequence[object], ratio: float | None, slope: float | None
) -> list[str]:
    first, last = means[0], means[-1]
    reasons = []
    if len(means) < MINIMUM_EPOCHS:
        reasons.append(f"The training had {len(means)} epochs; a trend needs {MINIMUM_EPOCHS}.")
    if _outside(means, [number for value in losses if (number := _number(value)) is not None]):
        reasons.append("The epochs' mean losses are not means of the steps' losses.")
    if ratio is None:
        reasons.append(f"The first epoch's mean loss is {first:.6g}, so a fall cannot be measured against it.")
    elif ratio > DESCENT_RATIO:
        reasons.append(
            f"The loss did not fall enough: from {first:.6g} to {last:.6g} between the first and the last epoch, "
            f"to {ratio:.3f} of its start where at most {DESCENT_RATIO} is asked."
        )
    # Not `slope >= 0`: differences that overflow make the slope NaN.
    if slope is not None and not slope < 0:
        reasons.append(f"The trend of the epochs' losses does not point down (Theil-Sen slope {slope:+.3g} an epoch).")
    return reasons


def _outside(means: Sequence[float], losses: Sequence[float]) -> bool:
    # No way of averaging leaves the range of what was averaged.
    if not losses or len(losses) < len(means):
        return True
    slack = MEAN_TOLERANCE * max(abs(loss) for loss in losses)
    return min(means) < min(losses) - slack or max(means) > max(losses) + slack


def _ratio(means: Sequence[float]) -> float | None:
    ratio = means[-1] / means[0] if means[0] > 0 else math.inf
    return ratio if math.isfinite(ratio) else None


def _number(value: object) -> float | None:
    """A finite number, or None; True is no number, and "nan" is how a NaN is stored."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:  # an integer beyond the range of floats
        return None
    return number if math.isfinite(number) else None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _sequence(value: object) -> Sequence[object]:
    return value if isinstance(value, list | tuple) else ()
