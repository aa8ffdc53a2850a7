"""The report as Markdown: the answer, the grid in short, the failures and the curves; the page has the single cells.

The text is in `templates/*.md.j2`; everything that a template prints is escaped (`text.markdown`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from harness.compare.drift.recordings import RecordedEdit
from harness.core.cells import Check
from harness.core.versions import Span, in_words
from harness.report import labels
from harness.report.advice import SHORT_OF_BROKEN
from harness.report.cell_details import Fact
from harness.report.failures import GroupKey, TracebackLine, defect_key, group_key, has_failed
from harness.report.grid import Column, Grid, GridBand, Mark
from harness.report.labels import LEVEL_MEANING, LEVEL_NAME, LEVEL_SIGN
from harness.report.learning import CurveKey, Named, curve_key
from harness.report.memory import NOT_ON_A_GPU, PhaseTime
from harness.report.summary import Summary
from harness.rules.levels import SHORT_OF_PASSED, Level
from harness.text import units
from harness.text.markdown import markdown_environment, md, render_template
from harness.text.plain import upstream_url
from harness.text.units import bars

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

_TEMPLATES = Path(__file__).parent / "templates"
_MOST_LINES = 5
_LONGEST_RANGE = 4000

ByName = TypeVar("ByName", Named, PhaseTime)


def render_markdown(summary: Summary) -> str:
    """The whole file."""
    links = _Links(summary)
    return render_template(
        _environment(),
        "report.md.j2",
        s=summary,
        heads=[_column(column, summary.grid) for column in summary.grid.columns],
        marks=links.marks,
    )


class _Links:
    """Where the marks of the grid lead: this file has no single cells, so to their failure or their curve."""

    def __init__(self, summary: Summary) -> None:
        self._failures: Mapping[GroupKey, str] = {group.key: group.anchor for group in summary.failures}
        self._curves: Mapping[CurveKey, str] = {group.key: group.anchor for group in summary.curves}

    def marks(self, band: GridBand) -> Iterator[tuple[str, str]]:
        """For each column what neighbours that look the same have in it, and a target that serves all of them."""
        for marks in zip(*(row.marks for row in band.rows), strict=True):
            yield (marks[0].sign, self._shared(marks)) if marks[0] else ("", "")

    def _shared(self, marks: Sequence[Mark | None]) -> str:
        targets = {self._target(mark) for mark in marks if mark}
        if len(targets) > 1:
            return "learning" if all(target.startswith("curve") for target in targets) else ""
        return targets.pop()

    def _target(self, mark: Mark) -> str:
        outcome = mark.judged.outcome
        if has_failed(outcome):
            return self._failures[group_key(mark.judged)]
        if mark.judged.defects:
            return self._failures[defect_key(mark.judged, mark.judged.defects[0])]
        key = curve_key(outcome)
        return self._curves[key] if key else ""


def _column(column: Column, grid: Grid) -> tuple[str, ...]:
    """The lines of a column's heading."""
    if column.variant is None:
        return ("import",)
    place = "" if grid.one_place else column.place
    return tuple(filter(None, (column.variant, str(column.dimensions), place, str(column.entry or ""))))


@cache
def _environment() -> Environment:
    environment = markdown_environment(_TEMPLATES)
    environment.filters.update(
        spans=_spans,
        upstream=_upstream,
        plural=units.plural,
        count=units.count,
        duration=units.duration,
        rate=units.rate,
        memory=units.memory,
        percent=units.percent,
        bars=bars,
        first_loss=lambda losses: units.loss(losses[0] if losses else None),
        last_loss=lambda losses: units.loss(losses[-1] if losses else None),
        by_name=_by_name,
        capitalised=lambda text: text[:1].upper() + text[1:],
        traceback=_traceback,
        diff=_diff,
        commands=_commands,
    )
    environment.globals.update(
        introduction=labels.INTRODUCTION,
        sign=labels.STATUS_SIGN,
        level_sign=LEVEL_SIGN,
        level_name=LEVEL_NAME,
        level_meaning=LEVEL_MEANING,
        all_levels=tuple(reversed(Level)),
        short_of_broken=tuple(map(Level, SHORT_OF_BROKEN)),
        short_of_passed=SHORT_OF_PASSED,
        status_name=labels.STATUS_NAME,
        status_meaning=labels.STATUS_MEANING,
        verdict_name=labels.VERDICT_NAME,
        verdict_meaning=labels.VERDICT_MEANING,
        native=labels.NATIVE,
        all_checks=tuple(Check),
        not_on_a_gpu=NOT_ON_A_GPU,
        unknown=units.UNKNOWN,
    )
    return environment


def _spans(spans: Iterable[Span]) -> Markup:
    from markupsafe import Markup

    return Markup(md(in_words(spans), at_most=_LONGEST_RANGE))  # noqa: S704 - escaped for Markdown


def _upstream(name: str) -> Markup:
    """The address of an upstream report, made of checked parts only; empty where `name` is none."""
    from markupsafe import Markup

    return Markup(upstream_url(name))  # noqa: S704 - of a pattern without special characters


def _by_name(items: Iterable[ByName]) -> dict[str, ByName]:
    return {item.name: item for item in items}


def _traceback(lines: Sequence[TracebackLine]) -> str:
    return "\n".join(f"{line.place} in {line.function}\n    {line.code}" for line in lines[-_MOST_LINES:])


def _diff(change: RecordedEdit) -> str:
    lines = [f"- {line}" for line in change.older] + [f"+ {line}" for line in change.newer]
    return "\n".join([*lines, *([f"… {units.plural(change.more, 'more statement')}"] if change.more else [])])


def _commands(commands: Iterable[Fact]) -> str:
    return "\n".join(f"# {command.name}\n{command.text}".rstrip() for command in commands)
