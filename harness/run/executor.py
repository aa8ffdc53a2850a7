"""Runs a plan: starts the stack process, follows its events, gives each outcome as soon as it is known.

Whatever happens here or there, each cell gets one outcome and no process stays.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.core import processes, wire
from harness.core.cells import Cell, Outcome
from harness.run import events
from harness.run.decide import how_ended, log_tail
from harness.run.plan import Plan
from harness.run.run_state import Callbacks, RunState
from harness.run.signal_guard import SignalGuard

_LOOK_SECONDS = 0.05
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
