"""Runs a plan: starts the stack process, follows its events, gives each outcome as soon as it is known.

Whatever happens here or there, each cell gets one outcome and no process stays.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core import processes, wire
from harness.core.cells import Cell, Outcome, Status
from harness.run import events
from harness.run.artifacts import CellArtifacts, read_frames
from harness.run.decide import blocked, decide, errored, how_ended, log_tail
from harness.run.plan import Plan
from harness.run.scrub import Scrubber
from harness.run.signal_guard import SignalGuard

_LOOK_SECONDS = 0.05
_LOG_BYTES = 1 << 16
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
    on_event: Callable[[events.Event], None] = _ignore,
    on_tick: Callable[[], None] = lambda: None,
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

    Raises:
        KeyboardInterrupt: SIGINT came; no process is left.
        SystemExit: SIGTERM or SIGHUP came, with 128 + the signal's number; no process is left.
    """
    for outcome in plan.decided:
        on_outcome(outcome)
    ledger = RunState(plan, Callbacks(on_outcome=on_outcome, on_started=on_started, on_warning=on_warning))
    if ledger.complete:
        return
    with SignalGuard() as end:
        ledger.clear()
        stacks = _Stacks(plan, ledger, python, _environment(env), on_event, on_tick)
        fruitless, death = 0, ""
        while not ledger.complete and fruitless < _FRUITLESS_STARTS:
            before = ledger.settled
            death = stacks.run_one(end)
            ledger.lose_running(f"the stack process {death} while this cell ran")
            fruitless = 0 if ledger.settled > before else fruitless + 1
            left = end.sweep()
            if left.survivors:
                on_warning(f"{len(left.survivors)} processes could not be ended")
        ledger.mark_rest_errored(
            f"not run: the stack process {death}, and so again when it was started anew{stacks.last_words()}"
        )


@dataclass(frozen=True, kw_only=True)
class Callbacks:
    """Who hears of what."""

    on_outcome: Callable[[Outcome], None]
    on_started: Callable[[Cell], None]
    on_warning: Callable[[str], None]


class RunState:
    """The cells of a plan and their outcomes."""

    def __init__(self, plan: Plan, callbacks: Callbacks) -> None:
        settings = plan.settings
        self._plan = plan
        self._tell = callbacks
        self._cells = plan.cells
        self._batch_of = {each.number: batch for batch in plan.batches for each in batch.cells}
        self._files = wire.Workspace(root=settings.workspace)
        install_dirs = [Path(batch.release["install_dir"]) for batch in plan.batches if "install_dir" in batch.release]
        self._scrub = Scrubber.of(install_dirs=install_dirs, places=settings.places, workspace=settings.workspace)
        self._settled: dict[int, Outcome] = {}
        self._running: dict[int, str] = {}
        self._enter_errors: dict[int, str] = {}

    def clear(self) -> None:
        """Remove what an earlier run left in the workspace: a stale result would be taken for a new one."""
        self._files.root.mkdir(parents=True, exist_ok=True)
        self._files.events.unlink(missing_ok=True)
        for folder in self._files.folders:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()

    @property
    def settled(self) -> int:
        """How many cells have an outcome."""
        return len(self._settled)

    @property
    def complete(self) -> bool:
        """Whether each cell has an outcome."""
        return len(self._settled) == len(self._cells)

    def write_plan(self, path: Path) -> None:
        """Write the plan of what is not settled, for a stack process."""
        done = {number: outcome.status is Status.PASSED for number, outcome in self._settled.items()}
        self._plan.tree(done).save(path)

    def take(self, data: Mapping[str, Any]) -> events.Event | None:
        """Take an event, tell what follows from it, and give it back as a typed value."""
        event = events.parse(data)
        match event:
            case events.Started():
                self._running[event.number] = event.started
                self._tell.on_started(self._cells[event.number])
            case events.Finished() | events.ReleaseDied():
                cell = self._cells[event.number]
                self._settle(event.number, decide(cell, event, self._remains(event)))
            case events.Blocked():
                below = [self._settled[number] for number in event.by]
                self._settle(event.number, blocked(self._cells[event.number], below))
            case events.Entered(error=str() as error):
                for each in self._batch_of[event.number].cells:
                    self._enter_errors[each.number] = self._scrub.text(error)
            case events.Warned():
                self._tell.on_warning(self._scrub.text(event.text))
        return event

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
            self._tell.on_outcome(self._settled[number])

    def _remains(self, event: events.Finished | events.ReleaseDied) -> CellArtifacts:
        number = event.number
        log = self._files.log(number)
        if isinstance(event, events.ReleaseDied) and event.entering:
            log = self._files.release_log(event.batch)
        trace = _read_end(self._files.trace(number))
        scrubbed = self._scrub.frames(read_frames(trace))
        result = self._files.result(number)
        return CellArtifacts(
            result=result.read_text(encoding="utf-8", errors="replace") if result.is_file() else None,
            log=self._scrub.text(_read_end(log)),
            frames=scrubbed,
            enter_error=self._enter_errors.get(number),
        )


def _read_end(path: Path) -> str:
    """The last part of a file that may not be there."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _LOG_BYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


@dataclass(frozen=True)
class _Stacks:
    """Starts stack processes, one after the other, until nothing is left to do."""

    plan: Plan
    ledger: RunState
    python: Path
    env: Mapping[str, str]
    on_event: Callable[[events.Event], None]
    on_tick: Callable[[], None]

    @property
    def _root(self) -> Path:
        return self.plan.settings.workspace

    def run_one(self, end: SignalGuard) -> str:
        """Run a stack process over what is not settled.

        Returns:
            How it ended, in words.
        """
        order = self._root / "plan.json"
        self.ledger.write_plan(order)
        reader = wire.EventReader(wire.Workspace(root=self._root).events, from_end=True)
        arguments = [str(self.python), "-P", "-m", "harness.worker", "serve", str(order), str(os.getpid())]
        with (self._root / "stack.txt").open("ab") as log:
            stack = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._root,
                env=dict(self.env),
                start_new_session=True,
            )
        try:
            return self._follow(stack, reader, end)
        finally:
            # the stack first, so that it starts nothing anew; what it leaves is swept up after it
            stack.kill()
            stack.wait()

    def _follow(self, stack: subprocess.Popen[bytes], reader: wire.EventReader, end: SignalGuard) -> str:
        start, ready = time.monotonic(), False
        while True:
            ended = stack.poll() is not None
            for data in reader.read():
                end.check()
                event = self.ledger.take(data)
                ready |= isinstance(event, events.Ready)
                if event is not None:
                    self.on_event(event)
            end.check()
            self.on_tick()
            if ended:
                code = stack.returncode
                return how_ended(code if code >= 0 else None, -code if code < 0 else None)[0]
            if not ready and time.monotonic() - start > self.plan.settings.preload_timeout_seconds:
                return f"had not imported its modules after {self.plan.settings.preload_timeout_seconds:g} s"
            processes.wait_readable([], timeout=_LOOK_SECONDS, pid=stack.pid)

    def last_words(self) -> str:
        """The last line that a stack process printed."""
        path = self._root / "stack.txt"
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        lines = [line for line in log_tail(text) if line.strip()]
        return f"; its last words: {lines[-1]}" if lines else ""


def _environment(env: Mapping[str, str] | None) -> Mapping[str, str]:
    """The environment with this package on the path; where it is installed it is there already."""
    complete = dict(os.environ if env is None else env)
    root = Path(__file__).resolve().parents[2]
    if root.name not in ("site-packages", "dist-packages"):
        complete["PYTHONPATH"] = os.pathsep.join(filter(None, (str(root), complete.get("PYTHONPATH", ""))))
    return complete
