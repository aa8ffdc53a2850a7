"""The curves of a watched training as SVG, drawn here so that the page needs nothing from elsewhere.

Every value is drawn where it is; of points that fall into one column of the picture the lowest and highest are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from harness.text.charts import columns_of, round_numbers
from harness.text.units import is_drawable

_WIDTH, _HEIGHT = 520, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 12, 12, 38
_COLUMNS = 450
COLOURS = 8
"""Kinds of lines in the style sheet: `w-0` to `w-7`, and `w-base` for a baseline."""


@dataclass(frozen=True, kw_only=True)
class PageLine:
    """One curve."""

    name: str
    steps: Sequence[int]
    values: Sequence[float]
    kind: str
    """Its class in the style sheet: `0` to `7`, `base`."""
    dots: bool = False
    """Single points, such as the validations, in place of a line."""


@dataclass(frozen=True, kw_only=True)
class PageChart:
    """A picture with its legend."""

    title: str
    lines: Sequence[PageLine]
    label: str
    """What the values are, with their unit."""
    note: str = ""
    axis: str = "optimizer step"

    @property
    def drawable(self) -> bool:
        """Whether there is anything to see."""
        return any(is_drawable(value) for line in self.lines for value in line.values)


@dataclass(frozen=True, kw_only=True)
class _Scale:
    first: float
    last: float
    low: float
    high: float

    def x(self, step: float) -> float:
        """A lone step is in the middle."""
        share = (step - self.first) / (self.last - self.first) if self.last > self.first else 0.5
        return round(_LEFT + (_WIDTH - _LEFT - _RIGHT) * share, 1)

    def y(self, value: float) -> float:
        return round(_TOP + (_HEIGHT - _TOP - _BOTTOM) * (self.high - value) / (self.high - self.low), 1)


def draw(chart: PageChart) -> Markup:
    """The picture as an `<svg>`; nothing where nothing can be drawn."""
    known = [value for line in chart.lines for value in line.values if is_drawable(value)]
    steps = [step for line in chart.lines for step in line.steps]
    if not known:
        return Markup("")
    marks = round_numbers(min(known), max(known))
    scale = _Scale(first=min(steps), last=max(steps), low=marks[0], high=marks[-1])
    content = _axes(scale, marks, chart) + Markup("").join(_line(scale, line) for line in chart.lines)
    return Markup('<svg viewBox="0 0 {} {}" role="img" class="curve memory"><title>{}</title>{}</svg>').format(
        _WIDTH, _HEIGHT, chart.title, content
    )


def _axes(scale: _Scale, marks: Sequence[float], chart: PageChart) -> Markup:
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts = []
    for mark in marks:
        y = scale.y(mark)
        parts.append(Markup('<path class="c-rule" d="M{} {}H{}"/>').format(_LEFT, y, right))
        parts.append(
            Markup('<text x="{}" y="{}" text-anchor="end">{:,g}</text>').format(_LEFT - 6, round(y + 3.5, 1), mark)
        )
    parts += [
        Markup('<text x="{}" y="{}" text-anchor="middle">{:,.0f}</text>').format(scale.x(step), bottom + 14, step)
        for step in _step_marks(scale.first, scale.last)
    ]
    middle, centre = (_LEFT + right) // 2, (_TOP + bottom) // 2
    parts.append(Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>').format(middle, bottom + 31, chart.axis))
    parts.append(
        Markup('<text x="11" y="{}" text-anchor="middle" transform="rotate(-90 11 {})">{}</text>').format(
            centre, centre, chart.label
        )
    )
    return Markup("").join(parts)


def _step_marks(first: float, last: float) -> list[float]:
    """The first step, and round ones that leave room for their labels."""
    inner = [mark for mark in round_numbers(first, last) if first < mark <= last and mark == int(mark)]
    return [first, *(mark for mark in inner if mark - first > (last - first) / 12)]


def _line(scale: _Scale, line: PageLine) -> Markup:
    path: list[str] = []
    drawing = False
    for column in columns_of(line.steps, line.values, (scale.first, scale.last), _COLUMNS):
        for point in column:
            if point is None:
                drawing = False
                continue
            x, y = scale.x(point[0]), scale.y(point[1])
            # A move by nothing is a dot where a step is alone.
            path.append(f"L{x:g} {y:g}" if drawing and not line.dots else f"M{x:g} {y:g}h0")
            drawing = True
    lost_at = {scale.x(step) for step, value in zip(line.steps, line.values, strict=True) if not is_drawable(value)}
    lost = "".join(f"M{x - 3:g} {_TOP}l6 6m0 -6l-6 6" for x in sorted(lost_at))
    crosses = Markup('<path class="c-lost" d="{}"><title>not a finite number</title></path>').format(lost)
    drawn = Markup('<path class="w-line w-{}{}" d="{}"><title>{}</title></path>').format(
        line.kind, " w-dots" if line.dots else "", "".join(path), line.name
    )
    return drawn + (crosses if lost else Markup(""))
