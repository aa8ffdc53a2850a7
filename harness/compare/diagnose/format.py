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


def terminal(one: Diagnosis) -> str:
    """What the command prints."""
    return plain("\n".join(_terminal(one)))


def _terminal(one: Diagnosis) -> Iterator[str]:
    yield one.cell.id
    yield f"  {one.status}{': ' + one.reason if one.reason else ''}"
    if not one.against:
        return
    yield f"compared with {one.against} ({one.against_status}): {one.why}"
    yield from (f"  {notice}" for notice in one.notices)
    yield from _cause(one)
    if one.first:
        yield ""
        yield f"The first module that differs: {one.first}"
    if one.shape_trace:
        yield ""
        yield _title(one)
        yield _table(one)
    for call in one.calls:
        yield ""
        yield f"The call before it: {call.caller} calls {call.call}"
        yield f"  {call.text} (here {call.given or 'a value'}: {call.value})"
        yield f"  {one.cell.release:>10}  {call.signature}"
        yield f"  {one.against:>10}  {call.other_signature}"
    if one.changes:
        yield ""
        yield f"Changed code that ran ({_counted(one)}; - {one.against}, + {one.cell.release}):"
        yield from diff(one.changes)
    if one.api:
        yield ""
        yield f"Changed signatures, keys, results and registries (is: {one.cell.release}, was: {one.against}):"
        yield from _api(one)
    if one.example:
        yield ""
        yield "The counterexample:"
        yield from (f"  {line}" for line in one.example.splitlines())


def _cause(one: Diagnosis) -> Iterator[str]:
    yield ""
    if one.cause:
        both = one.status is Status.PASSED and one.against_status is Status.PASSED
        yield f"{'Why their values differ' if both else 'Cause'}: {one.cause}"
    elif one.status is Status.PASSED and one.against_status is Status.PASSED:
        yield ("Nothing fails in either." if not one.first else "Nothing fails in either, and their values differ.")
    elif one.status is not Status.PASSED or one.against_status is not Status.PASSED:
        yield "The cause is not known."
        yield from (f"  known: {each}" for each in one.known)
        yield from (f"  not known: {each}" for each in one.unknown)
    if one.advice:
        yield f"What to do: {one.advice}"
    if one.setting:
        yield f"Or: {one.setting}."


def _title(one: Diagnosis) -> str:
    return f"Shape trace (forward pass {one.compared_pass}; first tensor of each result):"


def _table(one: Diagnosis, tablefmt: str = "simple") -> str:
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
        for row in one.shape_trace
    ]
    headers = ("module", "class", "input", f"output {one.cell.release}", f"output {one.against}", "identical", "")
    return tabulate(rows, headers=headers, tablefmt=tablefmt)


def _counted(one: Diagnosis) -> str:
    count = len(one.changes)
    return f"{count} of {one.executed} functions"


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


def _api(one: Diagnosis) -> Iterator[str]:
    for each in one.api[:MOST_API]:
        place = f"{each.file}:{each.line}" if each.line else each.file
        yield f"  {place} {each.function + ': ' if each.function else ''}{each.text}"
    if len(one.api) > MOST_API:
        yield f"  … and {len(one.api) - MOST_API} more, in diagnosis.json"


def markdown(one: Diagnosis, *, level: int = 1) -> str:
    """The same as Markdown; what a release said cannot break it."""
    return "\n\n".join(_markdown(one, level)) + "\n"


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


def _markdown(one: Diagnosis, level: int) -> Iterator[str]:
    head = "#" * level
    yield f"{head} {md(one.cell.id)}"
    yield f"**{md(one.status)}**{': ' + md(one.reason, at_most=1000) if one.reason else ''}"
    if not one.against:
        return
    yield f"Compared with {md(one.against)} ({md(str(one.against_status))}): {md(one.why)}."
    yield "\n".join(sentence_markdown(line) for line in _cause(one) if line)
    if one.first:
        yield f"The first module that differs: {sentence_markdown(one.first)}."
    if one.shape_trace:
        yield md(_title(one))
        yield block(_table(one))
    for call in one.calls:
        lines = [
            f"{call.caller} calls {call.call}: {call.text} (here {call.given or 'a value'}: {call.value})",
            f"{one.cell.release:>10}  {call.signature}",
            f"{one.against:>10}  {call.other_signature}",
        ]
        yield "The call before it:"
        yield block("\n".join(lines))
    if one.changes:
        yield f"Changed code that ran ({md(_counted(one))}; - {md(one.against)}, + {md(one.cell.release)}):"
        yield block("\n".join(diff(one.changes)))
    if one.api:
        yield f"Changed signatures, keys, results and registries (is: {md(one.cell.release)}, was: {md(one.against)}):"
        yield block("\n".join(_api(one)))
    if one.example:
        yield "The counterexample:"
        yield block(one.example)
