"""Runs a plan: starts the stack process, follows its events, gives each outcome as soon as it is known.

Whatever happens here or there, each cell gets one outcome and no process stays.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from harness.core import channels, processes, wire
from harness.core import tree_events as events
from harness.core.cells import Cell, Outcome, Status
from harness.core.channels import EventMessage
from harness.core.tree_events import Event
from harness.run.artifacts import CellArtifacts, read_frames
from harness.run.decide import ENOUGH, blocked, decide, errored, how_ended, log_tail
from harness.run.plan import Plan
from harness.run.reuse.admission import Admission
from harness.run.reuse.reuse import Reuse
from harness.run.scrub import Scrubber
from harness.run.signal_guard import SignalGuard
from harness.worker.record import code_used

_BUSY = " because the machine was busy"
_LOOK_SECONDS = 0.05
_CLOSE_LOOK_SECONDS = 0.5
_SILENCE_SECONDS = 120.0
"""A stack process says twice a second that it is at work."""
_SETTLED_AT_ONCE = 2000
"""Cells in a message, which has to fit into the channel; more go into the next."""
_FRUITLESS_STARTS = 2
"""After so many stack processes in a row that settled no cell, nothing more is tried."""


def _ignore(_: object) -> None:
    pass


def execute(
    plan: Plan,
    on_outcome: Callable[[Outcome], None],
    *,
    python: Path = Path(sys.executable),
    env: Mapping[str, str] | None = None,
    on_started: Callable[[Cell], None] = _ignore,
    on_warning: Callable[[str], None] = _ignore,
    on_event: Callable[[Event], None] = _ignore,
    on_tick: Callable[[], None] = lambda: None,
    reuse: Reuse | None = None,
) -> None:
    """Run every cell of a plan, and give each outcome as soon as it is known.

    The callbacks are called in this thread, one at a time. Call this from the main thread: only there
    can it answer SIGINT, SIGTERM and SIGHUP, which it does between two callbacks.

    Args:
        plan: what `build_plan` made.
        on_outcome: gets each cell's outcome once, those decided beforehand first.
        python: the stack's interpreter.
        env: the environment of all processes; this process's own if None.
        on_started: gets each cell when its process starts.
        on_warning: gets sentences about the process tree itself.
        on_event: gets every event of the process tree, after what follows from it.
        on_tick: called many times a second, whether or not anything happened.
        reuse: says which cells need not run; None where all do.

    Raises:
        KeyboardInterrupt: SIGINT came; no process is left.
        SystemExit: SIGTERM or SIGHUP came, with 128 + the signal's number; no process is left.
    """
    for outcome in plan.decided:
        on_outcome(outcome)
    callbacks = Callbacks(on_outcome=on_outcome, on_started=on_started, on_warning=on_warning)
    state = RunState(plan, callbacks, reuse)
    if state.complete:
        return
    with SignalGuard() as guard, contextlib.ExitStack() as stack:
        state.clear()
        stack.callback(state.close)
        log = stack.enter_context(tempfile.TemporaryFile())
        stacks = _Stacks(plan, state, python, _environment(env), on_event, on_tick, log)
        fruitless, death = 0, ""
        while state.settle_by_reuse():
            # a process tree is only started for what is not known yet
            continue
        while not state.complete and fruitless < _FRUITLESS_STARTS:
            before = state.settled
            death = stacks.run_one(guard)
            state.take_last_words()
            state.lose_running(f"the process of all releases {death} while this cell ran")
            fruitless = 0 if state.settled > before else fruitless + 1
            state.take_back()
            leftovers = guard.sweep()
            if leftovers.survivors:
                on_warning(f"{len(leftovers.survivors)} processes could not be ended")
        # What a process printed that got no processor is not why it was late.
        last_words = "" if _BUSY in death else stacks.last_words()
        state.mark_rest_errored(
            f"not run: the process of all releases {death}, and again after it was restarted{last_words}"
        )


@dataclass(frozen=True, kw_only=True)
class Callbacks:
    """Who hears of what."""

    on_outcome: Callable[[Outcome], None]
    on_started: Callable[[Cell], None]
    on_warning: Callable[[str], None]


class RunState:
    """The cells of a plan and their outcomes."""

    def __init__(self, plan: Plan, callbacks: Callbacks, reuse: Reuse | None = None) -> None:
        settings = plan.settings
        self._plan = plan
        self._callbacks = callbacks
        self._cells = plan.cells
        self._batches = {batch.index: batch for batch in plan.batches}
        self._batch_of = {cell.number: batch for batch in plan.batches for cell in batch.cells}
        install_dirs = [Path(batch.release["install_dir"]) for batch in plan.batches if "install_dir" in batch.release]
        self._scrub = Scrubber.of(install_dirs=install_dirs, places=settings.places, workspace=settings.workspace)
        self._settled: dict[int, Outcome] = {}
        self._running: dict[int, str] = {}
        self._enter_errors: dict[int, str] = {}
        self._fresh = {number for number, planned in plan.planned().items() if planned.fresh}
        self._orders = {
            planned.number: batch for batch in plan.batches for planned in batch.cells if planned.before_entering
        }
        """By number, what finds out orders of registrations; it is no cell."""
        self._results: dict[int, Mapping[str, Any]] = {}
        self._releases: dict[int, channels.Channel] = {}
        self._reuse = reuse
        self._admission = Admission(plan, reuse) if reuse else None
        self._looked_at: dict[str, tuple[int, int]] = {}
        """For what looks through all cells, how much was known when it last did."""
        self._planned = plan.planned()
        self._offers = reuse.in_drawing_order(plan.cells) if reuse else []

    def clear(self) -> None:
        """Remove what an earlier run left in the workspace."""
        folder = wire.scratch_folder(self._plan.settings.workspace, 0).parent
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)

    @property
    def settled(self) -> int:
        """How many cells have an outcome."""
        return len(self._settled)

    @property
    def complete(self) -> bool:
        """Whether each cell has an outcome."""
        return len(self._settled) == len(self._cells)

    def plan_left(self) -> bytes:
        """The plan of what is not settled, for a stack process."""
        passed = {number: outcome.status is Status.PASSED for number, outcome in self._settled.items()}
        passed |= {number: True for number in self._orders if number in self._results}
        tree = replace(self._plan.tree(passed), results=self._results)
        if self._admission:
            self._admission.restart()
            self._looked_at = {}
            tree = replace(tree, settings=replace(tree.settings, admits=True))
        return tree.to_bytes()

    def take(self, message: EventMessage) -> None:
        """Take an event and report what follows from it."""
        event, files = message.event, message.files
        match event:
            case events.Started() if event.number in self._cells:
                self._running[event.number] = event.started
                self._callbacks.on_started(self._cells[event.number])
            case events.Finished() | events.ReleaseDied() if event.number in self._cells:
                remains = self._remains(event, files)
                self._settle(event.number, decide(self._cells[event.number], event, remains))
                self._learn(event.number, remains)
            case events.Finished() | events.ReleaseDied() if event.number in self._orders:
                self._learn_order(event, files)
            case events.Blocked() if event.number in self._cells:
                below = [self._settled[number] for number in event.by if number in self._settled]
                if below:
                    self._settle(event.number, blocked(self._cells[event.number], below))
            case events.Entered(error=str() as error) if event.number in self._cells:
                for cell in self._batch_of[event.number].cells:
                    self._enter_errors[cell.number] = self._scrub.text(error)
            case events.Warned():
                self._callbacks.on_warning(self._scrub.text(event.text))
            case events.Opened():
                self._close(event.batch)
                self._releases[event.batch] = channels.Channel.of(os.dup(files["channel"]))
            case events.Closed():
                self._close(event.batch)

    def settle_by_reuse(self) -> events.Settled | None:
        """Settle what need not run; None if there is nothing new."""
        if self._reuse is None or self._admission is None or not self._knows_more("settle"):
            return None
        passed_by_number: dict[int, bool] = {}
        base_first = self._reuse.awaits_base(
            cell for number, cell in self._cells.items() if number not in self._settled
        )
        for number, cell in self._offers:
            if len(passed_by_number) >= _SETTLED_AT_ONCE:
                break
            if number in self._settled or number in self._admission.may_run:
                continue
            remembered = self._reuse.remembers(cell)
            if not remembered and (
                (base_first and cell.release != self._reuse.base) or not self._order_is_known(number)
            ):
                continue
            depends_on = self._planned[number].depends_on
            below = [self._settled[other] for other in depends_on if other in self._settled]
            if any(outcome.status is not Status.PASSED for outcome in below):
                outcome: Outcome | None = blocked(cell, below)
            elif len(below) < len(depends_on) and not remembered:
                continue
            else:
                outcome = self._reuse.offer(cell, self._planned[number].request)
            if outcome is not None:
                self._settle(number, outcome)
                passed_by_number[number] = outcome.status is Status.PASSED
        passed = [number for number, well in passed_by_number.items() if well]
        return (
            events.Settled(passed=passed, failed=[number for number in passed_by_number if number not in passed])
            if passed_by_number
            else None
        )

    def _order_is_known(self, number: int) -> bool:
        """Whether what finds out an order of registrations for the cell has ended."""
        return self._results.keys() >= set(self._planned[number].after)

    def admit(self) -> events.Admitted | None:
        """Let as many releases' processes start as can be of use now; None for no more."""
        if not self._knows_more("admit"):
            return None
        finished = self._settled.keys() | (self._orders.keys() & self._results.keys())
        batches = self._admission.next(finished) if self._admission else []
        return events.Admitted(batches=batches) if batches else None

    def _knows_more(self, purpose: str) -> bool:
        """Whether anything was settled since the last call for the purpose."""
        now = len(self._settled), len(self._results)
        before, self._looked_at[purpose] = self._looked_at.get(purpose), now
        return now != before

    def take_back(self) -> None:
        """Have cells run after all that were reused, where reuse has turned out to be wrong."""
        if self._reuse is None:
            return
        numbers = {cell.id: number for number, cell in self._cells.items()}
        for cell in self._reuse.take_back():
            self._settled.pop(numbers[cell.id], None)

    def _learn_order(self, event: events.Finished | events.ReleaseDied, files: Mapping[str, int]) -> None:
        result = wire.parsed(_text(files, "result", channels.RESULT_BYTES).encode()) or {}
        self._results[event.number] = result
        if self._reuse:
            self._reuse.learn_order(self._orders[event.number].release["label"], result)

    def _learn(self, number: int, remains: CellArtifacts) -> None:
        outcome = self._settled[number]
        if self._reuse is None:
            return
        if number in self._fresh:
            if outcome.status is Status.PASSED:
                self._reuse.learn_import(outcome)
            return
        used = (wire.parsed(remains.result.encode()) or {}).get(code_used.RESULT) if remains.result else None
        self._reuse.learn(outcome, self._planned[number].request, used)

    def take_last_words(self) -> None:
        """The stack process is gone: take what the releases' processes reported and it did not pass on."""
        for batch, channel in list(self._releases.items()):
            numbers = {cell.number for cell in self._batches[batch].cells}
            for message in channel.receive():
                if getattr(message.event, "number", None) in numbers:
                    self.take(message)
                message.close()
            self._close(batch)

    def close(self) -> None:
        """Let go of the channels."""
        for batch in list(self._releases):
            self._close(batch)

    def _close(self, batch: int) -> None:
        if channel := self._releases.pop(batch, None):
            channel.close()

    def warn(self, text: str) -> None:
        """Tell what the person who runs it should know."""
        self._callbacks.on_warning(text)

    def lose_running(self, reason: str) -> None:
        """The stack process is gone, and with it the cells that ran."""
        for number, started in list(self._running.items()):
            self._settle(number, errored(self._cells[number], self._scrub.text(reason), started))

    def mark_rest_errored(self, reason: str) -> None:
        """Nothing more will be run."""
        for number, cell in self._cells.items():
            if number not in self._settled:
                self._settle(number, errored(cell, self._scrub.text(reason)))

    def _settle(self, number: int, outcome: Outcome) -> None:
        self._running.pop(number, None)
        if number not in self._settled:
            self._settled[number] = self._scrub.outcome(outcome)
            self._callbacks.on_outcome(self._settled[number])

    def _remains(self, event: events.Finished | events.ReleaseDied, files: Mapping[str, int]) -> CellArtifacts:
        result = _text(files, "result", channels.RESULT_BYTES)
        if isinstance(event, events.Finished) and event.passed and event.number in self._fresh:
            self._results[event.number] = wire.parsed(result.encode()) or {}
        return CellArtifacts(
            result=result or None,
            log=self._scrub.text(_text(files, "log", channels.LOG_BYTES)),
            frames=self._scrub.frames(read_frames(_text(files, "trace", channels.TRACE_BYTES))),
            enter_error=self._enter_errors.get(event.number),
        )


def _text(files: Mapping[str, int], name: str, most_bytes: int) -> str:
    """The content of a file that came with an event; empty where there is none, or none that can be read."""
    if name not in files:
        return ""
    try:
        return channels.read_file(files[name], most_bytes).decode(errors="replace")
    except OSError:
        return ""


@dataclass(frozen=True)
class _Stacks:
    """Starts stack processes, one after the other, until nothing is left to do."""

    plan: Plan
    state: RunState
    python: Path
    env: Mapping[str, str]
    on_event: Callable[[Event], None]
    on_tick: Callable[[], None]
    log: IO[bytes]
    """Takes what stack processes print; it has no name."""

    def run_one(self, end: SignalGuard) -> str:
        """Run a stack process over what is not settled.

        Returns:
            How it ended, in words.
        """
        root = self.plan.settings.workspace
        # a cell may have removed it
        root.mkdir(parents=True, exist_ok=True)
        content = self.state.plan_left()
        order = channels.make_file("plan", len(content) + 1)
        channels.write_file(order, content)
        channel, child_channel = channels.Channel.pair()
        inherited = (order, child_channel.descriptor)
        arguments = [str(self.python), "-P", "-m", "harness.worker", "serve", *map(str, inherited), str(os.getpid())]
        try:
            stack = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=self.log,
                stderr=self.log,
                cwd=root,
                env=dict(self.env),
                pass_fds=inherited,
                start_new_session=True,
            )
        finally:
            os.close(order)
            child_channel.close()
        try:
            return self._follow(stack, channel, end)
        finally:
            # the stack process first, so that it starts nothing more; its leftover processes are ended afterwards
            stack.kill()
            stack.wait()
            channel.close()

    def _follow(self, stack: subprocess.Popen[bytes], channel: channels.Channel, end: SignalGuard) -> str:
        watch, oom_kills = _Watch(self.plan.settings.preload_timeout_seconds), processes.oom_kills()
        while True:
            ended = stack.poll() is not None
            while messages := channel.receive():
                watch.message_arrived()
                self._take(messages, watch, end)
            end.check()
            for order in (self.state.settle_by_reuse(), self.state.admit() if watch.ready else None):
                if order is not None and not ended:
                    with contextlib.suppress(OSError):
                        channel.send(order)
            self.on_tick()
            if ended:
                code = stack.returncode
                if code == -signal.SIGKILL and processes.oom_kills() > oom_kills:
                    return "was ended by the kernel, which had no memory left"
                return how_ended(code if code >= 0 else None, -code if code < 0 else None)[0]
            if silence := watch.too_long(stack.pid):
                return silence
            if watch.looks_now() and processes.is_stopped(stack.pid):
                processes.kill(stack.pid, signal.SIGCONT)
                self.state.warn("the process of all releases was stopped by a signal, and continued")
            processes.wait_readable([channel.descriptor], timeout=_LOOK_SECONDS, pid=stack.pid)

    def _take(self, messages: Sequence[EventMessage], watch: _Watch, end: SignalGuard) -> None:
        try:
            for message in messages:
                end.check()
                if isinstance(message.event, events.Ready):
                    watch.ready = True
                self.state.take(message)
                self.on_event(message.event)
        finally:
            for message in messages:
                message.close()

    def last_words(self) -> str:
        """The last line that a stack process printed."""
        self.log.seek(0)
        text = self.log.read().decode(errors="replace")
        lines = [line for line in log_tail(text) if line.strip()]
        return f"; its last words: {lines[-1]}" if lines else ""


class _Watch:
    """Whether a stack process still does something.

    Time counts as silent only while this process looked: after a stop (Ctrl-Z), or a callback that took long, what the
    stack sent meanwhile is read first.
    """

    def __init__(self, preload_timeout: float) -> None:
        self.ready = False
        self._preload_timeout = preload_timeout
        self._start = self._looked = self._looked_closely = time.monotonic()
        self._silent = 0.0

    def message_arrived(self) -> None:
        """Something came."""
        self._silent = 0.0

    def too_long(self, pid: int) -> str:
        """In words what did not happen in time; empty while there is nothing to say."""
        now = time.monotonic()
        self._silent += min(now - self._looked, 1.0)
        self._looked = now
        if not self.ready:
            late = now - self._start > self._preload_timeout
            limit = self._preload_timeout
            return f"had not imported its modules after {limit:g} s{_for_want_of_time(pid, limit)}" if late else ""
        return f"reported nothing for {_SILENCE_SECONDS:g} s" if self._silent > _SILENCE_SECONDS else ""

    def looks_now(self) -> bool:
        """Whether it is time again to see if the process was stopped."""
        now = time.monotonic()
        if now - self._looked_closely < _CLOSE_LOOK_SECONDS:
            return False
        self._looked_closely = now
        return True


def _for_want_of_time(pid: int, limit: float) -> str:
    """In words that a process waited for a processor for most of its time; empty where it did not."""
    ran, waited = processes.processor_times(pid).get(pid, (0, 0))
    if ran >= ENOUGH * limit * 1e9 or waited < ENOUGH * limit * 1e9:
        return ""
    return f"{_BUSY}: it ran for {ran / 1e9:.3g} s and waited for a processor for {waited / 1e9:.3g} s"


def _environment(env: Mapping[str, str] | None) -> Mapping[str, str]:
    """The environment with this package on the path; where it is installed it is there already."""
    complete = dict(os.environ if env is None else env)
    root = Path(__file__).resolve().parents[2]
    if root.name not in ("site-packages", "dist-packages"):
        complete["PYTHONPATH"] = os.pathsep.join(filter(None, (str(root), complete.get("PYTHONPATH", ""))))
    return complete
