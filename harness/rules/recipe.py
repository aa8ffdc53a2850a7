"""Whether the configuration in force trains at least as much as the recipe that the conditions of learning are for.

Those conditions were measured on sound releases with the matrix's recipe. Where a variant's own settings train less, or
by other means, a model that did not learn says nothing against the release; one that did is accepted as before.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.core.evidence.training import ConfigInForce, Recipe, TrainingMetrics
from harness.core.numbers import count, number

ADAPTIVE = ("adam", "adamw")
"""Optimizers of which each step moves a weight by about the learning rate, as at the matrix's recipe."""


def warmup_rate(base: float, warmup_steps: float, step: int) -> float:
    """FunASR's WarmupLR (funasr/schedulers/warmup_lr.py, after ESPnet): the rate of optimizer step `step`, from 1 on.

    base * w**0.5 * min(step**-0.5, step * w**-1.5): up in a line to `base` at step w, then down with the root.
    """
    return float(base * warmup_steps**0.5 * min(step**-0.5, step * warmup_steps**-1.5))


def training_departure(metrics: TrainingMetrics) -> str:
    """As `departure`, of a `finetune` cell's training."""
    invariants = metrics.invariants
    planned = PlannedTraining(
        learning_rate=invariants.learning_rate,
        warmup_steps=invariants.warmup_steps,
        steps=metrics.steps_expected,
        steps_unknown=metrics.steps_unknown,
    )
    return departure(metrics.config_in_force, planned, metrics.recipe)


@dataclass(frozen=True, kw_only=True)
class PlannedTraining:
    """How a training was to run by the configuration in force; settings may be of any type."""

    learning_rate: object
    warmup_steps: object
    steps: object
    """Optimizer steps."""
    steps_unknown: str = ""
    """Why their number is not known."""


def departure(config: ConfigInForce | None, plan: PlannedTraining, recipe: Recipe | None) -> str:
    """Why the conditions of learning decide nothing for a training, as half a sentence; empty where they do."""
    if config is None or recipe is None:
        return ""
    if config.frozen:
        return f"the configuration freezes {config.frozen} tensors at random values"
    if config.hotwords_alone:
        return "the configuration computes SeACo's loss over hotwords alone (`train_decoder: false`)"
    if config.optim not in ADAPTIVE:
        return f"the configuration trains with `optim: {config.optim}`"
    if config.scheduler != "warmuplr" or number(plan.warmup_steps) is None:
        return f"the configuration's schedule is `{config.scheduler}`"
    meant = _distance(plan.learning_rate, plan.warmup_steps, plan.steps)
    usual_distance = _distance(recipe.learning_rate, recipe.warmup_steps, recipe.steps)
    if usual_distance is None:
        return ""
    if meant is None:
        return f"the number of steps is not known: {plan.steps_unknown or 'no reason was recorded'}"
    peak, usual = number(plan.learning_rate) or 0.0, recipe.learning_rate or 0.0
    if peak > usual:
        return f"the configuration's learning rate of {peak:g} is above the recipe's {usual:g}"
    if meant < usual_distance:
        return (
            f"the configuration's learning rates add up to {meant:.2g} over its steps, the recipe's to "
            f"{usual_distance:.2g}"
        )
    return ""


def is_frozen(metrics: TrainingMetrics, group: str) -> bool:
    """Whether the configuration freezes the whole of a group, so that it must not move."""
    return metrics.config_in_force is not None and group in metrics.config_in_force.frozen_groups


def _distance(rate: object, warmup: object, steps: object) -> float | None:
    """The sum of WarmupLR's rates: about how far an adaptive optimizer can move a weight."""
    base, rise, steps_taken = number(rate), number(warmup), count(steps)
    if base is None or rise is None or rise < 1 or not steps_taken:
        return None
    return sum(warmup_rate(base, rise, step) for step in range(1, steps_taken + 1))
