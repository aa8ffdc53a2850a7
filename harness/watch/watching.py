"""Watching a command from its start to its end: the loop that reads, judges and shows."""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Protocol

from harness.core import processes
from harness.core.cells import Severity
from harness.core.errors import InputError
from harness.performance.prediction.cards import GpuCard
from harness.watch.cards import Cards
from harness.watch.coming_batch import ComingBatch, coming_batch
from harness.watch.examine import WatchFindings
from harness.watch.findings import WatchFinding
from harness.watch.forecast import Forecast
from harness.watch.launching import WatchedCommand
from harness.watch.reading import RecordFolder
from harness.watch.records import Saved
from harness.watch.state import RankState, TrainingState
from harness.watch.upcoming import forecasts

TICK_SECONDS = 0.25
CARD_SECONDS = 2.0
RULE_SECONDS = 2.0


class WatchDisplay(Protocol):
    """What shows a training while it runs."""

    def update(self, findings: Sequence[WatchFinding], forecasts: Sequence[Forecast], output: str) -> None:
        """Show the state as it is now; `output` is what the command printed since the last call."""


@dataclass
class WatchedTraining:
    """All that is known of a watched command."""

    folder: Path
    state: TrainingState = field(default_factory=TrainingState)
    findings: WatchFindings = field(default_factory=WatchFindings)
    card: GpuCard | None = None
    """A card that the training is to fit besides."""
    coming: dict[str, ComingBatch | None] = field(default_factory=dict)
    """The largest batch that the sampler can make, by the file of a training's first rank."""
    records: RecordFolder = field(init=False)
    stopped_for: WatchFinding | None = None
    """The finding for which the command was ended."""
    status: int | None = None
    """Of the command, once it has ended."""

    def __post_init__(self) -> None:
        self.records = RecordFolder(self.folder / RECORDS)

    def read(self) -> None:
        """Take up what was recorded since the last call."""
        self.state.now = time.time()
        for file, record in self.records.read():
            self.state.add(file, record)

    def forecasts(self) -> list[Forecast]:
        """What can be said of what is to come."""
        coming = None
        for first in self.state.training_ranks[:1]:
            if first.file not in self.coming and first.process is not None and first.training is not None:
                self.coming[first.file] = coming_batch(first.process, first.training)
            coming = self.coming.get(first.file)
        return forecasts(self.state, coming=coming, card=self.card)

    @property
    def last_checkpoint(self) -> Saved | None:
        """The model file that was saved last and is whole on the disk: one whose saving was cut off is passed over."""
        saved = [
            checkpoint
            for rank in self.state.training_ranks
            for checkpoint in rank.saved
            if checkpoint.tensors and not checkpoint.averaged
        ]
        return max(filter(_is_whole, saved), key=lambda checkpoint: checkpoint.at, default=None)

    def judge(self, *, ended: bool) -> list[WatchFinding]:
        """Apply the rules; returns what is new."""
        return self.findings.update(self.state, ended=ended)


def _is_whole(saved: Saved) -> bool:
    try:
        return Path(saved.path).stat().st_size == saved.bytes
    except OSError:
        return False


RECORDS = "records"
"""The folder of the observers' files within that of the watched training."""


def of_folder(folder: Path) -> WatchedTraining:
    """What was recorded in the folder of a watched training that has ended, or whose watching process has.

    Raises:
        InputError: there are no records.
    """
    if not (folder / RECORDS).is_dir():
        raise InputError(
            f"{folder} has no folder `{RECORDS}`",
            next_step="name the folder that `funasr-harness watch` wrote to",
        )
    watched = WatchedTraining(folder=folder)
    watched.read()
    running = any(_is_running(rank) for rank in watched.state.ranks.values())
    watched.state.now = time.time() if running else 0.0
    watched.judge(ended=not running)
    return watched


def _is_running(rank: RankState) -> bool:
    """Whether the process of a rank is still there, on this machine."""
    process = rank.process
    if process is None or rank.ended is not None or process.host != socket.gethostname():
        return False
    return processes.is_running(process.pid)


def follow(
    command: WatchedCommand, watched: WatchedTraining, display: WatchDisplay, *, stop_on: Severity | None
) -> WatchedTraining:
    """Watch until the command and everything that it started have ended."""
    next_card, next_rules = 0.0, 0.0
    with _signals(command):
        cards = Cards.open()
        while True:
            status = command.status
            watched.read()
            now = time.monotonic()
            if now >= next_card:
                next_card = now + CARD_SECONDS
                for sample in cards.sample():
                    watched.state.add("", sample)
            if now >= next_rules or status is not None:
                next_rules = now + RULE_SECONDS
                watched.judge(ended=False)
                _stop_where_hopeless(command, watched, stop_on)
            command.keep_ending()
            display.update(watched.findings.ordered, watched.forecasts(), command.read_output())
            if status is not None:
                break
            time.sleep(TICK_SECONDS)
    cards.close()
    watched.status = status
    watched.read()
    watched.judge(ended=True)
    while True:
        remaining_output = command.read_output()
        display.update(watched.findings.ordered, [], remaining_output)
        if not remaining_output:
            return watched


def _stop_where_hopeless(command: WatchedCommand, watched: WatchedTraining, stop_on: Severity | None) -> None:
    worst = watched.findings.worst
    if stop_on is None or worst is None or watched.stopped_for is not None:
        return
    severities = list(Severity)
    if severities.index(worst) <= severities.index(stop_on):
        watched.stopped_for = watched.findings.ordered[0]
        command.end()


@contextlib.contextmanager
def _signals(command: WatchedCommand) -> Iterator[None]:
    """Ctrl-C goes to the command by the terminal, and this process waits for its end; SIGTERM is handed on.

    A third Ctrl-C ends what does not end by itself.
    """
    presses = 0

    def interrupted(_signum: int, _frame: FrameType | None) -> None:
        nonlocal presses
        presses += 1
        if presses > 1 or not sys.stdin.isatty():
            # Without a terminal nobody else signals the command.
            command.signal(signal.SIGKILL if presses > 2 else signal.SIGINT)

    def terminated(signum: int, _frame: FrameType | None) -> None:
        command.signal(signal.Signals(signum))

    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, interrupted),
        signal.SIGTERM: signal.signal(signal.SIGTERM, terminated),
    }
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
