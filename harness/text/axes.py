"""The axis of a chart, in a terminal as in a page."""

from __future__ import annotations

import math


def round_numbers(low: float, high: float) -> tuple[float, ...]:
    """Three to seven round numbers that enclose the range."""
    # Below this the labels, of six digits, would be equal, and the step would underflow.
    span = max(high - low, 1e-5 * max(abs(low), abs(high)), 1e-9)
    rough = span / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((factor * power for factor in (1, 2, 5) if factor * power >= rough), 10 * power)
    first, last = math.floor(low / step), math.ceil(high / step)
    if first == last:
        first, last = first - 1, last + 1
    return tuple(number * step for number in range(first, last + 1))
