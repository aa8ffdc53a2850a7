"""How long a training step waits for nothing: time in which none of its threads runs or waits for a processor.

Linux counts for each thread the nanoseconds that it ran and that it was ready and waited for a processor
(`/proc/self/task/*/schedstat`, Documentation/scheduler/sched-stats.rst). What is left of the clock's time they slept,
or waited for a disk or another process. A busy machine makes a step long, and does not make it idle. All threads are
added up, because `AutoModel` lets torch have four, and one of them sleeps while it waits for the others: so what is
told is the least that the step was idle.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from pathlib import Path

TASKS = Path("/proc/self/task")


@dataclass(frozen=True, kw_only=True)
class Moment:
    """Seconds since some beginning: on the clock, and of them running or ready to run."""

    clock: float
    busy: float
    running: float

    @classmethod
    def now(cls) -> Moment | None:
        """None where the system does not count."""
        running = ready = 0.0
        for task in TASKS.glob("*/schedstat"):
            # A thread may end meanwhile.
            with contextlib.suppress(OSError, ValueError):
                run, wait = (int(word) * 1e-9 for word in task.read_text("ascii").split()[:2])
                running, ready = running + run, ready + wait
        return cls(clock=time.perf_counter(), busy=running + ready, running=running) if running else None


@dataclass
class Idle:
    """Collects it over the steps of a training, from the first forward pass of each to the optimizer's step."""

    idle: list[float | None] = field(default_factory=list)
    running: list[float | None] = field(default_factory=list)
    _began: Moment | None = None

    def begin(self) -> None:
        """Before the first forward pass of a step; what comes before it is the data loader's."""
        self._began = Moment.now()

    def end(self) -> None:
        """After the optimizer's step."""
        ended, began = Moment.now(), self._began
        if ended is None or began is None:
            self.idle.append(None)
            self.running.append(None)
            return
        self.idle.append(max(0.0, ended.clock - began.clock - (ended.busy - began.busy)))
        self.running.append(ended.running - began.running)

    def figures(self) -> dict[str, list[float | None]]:
        """Seconds of each step."""
        return {"idle_seconds": self.idle, "running_seconds": self.running}
