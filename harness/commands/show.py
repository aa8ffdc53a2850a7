"""`show`: everything known about one cell, and the command that repeats it."""

from __future__ import annotations

import argparse
import difflib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.commands.common import cache_of
from harness.commands.exit_status import FAULT, FINE
from harness.core.cells import Cell, Failure, Outcome
from harness.core.errors import InputError, StoreError
from harness.releases import load_lock, resolve
from harness.rules.known_issues import KnownIssues, load_known_issues
from harness.rules.verdicts import JudgedOutcome, judge
from harness.run.repeat_commands import FOLDERS, UNKNOWN_MATRIX, Repeating
from harness.run.store import LoadedRun, load_run, run_folders
from harness.text.terminal import say
from harness.variants.catalogue import available

UNKNOWN = Repeating(arguments=(UNKNOWN_MATRIX,), selection=(), folder=None)
"""How a run that does not exist yet would be made."""


def main(options: argparse.Namespace) -> int:
    """Print what each run knows of the cell; an error if no run has it."""
    try:
        cell = Cell.parse(options.cell)
    except ValueError as error:
        raise InputError(str(error), next_step="list the ids with: funasr-harness list atlas") from None
    issues = load_known_issues(options.known_issues, variants=available())
    folders = options.run or sorted(run_folders(*FOLDERS))
    met: list[str] = []
    shown: list[JudgedOutcome] = []
    for folder in folders:
        try:
            run = load_run(folder)
        except StoreError as error:
            if options.run:
                raise
            # One of all runs in the folder; perhaps it has only just begun.
            say(f"skipped: {error.what}", style="yellow")
            continue
        met += [outcome.cell.id for outcome in run.outcomes]
        one = _judged(run, cell, issues)
        if one is not None:
            print("\n".join(_told(folder, run, one)))
            shown.append(one)
    if not shown:
        where = ", ".join(map(str, folders)) or "no run in runs/ or reports/"
        near = difflib.get_close_matches(cell.id, dict.fromkeys(met), n=3, cutoff=0.9)
        raise InputError(
            f"{cell.id} was not run ({where})",
            cause=f"near ids that were run are {', '.join(near)}" if near else "",
            next_step=f"run it with: {UNKNOWN.again(cell.id)}, where MATRIX is a matrix that has it",
        )
    if options.as_issue is not None:
        return _report(next((one for one in reversed(shown) if one.outcome.failure), shown[-1]), options)
    return FINE


def _report(one: JudgedOutcome, options: argparse.Namespace) -> int:
    """Write the cell's findings as reports for upstream; 3 when a script did not show its fault."""
    from harness.environments.environment import probe
    from harness.report.upstream import write

    cache = cache_of(options)
    (release,) = resolve(one.outcome.cell.release, load_lock(options.lock))
    folder = options.as_issue / one.outcome.cell.id.replace("/", "_")
    every = True
    for written in write(one, release, probe(cache=cache), cache=cache, folder=folder):
        print(f"{written.folder}: {written.sentence}")
        every &= written.trial is None or written.trial.shown
    return FINE if every else FAULT


def _judged(run: LoadedRun, cell: Cell, issues: KnownIssues) -> JudgedOutcome | None:
    return next((one for one in judge(run.outcomes, issues) if one.outcome.cell == cell), None)


def _told(folder: Path, run: LoadedRun, one: JudgedOutcome) -> Iterator[str]:
    outcome, origin = one.outcome, run.provenance
    yield f"{outcome.cell.id}"
    yield f"  run       {folder} (matrix {origin.matrix}, torch {origin.torch}, Python {origin.python})"
    yield f"  status    {outcome.status}{': ' + outcome.reason if outcome.reason else ''}"
    yield f"  verdict   {one.verdict}: {one.sentence}"
    yield from (f"  {defect.severity:<9} {defect.signature}: {defect.title}" for defect in one.defects)
    for issue in (one.issue, *one.also) if one.issue else ():
        yield f"  cause     {issue.cause}"
        yield f"  remedy    {issue.remedy}"
        yield from (f"  upstream  {report}" for report in issue.upstream)
    yield f"  measured  {outcome.started}, {outcome.seconds:.1f} s"
    yield from (f"  adapted   {name}" for name in outcome.shims)
    yield from _numbers(outcome)
    yield from _evidence(outcome)
    if outcome.failure is not None:
        yield from _traceback(outcome.failure)
    repeat = Repeating.of(origin, folder)
    yield f"  again     {repeat.again(outcome.cell.id)}"
    if repeat.hint:
        yield f"            {repeat.hint}"


def _numbers(outcome: Outcome) -> Iterator[str]:
    for name, value in outcome.metrics.items():
        yield f"  {name} = {json.dumps(value, ensure_ascii=False)}"


def _evidence(outcome: Outcome) -> Iterator[str]:
    for name, value in outcome.evidence.items():
        if isinstance(value, Sequence) and not isinstance(value, str) and value:
            yield f"  {name}:"
            yield from (
                f"    {item if isinstance(item, str) else json.dumps(item, ensure_ascii=False)}" for item in value
            )
        elif value not in (None, "", [], {}):
            yield f"  {name}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"


def _traceback(failure: Failure) -> Iterator[str]:
    yield f"  signature {failure.signature}"
    for frame in failure.frames:
        yield f'    File "{frame.file}", line {frame.line}, in {frame.function}'
        yield f"      {frame.code}"
    yield f"    {failure.type}: {failure.message}"
