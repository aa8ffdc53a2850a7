"""How far one measurement may lie from the mean of its repeats, and be the same: a prediction interval.

Repeats of the same cells on the same machine (A/A) differ. Of their logarithms, y of cell i in run r of n:

- the spread is the standard deviation of one measurement about its cell's mean, pooled over the c cells of an
  acceptance: the square root of sum((y - mean of the cell)**2) / (c (n - 1)); where a cell's own repeats scatter more,
  its own;
- a new measurement of a cell whose k repeats have the mean m is beyond the noise when it differs from m by more than
  t(1 - alpha / (2 comparisons), degrees of freedom) * spread * sqrt(1 + 1 / k), the prediction interval for one
  further observation (G. J. Hahn and W. Q. Meeker, Statistical Intervals, 1991), with Bonferroni's
  correction, so that alpha bounds the chance that a run in which nothing changed is said to have changed at all;
- cells of one run may err together, as when the machine is slower that day, and then c cells are not c times as much
  evidence. The variance is the sum of two mean squares, of the runs and of what remains, and its degrees of freedom are
  Satterthwaite's (F. E. Satterthwaite, Biometrics Bulletin 2, 1946): c (n - 1) where cells err apart, n - 1 where they
  err together.

Repeats that are equal to the last bit have no noise; what then counts as a change is each figure's floor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from harness.core.numbers import mean

ALPHA = 0.01
"""The chance that a run in which nothing changed is reported to differ from its baseline in anything."""

LEAST_REPEATS = 3
"""Fewer tell too little of what all cells of a run have in common: of two, where the whole machine is slower one day
and not the other, a tenth of the runs in which nothing changed were reported to have changed, in simulations."""

WIDEST = 2.0
"""Times as much: a figure that could double unseen, because its repeats scatter so or are so few, is not calibrated."""


@dataclass(frozen=True, kw_only=True)
class Noise:
    """How measurements of one figure scatter."""

    spread: float
    """The standard deviation of a measurement's natural logarithm: 0.02 is 2 %."""
    degrees_of_freedom: float


def noise_of(cells: Sequence[Sequence[float]], *, runs: int) -> Noise | None:
    """The noise of a figure from the repeats of each cell, in the order of the runs; None without repeats.

    Cells that are missing in some of the runs do not count.
    """
    rows = [[math.log(value) for value in repeats] for repeats in cells if len(repeats) == runs]
    if not rows or runs < LEAST_REPEATS:
        return None
    deviations = [[value - mean(row) for value in row] for row in rows]
    count = len(rows)
    within = math.fsum(value**2 for row in deviations for value in row)
    between = count * math.fsum(mean([row[run] for row in deviations]) ** 2 for run in range(runs))
    variance = within / (count * (runs - 1))
    return Noise(spread=math.sqrt(variance), degrees_of_freedom=_freedom(within, between, count, runs))


def _freedom(within: float, between: float, cells: int, runs: int) -> float:
    """Satterthwaite's, for the variance within / (cells * (runs - 1))."""
    if cells == 1 or within <= 0:
        return float(cells * (runs - 1))
    of_runs, of_rest = (part / (cells * (runs - 1)) for part in (between, max(within - between, 0.0)))
    total = of_runs + of_rest
    freedom = total**2 / (of_runs**2 / (runs - 1) + of_rest**2 / ((runs - 1) * (cells - 1)))
    return min(max(freedom, runs - 1.0), float(cells * (runs - 1)))


def centre_of(repeats: Sequence[float]) -> float:
    """The mean of the logarithms, as a number like those: what a baseline states."""
    return math.exp(mean([math.log(value) for value in repeats]))


def allowed(noise: Noise, repeats: Sequence[float], *, comparisons: int) -> float:
    """How far the logarithm of a new measurement may lie from that of the centre."""
    from scipy.stats import t

    logs = [math.log(value) for value in repeats]
    centre, count = mean(logs), len(logs)
    spread_of_repeats = (
        math.sqrt(math.fsum((value - centre) ** 2 for value in logs) / (count - 1)) if count > 1 else 0.0
    )
    spread = max(noise.spread, spread_of_repeats)
    if spread == 0.0:
        return 0.0
    quantile = float(t.ppf(1 - ALPHA / (2 * max(comparisons, 1)), noise.degrees_of_freedom))
    return quantile * spread * math.sqrt(1 + 1 / count)


def as_share(logarithm: float) -> float | None:
    """A difference of logarithms as a share of the smaller value; None where it is wider than `WIDEST`."""
    return math.expm1(logarithm) if logarithm <= math.log(WIDEST) else None
