"""The points of a long curve that a picture of a given width can show, without a peak being lost."""

from __future__ import annotations

from collections.abc import Sequence

from harness.text.units import is_drawable

Point = tuple[float, float]
"""Step and value."""


def columns_of(
    steps: Sequence[int], values: Sequence[float], limits: tuple[float, float], columns: int
) -> list[list[Point | None]]:
    """Of the points in each column of a picture the first, lowest, highest and last, in their order; None for a gap.

    A gap is a value that cannot be drawn. `limits` are the steps at the left and the right edge.
    """
    first, last = limits
    found: dict[int, list[Point | None]] = {}
    for step, value in zip(steps, values, strict=True):
        column = int((step - first) / max(1e-9, last - first) * columns)
        found.setdefault(column, []).append((float(step), value) if is_drawable(value) else None)
    return [_extremes(points) for _, points in sorted(found.items())]


def _extremes(points: list[Point | None]) -> list[Point | None]:
    known = [point for point in points if point is not None]
    if len(points) <= 4 or len(known) < len(points):
        return points
    numbers = range(len(known))
    lowest, highest = (choose(numbers, key=lambda number: known[number][1]) for choose in (min, max))
    return [points[number] for number in sorted({0, len(points) - 1, lowest, highest})]
