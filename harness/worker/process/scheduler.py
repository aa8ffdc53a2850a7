"""The scheduler's process: it imports once what all releases share, then forks a process per batch.

It starts no thread and uses no GPU, because neither survives a fork.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import resource
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from harness.core import processes, wire
from harness.worker.process import release_worker as batches

VISIBLE = "CUDA_VISIBLE_DEVICES"
"""What CUDA reads when a process first asks for a device; the first one named is the process's device 0."""
_LOOK_SECONDS = 0.5
_TRACE_SECONDS = 0.5


def serve(path: Path, *, parent: int) -> NoReturn:
    """The `serve` command: run a plan to its end and leave.

    The exit status says only whether the tree itself worked; what became of the cells is in the events.
    """
    status = wire.OWN_FAULT
    try:
        processes.die_with_parent(parent)
        processes.adopt_orphans()
        # Ctrl-C in a terminal is for the outside to answer
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        plan = wire.TreePlan.load(path)
        files = wire.Workspace(root=plan.settings.workspace)
        preload(plan, files)
        stack = Scheduler(plan, files, parent=parent)
        processes.die_with_parent(parent, signal.SIGTERM)
        stack.run()
        status = 0
    except Exception:
        sys.excepthook(*sys.exc_info())
    finally:
        with contextlib.suppress(BaseException):
            processes.sweep()
            sys.stderr.flush()
        os._exit(status)


def preload(plan: wire.TreePlan, files: wire.Workspace) -> None:
    """Import the third-party modules; one that fails is recorded, and fails again where it is needed."""
    for entry in reversed(plan.settings.sys_path):
        if entry not in sys.path:
            sys.path.insert(0, entry)
    # the collector would write to pages that the children are to share
    gc.disable()
    report: dict[str, dict[str, Any]] = {}
    for name in plan.settings.preload:
        start, error = time.monotonic(), None
        try:
            importlib.import_module(name)
        except BaseException as caught:
            error = f"{type(caught).__name__}: {caught}"
            files.emit("warning", text=f"the stack cannot import {name}: {error}")
        report[name] = {"error": error, "seconds": round(time.monotonic() - start, 6)}
    wire.write_json(plan.settings.workspace / "preload.json", report)
    threads = processes.count_threads()
    if threads > 1:
        files.emit("warning", text=f"the stack process has {threads} threads after its imports: forks of it may hang")
    gc.collect()
    gc.freeze()
    files.emit("ready", threads=threads)


@dataclass(kw_only=True)
class Running:
    """A batch that has a process."""

    batch: wire.ReleaseBatch
    devices: tuple[str, ...]
    """The GPUs that it was lent."""
    current: int | None = None
    """The cell that runs, or for which the release is being entered."""
    since: float = 0.0
    """When that began, on the monotonic clock; and `started` in words."""
    started: str = ""
    entering_until: float | None = None
    """On the monotonic clock, while the release is being entered."""
    timed_out: bool = False

    def begin(self, number: int) -> None:
        """Note what the process is busy with."""
        self.current, self.since, self.started = number, time.monotonic(), wire.now()


class Devices:
    """The GPUs of a run, each lent to one process at a time.

    With one GPU nothing is set: its processes see what the user's own would.
    """

    def __init__(self, count: int) -> None:
        named = [name.strip() for name in os.environ.get(VISIBLE, "").split(",") if name.strip()]
        self._several = count > 1
        # By the user's own names where there are any, such as UUIDs; torch counts devices in that order.
        self._all = (named or [str(index) for index in range(count)])[:count]
        self._free = self._all

    def take(self, count: int) -> tuple[str, ...] | None:
        """Lend so many, none where none are needed; None while there are not enough."""
        if count > len(self._free):
            return None
        taken, self._free = tuple(self._free[:count]), self._free[count:]
        return taken

    def give_back(self, devices: tuple[str, ...]) -> None:
        """Take devices back from a process that has ended."""
        self._free = [device for device in self._all if device in (*self._free, *devices)]

    def show(self, devices: tuple[str, ...]) -> None:
        """Have this process, which has asked for no device yet, see these alone."""
        if self._several and devices:
            os.environ[VISIBLE] = ",".join(devices)


class Scheduler:
    """The scheduler: at most `jobs` batches at once, each when the cells of other batches it depends on are done and
    as many GPUs are free as it needs."""

    def __init__(self, plan: wire.TreePlan, files: wire.Workspace, *, parent: int) -> None:
        self._plan = plan
        self._files = files
        self._parent = parent
        self._stop = processes.StopSignal()
        self._pending = list(plan.batches)
        self._devices = Devices(plan.settings.gpus)
        self._running: dict[int, Running] = {}
        self._done: dict[int, bool] = dict(plan.done)
        self._events = wire.EventReader(files.events, from_end=True)

    def run(self) -> None:
        """Run every batch.

        Raises:
            RuntimeError: batches wait for each other.
        """
        while self._pending or self._running:
            self._start_ready()
            if not self._running:
                raise RuntimeError(f"{len(self._pending)} batches wait for cells that no batch holds")
            self._wait()
            self._take_events()
            for pid in list(self._running):
                self._end_if_it_hangs(pid)
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    self._take_events()
                    self._settle(self._running.pop(pid), status)

    def _start_ready(self) -> None:
        for batch in list(self._pending):
            if len(self._running) >= self._plan.settings.jobs:
                return
            if not batch.foreign() <= self._done.keys():
                continue
            devices = self._devices.take(batch.gpus)
            if devices is not None:
                self._pending.remove(batch)
                self._running[self._fork(batch, devices)] = Running(batch=batch, devices=devices)

    def _fork(self, batch: wire.ReleaseBatch, devices: tuple[str, ...]) -> int:
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._stop.forget()
            self._devices.show(devices)
            batches.serve(self._plan, batch, self._done, parent=parent)
        return pid

    def _wait(self) -> None:
        pidfds = [pidfd for pid in self._running if (pidfd := processes.open_pidfd(pid)) is not None]
        complete = len(pidfds) == len(self._running)
        processes.wait_readable([self._stop.wake, *pidfds], timeout=_LOOK_SECONDS if complete else _LOOK_SECONDS / 20)
        for pidfd in pidfds:
            os.close(pidfd)
        self._stop.hush()
        if self._stop.asked or os.getppid() != self._parent:
            processes.sweep()
            os._exit(128 + signal.SIGTERM)

    def _take_events(self) -> None:
        """Learn from the events of the releases' processes which cells are done, and what is going on."""
        for event in self._events.read():
            number = event.get("number")
            running = next((one for one in self._running.values() if _holds(one.batch, number)), None)
            match event["event"]:
                case "finished" | "blocked":
                    self._done[event["number"]] = bool(event.get("passed", False))
                    if running and running.current == number:
                        running.current = None
                case "entering" if running:
                    running.begin(event["number"])
                    running.entering_until = time.monotonic() + self._plan.settings.enter_timeout_seconds
                case "entered" if running:
                    running.entering_until = None
                case "started" if running:
                    running.begin(event["number"])

    def _end_if_it_hangs(self, pid: int) -> None:
        """A release whose import never ends is this process's to end; its cells it watches itself."""
        running = self._running[pid]
        if running.entering_until is None or time.monotonic() < running.entering_until:
            return
        running.timed_out = True
        running.entering_until = None
        processes.kill(pid, signal.SIGUSR1)
        processes.wait_readable([self._stop.wake], timeout=_TRACE_SECONDS, pid=pid)
        for each in (*processes.descendants(pid), pid):
            processes.kill(each)
        processes.wait_readable([self._stop.wake], timeout=_LOOK_SECONDS, pid=pid)

    def _settle(self, running: Running, status: int) -> None:
        """A release's process has ended: end what it left; if it broke, blame one cell and go on with the rest."""
        processes.sweep(keep=self._running)
        self._devices.give_back(running.devices)
        rest = running.batch.without(self._done)
        if not rest.cells:
            return
        code = os.waitstatus_to_exitcode(status)
        blamed = running.current if running.current is not None else rest.cells[0].number
        self._files.emit(
            "release_died",
            number=blamed,
            batch=running.batch.index,
            entering=running.timed_out or running.entering_until is not None,
            timed_out=running.timed_out,
            timeout_seconds=self._plan.settings.enter_timeout_seconds,
            exit_code=code if code >= 0 else None,
            signal=-code if code < 0 else None,
            started=running.started or wire.now(),
            seconds=round(time.monotonic() - running.since, 6) if running.since else 0.0,
        )
        self._done[blamed] = False
        rest = rest.without(self._done)
        if rest.cells:
            self._pending.insert(0, rest)


def _holds(batch: wire.ReleaseBatch, number: object) -> bool:
    return any(cell.number == number for cell in batch.cells)
