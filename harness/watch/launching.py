"""Starting the user's command, following its output, and ending it.

The command's output goes to a file and not through a pipe: so the training goes on when the watching process is killed.
The command stays in the terminal's process group, so that Ctrl-C reaches it as it would without being watched.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.core import processes
from harness.core.errors import InputError

OUTPUT = "output.log"
LONGEST_READ = 2**18
"""Bytes of the output that are read at once; of a faster output the display shows parts, and the file has it all."""

ENDING = ((signal.SIGINT, 30.0), (signal.SIGTERM, 15.0), (signal.SIGKILL, 5.0))
"""Signals that end a command, and the seconds that each is given. Python raises KeyboardInterrupt at the first."""


@dataclass
class WatchedCommand:
    """A command that runs."""

    process: subprocess.Popen[bytes]
    output: Path
    started: float
    others: frozenset[int] = frozenset()
    """Children of this process that were there before."""
    _offset: int = 0
    _ending: list[tuple[float, signal.Signals]] = field(default_factory=list)

    @property
    def status(self) -> int | None:
        """The exit status once the command and everything that it started have ended; negative for a signal."""
        ended = self.process.poll() is not None
        for child in processes.children(os.getpid()):
            # Orphans come to this process; those that have ended wait for somebody to look.
            if child != self.process.pid and child not in self.others and not processes.is_running(child):
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(child, os.WNOHANG)
        return self.process.returncode if ended and not self.running() else None

    def running(self) -> list[int]:
        """The processes of the command that are there."""
        started = [child for child in processes.children(os.getpid()) if child not in self.others]
        below = [pid for child in started for pid in (child, *processes.descendants(child))]
        return [pid for pid in below if processes.is_running(pid)]

    def read_output(self) -> str:
        """What was printed since the last call."""
        with contextlib.suppress(OSError), self.output.open("rb") as opened:
            opened.seek(self._offset)
            read = opened.read(LONGEST_READ)
            self._offset += len(read)
            return read.decode("utf-8", "replace")
        return ""

    def signal(self, signum: signal.Signals) -> None:
        """Send a signal to every process of the command: a shell does not hand it on to what it waits for."""
        for pid in self.running():
            processes.kill(pid, signum)

    def end(self) -> None:
        """Begin to end the command, by increasingly forceful signals; `keep_ending` sends the later ones."""
        if not self._ending:
            at = time.monotonic()
            for signum, patience in ENDING:
                self._ending.append((at, signum))
                at += patience

    def keep_ending(self) -> None:
        """Send what is due of the signals that end the command."""
        while self._ending and time.monotonic() >= self._ending[0][0]:
            self.signal(self._ending.pop(0)[1])

    @property
    def is_ending(self) -> bool:
        """Whether `end` was called and signals are left."""
        return bool(self._ending)


def launch(words: Sequence[str], folder: Path, environment: Mapping[str, str]) -> WatchedCommand:
    """Start a command, with the watching process's standard input and the given variables besides its own.

    Raises:
        InputError: there is no such program, or it cannot be run.
    """
    program = shutil.which(words[0])
    if program is None:
        raise InputError(
            f"{words[0]}: no such program",
            next_step="name what starts your training: `funasr-harness watch -- bash finetune.sh`",
        )
    output = folder / OUTPUT
    others = frozenset(processes.children(os.getpid()))
    processes.adopt_orphans()
    with output.open("ab") as opened:
        try:
            process = subprocess.Popen(
                list(words), stdout=opened, stderr=subprocess.STDOUT, env={**os.environ, **environment}
            )
        except OSError as error:
            raise InputError(f"{words[0]} cannot be run: {error.strerror}", next_step="check the command") from error
    return WatchedCommand(process=process, output=output, started=time.time(), others=others)
