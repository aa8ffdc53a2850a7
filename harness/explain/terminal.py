"""The explanation on a terminal: twenty lines; foreign text is made visible and never obeyed."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from rich.text import Text

from harness.core.cells import Severity
from harness.explain.explanation import LogExplanation, LogReport, Owner
from harness.text.plain import one_line, sentence
from harness.text.terminal import width

MOST_SHOWN = 3
"""Explanations in full without `-v`."""
_STYLE = {Severity.BROKEN: "bold red", Severity.WRONG: "bold yellow", Severity.MINOR: "cyan"}
_SIGN = {Severity.BROKEN: "✗", Severity.WRONG: "≠", Severity.MINOR: "·"}
_OWNERS = {
    Owner.FUNASR: "FunASR's code",
    Owner.YOURS: "your files or command",
    Owner.MACHINE: "the machine",
    Owner.UNKNOWN: "origin not known",
}
_INDENT = "  "
_LONGEST = 1000


def render(report: LogReport, *, verbose: bool = False) -> Iterator[Text]:
    """The lines of the report, each without a line end."""
    yield Text(f"{one_line(report.source)} · {' · '.join(map(one_line, report.facts))}", style="bold")
    yield Text(one_line(report.release))
    shown = report.explanations if verbose else report.explanations[:MOST_SHOWN]
    for explanation in shown:
        yield Text("")
        yield from _explanation(explanation, verbose=verbose)
    hidden = len(report.explanations) - len(shown)
    yield Text("")
    if hidden:
        yield Text(f"{hidden} more: -v shows {'it' if hidden == 1 else 'them'}", style="dim")
    for note in report.notes:
        yield from _wrapped(f"note: {one_line(note, at_most=_LONGEST)}", "", "dim")
    yield from _wrapped(verdict(report), "", "bold green" if report.fine else "bold red")


def verdict(report: LogReport) -> str:
    """The last line."""
    if report.fine and not report.of_a_training:
        return "No error and no line of FunASR's trainers was found in this text."
    if report.fine:
        return "Nothing wrong was found in this log. `preflight` finds what no log shows, such as rows that vanish."
    unknown = sum(not explanation.explained for explanation in report.explanations)
    if not unknown:
        return "Explained."
    if unknown == len(report.explanations):
        return "The cause is not known, and none is guessed."
    return f"Explained in part: the cause of {unknown} of {len(report.explanations)} is not known."


def _explanation(explanation: LogExplanation, *, verbose: bool) -> Iterator[Text]:
    head = Text(f"{_SIGN[explanation.severity]} {explanation.severity}", style=_STYLE[explanation.severity])
    head.append(f"  {_OWNERS[explanation.owner]}", style="bold")
    head.append(f"  {explanation.rule}", style="dim")
    head.append(_where(explanation), style="dim")
    yield head
    yield from _wrapped(sentence(one_line(explanation.title, at_most=_LONGEST)), _INDENT)
    if explanation.cause:
        yield from _wrapped(one_line(explanation.cause, at_most=_LONGEST), _INDENT)
    if explanation.releases:
        yield from _wrapped(f"In {explanation.releases}.", _INDENT)
    evidence = explanation.evidence if verbose or not explanation.explained else explanation.evidence[:2]
    for line in evidence:
        yield from _evidence(line)
    if verbose and explanation.upstream:
        yield Text(f"{_INDENT}│ reported as {', '.join(map(one_line, explanation.upstream))}", style="dim")
    if explanation.remedy:
        yield from _wrapped(f"→ {one_line(explanation.remedy, at_most=_LONGEST)}", _INDENT, "green")
    for command in explanation.commands:
        # Not wrapped: somebody copies it.
        yield Text(f"{_INDENT}$ {one_line(command)}", style="green")


def _where(explanation: LogExplanation) -> str:
    parts = [f"line {explanation.at:,}"] if explanation.at else []
    if explanation.ranks:
        parts.append(f"rank{'s' if len(explanation.ranks) > 1 else ''} {', '.join(explanation.ranks[:8])}")
    if explanation.count > 1:
        parts.append(f"{explanation.count:,} times")
    return f"  ({', '.join(parts)})" if parts else ""


def _evidence(line: str) -> Iterator[Text]:
    if line[:1] in " >" and line[1:7].strip().isdecimal():
        # Quoted code keeps its columns.
        yield Text(f"{_INDENT}│ {line[:8]}{one_line(line[8:], at_most=160) if line[8:].strip() else ''}", style="dim")
    else:
        yield from _wrapped(one_line(line, at_most=_LONGEST), f"{_INDENT}│ ", "dim")


def _wrapped(text: str, indent: str, style: str = "") -> Iterator[Text]:
    for line in textwrap.wrap(text, max(40, width() - len(indent)), break_on_hyphens=False) or [""]:
        yield Text(f"{indent}{line}", style=style)


def record(report: LogReport) -> dict[str, object]:
    """The report for `--json`."""
    return {
        "schema": 1,
        "source": report.source,
        "release": report.release,
        "facts": list(report.facts),
        "of_a_training": report.of_a_training,
        "fine": report.fine,
        "all_explained": report.all_explained,
        "explanations": [
            {
                "owner": str(explanation.owner),
                "rule": explanation.rule,
                "severity": str(explanation.severity),
                "title": explanation.title,
                "cause": explanation.cause or None,
                "releases": explanation.releases or None,
                "remedy": explanation.remedy or None,
                "commands": list(explanation.commands),
                "evidence": list(explanation.evidence),
                "upstream": list(explanation.upstream),
                "line": explanation.at or None,
                "count": explanation.count,
                "ranks": list(explanation.ranks),
            }
            for explanation in report.explanations
        ],
        "notes": list(report.notes),
    }
