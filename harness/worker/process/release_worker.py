"""A release's process: it enters the release once, and runs its cells one after the other in children.

A cell takes only itself along, and leaves nothing: its orphans become children of this process, which ends them.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import importlib
import os
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from harness.core import channels, processes, wire
from harness.core import tree_events as events
from harness.core.channels import Channel
from harness.worker.process import cell_process as cells
from harness.worker.process.output import Log
from harness.worker.process.processor_use import ProcessorUse

_LOOK_SECONDS = 0.1
_TRACE_SECONDS = 0.5
_DYING_SECONDS = 10.0
_MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024
"""The unit of `ru_maxrss`, see getrusage(2)."""


@dataclass(kw_only=True)
class Watched:
    """What is seen of a cell while it runs."""

    pid: int
    log: Log
    task: cells.Task
    deadline: float
    """On the monotonic clock, as is the next."""
    next_look: float
    timed_out: bool = False
    over_memory: bool = False
    status: int | None = None
    """As wait4 gives it, once the cell has ended."""
    usage: resource.struct_rusage | None = None
    use: ProcessorUse = field(default_factory=ProcessorUse)

    def has_ended(self) -> bool:
        """Reap the cell if it has ended."""
        if self.status is None:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                self.status, self.usage = status, usage
        return self.status is not None

    def traced_bytes(self) -> int:
        """How much traceback the cell has written: both processes share the file's position."""
        return os.lseek(self.task.trace, 0, os.SEEK_CUR)


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is known of cells that are done."""

    done: dict[int, bool]
    """By number, whether they passed."""
    results: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    """Of cells that passed in a fresh interpreter: the entering of a release may use what its import found."""


@dataclass(frozen=True, kw_only=True)
class Links:
    """What a release's process has to do with the process of all releases."""

    channel: Channel
    """Takes its events."""
    output: int
    """Descriptor of the pipe that takes what it prints."""
    trace: int
    """Descriptor of the file in memory that takes tracebacks while the release is entered."""

    def close(self) -> None:
        """In a cell: these are not the cell's."""
        self.channel.close()
        os.close(self.output)
        os.close(self.trace)


class ReleaseWorker:
    """The cells of one release, in the release's own process."""

    def __init__(self, plan: wire.TreePlan, batch: wire.ReleaseBatch, known: Known, links: Links) -> None:
        self._plan = plan
        self._batch = batch
        self._known = known
        self._links = links
        self._stop = processes.StopSignal()
        self._parent = os.getppid()
        self._entered = False
        self._oom_kills = processes.oom_kills()

    def run(self) -> None:
        """Run every cell, or say on which it would have stood."""
        passed_by_number = self._known.done
        for cell in self._batch.cells:
            missing = [number for number in cell.depends_on if not passed_by_number.get(number, False)]
            if missing:
                self._send(events.Blocked(number=cell.number, by=missing))
                passed_by_number[cell.number] = False
                continue
            if not cell.informs and not self._entered:
                self._enter(cell)
            self._run_cell(cell)

    def _send(self, event: events.Event, files: Mapping[str, int] | None = None) -> None:
        self._links.channel.send(event, files)

    def _enter(self, cell: wire.PlannedCell) -> None:
        """Enter the release, on behalf of the first cell that needs it.

        There is no supervising meanwhile, so the kernel ends this process if the stack process ends.
        """
        self._send(events.Entering(number=cell.number))
        processes.die_with_parent(self._parent)
        error = None
        faulthandler.enable(self._links.trace)
        faulthandler.register(signal.SIGUSR1, self._links.trace)
        before = (*cell.after, *cell.depends_on)
        below = [self._known.results[number] for number in before if number in self._known.results]
        try:
            importlib.import_module(self._plan.settings.checks_module).enter({**self._batch.release, "below": below})
        except BaseException as caught:
            traceback.print_exc()
            error = "".join(traceback.format_exception_only(caught)).strip()
        faulthandler.unregister(signal.SIGUSR1)
        faulthandler.disable()
        self._entered = True
        left = processes.sweep()
        self._stop.listen()
        processes.die_with_parent(self._parent, signal.SIGTERM)
        if left.killed:
            self._send(events.Warned(text=f"entering the release left {left.killed} processes, ended"))
        # the cells share these pages as long as nobody writes to them
        gc.freeze()
        self._send(events.Entered(number=cell.number, error=error))

    def _run_cell(self, cell: wire.PlannedCell) -> None:
        scratch = wire.scratch_folder(self._plan.settings.workspace, cell.number)
        # its parents too: a cell before it may have removed them
        scratch.mkdir(parents=True, exist_ok=True)
        start, started = time.monotonic(), wire.now()
        self._send(events.Started(number=cell.number, started=started))
        watched = self._fork(cell, scratch)
        self._watch(watched)
        if not processes.can_look():
            processes.kill_group(watched.pid)
        left = processes.sweep()
        watched.log.close()
        self._known.done[cell.number] = self._report(cell, watched, left, (start, started))
        shutil.rmtree(scratch, ignore_errors=True)

    def _fork(self, cell: wire.PlannedCell, scratch: Path) -> Watched:
        task = cells.Task(
            checks_module=self._plan.settings.checks_module,
            request=cell.request,
            result=channels.make_file("result", channels.RESULT_BYTES),
            trace=channels.make_file("trace", channels.TRACE_BYTES),
        )
        request = task.to_file(self._plan.settings.sys_path) if cell.fresh else None
        read, write = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        settings = self._plan.settings
        context = cells.ProcessContext(
            parent=os.getpid(),
            scratch=scratch,
            output=write,
            isolated=settings.isolated,
            shared=settings.shared + (settings.compiled if cell.fresh else ()),
        )
        pid = os.fork()
        if pid == 0:
            with _leaving_on_error():
                os.close(read)
                self._stop.forget()
                self._links.close()
                cells.detach(context)
                if request is not None:
                    cells.exec_fresh_interpreter(request, task)
                cells.run_and_exit(task)
        os.close(write)
        if request is not None:
            os.close(request)
        now = time.monotonic()
        return Watched(
            pid=pid,
            log=Log(read),
            task=task,
            deadline=now + cell.timeout_seconds,
            next_look=now + _LOOK_SECONDS,
        )

    def _watch(self, watched: Watched) -> None:
        """Sleep until the cell has ended, or end it."""
        while not watched.has_ended():
            now = time.monotonic()
            if now >= watched.deadline:
                watched.timed_out = True
                watched.use.look(_processes(watched))
                self._ask_where_it_hangs(watched)
                return self._end(watched)
            if now >= watched.next_look:
                before = time.thread_time()
                if self._uses_too_much(watched):
                    watched.over_memory = True
                    return self._end(watched)
                # looking closely costs the kernel a walk over all pages: no more than a twentieth of the time
                spent = time.thread_time() - before
                watched.next_look = now + max(_LOOK_SECONDS, 20 * spent)
            if now >= watched.use.next_look:
                watched.use.look(_processes(watched))
            self._wait(watched, min(watched.deadline, watched.next_look) - now)
        return None

    def _wait(self, watched: Watched, timeout: float) -> None:
        descriptors = [self._stop.wake] + ([watched.log.pipe] if watched.log.pipe is not None else [])
        processes.wait_readable(descriptors, timeout=timeout, pid=watched.pid)
        watched.log.drain()
        self._stop.hush()
        if self._stop.asked or os.getppid() != self._parent:
            processes.kill_group(watched.pid)
            processes.sweep()
            os._exit(128 + signal.SIGTERM)

    def _uses_too_much(self, watched: Watched) -> bool:
        everything = _processes(watched)
        if processes.resident_bytes(everything) <= self._plan.settings.memory_bytes:
            return False
        return processes.own_bytes(everything) > self._plan.settings.memory_bytes

    def _ask_where_it_hangs(self, watched: Watched) -> None:
        """Give the cell a moment to write a traceback; one that hangs with its signals blocked will not."""
        processes.kill(watched.pid, signal.SIGUSR1)
        end, before = time.monotonic() + _TRACE_SECONDS, -1
        while time.monotonic() < end and not watched.has_ended():
            self._wait(watched, _TRACE_SECONDS / 10)
            size = watched.traced_bytes()
            if size and size == before:
                return
            before = size

    def _end(self, watched: Watched) -> None:
        processes.kill_group(watched.pid)
        processes.kill(watched.pid)
        end = time.monotonic() + _DYING_SECONDS
        while not watched.has_ended() and time.monotonic() < end:
            self._wait(watched, 1.0)

    def _report(
        self, cell: wire.PlannedCell, watched: Watched, left: processes.Sweep, began: tuple[float, str]
    ) -> bool:
        start, started = began
        code = os.waitstatus_to_exitcode(watched.status) if watched.status is not None else None
        signum = -code if code is not None and code < 0 else None
        oom_kills = processes.oom_kills() if signum == signal.SIGKILL else self._oom_kills
        passed = code == 0 and not (watched.timed_out or watched.over_memory) and self._says_passed(cell, watched)
        event = events.Finished(
            number=cell.number,
            passed=passed,
            exit_code=code if signum is None else None,
            signal=signum,
            timed_out=watched.timed_out,
            timeout_seconds=cell.timeout_seconds,
            ran_seconds=watched.use.ran_seconds if watched.timed_out else 0.0,
            waited_seconds=watched.use.waited_seconds if watched.timed_out else 0.0,
            over_memory=watched.over_memory,
            memory_bytes=self._plan.settings.memory_bytes,
            oom_killed=oom_kills > self._oom_kills,
            leftovers_killed=left.killed,
            survivors=len(left.survivors),
            seconds=round(time.monotonic() - start, 6),
            started=started,
            peak_resident_bytes=watched.usage.ru_maxrss * _MAXRSS_BYTES if watched.usage else None,
        )
        files = {"result": watched.task.result, "trace": watched.task.trace, "log": watched.log.to_file()}
        self._send(event, files)
        for descriptor in files.values():
            os.close(descriptor)
        self._oom_kills = oom_kills
        return passed

    def _says_passed(self, cell: wire.PlannedCell, watched: Watched) -> bool:
        """Whether its result says so; the result is kept where other cells depend on it."""
        result = wire.parsed(channels.read_file(watched.task.result, channels.RESULT_BYTES))
        passed = result is not None and result.get("status") == "passed"
        if passed and result is not None and cell.informs:
            self._known.results[cell.number] = result
        return passed


def _processes(watched: Watched) -> set[int]:
    """The cell's: those that it orphaned are below this process and not below the cell."""
    return {watched.pid, *processes.descendants(os.getpid())}


@contextlib.contextmanager
def _leaving_on_error() -> Iterator[None]:
    """In a forked child nothing may come back to the parent's code."""
    try:
        yield
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(wire.OWN_FAULT)


def serve(plan: wire.TreePlan, batch: wire.ReleaseBatch, known: Known, links: Links, *, parent: int) -> NoReturn:
    """In the forked child of the stack process: be this release's process until its cells are done."""
    status = wire.OWN_FAULT
    try:
        processes.die_with_parent(parent)
        processes.adopt_orphans()
        os.dup2(links.output, 1)
        os.dup2(links.output, 2)
        running = ReleaseWorker(plan, batch, known, links)
        processes.die_with_parent(parent, signal.SIGTERM)
        running.run()
        status = 0
    except BaseException as error:
        with contextlib.suppress(BaseException):
            traceback.print_exc()
            links.channel.send(events.Warned(text=f"the release's process failed: {type(error).__name__}: {error}"))
    finally:
        with contextlib.suppress(BaseException):
            processes.sweep()
        os._exit(status)
