"""What charts in a terminal and on a page share: round numbers for an axis, and the points that a picture can show."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.text.units import is_drawable

Point = tuple[float, float]
"""Step and value."""


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


def columns_of(
    steps: Sequence[int], values: Sequence[float], limits: tuple[float, float], columns: int
) -> list[list[Point | None]]:
    """Of the points in each column of a picture the first, lowest, highest and last, in their order; None for a gap.

    A gap is a value that cannot be drawn. `limits` are the steps at the left and the right edge.
    """
    first, last = limits
    points_by_column: dict[int, list[Point | None]] = {}
    for step, value in zip(steps, values, strict=True):
        column = int((step - first) / max(1e-9, last - first) * columns)
        points_by_column.setdefault(column, []).append((float(step), value) if is_drawable(value) else None)
    return [_extremes(points) for _, points in sorted(points_by_column.items())]


def _extremes(points: list[Point | None]) -> list[Point | None]:
    known = [point for point in points if point is not None]
    if len(points) <= 4 or len(known) < len(points):
        return points
    numbers = range(len(known))
    lowest, highest = (choose(numbers, key=lambda number: known[number][1]) for choose in (min, max))
    return [points[number] for number in sorted({0, len(points) - 1, lowest, highest})]
