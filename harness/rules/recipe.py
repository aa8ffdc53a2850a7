"""Whether the configuration in force trains at least as much as the recipe that the conditions of learning are for.

Those conditions were measured on sound releases with the matrix's recipe. Where a variant's own settings train less, or
by other means, a model that did not learn says nothing against the release; one that did is accepted as before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.core.numbers import count, mapping, number, sequence

ADAPTIVE = ("adam", "adamw")
"""Optimizers of which each step moves a weight by about the learning rate, as at the matrix's recipe."""


def warmup_rate(base: float, warmup_steps: float, step: int) -> float:
    """FunASR's WarmupLR (funasr/schedulers/warmup_lr.py, after ESPnet): the rate of optimizer step `step`, from 1 on.

    base * w**0.5 * min(step**-0.5, step * w**-1.5): up in a line to `base` at step w, then down with the root.
    """
    return float(base * warmup_steps**0.5 * min(step**-0.5, step * warmup_steps**-1.5))


def departure(metrics: Mapping[str, Any]) -> str:
    """Why the conditions of learning decide nothing here, as half a sentence; empty where they do."""
    config, recipe = mapping(metrics.get("config_in_force")), mapping(metrics.get("recipe"))
    if not config or not recipe:
        return ""
    told = mapping(metrics.get("promises"))
    if frozen := count(config.get("frozen")):
        return f"the configuration freezes {frozen} tensors at random values"
    if config.get("optim", "adam") not in ADAPTIVE:
        return f"the configuration trains with `optim: {config['optim']}`"
    if config.get("scheduler", "warmuplr") != "warmuplr" or number(told.get("warmup_steps")) is None:
        return f"the configuration's schedule is `{config.get('scheduler')}`"
    meant = _distance(told.get("learning_rate"), told.get("warmup_steps"), metrics.get("steps_expected"))
    wanted = _distance(recipe.get("learning_rate"), recipe.get("warmup_steps"), recipe.get("steps"))
    if wanted is None:
        return ""
    if meant is None:
        return f"the number of steps is not known: {metrics.get('steps_unknown')}"
    peak, usual = number(told.get("learning_rate")) or 0.0, number(recipe.get("learning_rate")) or 0.0
    if peak > usual:
        return f"the configuration's learning rate of {peak:g} is above the recipe's {usual:g}"
    if meant < wanted:
        return f"the configuration's learning rates add up to {meant:.2g} over its steps, the recipe's to {wanted:.2g}"
    return ""


def is_frozen(metrics: Mapping[str, Any], group: str) -> bool:
    """Whether the configuration freezes the whole of a group, so that it must not move."""
    return group in sequence(mapping(metrics.get("config_in_force")).get("frozen_groups"))


def _distance(rate: object, warmup: object, steps: object) -> float | None:
    """The sum of WarmupLR's rates: about how far an adaptive optimizer can move a weight."""
    base, rise, taken = number(rate), number(warmup), count(steps)
    if base is None or rise is None or rise < 1 or not taken:
        return None
    return sum(warmup_rate(base, rise, step) for step in range(1, taken + 1))
