"""`show`: everything known about one cell, and the command that repeats it."""

from __future__ import annotations

import argparse
import difflib

from harness.commands.common import cache_of, print_json
from harness.commands.exit_status import FAULT, FINE
from harness.core.cells import Cell
from harness.core.errors import InputError, StoreError
from harness.releases import load_lock, resolve
from harness.report.one_cell import RunOfCell, cell_json, render_cell
from harness.rules.known_issues import KnownIssues, load_known_issues
from harness.rules.verdicts import JudgedOutcome, judge
from harness.run.repeat_commands import UNKNOWN_MATRIX, Repeating
from harness.run.store import LoadedRun, known_runs, load_run, run_name
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
    folders = options.run or known_runs()
    met: list[str] = []
    shown: list[RunOfCell] = []
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
        judged_cell = _judged(run, cell, issues)
        if judged_cell is not None:
            shown.append(RunOfCell(folder=folder, provenance=run.provenance, judged=judged_cell))
    if not shown:
        where = ", ".join(map(run_name, folders)) or "no run in runs/ or reports/"
        near = difflib.get_close_matches(cell.id, dict.fromkeys(met), n=3, cutoff=0.9)
        raise InputError(
            f"{cell.id} was not run ({where})",
            cause=f"near ids that were run are {', '.join(near)}" if near else "",
            next_step=f"run it with: {UNKNOWN.again(cell.id)}, where MATRIX is a matrix that has it",
        )
    if options.json:
        print_json(cell_json(cell.id, shown))
    else:
        print("\n".join(map(render_cell, shown)))
    if options.as_issue is not None:
        judged = [run_of_cell.judged for run_of_cell in shown]
        return _report(next((item for item in reversed(judged) if item.outcome.failure), judged[-1]), options)
    return FINE


def _report(judged: JudgedOutcome, options: argparse.Namespace) -> int:
    """Write the cell's findings as reports for upstream; 3 when a script did not show its fault."""
    from harness.environments.environment import probe
    from harness.report.upstream import write

    cache = cache_of(options)
    (release,) = resolve(judged.outcome.cell.release, load_lock(options.lock))
    folder = options.as_issue / judged.outcome.cell.id.replace("/", "_")
    all_shown = True
    # With --json the record is all of standard output.
    tell = say if options.json else print
    for written in write(judged, release, probe(cache=cache), cache=cache, folder=folder):
        tell(f"{written.folder}: {written.sentence}")
        all_shown &= written.trial is None or written.trial.shown
    return FINE if all_shown else FAULT


def _judged(run: LoadedRun, cell: Cell, issues: KnownIssues) -> JudgedOutcome | None:
    return next((item for item in judge(run.outcomes, issues) if item.outcome.cell == cell), None)
