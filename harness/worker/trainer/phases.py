"""The phases of a training step: the time and the memory of each.

A time stamp begins a phase, which lasts until the next one. So the phases of a step sum to the step, whatever a trainer
does in between:

- `data`: waiting for the next batch in torch's own loader (without workers: reading and collating it);
- `forward`, `backward`: the model's forward pass; from the loss's gradient to the end of autograd's work;
- `optimizer`: gradient clipping, if the trainer clips, and the optimizer's step;
- `harness`: the harness's own work at the time stamps;
- `other`: the rest: copying the batch to the GPU, zeroing gradients, logging, validation, checkpoints.

A step lasts from the end of the previous optimizer step to the end of its own, as in `step_seconds`. The first one
begins at its forward pass and has no data phase.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

from harness.worker.trainer.parameters import MEASURED_FIRST

DATA, FORWARD, BACKWARD, OPTIMIZER, HARNESS, OTHER = "data", "forward", "backward", "optimizer", "harness", "other"
PHASES = (DATA, FORWARD, BACKWARD, OPTIMIZER, HARNESS, OTHER)
BEFORE = "before the first step"

WARM_UP_STEPS = MEASURED_FIRST
"""The first steps take longer: the allocator grows, kernels are autotuned, the optimizer's state is made; and the
harness measures more at them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AllocatorSample:
    """One reading of torch's allocator, in bytes."""

    allocated: int
    """Held by tensors now."""
    peak: int
    """Peak since the previous reading."""
    reserved: int
    """Held by the allocator now."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TimeStamp:
    """The start of a phase."""

    phase: str
    mark: Any
    memory: AllocatorSample | None
    """Its peak belongs to the previous phase; None without a GPU."""


Step = list[TimeStamp]
"""The time stamps of a step; the last one is also the next step's first."""


@dataclass
class Phases:
    """Collects the time stamps of a training."""

    clock: Clock
    sample_allocator: Callable[[], AllocatorSample | None]
    steps: list[Step] = field(default_factory=list)
    _open: Step = field(default_factory=list)

    @property
    def current(self) -> str:
        """The current phase."""
        return self._open[-1].phase if self._open else BEFORE

    @property
    def intervals(self) -> Iterator[tuple[int, TimeStamp, TimeStamp]]:
        """Each phase by its step (from 0), start and end; unfinished steps too."""
        for number, step in enumerate([*self.steps, self._open]):
            yield from ((number, begin, end) for begin, end in pairwise(step))

    def attach(self, training: Callable[[], bool]) -> None:
        """Observe torch's loaders while `training` returns that their batches are trained on."""
        from torch.utils.data import dataloader

        iterator = getattr(dataloader, "_BaseDataLoaderIter", None)
        if iterator is None:
            return
        original = iterator.__next__

        def waited(loader: Any) -> Any:
            if not training():
                return original(loader)
            self.enter(DATA)
            try:
                return original(loader)
            finally:
                self.enter(OTHER)

        iterator.__next__ = waited

    def begin(self, at: float) -> None:
        """Begin the first step; earlier time belongs to no step."""
        self._open = [self._time_stamp(HARNESS, at)]

    def enter(self, phase: str) -> None:
        """Begin a phase; no effect before the first step."""
        if self._open:
            self._open.append(self._time_stamp(phase))

    def end_step(self, at: float) -> None:
        """End the step; the next one begins in the phase `harness`."""
        if not self._open:
            return
        last = self._time_stamp(HARNESS, at)
        self.steps.append([*self._open, last])
        self._open = [last]

    def watch(self, loss: Any) -> None:
        """Observe the start and end of the backward pass from this loss, if it requires a gradient."""
        if getattr(loss, "requires_grad", False):
            loss.register_hook(self._backward_begins)

    def _backward_begins(self, _gradient: Any) -> None:
        from torch.autograd import Variable

        self.enter(BACKWARD)
        # DistributedDataParallel detects the end of a backward pass in this way, too.
        Variable._execution_engine.queue_callback(lambda: self.enter(OTHER))

    def _time_stamp(self, phase: str, at: float | None = None) -> TimeStamp:
        return TimeStamp(phase=phase, mark=self.clock.mark(at), memory=self.sample_allocator())

    def metrics(self) -> dict[str, Any]:
        """Seconds of each finished step by phase; null if a phase was not observed."""
        result: dict[str, Any] = {"warmup_steps": WARM_UP_STEPS, "phase_clock": self.clock.name, "phase_seconds": None}
        if self.steps and self.clock.settle():
            seconds = [self._seconds(step) for step in self.steps]
            observed = {border.phase for step in self.steps for border in step}
            result["phase_seconds"] = {
                # Without a loader of torch, waiting for data is part of `other`.
                name: [seconds_of_step[name] for seconds_of_step in seconds]
                if name != DATA or DATA in observed
                else None
                for name in PHASES
            }
        return result

    def _seconds(self, step: Step) -> dict[str, float]:
        seconds = dict.fromkeys(PHASES, 0.0)
        for begin, end in pairwise(step):
            seconds[begin.phase] += self.clock.seconds(begin.mark, end.mark)
        return {name: round(value, 7) for name, value in seconds.items()}


class Clock(Protocol):
    """Marks moments, and returns the time between them afterwards.

    The CPU only queues work for a GPU, so its clock shows when work was queued, not when it was done. CUDA events in
    the stream are timed by the GPU and read after the training, without waiting.
    """

    name: str
    """As in the outcome."""

    def mark(self, at: float | None = None) -> Any:
        """Mark this moment; `at` is its `time.perf_counter`, if it was read before."""

    def settle(self) -> bool:
        """Whether all marks can be read now; called once, after the training."""

    def seconds(self, begin: Any, end: Any) -> float:
        """Seconds from one mark to a later one."""


class HostClock:
    """`time.perf_counter`: for work that is done when the call returns."""

    name = "perf_counter"

    def mark(self, at: float | None = None) -> float:
        return time.perf_counter() if at is None else at

    def settle(self) -> bool:
        return True

    def seconds(self, begin: float, end: float) -> float:
        return end - begin


class StreamClock:
    """Events in the GPU's current stream (`torch.cuda.Event`), which count milliseconds."""

    name = "CUDA events"

    def __init__(self, cuda: Any) -> None:
        self._cuda = cuda

    def mark(self, at: float | None = None) -> Any:  # noqa: ARG002 - the processor's time is not the GPU's
        event = self._cuda.Event(enable_timing=True)
        event.record()
        return event

    def settle(self) -> bool:
        try:
            self._cuda.synchronize()
        except Exception:  # a GPU that has come to grief answers nothing any more
            return False
        return True

    def seconds(self, begin: Any, end: Any) -> float:
        return float(begin.elapsed_time(end)) * 1e-3


TASKS = Path("/proc/self/task")


@dataclass(frozen=True, kw_only=True)
class CpuTimes:
    """Seconds since an arbitrary origin: wall time, busy time (running or ready to run), and running time.

    Linux counts for each thread the nanoseconds that it ran and that it was ready and waited for a processor
    (`/proc/self/task/*/schedstat`, Documentation/scheduler/sched-stats.rst).
    """

    clock: float
    busy: float
    running: float

    @classmethod
    def now(cls) -> CpuTimes | None:
        """None if the system does not count them."""
        running = ready = 0.0
        for task in TASKS.glob("*/schedstat"):
            # A thread may have ended.
            with contextlib.suppress(OSError, ValueError):
                run, wait = (int(word) * 1e-9 for word in task.read_text("ascii").split()[:2])
                running, ready = running + run, ready + wait
        return cls(clock=time.perf_counter(), busy=running + ready, running=running) if running else None


@dataclass
class IdleTime:
    """The idle time of each step of a training, from its first forward pass to the end of the optimizer's step.

    Idle is wall time that is not busy: the threads slept, or waited for a disk or another process. A busy machine
    lengthens a step without making it idle. All threads are summed, because `AutoModel` gives torch four, some of which
    sleep while they wait for others: so the result is a lower bound.
    """

    idle: list[float | None] = field(default_factory=list)
    running: list[float | None] = field(default_factory=list)
    _began: CpuTimes | None = None

    def begin(self) -> None:
        """Called before the first forward pass of a step; earlier time belongs to the data loader."""
        self._began = CpuTimes.now()

    def end(self) -> None:
        """Called after the optimizer's step."""
        ended, began = CpuTimes.now(), self._began
        if ended is None or began is None:
            self.idle.append(None)
            self.running.append(None)
            return
        self.idle.append(max(0.0, ended.clock - began.clock - (ended.busy - began.busy)))
        self.running.append(ended.running - began.running)

    def metrics(self) -> dict[str, list[float | None]]:
        """Seconds per step; None for a step that could not be measured."""
        return {"idle_seconds": self.idle, "running_seconds": self.running}
