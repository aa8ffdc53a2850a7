"""What is compared of a fine-tune: its step time, its memory, its losses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median

from harness.core.cells import Check, Outcome, Status
from harness.core.numbers import complete_values, mapping, mean, number, numbers

MIB = 1024**2

CURVE = "losses"
"""The loss of each step, held step by step where repeats give the same to the last digit."""

WARM_UP_SHARE = 5
"""The first of so many parts of the steps is warm-up: libraries choose their algorithms, caches fill."""
MOST_WARM_UP = 10
"""Steps."""


@dataclass(frozen=True, kw_only=True)
class MetricKind:
    """A figure that is one number for a training."""

    words: str
    up: str
    """What it is called when it is larger than the baseline's."""
    down: str
    relative_floor: float = 0.0
    """A smaller change is none, whatever the noise was measured to be; relative, as the next is absolute."""
    floor: float = 0.0


KINDS: Mapping[str, MetricKind] = {
    "step_seconds": MetricKind(words="step time", up="slower", down="faster", relative_floor=0.02),
    "peak_allocated_bytes": MetricKind(
        words="GPU memory, allocated", up="more memory", down="less memory", relative_floor=0.001, floor=MIB
    ),
    # torch's allocator takes memory from the driver in pieces of 20 MiB (kLargeBuffer).
    "peak_reserved_bytes": MetricKind(
        words="GPU memory, reserved", up="more memory", down="less memory", relative_floor=0.001, floor=20 * MIB
    ),
    "peak_used_bytes": MetricKind(
        words="GPU memory, used", up="more memory", down="less memory", relative_floor=0.001, floor=20 * MIB
    ),
    "peak_resident_bytes": MetricKind(
        words="the process's memory", up="more memory", down="less memory", relative_floor=0.01, floor=8 * MIB
    ),
    "first_loss": MetricKind(words="first loss", up="other losses", down="other losses", relative_floor=1e-6),
    "mean_loss": MetricKind(words="mean loss", up="other losses", down="other losses", relative_floor=1e-6),
}
"""By name; the last two are compared where repeats are not bit-identical in their losses."""

LOSS_FIGURES = ("first_loss", "mean_loss")
STORED = tuple(name for name in KINDS if name not in LOSS_FIGURES)
"""What a baseline's file holds besides the losses."""
LEAST_CURVES = 2
"""Runs whose losses have to be equal to the last digit before later ones are held to that."""
LOSS_FLOOR = KINDS["first_loss"].relative_floor
"""Relative, of each step's loss where repeats give the same to the last digit: some eight rounding units of fp32."""


@dataclass(frozen=True, kw_only=True)
class MeasuredTraining:
    """One fine-tune in figures."""

    values: Mapping[str, float] = field(default_factory=dict)
    """By the names of `KINDS`; what could not be had is left out. Seconds and bytes, all above 0."""
    curve: tuple[float, ...] | None = None
    """The loss of each step; None unless all are known."""

    def value(self, name: str) -> float | None:
        """A figure by the names of `KINDS`; None where it could not be had."""
        if name not in LOSS_FIGURES:
            return self.values.get(name)
        if not self.curve:
            return None
        loss = self.curve[0] if name == "first_loss" else mean(self.curve)
        return loss if loss > 0 else None


def comparable(outcome: Outcome) -> bool:
    """Whether a baseline could speak of such a cell."""
    return outcome.cell.check is Check.FINETUNE and outcome.status is Status.PASSED


def measured(metrics: Mapping[str, object]) -> MeasuredTraining:
    """The figures of a `finetune` cell; of several seeds the first's, as the cell reports them."""
    values = {name: number(metrics.get(name)) for name in STORED}
    values["step_seconds"] = _step_seconds(metrics)
    known = {name: value for name, value in values.items() if value is not None and value > 0}
    return MeasuredTraining(values=known, curve=complete_values(numbers(metrics.get(CURVE))))


def _step_seconds(metrics: Mapping[str, object]) -> float | None:
    """The median after warm-up; None where another process computed on the GPU."""
    if mapping(metrics.get("device")).get("clean_at_start") is False:
        return None
    steps = complete_values(numbers(metrics.get("step_seconds")))
    if steps is None:
        return None
    return median(steps[min(MOST_WARM_UP, math.ceil(len(steps) / WARM_UP_SHARE)) :] or steps)
