"""The scheduler's process: it imports once what all releases share, then forks a process per batch.

It starts no thread and uses no GPU, because neither survives a fork.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import math
import os
import resource
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from harness.core import channels, processes, wire
from harness.core import tree_events as events
from harness.core.channels import Channel, EventMessage
from harness.worker.process import release_worker as batches
from harness.worker.process.output import Log
from harness.worker.process.processor_use import ProcessorUse

VISIBLE = "CUDA_VISIBLE_DEVICES"
"""What CUDA reads when a process first requests a device; the first one named is the process's device 0."""
LOOK_SECONDS = 0.5
SILENCE_SECONDS = 300.0
"""How long after the time limit of its cell a release's process may report nothing: removing a cell's folder of
gigabytes may take a while."""
_TRACE_SECONDS = 0.5
_THREAD_SECONDS = 1.0
"""How long a thread that an import started may take to end."""
_KEPT_BYTES = 1 << 23


def serve(plan_file: int, channel_end: int, without: Sequence[str] = (), *, parent: int) -> NoReturn:
    """The `serve` command: run a plan to its end and leave.

    The exit status says only whether the tree itself worked; what became of the cells is in the events.

    Args:
        plan_file: Descriptor of a file with the plan.
        channel_end: Descriptor of the socket that takes the events.
        without: Modules of the plan that are not imported here, because their import left threads behind.
    """
    status = wire.OWN_FAULT
    try:
        processes.die_with_parent(parent)
        processes.adopt_orphans()
        # Ctrl-C in a terminal is for the outside to answer
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        channel = Channel.of(channel_end)
        plan = wire.TreePlan.from_bytes(channels.read_file(plan_file, os.fstat(plan_file).st_size))
        threading_module = preload(plan, channel, without)
        if threading_module:
            restart(plan_file, channel, threading_module)
        os.close(plan_file)
        stack = Scheduler(plan, channel, parent=parent)
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


def preload(plan: wire.TreePlan, channel: Channel, without: Sequence[str]) -> str:
    """Import the third-party modules; one that fails is reported, and fails again where it is needed.

    A thread does not survive a fork, but the locks that it holds do, and a fork may then wait for them forever.

    Returns:
        A module whose import left a thread behind, where this process has to start again without it; else nothing.
    """
    for entry in reversed(plan.settings.sys_path):
        if entry not in sys.path:
            sys.path.insert(0, entry)
    # the collector would write to pages that the children are to share
    gc.disable()
    threads = processes.count_threads()
    for name in plan.settings.preload:
        if name in without:
            continue
        try:
            importlib.import_module(name)
        except BaseException as caught:
            channel.send(events.Warned(text=f"the stack cannot import {name}: {type(caught).__name__}: {caught}"))
        left = threads_left(more_than=threads) - threads
        if left > 0:
            ending = f"{left} threads running, which do" if left > 1 else "a thread running, which does"
            text = f"importing {name} left {ending} not survive a fork: it is imported later, where it is needed"
            channel.send(events.Warned(text=text))
            return name
    if threads > 1:
        text = f"the process of all releases had {threads} threads before its imports: forks of it may hang"
        channel.send(events.Warned(text=text))
    gc.collect()
    gc.freeze()
    channel.send(events.Ready(threads=threads))
    return ""


def threads_left(*, more_than: int) -> int:
    """How many threads there are once those of an import had a moment to end."""
    deadline = time.monotonic() + _THREAD_SECONDS
    while (threads := processes.count_threads()) > more_than and time.monotonic() < deadline:
        time.sleep(0.01)
    return threads


def restart(plan_file: int, channel: Channel, without: str) -> NoReturn:
    """Replace this process by a new one of the same command that does not import a module.

    A thread cannot be ended from outside it. The process keeps its id, so its parent watches it as before.
    """
    for descriptor in (plan_file, channel.descriptor):
        os.set_inheritable(descriptor, True)
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:], without])  # noqa: S606 - no shell is wanted


@dataclass(kw_only=True)
class Running:
    """A batch that has a process."""

    pid: int
    batch: wire.ReleaseBatch
    devices: tuple[str, ...]
    """The GPUs that it was lent."""
    channel: Channel
    log: Log
    """What the process prints."""
    trace: int
    """Descriptor of the file in memory that takes its tracebacks while it enters the release."""
    current: int | None = None
    """The cell that runs, or for which the release is being entered."""
    since: float = 0.0
    """When that began, on the monotonic clock; and `started` in words."""
    started: str = ""
    entering_until: float | None = None
    """On the monotonic clock, while the release is being entered."""
    silent_at: float = 0.0
    """On the monotonic clock: when a process that has reported nothing until then is held for dead."""
    timed_out: bool = False
    silent: bool = False
    use: ProcessorUse = field(default_factory=ProcessorUse)
    """Of the process and what is below it, since `since`."""
    accused: bool = False
    """Whether it was said that the process sends what is no event of it."""

    def begin(self, number: int) -> None:
        """Note what the process is busy with."""
        self.current, self.since, self.started = number, time.monotonic(), wire.now()
        self.use = ProcessorUse.from_now(self.processes())

    def processes(self) -> list[int]:
        """Of the release."""
        return [self.pid, *processes.descendants(self.pid)]

    def expect(self, seconds: float) -> None:
        """Note that the process reports something within so many seconds."""
        self.silent_at = time.monotonic() + seconds + SILENCE_SECONDS

    def cell(self, number: int) -> wire.PlannedCell | None:
        """The cell of that number, if it is one of this process."""
        return next((cell for cell in self.batch.cells if cell.number == number), None)

    def close(self) -> None:
        """Let go of everything that leads to the process."""
        self.channel.close()
        self.log.close()
        os.close(self.trace)


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
        lent, self._free = tuple(self._free[:count]), self._free[count:]
        return lent

    def give_back(self, devices: tuple[str, ...]) -> None:
        """Take devices back from a process that has ended."""
        self._free = [device for device in self._all if device in (*self._free, *devices)]

    def show(self, devices: tuple[str, ...]) -> None:
        """Have this process, which has used no device yet, see these alone."""
        if self._several and devices:
            os.environ[VISIBLE] = ",".join(devices)


class Scheduler:
    """The scheduler: at most `jobs` batches at once, each when the cells of other batches it depends on are done and
    as many GPUs are free as it needs."""

    def __init__(self, plan: wire.TreePlan, channel: Channel, *, parent: int) -> None:
        self._plan = plan
        self._channel = channel
        self._parent = parent
        self._stop = processes.StopSignal()
        self._pending = list(plan.batches)
        self._admitted = set[int]() if plan.settings.admits else {batch.index for batch in plan.batches}
        self._devices = Devices(plan.settings.gpus)
        self._running: dict[int, Running] = {}
        self._known = batches.Known(done=dict(plan.done), results=dict(plan.results))

    def run(self) -> None:
        """Run every batch.

        Raises:
            RuntimeError: batches wait for each other.
        """
        while self._pending or self._running:
            self._hear_outside()
            self._start_ready()
            if not self._running and any(batch.index in self._admitted for batch in self._pending):
                raise RuntimeError(f"{len(self._pending)} batches wait for cells that no batch holds")
            self._wait()
            for pid, running in list(self._running.items()):
                self._take_events(running)
                self._end_if_it_hangs(pid)
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    self._take_events(running)
                    del self._running[pid]
                    self._settle(running, status)

    def _start_ready(self) -> None:
        for batch in list(self._pending):
            if len(self._running) >= self._plan.settings.jobs:
                return
            if batch.index not in self._admitted or not batch.foreign() <= self._known.done.keys():
                continue
            devices = self._devices.take(batch.gpus)
            if devices is not None:
                self._pending.remove(batch)
                self._fork(batch, devices)

    def _fork(self, batch: wire.ReleaseBatch, devices: tuple[str, ...]) -> None:
        parent = os.getpid()
        own_end, worker_end = Channel.pair()
        read, write = os.pipe()
        trace = channels.make_file("trace", channels.TRACE_BYTES)
        pid = os.fork()
        if pid == 0:
            # nothing that leads to another release, or past this process to the outside
            self._stop.forget()
            self._channel.close()
            for other in self._running.values():
                other.close()
            own_end.close()
            os.close(read)
            self._devices.show(devices)
            links = batches.Links(channel=worker_end, output=write, trace=trace)
            batches.serve(self._plan, batch, self._known, links, parent=parent)
        worker_end.close()
        os.close(write)
        running = Running(pid=pid, batch=batch, devices=devices, channel=own_end, log=Log(read), trace=trace)
        running.expect(0)
        self._running[pid] = running
        self._channel.send(events.Opened(batch=batch.index), {"channel": own_end.descriptor})

    def _wait(self) -> None:
        pidfds = [pidfd for pid in self._running if (pidfd := processes.open_pidfd(pid)) is not None]
        complete = len(pidfds) == len(self._running)
        links = [running.channel.descriptor for running in self._running.values()]
        links += [running.log.pipe for running in self._running.values() if running.log.pipe is not None]
        links.append(self._channel.descriptor)
        seconds = LOOK_SECONDS if complete else LOOK_SECONDS / 20
        processes.wait_readable([self._stop.wake, *pidfds, *links], timeout=seconds)
        for pidfd in pidfds:
            os.close(pidfd)
        self._stop.hush()
        if self._stop.asked or os.getppid() != self._parent:
            processes.sweep()
            os._exit(128 + signal.SIGTERM)
        self._channel.send(events.Alive(), wait=False)
        self._hear_outside()

    def _hear_outside(self) -> None:
        """Take from the outside which of the waiting cells need not run, and which batches may start."""
        for message in self._channel.receive():
            event = message.event
            if isinstance(event, events.Admitted):
                self._admitted.update(event.batches)
            if isinstance(event, events.Settled):
                waiting = {cell.number for batch in self._pending for cell in batch.cells}
                decided = {**dict.fromkeys(event.passed, True), **dict.fromkeys(event.failed, False)}
                self._known.done.update({number: passed for number, passed in decided.items() if number in waiting})
                left = [batch.without(self._known.done) for batch in self._pending]
                self._pending = [batch for batch in left if batch.cells]
            message.close()

    def _take_events(self, running: Running) -> None:
        """Pass on what a release's process reports of its own cells, and learn from it what is done and going on."""
        running.log.drain()
        for message in running.channel.receive():
            if self._take(running, message.event):
                self._keep_result(running, message)
                self._channel.send(message.event, message.files)
            elif not running.accused:
                self._accuse(running)
            message.close()
        if running.channel.malformed and not running.accused:
            self._accuse(running)

    def _accuse(self, running: Running) -> None:
        running.accused = True
        label = running.batch.release.get("label", "a release")
        text = f"the process of {label} sent what is no event of its cells; it was passed over"
        self._channel.send(events.Warned(text=text))

    def _take(self, running: Running, event: events.Event) -> bool:
        """Note an event; whether it is one that this process can have met: code of the release runs in it."""
        number = getattr(event, "number", None)
        cell = running.cell(number) if isinstance(number, int) else None
        if isinstance(event, events.Warned):
            return True
        if cell is None or cell.number in self._known.done:
            return False
        match event:
            case events.Entering():
                running.begin(cell.number)
                running.entering_until = time.monotonic() + self._plan.settings.enter_timeout_seconds
                running.expect(self._plan.settings.enter_timeout_seconds)
            case events.Entered():
                running.entering_until = None
                running.expect(0)
            case events.Started():
                running.begin(cell.number)
                running.expect(cell.timeout_seconds)
            case events.Finished() if running.current == cell.number:
                running.current = None
                self._known.done[cell.number] = event.passed
                running.expect(0)
            case events.Blocked() if self._is_blocked(cell, event.by):
                self._known.done[cell.number] = False
                running.expect(0)
            case _:
                return False
        return True

    def _is_blocked(self, cell: wire.PlannedCell, by: list[int]) -> bool:
        passed_by_number = self._known.done
        return bool(by) and all(number in cell.depends_on and passed_by_number.get(number) is False for number in by)

    def _keep_result(self, running: Running, message: EventMessage) -> None:
        """Keep what an import found for the other processes of its release."""
        event = message.event
        if not (isinstance(event, events.Finished) and event.passed and "result" in message.files):
            return
        cell = running.cell(event.number)
        if cell is not None and cell.informs:
            with contextlib.suppress(OSError):
                content = channels.read_file(message.files["result"], _KEPT_BYTES)
                if (result := wire.parsed(content)) is not None:
                    self._known.results[event.number] = result

    def _end_if_it_hangs(self, pid: int) -> None:
        """Continue a process that was stopped; end one whose import never ends, or that reports nothing any more.

        Its cells it watches itself.
        """
        running, now = self._running[pid], time.monotonic()
        if processes.is_stopped(pid):
            processes.kill(pid, signal.SIGCONT)
            label = running.batch.release.get("label", "a release")
            self._channel.send(events.Warned(text=f"the process of {label} was stopped by a signal, and continued"))
        if running.entering_until is not None and now >= running.entering_until:
            running.timed_out = True
        elif now >= running.silent_at:
            running.silent = True
        else:
            return
        running.entering_until, running.silent_at = None, math.inf
        running.use.look(running.processes())
        processes.kill(pid, signal.SIGUSR1)
        processes.wait_readable([self._stop.wake], timeout=_TRACE_SECONDS, pid=pid)
        for process in reversed(running.processes()):
            processes.kill(process)
        processes.wait_readable([self._stop.wake], timeout=LOOK_SECONDS, pid=pid)

    def _settle(self, running: Running, status: int) -> None:
        """A release's process has ended: end what it left; if it crashed, blame one cell and run the remaining ones."""
        processes.sweep(keep=self._running)
        self._devices.give_back(running.devices)
        unfinished = running.batch.without(self._known.done)
        if unfinished.cells:
            self._blame(running, unfinished, os.waitstatus_to_exitcode(status))
        self._channel.send(events.Closed(batch=running.batch.index))
        running.close()

    def _blame(self, running: Running, unfinished: wire.ReleaseBatch, code: int) -> None:
        blamed = running.current if running.current is not None else unfinished.cells[0].number
        entering = running.timed_out or running.entering_until is not None
        event = events.ReleaseDied(
            number=blamed,
            batch=running.batch.index,
            entering=entering,
            timed_out=running.timed_out,
            silent=running.silent,
            timeout_seconds=self._plan.settings.enter_timeout_seconds,
            ran_seconds=running.use.ran_seconds,
            waited_seconds=running.use.waited_seconds,
            exit_code=code if code >= 0 else None,
            signal=-code if code < 0 else None,
            started=running.started or wire.now(),
            seconds=round(time.monotonic() - running.since, 6) if running.since else 0.0,
        )
        files = {"log": running.log.to_file(), "trace": running.trace} if entering else {}
        self._channel.send(event, files)
        if entering:
            os.close(files["log"])
        self._known.done[blamed] = False
        unfinished = unfinished.without(self._known.done)
        if unfinished.cells:
            self._pending.insert(0, unfinished)
