"""Formats a diagnosis for the terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tabulate import tabulate

from harness.compare.diagnose.changes import FunctionChange
from harness.compare.diagnose.diagnosis import Diagnosis
from harness.core.cells import Status
from harness.text.markdown import block, code, md
from harness.text.plain import plain

MOST_FUNCTIONS = 8
MOST_LINES = 40
MOST_API = 12


def terminal(diagnosis: Diagnosis) -> str:
    """What the command prints."""
    return plain("\n".join(_terminal(diagnosis)))


def _terminal(diagnosis: Diagnosis) -> Iterator[str]:
    yield diagnosis.cell.id
    yield f"  {diagnosis.status}{': ' + diagnosis.reason if diagnosis.reason else ''}"
    if not diagnosis.against:
        return
    yield f"compared with {diagnosis.against} ({diagnosis.against_status}): {diagnosis.why}"
    yield from (f"  {notice}" for notice in diagnosis.notices)
    yield from _cause(diagnosis)
    if diagnosis.first:
        yield ""
        yield f"The first module that differs: {diagnosis.first}"
    if diagnosis.shape_trace:
        yield ""
        yield _title(diagnosis)
        yield _table(diagnosis)
    for call in diagnosis.calls:
        yield ""
        yield f"The call before it: {call.caller} calls {call.call}"
        yield f"  {call.text} (here {call.given or 'a value'}: {call.value})"
        yield f"  {diagnosis.cell.release:>10}  {call.signature}"
        yield f"  {diagnosis.against:>10}  {call.other_signature}"
    if diagnosis.changes:
        yield ""
        yield f"Changed code that ran ({_counted(diagnosis)}; - {diagnosis.against}, + {diagnosis.cell.release}):"
        yield from diff(diagnosis.changes)
    if diagnosis.api:
        yield ""
        yield (
            f"Changed signatures, keys, results and registries (is: {diagnosis.cell.release}, was: "
            f"{diagnosis.against}):"
        )
        yield from _api(diagnosis)
    if diagnosis.example:
        yield ""
        yield "The counterexample:"
        yield from (f"  {line}" for line in diagnosis.example.splitlines())


def _cause(diagnosis: Diagnosis) -> Iterator[str]:
    yield ""
    if diagnosis.cause:
        both = diagnosis.status is Status.PASSED and diagnosis.against_status is Status.PASSED
        yield f"{'Why their values differ' if both else 'Cause'}: {diagnosis.cause}"
    elif diagnosis.status is Status.PASSED and diagnosis.against_status is Status.PASSED:
        yield (
            "Nothing fails in either." if not diagnosis.first else "Nothing fails in either, and their values differ."
        )
    elif diagnosis.status is not Status.PASSED or diagnosis.against_status is not Status.PASSED:
        yield "The cause is not known."
        yield from (f"  known: {fact}" for fact in diagnosis.known)
        yield from (f"  not known: {fact}" for fact in diagnosis.unknown)
    if diagnosis.advice:
        yield f"What to do: {diagnosis.advice}"
    if diagnosis.setting:
        yield f"Or: {diagnosis.setting}."


def _title(diagnosis: Diagnosis) -> str:
    return f"Shape trace (forward pass {diagnosis.compared_pass}; first tensor of each result):"


def _table(diagnosis: Diagnosis, tablefmt: str = "simple") -> str:
    rows = [
        (
            ("> " if row.first else "") + row.module,
            row.class_name,
            row.given,
            row.found,
            row.expected,
            "yes" if row.found == row.expected else "no",
            row.note,
        )
        for row in diagnosis.shape_trace
    ]
    headers = (
        "module",
        "class",
        "input",
        f"output {diagnosis.cell.release}",
        f"output {diagnosis.against}",
        "identical",
        "",
    )
    return tabulate(rows, headers=headers, tablefmt=tablefmt)


def _counted(diagnosis: Diagnosis) -> str:
    count = len(diagnosis.changes)
    return f"{count} of {diagnosis.executed} functions"


def diff(changes: Sequence[FunctionChange]) -> Iterator[str]:
    """The changed statements with their lines, as many as fit a screen."""
    left = MOST_LINES
    for change in changes[:MOST_FUNCTIONS]:
        yield f"  {change.place}"
        if change.is_whole:
            yield "    + new" if change.other_line is None else "    - removed"
            continue
        for edit in change.edits:
            lines = [("-", line) for line in edit.other] + [("+", line) for line in edit.mine]
            for sign, line in lines[: max(0, left)]:
                yield f"    {sign} {line.number:>4}  {'  ' * line.depth}{_shortened(line.text)}"
            left -= len(lines)
        if left <= 0:
            yield "    …"
            break
    if len(changes) > MOST_FUNCTIONS:
        yield f"  … and {len(changes) - MOST_FUNCTIONS} more functions, in diagnosis.json"


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 140 else line[:138] + " …"


def _api(diagnosis: Diagnosis) -> Iterator[str]:
    for change in diagnosis.api[:MOST_API]:
        place = f"{change.file}:{change.line}" if change.line else change.file
        yield f"  {place} {change.function + ': ' if change.function else ''}{change.text}"
    if len(diagnosis.api) > MOST_API:
        yield f"  … and {len(diagnosis.api) - MOST_API} more, in diagnosis.json"


def markdown(diagnosis: Diagnosis, *, level: int = 1) -> str:
    """The same as Markdown; what a release said cannot break it."""
    return "\n\n".join(_markdown(diagnosis, level)) + "\n"


def sentence_markdown(text: str) -> str:
    """A sentence as Markdown; what it quotes between backticks becomes code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return md(text, at_most=4000)
    return "".join(code(part, at_most=1000) if odd % 2 else _plain(part) for odd, part in enumerate(parts))


def _plain(part: str) -> str:
    """One line of plain text with the spaces at its ends, which separate it from code."""
    before = " " if part[:1].isspace() else ""
    after = " " if part[-1:].isspace() and part.strip() else ""
    return f"{before}{md(part, at_most=4000)}{after}"


def _markdown(diagnosis: Diagnosis, level: int) -> Iterator[str]:
    head = "#" * level
    yield f"{head} {md(diagnosis.cell.id)}"
    yield f"**{md(diagnosis.status)}**{': ' + md(diagnosis.reason, at_most=1000) if diagnosis.reason else ''}"
    if not diagnosis.against:
        return
    yield f"Compared with {md(diagnosis.against)} ({md(str(diagnosis.against_status))}): {md(diagnosis.why)}."
    yield "\n".join(sentence_markdown(line) for line in _cause(diagnosis) if line)
    if diagnosis.first:
        yield f"The first module that differs: {sentence_markdown(diagnosis.first)}."
    if diagnosis.shape_trace:
        yield md(_title(diagnosis))
        yield block(_table(diagnosis))
    for call in diagnosis.calls:
        lines = [
            f"{call.caller} calls {call.call}: {call.text} (here {call.given or 'a value'}: {call.value})",
            f"{diagnosis.cell.release:>10}  {call.signature}",
            f"{diagnosis.against:>10}  {call.other_signature}",
        ]
        yield "The call before it:"
        yield block("\n".join(lines))
    if diagnosis.changes:
        yield (
            f"Changed code that ran ({md(_counted(diagnosis))}; - {md(diagnosis.against)}, + "
            f"{md(diagnosis.cell.release)}):"
        )
        yield block("\n".join(diff(diagnosis.changes)))
    if diagnosis.api:
        yield (
            f"Changed signatures, keys, results and registries (is: {md(diagnosis.cell.release)}, was: "
            f"{md(diagnosis.against)}):"
        )
        yield block("\n".join(_api(diagnosis)))
    if diagnosis.example:
        yield "The counterexample:"
        yield block(diagnosis.example)
