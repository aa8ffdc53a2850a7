"""Did the model learn, and did the trainer work as configured? One rule for every release.

A fine-tuning passes when all of this is so:

1. `steps`: the optimizer took every step that was configured, and at least `MINIMUM_STEPS`; each gave a loss.
2. `losses`: every loss is a finite number, not below `LOWEST_LOSS` and not above `HIGHEST_LOSS`.
3. `parameters`: the parameters of each group of `REQUIRED_GROUPS` moved by more than `CHANGE_FLOOR`, relative to their
   norm.
4. It learned, in each seed's training: `unigram`, `accuracy`, `trend` (see `harness/rules/learning.py`).
5. The trainer's invariants hold (see `harness/rules/trainer_invariants.py`).

Epochs are compared and not steps, because the batches of one epoch hold different utterances: a batch of long ones
costs more than a batch of short ones whatever the model has learned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from harness.config.settings import MINIMUM_STEPS
from harness.core.evidence.training import TrainingMetrics
from harness.core.evidence.verdicts import TrainingVerdict
from harness.core.numbers import number
from harness.rules.learning import judge_learning
from harness.rules.recipe import is_frozen, training_departure
from harness.rules.trainer_invariants import judge_invariants

REQUIRED_GROUPS = ("encoder", "predictor", "decoder")
"""The parts of a Paraformer that the published recipes train; none is frozen. Where a training says which groups its
architecture has, those are required."""

CHANGE_FLOOR = 1e-6
"""Eight rounding units of fp32 (2**-23 = 1.2e-7): what was only cast, moved or saved and loaded stays below it,
while one step of Adam moves each weight by about the learning rate, some 1e-2 of a weight at 1e-3."""

HIGHEST_LOSS = 1e4
"""A blind guess over 8501 tokens costs ln 8501 = 9.05 a token; summed over 1000 tokens, minutes of
speech, that is 9.05e3. What lies above is no longer a loss but a calculation gone wrong."""

LOWEST_LOSS = -1e-6
"""Cross-entropy, Kullback-Leibler divergence and absolute error are not negative; the rest is rounding."""


def judge_training(metrics: TrainingMetrics, undecided: Mapping[str, str] = MappingProxyType({})) -> TrainingVerdict:
    """Apply the rule at the head of this module to the metrics of a `finetune` cell.

    What was not observed, or is not finite, counts against the training.

    Args:
        metrics: What was measured.
        undecided: Conditions of learning that decide nothing here if they are not met, each with the reason.
    """
    steps, losses, changes = metrics.steps, metrics.losses, metrics.relative_change_by_group
    groups: Sequence[str] = metrics.groups or REQUIRED_GROUPS
    conditions: dict[str, Sequence[str]] = {"steps": _about_steps(metrics)}
    learning = invariants = None
    not_observed: dict[str, str] = {}
    other = training_departure(metrics)
    if steps is not None and 0 < steps < MINIMUM_STEPS:
        few = f"The optimizer took {steps} steps; fewer than {MINIMUM_STEPS} prove nothing."
        if other:
            not_observed["steps"] = f"{few} {other}"
        else:
            conditions["steps"] = (*conditions["steps"], few)
    if steps != 0:
        learning, invariants = judge_learning(metrics.trainings), judge_invariants(metrics)
        groups = [group for group in groups if not is_frozen(metrics, group)]
        conditions |= {"losses": _about_losses(losses), "parameters": _about_changes(changes, groups)}
        not_observed |= {
            name: reason
            for name, unmet_reasons in learning.reasons.items()
            if unmet_reasons and (reason := other or undecided.get(name, ""))
        }
        conditions |= {
            name: unmet_reasons for name, unmet_reasons in learning.reasons.items() if name not in not_observed
        }
        conditions |= invariants.reasons
    if unfilled := _about_users_weights(metrics):
        not_observed["start"] = unfilled
    reasons = tuple(reason for unmet_reasons in conditions.values() for reason in unmet_reasons)
    return TrainingVerdict(
        passed=not reasons,
        reasons=reasons,
        unmet=tuple(name for name, unmet_reasons in conditions.items() if unmet_reasons),
        steps=steps,
        steps_expected=metrics.steps_expected,
        epochs=len(metrics.epoch_losses),
        smallest_change=_smallest(changes, groups),
        learning=learning,
        invariants=invariants,
        not_observed=not_observed,
    )


def _about_users_weights(metrics: TrainingMetrics) -> str:
    """What of the model the user's weights did not fill: new values are no start from a checkpoint."""
    unfilled = metrics.invariants.not_in_users_weights
    if unfilled is None or not unfilled.count:
        return ""
    return (
        f"{unfilled.count} of the model's {unfilled.of} tensors have none of their name and shape in model.pt and "
        f"started from new values, such as {', '.join(unfilled.names[:3])}"
    )


def _smallest(changes: Mapping[str, float | None], groups: Sequence[str]) -> float | None:
    moved = [number(changes.get(group)) for group in groups]
    return None if None in moved else min((change for change in moved if change is not None), default=None)


def _about_steps(metrics: TrainingMetrics) -> list[str]:
    steps, expected, losses = metrics.steps, metrics.steps_expected, len(metrics.losses)
    reasons = []
    if steps and expected is None and metrics.steps_unknown:
        pass
    elif steps is None or expected is None:
        reasons.append("It is not known how many optimizer steps were taken or asked for.")
    elif steps == 0:
        reasons.append(f"The optimizer took none of {expected} steps, and the trainer reported no error.")
    elif steps != expected:
        reasons.append(f"The optimizer took {steps} of {expected} steps.")
    if steps is not None and losses != steps:
        reasons.append(f"There are {losses} losses for {steps} steps.")
    return reasons


def _about_losses(losses: Sequence[float | None]) -> list[str]:
    known = [number(value) for value in losses]
    reasons = []
    if not losses:
        reasons.append("No loss was seen.")
    if None in known:
        step = known.index(None)
        reasons.append(f"The loss of step {step + 1} is {losses[step]}, not a finite number.")
    absurd = [
        (step, value)
        for step, value in enumerate(known, 1)
        if value is not None and not LOWEST_LOSS <= value <= HIGHEST_LOSS
    ]
    if absurd:
        step, value = absurd[0]
        reasons.append(f"The loss of step {step} is {value:.6g}, which no loss of this task can be.")
    return reasons


def _about_changes(changes: Mapping[str, float | None], groups: Sequence[str]) -> list[str]:
    reasons = []
    for group in groups:
        change = number(changes.get(group))
        if group not in changes:
            reasons.append(f"Nothing is known of the {group}'s parameters.")
        elif change is None:
            reasons.append(f"The {group}'s parameters changed by {changes[group]}, not a finite number.")
        elif change <= CHANGE_FLOOR:
            reasons.append(f"The {group}'s parameters did not move (relative change {change:.3g}).")
    return reasons
