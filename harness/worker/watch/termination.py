"""SIGTERM and crashes: where the process was when it was requested to end, or when native code ended it.

A handler in Python would run only once the interpreter is back from torch, so that a process which waits for another
rank would no longer end. `faulthandler` writes the traceback from the signal itself and then lets the process end as
it would have.
"""

from __future__ import annotations

import faulthandler
import os
import signal
from typing import Any

SUFFIX = ".sigterm"
"""Of the file next to the records; it is removed at an end of another kind."""
PLACE = ".place"
"""The same for the epoch and the batch that this process is in, which a traceback does not show."""
CRASH = ".crash"
"""The same for SIGABRT, SIGSEGV and their like: libraries for communication abort a process."""


class TerminationObserver:
    """Has the traceback written at such a signal, unless the training handles it itself."""

    def __init__(self) -> None:
        self._file: Any = None
        self._crash: Any = None
        self._place: Any = None

    def attach(self, records: str) -> None:
        """Observe this process, whose records are in this file."""
        if not records or self._file is not None or self._crash is not None:
            return
        stem = os.path.splitext(records)[0]
        # Both files are kept open: a signal writes to them.
        if hasattr(faulthandler, "register") and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            self._file = open(stem + SUFFIX, "wb", buffering=0)  # noqa: SIM115
            faulthandler.register(signal.SIGTERM, file=self._file, all_threads=False, chain=True)
        if not faulthandler.is_enabled():
            self._crash = open(stem + CRASH, "wb", buffering=0)  # noqa: SIM115
            # The abort may come from a thread of a library, which has no frames of Python.
            faulthandler.enable(file=self._crash, all_threads=True)
        self._place = open(stem + PLACE, "wb", buffering=0)  # noqa: SIM115
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def at(self, epoch: int, batches: int) -> None:
        """The process is in this batch of the epoch, counted from 1; 0 where the epoch has ended."""
        if self._place is not None:
            os.pwrite(self._place.fileno(), b"%12d %12d" % (epoch, batches), 0)

    def _forget(self) -> None:
        if self._file is not None:
            faulthandler.unregister(signal.SIGTERM)
        if self._crash is not None:
            faulthandler.disable()
        self._file = self._crash = self._place = None

    def detach(self) -> None:
        """The process ends in another way."""
        files = [file for file in (self._file, self._crash, self._place) if file is not None]
        self._forget()
        for file in files:
            name = file.name
            file.close()
            os.unlink(name)
