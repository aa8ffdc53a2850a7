"""Processes of which none may be left: who dies with whom, who is still there, how much memory they hold.

Written for Linux. Where a system lacks prctl, `/proc` or pidfds, each function does what can be done without:
orphans are then not found, and waiting wakes up now and then to look.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import threading
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

# prctl(2), linux/prctl.h
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_CHILD_SUBREAPER = 37

_PROC = Path("/proc")
_LOOK_AGAIN_SECONDS = 0.02


def _prctl(option: int, value: object) -> bool:
    try:
        call = ctypes.CDLL(None).prctl
    except (OSError, AttributeError):
        return False
    return bool(call(option, value, *(ctypes.c_ulong(0),) * 3) == 0)


def die_with_parent(parent: int, signum: int = signal.SIGKILL) -> None:
    """Have the kernel send `signum` when the parent ends; leave at once if it has ended already.

    It holds across exec and is not inherited by forked children.
    """
    _prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signum))
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans(yes: bool = True) -> bool:
    """Make orphaned descendants children of this process, whatever sessions they moved to.

    Returns:
        Whether it was so before.
    """
    before = ctypes.c_int(0)
    _prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(before))
    _prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(yes))
    return bool(before.value)


def children(pid: int) -> list[int]:
    """The direct children, zombies too; empty when the process has gone."""
    if not (_PROC / f"self/task/{os.getpid()}/children").exists():
        return [child for child, parent in _parents() if parent == pid]
    pids: list[int] = []
    with contextlib.suppress(OSError):
        for task in (_PROC / f"{pid}/task").iterdir():
            pids += map(int, (task / "children").read_text().split())
    return pids


def _parents() -> Iterator[tuple[int, int]]:
    """Every process with its parent, for kernels that do not list children."""
    for entry in _PROC.glob("[0-9]*"):
        fields = _stat(int(entry.name))
        if fields:
            yield int(entry.name), int(fields[1])


def _stat(pid: int) -> list[str]:
    """`/proc/PID/stat` from the state on; the name before it may hold spaces and brackets."""
    try:
        return (_PROC / f"{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def descendants(pid: int) -> list[int]:
    """Everything below a process, parents before their children."""
    pids = children(pid)
    for child in pids:
        pids.extend(children(child))
    return pids


def count_threads() -> int:
    """Threads of this process, those of native libraries too where `/proc` shows them."""
    try:
        return len(list((_PROC / "self/task").iterdir()))
    except OSError:
        return threading.active_count()


def is_running(pid: int) -> bool:
    """Whether the process is there and not a zombie."""
    fields = _stat(pid)
    return bool(fields) and fields[0] not in "ZX"


def is_stopped(pid: int) -> bool:
    """Whether a signal has stopped the process (SIGSTOP), so that it does nothing until it gets SIGCONT."""
    fields = _stat(pid)
    return bool(fields) and fields[0] == "T"


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What `sweep` found."""

    killed: int
    """How many running processes it ended."""
    survivors: tuple[int, ...] = ()
    """What would not die in time, such as a process stuck in a driver."""


def sweep(keep: Collection[int] = (), *, patience_seconds: float = 5.0) -> Sweep:
    """Kill and reap everything below this process, but for the children in `keep` and what is below them.

    It finds those that changed their session or lost their parent only if this process adopts orphans.
    """
    killed: set[int] = set()
    end = time.monotonic() + patience_seconds
    while True:
        if not keep and not _reap_any():
            return Sweep(killed=len(killed))
        own_children = [child for child in children(os.getpid()) if child not in keep and not _reap(child)]
        targets = [pid for child in own_children for pid in (child, *descendants(child))]
        if not targets:
            return Sweep(killed=len(killed))
        if time.monotonic() > end:
            return Sweep(killed=len(killed), survivors=tuple(targets))
        for pid in filter(is_running, targets):
            killed.add(pid)
            kill(pid)
        wait_readable([], pid=own_children[0], timeout=_LOOK_AGAIN_SECONDS)


def _reap_any() -> bool:
    """Reap whatever has ended; whether any child is left."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def _reap(pid: int) -> bool:
    """Whether the child has ended; if so it is gone now."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def kill(pid: int, signum: int = signal.SIGKILL) -> None:
    """Send a signal to a process that may have gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signum)


def kill_group(leader: int) -> None:
    """Kill a process group that may have gone; this finds the children even where `/proc` is missing."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def can_look() -> bool:
    """Whether other processes can be seen; without that, only a process group can be ended as a whole."""
    return (_PROC / str(os.getpid())).exists()


def resident_bytes(pids: Iterable[int]) -> int:
    """What the processes hold in memory, pages shared between them counted each time: cheap, and never too low."""
    pages = 0
    for pid in pids:
        with contextlib.suppress(OSError, IndexError):
            pages += int((_PROC / f"{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def own_bytes(pids: Iterable[int]) -> int:
    """What the processes hold in memory, each shared page divided by the number of those who share it (Pss).

    Pages inherited from a parent so count little, and a page that workers share counts once among them.
    The kernel walks all their pages for it: ask only when `resident_bytes` gives reason to.
    """
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in (_PROC / f"{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total


def processor_times(pid: int) -> dict[int, tuple[int, int]]:
    """By thread, for how many nanoseconds it ran, and for how many it could have run and waited for a processor.

    From `/proc/PID/task/TID/schedstat` (Documentation/scheduler/sched-stats.rst); empty where the kernel has none.
    """
    times: dict[int, tuple[int, int]] = {}
    with contextlib.suppress(OSError):
        for task in (_PROC / f"{pid}/task").iterdir():
            with contextlib.suppress(OSError, ValueError):
                ran, waited, *_ = map(int, (task / "schedstat").read_text().split())
                times[int(task.name)] = ran, waited
    return times


def oom_kills() -> int:
    """How many processes the kernel has killed for want of memory since the machine started; 0 if it does not say."""
    with contextlib.suppress(OSError):
        for line in (_PROC / "vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def open_pidfd(pid: int) -> int | None:
    """A descriptor that becomes readable when the child ends, or None where there is no such thing."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


def wait_readable(descriptors: Iterable[int], *, timeout: float, pid: int | None = None) -> set[int]:
    """Sleep until a descriptor is readable, the child `pid` has ended, or `timeout` seconds are over.

    Returns:
        The readable ones among `descriptors`.
    """
    poller = select.poll()
    for descriptor in descriptors:
        poller.register(descriptor, select.POLLIN)
    pidfd = open_pidfd(pid) if pid is not None else None
    if pidfd is not None:
        poller.register(pidfd, select.POLLIN)
    elif pid is not None:
        timeout = min(timeout, _LOOK_AGAIN_SECONDS)
    try:
        ready = {descriptor for descriptor, _ in poller.poll(max(0.0, timeout) * 1000)}
    finally:
        if pidfd is not None:
            os.close(pidfd)
    return ready - {pidfd} if pidfd is not None else ready


class StopSignal:
    """SIGTERM as a flag that also ends a wait, so that a supervisor cleans up instead of dying in the middle.

    Add `wake` to the descriptors of each wait.
    """

    def __init__(self) -> None:
        self.wake, self._write = os.pipe()
        os.set_blocking(self.wake, False)
        os.set_blocking(self._write, False)
        self.asked = False
        self.listen()

    def listen(self) -> None:
        """Take SIGTERM (again: imported code may have put a handler of its own in place)."""
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._note)

    def hush(self) -> None:
        """Empty the pipe after a wait: any signal that has a Python handler writes to it."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self.wake, 64):
                pass

    def _note(self, _signum: int, _frame: FrameType | None) -> None:
        self.asked = True

    def forget(self) -> None:
        """In a forked child: the signals are the child's own again."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.close(self.wake)
        os.close(self._write)
