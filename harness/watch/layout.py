"""Where the parts of the live display are, in a terminal of a given size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.text import Text

from harness.watch import sections
from harness.watch.sections import View

LEAST_WIDTH, LEAST_HEIGHT = 60, 16
"""Of a terminal; in a smaller one lines are written instead."""
_WIDE, _TALL = 140, 29
_GAP = 3


def compose(view: View, width: int, height: int) -> list[Text]:
    """The rows of the display: at most `height`, none longer than `width`."""
    rows = _wide(view, width, height) if width >= _WIDE and height >= _TALL else _narrow(view, width, height)
    return [_cut(row, width) for row in rows[:height]]


def _narrow(view: View, width: int, height: int) -> list[Text]:
    header = sections.header(view, width)
    memory, forecasts, findings = sections.memory(view), sections.forecasts(view), sections.findings(view)
    share = _shares(
        height - len(header),
        {
            "loss": (5, 10, 18),
            "curves": (3, 3, 3),
            "speed": (2, 2, 3),
            "findings": (2, min(4, 1 + len(findings)), 1 + len(findings)),
            "memory": (min(1, len(memory)), min(2, len(memory)), len(memory)),
            "output": (2, 3, 9),
            "forecasts": (min(1, len(forecasts)), min(2, len(forecasts)), len(forecasts)),
        },
    )
    return [
        *header,
        *sections.loss(view, width, share["loss"]),
        *sections.small_curves(view, width)[: share["curves"]],
        *sections.speed(view, width)[: share["speed"]],
        *_first(memory, width, share["memory"]),
        *_first(forecasts, width, share["forecasts"]),
        *_findings(view, width, share["findings"]),
        *_output(view, width, share["output"]),
    ]


def _wide(view: View, width: int, height: int) -> list[Text]:
    left = (width - _GAP) * 3 // 5
    right = width - _GAP - left
    header = sections.header(view, width)
    figures = [*sections.speed(view, right), *sections.memory(view), *sections.forecasts(view)]
    findings = sections.findings(view)
    below = max(len(figures), 1 + len(findings))
    share = _shares(
        height - len(header) - 1, {"curves": (9, 21, 27), "below": (min(8, below), below, below), "output": (2, 5, 13)}
    )
    curves = _side_by_side(
        sections.loss(view, left, share["curves"]), sections.charts(view, right, share["curves"]), left, share["curves"]
    )
    lower = _side_by_side(
        _findings(view, left, share["below"]), _first(figures, right, share["below"]), left, min(below, share["below"])
    )
    return [*header, *curves, Text(""), *lower, *_output(view, width, share["output"])]


def _shares(height: int, bounds_of_parts: Mapping[str, tuple[int, int, int]]) -> dict[str, int]:
    """Rows for each part, given one by one: up to the least that it needs, to what is good, and to the most."""
    share = dict.fromkeys(bounds_of_parts, 0)
    for bound in range(3):
        growing = True
        while height > 0 and growing:
            growing = False
            for name, bounds in bounds_of_parts.items():
                if height > 0 and share[name] < bounds[bound]:
                    share[name] += 1
                    height -= 1
                    growing = True
    return share


def _findings(view: View, width: int, height: int) -> list[Text]:
    return [_rule(sections.findings_title(view), width), *_first(sections.findings(view), width, height - 1)][
        : max(0, height)
    ]


def _output(view: View, width: int, height: int) -> list[Text]:
    return [_rule(view.log, width), *sections.output(view, height - 1)][: max(0, height)]


def _first(rows: Sequence[Text], width: int, height: int) -> list[Text]:
    """The first rows, and at the end of the last how many more there are."""
    shown = list(rows[: max(0, height)])
    if shown and len(rows) > height:
        more = f" (and {len(rows) - height} more)"
        shown[-1] = _cut(shown[-1], width - len(more)).append(more, style="dim")
    return shown


def _rule(title: str, width: int) -> Text:
    text = Text.assemble(("── ", "dim"), (title, "bold"), " ")
    return text.append("─" * max(0, width - text.cell_len), style="dim")


def _side_by_side(left: Sequence[Text], right: Sequence[Text], width: int, height: int) -> list[Text]:
    rows = []
    for number in range(height):
        row = _cut(left[number], width) if number < len(left) else Text("")
        row.append(" " * (width - row.cell_len + _GAP))
        rows.append(row.append_text(right[number]) if number < len(right) else row)
    return rows


def _cut(row: Text, width: int) -> Text:
    cut = row.copy()
    cut.no_wrap, cut.overflow = True, "ellipsis"
    cut.truncate(width, overflow="ellipsis")
    return cut
