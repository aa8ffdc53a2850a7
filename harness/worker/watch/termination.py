"""SIGTERM: where the process was when it was asked to end, as torchrun does to the ranks beside one that failed.

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
"""Of the file beside the records; it is removed at an end of another kind."""


class TerminationObserver:
    """Has the traceback written at SIGTERM, unless the training handles the signal itself."""

    def __init__(self) -> None:
        self._file: Any = None

    def attach(self, records: str) -> None:
        """Observe this process, whose records are in this file."""
        if self._file is not None or not records or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
            return
        if not hasattr(faulthandler, "register"):
            return
        # Kept open: a signal writes to it.
        self._file = open(os.path.splitext(records)[0] + SUFFIX, "wb", buffering=0)  # noqa: SIM115
        faulthandler.register(signal.SIGTERM, file=self._file, all_threads=False, chain=True)
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        if self._file is not None:
            faulthandler.unregister(signal.SIGTERM)
            self._file = None

    def detach(self) -> None:
        """The process ends in another way."""
        file = self._file
        self._forget()
        if file is not None:
            name = file.name
            file.close()
            os.unlink(name)
