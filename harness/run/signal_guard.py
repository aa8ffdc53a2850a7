"""Ending with nothing left: signals wait until nothing is half done, then every process below this one goes."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

from harness.core import processes

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class SignalGuard:
    """Between `with` and the end of the block, orphans come to this process and signals are answered by `check`.

    A second SIGINT is answered at once, in case a callback never returns.
    """

    def __init__(self) -> None:
        self._noted: int | None = None
        self._leaving = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        # processes that the caller has started are the caller's
        self._keep = {0, *processes.children(os.getpid())}
        self._adopted = processes.adopt_orphans()
        if threading.current_thread() is threading.main_thread():
            for signum in _SIGNALS:
                before = signal.getsignal(signum)
                # what was started to ignore a signal, as under nohup, goes on ignoring it
                if before is not signal.SIG_IGN:
                    self._before[signum] = before
                    signal.signal(signum, self._note)
        return self

    def _note(self, signum: int, _frame: FrameType | None) -> None:
        again = self._noted is not None
        self._noted = signum
        if again and signum == signal.SIGINT and not self._leaving:
            raise KeyboardInterrupt

    def check(self) -> None:
        """Answer a signal that came.

        Raises:
            KeyboardInterrupt: it was SIGINT.
            SystemExit: it was another.
        """
        noted, self._noted = self._noted, None
        if noted == signal.SIGINT:
            raise KeyboardInterrupt
        if noted is not None:
            raise SystemExit(128 + noted)

    def sweep(self) -> processes.Sweep:
        """End every process below this one that was not there before."""
        return processes.sweep(keep=self._keep)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leaving = True
        self.sweep()
        processes.adopt_orphans(self._adopted)
        for signum, before in self._before.items():
            signal.signal(signum, before)
        if kind is None:
            self.check()
