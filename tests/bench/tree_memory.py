"""The memory of a process and all that it started: the sum of their proportional set sizes."""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from pathlib import Path
from types import TracebackType
from typing import Self

_PROC = Path("/proc")


class PeakMemory:
    """Samples this process's tree in a thread while the `with` block runs.

    The proportional set size (proc(5), smaps_rollup) counts a page that n processes share as 1/n in each of them,
    so that the sum is what the tree really holds.
    """

    def __init__(self, *, every_seconds: float = 0.15) -> None:
        self.peak_bytes = 0
        self.peak_processes = 0
        """How many there were at the peak."""
        self.samples = 0
        self._every = every_seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(self._every):
            sizes = [size for pid in tree(os.getpid()) if (size := proportional_bytes(pid))]
            self.samples += 1
            if sum(sizes) > self.peak_bytes:
                self.peak_bytes, self.peak_processes = sum(sizes), len(sizes)


def tree(root: int) -> list[int]:
    """A process and all its descendants."""
    children: dict[int, list[int]] = defaultdict(list)
    for entry in _PROC.glob("[0-9]*"):
        try:
            # The name in brackets may hold spaces and brackets; the parent is the second field after it.
            parent = int((entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
        except (OSError, IndexError, ValueError):
            continue
        children[parent].append(int(entry.name))
    found = [root]
    for pid in found:
        found += children[pid]
    return found


def proportional_bytes(pid: int) -> int:
    """The proportional set size; 0 for a process that has gone."""
    try:
        lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
