"""Memory leaks: does memory grow from step to step without end? It ends a long training, whatever the peak is.

A series of bytes, one for each optimizer step, shows a leak when all of this is so:

- its slope, by the Theil-Sen estimator, exceeds a bound;
- each half of it grows by more than half of that bound: a single jump is no leak;
- its rise is significant by the Mann-Kendall test, at `GROWTH_ALPHA`.

Without a GPU the series is the process's resident memory, which the allocator changes in pieces of its own: its second
half is tested, with a bound of 1 to 8 MiB a step. On a GPU it is the memory of tensors, which is exact but depends on
the batch: steps are compared with those of the same batch, once all batches were seen (Sen's slope and Kendall's test
by season, R. M. Hirsch, J. R. Slack and R. A. Smith, Water Resources Research 18, 1982), with a bound of 256 KiB a
step. A GPU's peak of each step is tested in the same way, where it was measured.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

from harness.core.evidence.training import TrainingMetrics
from harness.core.numbers import complete_values, numbers

GROWTH_BYTES = 8 * 1024**2
"""A step, without a GPU. Sound trainings were seen to grow by up to 2.5 MiB a step (1.0.0, by fragments) while they
are short; one copy of the gradients of the smallest published width is 28 MiB."""

GROWTH_SHARE = 0.5
"""Of the trained parameters, for models so small that a copy of their gradients each step stays below that bound."""

LEAST_GROWTH_BYTES = 1024**2
"""A step; models 64 wide were seen to grow by 0.4 MiB."""

GPU_GROWTH_BYTES = 256 * 1024
"""A step. The harness itself keeps each step's losses, statistics and token ids on the GPU until the training is over:
a few tens of KiB. A leak of this size fills a card of 80 GB in 300 000 steps."""

GROWTH_ALPHA = 1e-3
"""Of the Mann-Kendall test of the same steps: memory that wanders does not grow."""

LEAST_STEPS = 12
"""Fewer steps are not tested."""

LEAST_VISITS = 3
"""How often each batch has to recur, so that a slope can be distinguished from a jump."""

SERIES = {"held_bytes": "Memory", "peak_allocated_by_step": "The peak of the GPU's allocated memory"}
"""Series that are tested, and how the message names them."""


@dataclass(frozen=True, kw_only=True)
class MemoryGrowth:
    """How one series of bytes grew."""

    slope: float
    """Bytes a step."""
    lasting: float
    """The smaller of the two halves' slopes."""
    p: float
    """Of steps in no order, to rise so much or more."""
    by_batch: bool
    """Whether steps of the same batch were compared; else all of the second half."""


def growth_reasons(metrics: TrainingMetrics) -> tuple[str, ...] | None:
    """A sentence for each series that grows; None where none is long enough."""
    on_gpu = metrics.peak_allocated_bytes is not None
    bound = GPU_GROWTH_BYTES if on_gpu else growth_allowed(metrics.invariants.trainable_bytes)
    batches = _batches(metrics) if on_gpu else None
    growth_by_series = {
        name: growth(series, batches)
        for name, recorded in (
            ("held_bytes", metrics.held_bytes),
            ("peak_allocated_by_step", metrics.peak_allocated_by_step),
        )
        if (series := complete_values(numbers(recorded))) is not None and len(series) >= LEAST_STEPS
    }
    if not growth_by_series:
        return None
    return tuple(
        f"{SERIES[name]} grew by {_size(growing.slope)} a step{_span(growing)}, and never stopped."
        for name, growing in growth_by_series.items()
        if growing.slope > bound and growing.lasting > bound / 2 and growing.p <= GROWTH_ALPHA / len(growth_by_series)
    )


def growth_allowed(trainable_bytes: float | None) -> float:
    """The bound in bytes a step without a GPU, for a model whose trained parameters have so many bytes."""
    if trainable_bytes is None:
        return GROWTH_BYTES
    return min(GROWTH_BYTES, max(LEAST_GROWTH_BYTES, GROWTH_SHARE * trainable_bytes))


def growth(series: Sequence[float], batches: Sequence[object] | None = None) -> MemoryGrowth:
    """How a series of bytes grew.

    Args:
        series: Bytes after each step, or at its peak; `LEAST_STEPS` or more.
        batches: For each step what it was fed, equal for equal batches; None where that is not known or all one.
    """
    first = _met_again(batches) if batches is not None and len(batches) == len(series) else None
    if batches is None or first is None:
        later, seasons = series[len(series) // 2 :], None
    else:
        later, seasons = series[first:], batches[first:]
    half = len(later) // 2
    halves = (
        _slope(later[:half], seasons[:half] if seasons else None),
        _slope(later[half:], seasons[half:] if seasons else None),
    )
    return MemoryGrowth(
        slope=_slope(later, seasons), lasting=min(halves), p=_p(later, seasons), by_batch=seasons is not None
    )


def _met_again(batches: Sequence[object]) -> int | None:
    """The first step whose batch came before; None unless from there on each comes again `LEAST_VISITS` times.

    What happens once, when a batch is met for the first time, is over by then.
    """
    met: set[object] = set()
    for step, batch in enumerate(batches):
        if batch in met:
            visits = Counter(batches[step:])
            return step if len(met) == len(visits) and min(visits.values()) >= LEAST_VISITS else None
        met.add(batch)
    return None


def _batches(metrics: TrainingMetrics) -> list[object] | None:
    """Each step's batch: the rows that entered its loss, or its place in the epoch where those are unknown."""
    if metrics.targets is not None and metrics.targets.steps:
        return list(metrics.targets.steps)
    sizes = metrics.steps_of_epochs
    if len(set(sizes)) != 1:
        return None
    return [step for size in sizes for step in range(size)]


def _slope(series: Sequence[float], seasons: Sequence[object] | None) -> float:
    """The median of the slopes between any two steps, of the same batch where there are `seasons`; 0 without any."""
    slopes = [
        (series[later] - series[step]) / (later - step)
        for steps in _steps_by_batch(len(series), seasons)
        for step, later in combinations(steps, 2)
    ]
    return median(slopes) if slopes else 0.0


def _steps_by_batch(steps: int, seasons: Sequence[object] | None) -> list[list[int]]:
    """The numbers of the steps, those of one batch together."""
    if seasons is None:
        return [list(range(steps))]
    steps_by_batch: dict[object, list[int]] = defaultdict(list)
    for step, batch in enumerate(seasons):
        steps_by_batch[batch].append(step)
    return list(steps_by_batch.values())


def _p(series: Sequence[float], seasons: Sequence[object] | None) -> float:
    """One-sided, against no order; NaN, which is below no level, where all are equal."""
    if seasons is None:
        from scipy.stats import kendalltau

        return float(kendalltau(range(len(series)), series, alternative="greater").pvalue)
    score, variance = 0, 0.0
    for steps in _steps_by_batch(len(series), seasons):
        values = [series[step] for step in steps]
        score += sum((b > a) - (b < a) for a, b in combinations(values, 2))
        ties = sum(_weight(times) for times in Counter(values).values())
        variance += (_weight(len(values)) - ties) / 18
    if variance <= 0:
        return math.nan
    from scipy.stats import norm

    # With the usual correction for continuity.
    return float(norm.sf((score - (score > 0) + (score < 0)) / math.sqrt(variance)))


def _weight(values: int) -> float:
    return float(values * (values - 1) * (2 * values + 5))


def _size(size: float) -> str:
    return f"{size / 1024**2:.1f} MiB" if size >= 1024**2 else f"{size / 1024:.0f} KiB"


def _span(growth_found: MemoryGrowth) -> str:
    if growth_found.by_batch:
        return ", steps with the same batch compared"
    return " over the second half of the training"
