"""The picture of a loss curve, drawn here as SVG so that the page needs nothing from elsewhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from harness.text import units
from harness.text.charts import round_numbers
from harness.text.units import is_drawable

_WIDTH, _HEIGHT = 400, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 10, 12, 38
"""Differences of larger losses would not be finite."""


@dataclass(frozen=True, kw_only=True)
class _Scale:
    """From steps and losses to places in the picture."""

    steps: int
    low: float
    high: float

    def x(self, step: float) -> float:
        """`step` counts from 1; a lone step stands in the middle."""
        width = _WIDTH - _LEFT - _RIGHT
        return _LEFT + width * ((step - 1) / (self.steps - 1) if self.steps > 1 else 0.5)

    def y(self, loss: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (self.high - loss) / (self.high - self.low)


def draw(losses: Sequence[float | None], epochs: Sequence[float | None], *, title: str, name: str) -> Markup:
    """Loss over optimizer steps as an `<svg>`, with each epoch's mean as a level line; `name` lets `again` refer to it.

    A loss that is not a finite number is a cross at the upper edge, and the line has a gap there.
    Epochs are drawn only when they divide the steps evenly: elsewhere their borders are not known.
    """
    known = [loss for loss in (*losses, *epochs) if is_drawable(loss)]
    if not losses or not known:
        return Markup("")
    ticks = round_numbers(min(known), max(known))
    scale = _Scale(steps=len(losses), low=ticks[0], high=ticks[-1])
    parts = [_axes(scale, ticks), _means(scale, epochs), _line(scale, losses)]
    return _picture(title, Markup('<g id="{}">{}</g>').format(name, Markup("").join(parts)))


def again(*, title: str, name: str) -> Markup:
    """The picture that `draw` called `name`, shown a second time without being sent a second time."""
    return _picture(title, Markup('<use href="#{}"/>').format(name))


def spark(losses: Sequence[float | None]) -> Markup:
    """The line alone, the size of a word."""
    known = [loss for loss in losses if is_drawable(loss)]
    if not known:
        return Markup("")
    low, high = min(known), max(known)
    span = (high - low) or 1.0
    last = max(1, len(losses) - 1)
    points = " ".join(
        f"{1 + 78 * step / last:.3g},{1 + 18 * (high - loss) / span:.3g}"
        for step, loss in enumerate(losses)
        if is_drawable(loss)
    )
    return Markup(
        '<svg viewBox="0 0 80 20" width="80" height="20" class="spark" aria-hidden="true"><polyline points="{}"/></svg>'
    ).format(points)


def _picture(title: str, content: Markup) -> Markup:
    return Markup('<svg viewBox="0 0 {} {}" role="img" class="curve"><title>{}</title>{}</svg>').format(
        _WIDTH, _HEIGHT, title, content
    )


def _axes(scale: _Scale, ticks: Sequence[float]) -> Markup:
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts = []
    for tick in ticks:
        y = round(scale.y(tick), 1)
        parts.append(Markup('<path class="c-rule" d="M{} {}H{}"/>').format(_LEFT, y, right))
        parts.append(
            Markup('<text x="{}" y="{}" text-anchor="end">{:g}</text>').format(_LEFT - 6, round(y + 3.5, 1), tick)
        )
    interval = max(1, math.ceil(scale.steps / 8))
    for step in (1, *range(2 * interval, scale.steps + 1, interval)) if interval > 1 else range(1, scale.steps + 1):
        x = round(scale.x(step), 1)
        parts.append(Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>').format(x, bottom + 14, step))
    middle = (_LEFT + right) // 2
    parts.append(Markup('<text x="{}" y="{}" text-anchor="middle">optimizer step</text>').format(middle, bottom + 31))
    centre = (_TOP + bottom) // 2
    parts.append(
        Markup('<text x="12" y="{}" text-anchor="middle" transform="rotate(-90 12 {})">loss</text>').format(
            centre, centre
        )
    )
    return Markup("").join(parts)


def _means(scale: _Scale, epochs: Sequence[float | None]) -> Markup:
    if len(epochs) < 2 or scale.steps % len(epochs):
        return Markup("")
    length = scale.steps // len(epochs)
    parts = []
    for number, mean in enumerate(epochs):
        if is_drawable(mean):
            first, last = 1 + number * length, (number + 1) * length
            left = scale.x(max(1, first - 0.4))
            right = scale.x(min(scale.steps, last + 0.4))
            parts.append(
                Markup(
                    '<path class="c-mean" d="M{:.1f} {:.1f}H{:.1f}"><title>mean of epoch {}: {}</title></path>'
                ).format(left, scale.y(mean), right, number + 1, units.loss(mean))
            )
    return Markup("").join(parts)


def _line(scale: _Scale, losses: Sequence[float | None]) -> Markup:
    line, dots, crosses, drawing = [], [], [], False
    for step, loss in enumerate(losses, start=1):
        x = scale.x(step)
        if is_drawable(loss):
            y = scale.y(loss)
            line.append(f"{'L' if drawing else 'M'}{x:.1f} {y:.1f}")
            # A line of no length with round caps is a dot, in fewer letters than a circle.
            dots.append(f"M{x:.1f} {y:.1f}h0")
        else:
            crosses.append(f"M{x - 4:.1f} {_TOP}l8 8m0 -8l-8 8")
        drawing = is_drawable(loss)
    lost = Markup('<path class="c-lost" d="{}"/>').format("".join(crosses)) if crosses else Markup("")
    drawn = Markup('<path class="c-line" d="{}"/><path class="c-dots" d="{}"/>').format("".join(line), "".join(dots))
    return drawn + lost
