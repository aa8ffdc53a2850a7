"""`watch`: a training that you start, observed while it runs and judged at its end."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from harness.commands.exit_status import FAULT, FINE, FOUND
from harness.core.cells import Severity
from harness.core.durable import json_text, write_file
from harness.core.errors import InputError
from harness.explain.explain import explain_text
from harness.performance.prediction.cards import GpuCard
from harness.releases import default_cache
from harness.report.watch_report import LivePage, write_report
from harness.text.plain import one_line
from harness.text.streams import pass_on
from harness.text.terminal import console, say, say_result
from harness.watch.findings import WatchFinding
from harness.watch.forecast import Forecast
from harness.watch.launch_environment import environment
from harness.watch.launching import OUTPUT, launch
from harness.watch.scalars import ScalarWriter
from harness.watch.state import RankState
from harness.watch.terminal import LiveDisplay, OutputTail, can_draw
from harness.watch.verdict import RECORD, record
from harness.watch.watching import RECORDS, WatchedTraining, follow, of_folder

LAST_OUTPUT = 2**16
"""Bytes of the command's output that the report looks at."""


def main(options: argparse.Namespace) -> int:
    """Run the command and watch it; 1 where something above `minor` was found or the command failed."""
    card = GpuCard.parse(options.card) if options.card else None
    if options.of is not None:
        if options.words:
            raise InputError("--of and a command were both given", next_step="give one of them")
        return _report(of_folder(options.of))
    if not options.words:
        raise InputError(
            "no command to watch", next_step="write it after `--`: `funasr-harness watch -- bash finetune.sh`"
        )
    folder = _folder(options.output)
    watched = WatchedTraining(folder=folder, card=card)
    shown = _Shown(watched, serve=options.page)
    try:
        command = launch(options.words, folder, environment(folder / RECORDS))
        follow(command, watched, shown, stop_on=Severity(options.stop_on) if options.stop_on else None)
    finally:
        shown.close()
    return _report(watched)


class _Shown:
    """Display, page and TensorBoard's scalars; where nothing is drawn, the output goes on to standard output."""

    def __init__(self, watched: WatchedTraining, *, serve: bool) -> None:
        self._page = LivePage(watched.state, watched.folder, serve=serve)
        self._display = LiveDisplay(watched.state, watched.folder, log=OUTPUT, page=self._page.address)
        self._scalars = ScalarWriter(watched.state, watched.folder)
        self._tail = OutputTail()
        self._passes_on = not can_draw(console())
        if self._passes_on and self._page.address:
            say(f"page: {self._page.address}")

    def update(self, findings: Sequence[WatchFinding], forecasts: Sequence[Forecast], output: str) -> None:
        """Show what is new."""
        if self._passes_on and output:
            pass_on(output)
            sys.stdout.flush()
        self._tail.add(output)
        self._display.update(findings, forecasts, output)
        self._page.update(findings, forecasts, self._tail.lines)
        self._scalars.update()

    def close(self) -> None:
        """Leave the terminal as it was before, and say what could not be shown."""
        self._display.close()
        self._scalars.close()
        self._page.close()
        for problem in filter(None, (self._display.problem, self._page.problem, self._scalars.problem)):
            say(one_line(problem), style="yellow")


def _folder(chosen: Path | None) -> Path:
    """The output folder, made where it is not there.

    Raises:
        InputError: it has the records of another training.
    """
    folder = chosen or Path(datetime.now().astimezone().strftime("watched-%Y%m%d-%H%M%S"))
    if (folder / RECORDS).exists() and any((folder / RECORDS).iterdir()):
        raise InputError(
            f"{folder} has the records of another training",
            next_step="name another folder with -o, or none: then a new one is made",
        )
    (folder / RECORDS).mkdir(parents=True, exist_ok=True)
    return folder


def _report(watched: WatchedTraining) -> int:
    _explain(watched)
    findings = watched.findings.ordered
    write_file(watched.folder / RECORD, json_text(record(watched)))
    report = write_report(
        watched.folder, watched.state, findings, watched.forecasts(), output=_last_output(watched.folder)
    )
    for line in report.lines:
        say_result(line)
    if watched.stopped_for is not None:
        say(
            f"the command was ended for {watched.stopped_for.rule}, as --stop-on wants it: {_record_places(watched)}",
            style="yellow",
        )
    for rule, fault in watched.findings.faults.items():
        say(f"a fault of the harness itself, in the rule {rule}: {one_line(fault)}", style="red")
    if watched.findings.faults:
        return FAULT
    worst = watched.findings.worst
    return FOUND if watched.status or worst in (Severity.BROKEN, Severity.WRONG) else FINE


def _record_places(watched: WatchedTraining) -> str:
    saved = watched.last_checkpoint
    if saved is None:
        return "no checkpoint had been saved"
    return f"the last checkpoint is kept, {one_line(saved.path)}, saved after step {saved.step:,}"


def _last_output(folder: Path) -> list[str]:
    tail = OutputTail()
    try:
        with (folder / OUTPUT).open("rb") as opened:
            opened.seek(max(0, opened.seek(0, 2) - LAST_OUTPUT))
            tail.add(opened.read().decode("utf-8", "replace"))
    except OSError:
        return []
    return tail.lines


EXCEPTION = "ended-by-exception"


def _explain(watched: WatchedTraining) -> None:
    """Give the exception that ended a training its cause and remedy, where they are known."""
    finding = watched.findings.found.get(EXCEPTION)
    rank = next((state for state in watched.state.ranks.values() if _has_exception(state, finding)), None)
    if finding is None or rank is None or rank.ended is None:
        return
    version = rank.process.funasr if rank.process else None
    known = explain_text("\n".join(rank.ended.traceback), named=version, cache=default_cache())
    explanation = next((candidate for candidate in known.explanations if candidate.explained), None)
    if explanation is None:
        return
    watched.findings.found[EXCEPTION] = dataclasses.replace(
        finding,
        message=f"{finding.message.rstrip(': ')}: {explanation.title}",
        evidence=(
            f"{explanation.owner}, {explanation.rule}: {explanation.title}",
            explanation.cause,
            *finding.evidence,
        ),
        remedy=explanation.remedy or finding.remedy,
    )


def _has_exception(rank: RankState, finding: WatchFinding | None) -> bool:
    return finding is not None and rank.rank == finding.rank and rank.ended is not None and bool(rank.ended.traceback)
