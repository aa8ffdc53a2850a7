"""The report on a terminal: the gravest first, twenty lines rather than two hundred."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from itertools import groupby

from rich.text import Text

from harness.core.cells import Severity
from harness.preflight.all_releases.release_table import ReleaseTable
from harness.preflight.findings import PreflightFinding, Report
from harness.preflight.verdict import sentence
from harness.text.plain import one_line
from harness.text.terminal import width

MOST_SHOWN = 7
"""Findings that are shown without `-v`."""
MOST_MINOR = 4
"""The same, where none is above `minor`."""
FULL_LINES = 18
"""Lines after which further findings are shown by place and message alone; the gravest come first."""
_STYLE = {Severity.BROKEN: "bold red", Severity.WRONG: "bold yellow", Severity.MINOR: "cyan"}
_STYLE_OF_RANGE = {str(severity): style for severity, style in _STYLE.items()} | {"sound": "bold green"}
_SIGN = {Severity.BROKEN: "✗", Severity.WRONG: "≠", Severity.MINOR: "·"}
_INDENT = "  "
_LONGEST = 1000
_WIDEST = 120
"""Columns of a text, however wide the terminal: longer lines are hard to read."""


def render(report: Report, about: Mapping[str, str], *, verbose: bool = False) -> Iterator[Text]:
    """The lines of the report, each without a line end; foreign text is made visible, never obeyed."""
    yield from _heading(about)
    shown = report.findings if verbose else _few(report.findings)
    used = 0
    for finding in shown:
        lines = list(_finding(finding, verbose=verbose))
        in_full = verbose or not used or used + len(lines) <= FULL_LINES
        used += len(lines)
        yield from lines if in_full else _headline(finding)
    hidden = [finding for finding in report.findings if finding not in shown]
    if hidden:
        yield Text(f"{_INDENT}{_hidden(hidden)}", style="dim")
    if report.findings:
        yield Text("")
    yield from _facts(report, verbose=verbose)
    for reason in report.skipped:
        yield from _wrapped(f"not checked: {one_line(reason)}", "", "dim")
    for fault in report.faults:
        yield from _wrapped(f"not checked, by a fault of the harness: {one_line(fault)}", "", "bold magenta")
    yield Text("")
    style = "bold green" if report.go else "bold magenta" if report.clean else "bold red"
    yield from _wrapped(sentence(report), "", style)


def render_table(table: ReleaseTable, about: Mapping[str, str], *, verbose: bool = False) -> Iterator[Text]:
    """The lines of `--release all`: what would happen in each range of releases, and which one to install."""
    yield from _heading(about)
    last = table.last()
    for line in table.lines(verbose=verbose, width=width()):
        if line in last:
            yield Text(line, style="bold green" if table.best else "bold red")
        else:
            yield Text.assemble((line[:6], _STYLE_OF_RANGE.get(line[:6].strip(), "")), line[6:])


def _heading(about: Mapping[str, str]) -> Iterator[Text]:
    yield from _wrapped(" · ".join(one_line(value) for value in about.values() if value), "", "bold")
    yield Text("")


def _few(findings: tuple[PreflightFinding, ...]) -> tuple[PreflightFinding, ...]:
    grave = [finding for finding in findings if finding.severity is not Severity.MINOR]
    return tuple(grave[:MOST_SHOWN] if grave else findings[:MOST_MINOR])


def _hidden(findings: list[PreflightFinding]) -> str:
    counts = groupby(findings, key=lambda finding: finding.severity)
    listed = ", ".join(f"{len(list(members))} {severity}" for severity, members in counts)
    return f"{listed} more: -v shows {'it' if len(findings) == 1 else 'them'}"


def _headline(finding: PreflightFinding) -> Iterator[Text]:
    """Place, rule and message."""
    head = Text(f"{_SIGN[finding.severity]} {finding.severity}", style=_STYLE[finding.severity])
    times = f"  × {finding.count:,}" if finding.count > 1 else ""
    head.append(f"  {one_line(str(finding.place))}{times}", style="bold")
    head.append(f"  {finding.rule}", style="dim")
    yield head
    yield from _wrapped(one_line(finding.message, at_most=_LONGEST), _INDENT)


def _finding(finding: PreflightFinding, *, verbose: bool) -> Iterator[Text]:
    yield from _headline(finding)
    for line in finding.evidence if verbose else finding.evidence[:1]:
        yield from _wrapped(one_line(line, at_most=_LONGEST), f"{_INDENT}│ ", "dim")
    if finding.remedy:
        yield from _remedy(finding.remedy)


def _remedy(remedy: str) -> Iterator[Text]:
    """Lines to type are not wrapped: somebody copies them."""
    for number, line in enumerate(remedy.splitlines()):
        yield Text(f"{_INDENT}{'→' if number == 0 else ' '} {one_line(line, at_most=_LONGEST)}", style="green")


def _facts(report: Report, *, verbose: bool) -> Iterator[Text]:
    shown = [fact for fact in report.facts if verbose or not fact.detail]
    margin = " " * (max((len(fact.section) for fact in shown), default=0) + 2)
    for section, members in groupby(shown, key=lambda fact: fact.section):
        text = " · ".join(f"{one_line(fact.label)}: {one_line(fact.value)}" for fact in members)
        lines = textwrap.wrap(text, _columns(len(margin)), break_on_hyphens=False) or [""]
        for number, line in enumerate(lines):
            start = section.ljust(len(margin)) if number == 0 else margin
            yield Text.assemble((start, "bold"), line)


def _columns(indent: int) -> int:
    """Of a text that is indented."""
    return max(40, min(width(), _WIDEST) - indent)


def _wrapped(text: str, indent: str, style: str = "") -> Iterator[Text]:
    for line in textwrap.wrap(text, _columns(len(indent)), break_on_hyphens=False) or [""]:
        yield Text(f"{indent}{line}", style=style)
