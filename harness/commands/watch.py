"""`watch`: a training that you start, observed while it runs and judged at its end."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from harness.commands.exit_status import FAULT, FINE, FOUND
from harness.core.cells import Severity
from harness.core.durable import json_text, write_file
from harness.core.errors import InputError
from harness.performance.prediction.cards import GpuCard
from harness.text.terminal import console, say
from harness.watch.findings import WatchFinding
from harness.watch.forecast import Forecast
from harness.watch.launch_environment import environment
from harness.watch.launching import launch
from harness.watch.scalars import ScalarWriter
from harness.watch.terminal import LiveDisplay, can_draw
from harness.watch.verdict import RECORD, record
from harness.watch.watching import RECORDS, Watched, follow, of_folder


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
    command = launch(options.words, folder, environment(folder / RECORDS))
    watched = Watched(folder=folder, card=card)
    shown = _Shown(watched)
    try:
        follow(command, watched, shown, stop_on=Severity(options.stop_on) if options.stop_on else None)
    finally:
        shown.close()
    return _report(watched)


class _Shown:
    """The display, and the scalars for TensorBoard; where nothing is drawn, the output goes on to standard output."""

    def __init__(self, watched: Watched) -> None:
        self._display = LiveDisplay(watched.state, watched.folder)
        self._scalars = ScalarWriter(watched.state, watched.folder)
        self._passes_on = not can_draw(console())

    def update(self, findings: Sequence[WatchFinding], forecasts: Sequence[Forecast], output: str) -> None:
        """Show what is new."""
        if self._passes_on and output:
            sys.stdout.write(output)
            sys.stdout.flush()
        self._display.update(findings, forecasts, output)
        self._scalars.update()

    def close(self) -> None:
        """Leave the terminal as it was before."""
        self._display.close()
        self._scalars.close()


def _folder(given: Path | None) -> Path:
    """The output folder, made where it is not there.

    Raises:
        InputError: it has the records of another training.
    """
    folder = given or Path(datetime.now().astimezone().strftime("watched-%Y%m%d-%H%M%S"))
    if (folder / RECORDS).exists() and any((folder / RECORDS).iterdir()):
        raise InputError(
            f"{folder} has the records of another training",
            next_step="name another folder with -o, or none: then a new one is made",
        )
    (folder / RECORDS).mkdir(parents=True, exist_ok=True)
    return folder


def _report(watched: Watched) -> int:
    write_file(watched.folder / RECORD, json_text(record(watched)))
    for one in watched.findings.ordered:
        say(f"{one.severity} {one.rule}: {one.message}", style="red")
    if watched.findings.faults:
        return FAULT
    worst = watched.findings.worst
    return FOUND if watched.status or worst in (Severity.BROKEN, Severity.WRONG) else FINE
