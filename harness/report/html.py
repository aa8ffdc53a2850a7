"""The report as one HTML page that needs nothing from elsewhere and lets nothing in.

Everything that a release said is escaped (Jinja2's autoescape) and made visible (`text.plain`);
the policy in the page allows the one style and the one script that are ours, by their hashes, and no request at all.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from harness.core.cells import Check
from harness.core.versions import in_words
from harness.report import labels, loss_chart, memory_chart
from harness.report.grid import Column, Grid
from harness.report.learning import CurveGroup
from harness.report.memory import CellMemory
from harness.report.summary import Summary
from harness.rules.levels import Level
from harness.text import units
from harness.text.plain import anchor, plain, shortened, upstream_url

if TYPE_CHECKING:
    from jinja2 import Environment

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, kw_only=True)
class Head:
    """A heading above some columns of the grid."""

    text: str
    """Empty above the column of the `import` check."""
    detail: str
    width: int


@dataclass(frozen=True, kw_only=True)
class ColumnHead:
    """The heading of one column."""

    lines: tuple[str, ...]
    edge: bool
    """Whether another group of columns begins here."""


def render_html(summary: Summary) -> str:
    """The whole page."""
    style, script = asset("page.css"), asset("page.js")
    heads, columns = grid_heads(summary.grid)
    return render_page(
        "report.html.j2",
        s=summary,
        heads=heads,
        columns=columns,
        style=style,
        script=script,
        policy=content_policy(style, script),
        introduction=labels.INTRODUCTION,
    )


def render_page(template: str, /, **values: object) -> str:
    """A whole page, with nothing in it that a browser would obey rather than show, wherever it stands."""
    return plain(environment().get_template(template).render(**values)).lstrip()


def grid_heads(grid: Grid) -> tuple[tuple[Head, ...], tuple[ColumnHead, ...]]:
    """The two lines of headings above the grid."""
    heads: list[Head] = []
    columns: list[ColumnHead] = []
    for (variant, tuned), group in groupby(grid.columns, key=lambda column: (column.variant, column.entry is not None)):
        members = list(group)
        heads.append(Head(text=variant or "", detail="fine-tune" if tuned else "model and loss", width=len(members)))
        columns.extend(
            ColumnHead(lines=_column_lines(column, grid), edge=number == 0) for number, column in enumerate(members)
        )
    return tuple(heads), tuple(columns)


def _column_lines(column: Column, grid: Grid) -> tuple[str, ...]:
    if column.variant is None:
        return ()
    shape = str(column.dimensions).split("-") if column.dimensions else []
    place = [] if grid.one_place else [column.place]
    return (*shape, *([str(column.entry)] if column.entry else []), *place)


@cache
def environment() -> Environment:
    # Imported here: the command line answers `--help` without it.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment_of_pages = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment_of_pages.filters.update(
        anchor=anchor,
        spans=in_words,
        plural=units.plural,
        loss=units.loss,
        duration=units.duration,
        rate=units.rate,
        memory=units.memory,
        percent=units.percent,
        upstream=upstream_url,
    )
    environment_of_pages.globals.update(
        sign=labels.STATUS_SIGN,
        level_sign=labels.LEVEL_SIGN,
        level_name=labels.LEVEL_NAME,
        level_meaning=labels.LEVEL_MEANING,
        all_levels=tuple(reversed(Level)),
        status_name=labels.STATUS_NAME,
        status_meaning=labels.STATUS_MEANING,
        verdict_name=labels.VERDICT_NAME,
        verdict_meaning=labels.VERDICT_MEANING,
        native=labels.NATIVE,
        all_checks=tuple(Check),
        draw=_draw,
        again=_again,
        spark=_spark,
        timeline=_timeline,
    )
    return environment_of_pages


def _shown(value: object) -> object:
    """What Jinja2 puts out for a value: foreign text made visible, our own markup as it is."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return shortened(value)
    return value


def _draw(group: CurveGroup) -> Markup:
    drawn = loss_chart.draw(group.losses, group.epoch_losses, title=group.title, name=f"{group.anchor}-picture")
    return drawn or Markup("<p>No loss was a finite number.</p>")


def _again(group: CurveGroup) -> Markup:
    return (
        loss_chart.again(title=group.title, name=f"{group.anchor}-picture")
        if units.finite(group.losses)
        else Markup("")
    )


def _spark(group: CurveGroup) -> Markup:
    return loss_chart.spark(group.losses)


def _timeline(cell: CellMemory) -> Markup:
    return (
        memory_chart.draw(cell.timeline, title=f"Memory of {cell.id} over its steps") if cell.timeline else Markup("")
    )


def asset(name: str) -> Markup:
    """A file of ours, to be put into the page as it is."""
    return Markup((_TEMPLATES / name).read_text(encoding="utf-8").strip())  # noqa: S704 - ours, not a release's


def content_policy(style: str, script: str = "", *, own_data: bool = False) -> str:
    """The policy of a page with this style and this script, or without one: nothing else runs or is loaded.

    Args:
        own_data: Whether the script may read from where the page is from.
    """
    allowed = {"style-src": _hash(style), "script-src": _hash(script) if script else "'none'", "img-src": "data:"}
    if own_data:
        allowed["connect-src"] = "'self'"
    denied = ("default-src", "base-uri", "form-action")
    rules: Iterable[str] = (
        *(f"{name} 'none'" for name in denied),
        *(f"{name} {sources}" for name, sources in allowed.items()),
    )
    return "; ".join(rules)


def _hash(content: str) -> str:
    digest = hashlib.sha256(content.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
