"""The picture of a training's memory over its steps, drawn here as SVG like the loss curves.

With a GPU: what is counted as stacked bands from zero, a line of what was held when each step ended, and one of the
most that was allocated within each. Without one: the process's resident memory, which begins where it begins.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from markupsafe import Markup

from harness.text import units
from harness.text.charts import round_numbers

_WIDTH, _HEIGHT = 520, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 12, 12, 38
_LOWEST_LABEL = 13
"""A band that is flatter than this has no room for its name; it has it as a title."""


@dataclass(frozen=True, kw_only=True)
class ChartBand:
    """A part that is in memory at the end of every step."""

    kind: str
    """`weights`, `optimizer_state` or `gradients`; the colour."""
    name: str
    size: float
    """Bytes."""


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """What is drawn, in bytes, one figure for each step."""

    what: str
    """Whose memory it is."""
    held: tuple[float | None, ...]
    peak: tuple[float | None, ...] = ()
    bands: tuple[ChartBand, ...] = ()
    """From below."""


@dataclass(frozen=True, kw_only=True)
class _Scale:
    steps: int
    low: float
    high: float
    unit: int
    """Bytes in what the axis is labelled with."""

    def x(self, step: int) -> float:
        """`step` counts from 1; a lone step stands in the middle."""
        width = _WIDTH - _LEFT - _RIGHT
        return round(_LEFT + width * ((step - 1) / (self.steps - 1) if self.steps > 1 else 0.5), 1)

    def y(self, size: float) -> float:
        share = (self.high - size / self.unit) / (self.high - self.low)
        return round(_TOP + (_HEIGHT - _TOP - _BOTTOM) * share, 1)


def draw(timeline: Timeline, *, title: str) -> Markup:
    """The picture as an `<svg>`; nothing where nothing is known."""
    known = units.finite((*timeline.held, *timeline.peak))
    if not known:
        return Markup("")
    tops = list(accumulate(band.size for band in timeline.bands))
    highest = max(*known, *tops) if tops else max(known)
    # Bands mean something only above zero; a single line is looked at for its growth.
    lowest = 0.0 if timeline.bands else min(known)
    unit = 2**30 if highest >= 2**31 else 2**20
    marks = round_numbers(lowest / unit, highest / unit)
    scale = _Scale(steps=max(len(timeline.held), len(timeline.peak)), low=marks[0], high=marks[-1], unit=unit)
    parts = [
        _axes(scale, marks, "GiB" if unit == 2**30 else "MiB"),
        _uncounted_band(scale, timeline.peak, tops[-1] if tops else 0.0),
        *(_band(scale, band, top) for band, top in zip(timeline.bands, tops, strict=True)),
        _line(scale, timeline.peak, "m-peak", "the most that was allocated within the step"),
        _line(scale, timeline.held, "m-held", f"{timeline.what} when the step ended"),
    ]
    return Markup('<svg viewBox="0 0 {} {}" role="img" class="curve memory"><title>{}</title>{}</svg>').format(
        _WIDTH, _HEIGHT, title, Markup("").join(parts)
    )


def _axes(scale: _Scale, marks: Sequence[float], label: str) -> Markup:
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts = []
    for mark in marks:
        y = scale.y(mark * scale.unit)
        parts.append(Markup('<path class="c-rule" d="M{} {}H{}"/>').format(_LEFT, y, right))
        parts.append(
            Markup('<text x="{}" y="{}" text-anchor="end">{:g}</text>').format(_LEFT - 6, round(y + 3.5, 1), mark)
        )
    interval = max(1, math.ceil(scale.steps / 10))
    parts += [
        Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>').format(scale.x(step), bottom + 14, step)
        for step in range(1, scale.steps + 1, interval)
    ]
    middle, centre = (_LEFT + right) // 2, (_TOP + bottom) // 2
    parts.append(Markup('<text x="{}" y="{}" text-anchor="middle">optimizer step</text>').format(middle, bottom + 31))
    parts.append(
        Markup('<text x="11" y="{}" text-anchor="middle" transform="rotate(-90 11 {})">{}</text>').format(
            centre, centre, label
        )
    )
    return Markup("").join(parts)


def _band(scale: _Scale, band: ChartBand, top: float) -> Markup:
    upper, lower = scale.y(top), scale.y(top - band.size)
    words = f"{band.name}: {units.memory(band.size)}"
    drawn = Markup('<path class="m-{}" d="M{} {}H{}V{}H{}z"><title>{}</title></path>').format(
        band.kind, _LEFT, upper, _WIDTH - _RIGHT, lower, _LEFT, words
    )
    if lower - upper >= _LOWEST_LABEL:
        place = round((upper + lower) / 2 + 3.5, 1)
        drawn += Markup('<text class="m-label" x="{}" y="{}">{}</text>').format(_LEFT + 6, place, words)
    return drawn


def _uncounted_band(scale: _Scale, peak: Sequence[float | None], top: float) -> Markup:
    """What lies between the bands and the peak; nothing where a step's peak is unknown, or below what was counted."""
    known = units.finite(peak)
    if not known or len(known) != len(peak) or min(known) < top:
        return Markup("")
    upper = "L".join(f"{scale.x(step)} {scale.y(size)}" for step, size in enumerate(known, start=1))
    return Markup('<path class="m-rest" d="M{} {}L{}V{}z"><title>{}</title></path>').format(
        scale.x(1), scale.y(top), upper, scale.y(top), "up to the peak: activations, and what is needed for a moment"
    )


def _line(scale: _Scale, sizes: Sequence[float | None], kind: str, words: str) -> Markup:
    line, drawing = [], False
    for step, size in enumerate(sizes, start=1):
        known = size is not None and math.isfinite(size)
        if known:
            # A move by nothing is a dot where a step stands alone.
            line.append(f"{'L' if drawing else 'M'}{scale.x(step)} {scale.y(size or 0.0)}" + ("" if drawing else "h0"))
        drawing = known
    if not line:
        return Markup("")
    return Markup('<path class="{}" d="{}"><title>{}</title></path>').format(kind, "".join(line), words)
