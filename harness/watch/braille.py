"""A line chart in a terminal's characters: plotille draws the dots, the axes are here.

Every value is drawn where it is: what falls into one column of dots is drawn from its lowest to its highest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from plotille import Canvas
from rich.text import Text

from harness.text.charts import columns_of, round_numbers
from harness.text.units import is_drawable

_EMPTY = 0x2800
"""Braille without a dot; the dots are the bits above it."""
_LABEL = 9
_LOST_STYLE = "bold red"


@dataclass(frozen=True, kw_only=True)
class ChartLine:
    """One curve of a chart."""

    name: str
    steps: Sequence[int]
    values: Sequence[float]
    """A value that cannot be drawn is a cross at the upper edge."""
    style: str


def chart(lines: Sequence[ChartLine], *, width: int, height: int) -> list[Text]:
    """A chart of `height` rows, the last one the step axis; blank rows while there is nothing to draw.

    Where lines cross, the first of them gives the colour.
    """
    rows, columns = max(1, height - 1), max(4, width - _LABEL)
    known = [value for line in lines for value in line.values if is_drawable(value)]
    steps = [step for line in lines for step in line.steps]
    if not known:
        return [Text("") for _ in range(rows + 1)]
    marks = round_numbers(min(known), max(known))
    first, last = min(steps), max(steps)
    cells = [[(_EMPTY, "")] * columns for _ in range(rows)]
    for line in reversed(lines):
        _add(cells, _dots(line, (first, last), (marks[0], marks[-1]), columns, rows), line.style)
    drawn = [_row(number, row, rows, marks) for number, row in enumerate(cells)]
    _mark_lost(drawn[0], lines, (first, last), columns)
    left, right = f"step {first:,}", f"{last:,}"
    drawn.append(Text(f"{'':{_LABEL}}{left}{right:>{max(1, columns - len(left))}}", style="dim"))
    return drawn


def spark(values: Sequence[float], *, width: int, style: str) -> Text:
    """A curve in one row, without axes."""
    line = ChartLine(name="", steps=range(1, len(values) + 1), values=values, style=style)
    known = [value for value in values if is_drawable(value)]
    if not known:
        return Text(" " * width)
    low, high = min(known), max(known)
    dots = _dots(line, (1, max(1, len(values))), (low, high) if high > low else (low - 1, high + 1), width, 1)
    return Text("".join(map(chr, dots[0])), style=style)


def _dots(
    line: ChartLine, steps: tuple[int, int], limits: tuple[float, float], columns: int, rows: int
) -> list[list[int]]:
    """The characters of one curve."""
    first, last = steps
    low, high = limits
    # The canvas leaves its upper limits out: half a dot more lets the last step and the highest value in.
    right = last + max(1, last - first) / (2 * columns * 2)
    top = high + (high - low) / (2 * rows * 4)
    canvas = Canvas(columns, rows, xmin=first - (first == last), xmax=right, ymin=low, ymax=top)
    before: tuple[float, float] | None = None
    for column in columns_of(line.steps, line.values, (first, right), 2 * columns):
        for place in column:
            if place is None:
                before = None
                continue
            canvas.line(*(before or place), *place)
            before = place
    return [[ord(character) for character in row.ljust(columns, chr(_EMPTY))] for row in canvas.plot().split("\n")]


def _add(cells: list[list[tuple[int, str]]], dots: list[list[int]], style: str) -> None:
    for row, drawn in zip(cells, dots, strict=True):
        for place, code in enumerate(drawn[: len(row)]):
            if code != _EMPTY:
                row[place] = (row[place][0] | code, style)


def _row(number: int, row: list[tuple[int, str]], rows: int, marks: Sequence[float]) -> Text:
    """A row of the chart, with the label of the mark in it."""
    low, high = marks[0], marks[-1]
    labels = {min(rows - 1, int((high - mark) / (high - low) * rows)): f"{mark:g}" for mark in marks}
    edge = "┤" if number in labels else "│"
    text = Text.assemble((f"{labels.get(number, ''):>{_LABEL - 2}} {edge}", "dim"))
    for style, cells in groupby(row, key=lambda cell: cell[1]):
        text.append("".join(chr(code) if code != _EMPTY else " " for code, _ in cells), style=style)
    return text


def _mark_lost(row: Text, lines: Sequence[ChartLine], steps: tuple[int, int], columns: int) -> None:
    first, last = steps
    for line in lines:
        for step, value in zip(line.steps, line.values, strict=True):
            if not is_drawable(value):
                place = _LABEL + int((step - first) / max(1, last - first) * (columns - 1))
                row.plain = row.plain[:place] + "×" + row.plain[place + 1 :]
                row.stylize(_LOST_STYLE, place, place + 1)
