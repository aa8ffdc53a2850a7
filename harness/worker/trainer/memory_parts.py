"""The components of a training's memory, and what was known when memory ran out.

Weights, gradients and optimizer state are counted: the bytes of the distinct storages on the model's device. That is
exact, on a CPU too; the allocator rounds each storage up to a multiple of 512 bytes. Activations are what the allocator
held right after the forward pass beyond those (the batch and autocast's copies of the weights included), at the step
with the highest peak. On a CPU they would be an estimate, so they are null.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, pairwise
from typing import Any

from harness.worker.process import failures
from harness.worker.trainer import memory
from harness.worker.trainer.phases import FORWARD, HARNESS, PHASES, Phases, TimeStamp

COUNTED_STEPS = 2
"""The optimizer's state exists from the end of the first step on, so the second step is the first typical one."""


@dataclass
class MemoryParts:
    """Counts the components at the first two steps of a training."""

    weights: int | None = None
    gradients: int | None = None
    optimizer_state: int | None = None
    _network: Any = None
    _left: dict[int, int] = field(default_factory=dict)
    """Bytes of gradients right after the forward pass of each counted step."""

    def before_first_forward(self, network: Any) -> None:
        """Count the weights: the model is on its device, and nothing has been computed."""
        self._network = network
        self.weights = self._bytes(chain(network.parameters(), network.buffers()))

    def after_forward(self, step: int) -> None:
        """Called after a forward pass of this step, counted from 0."""
        if step < COUNTED_STEPS:
            self._left[step] = self._gradients()

    def before_step(self, step: int) -> None:
        """Called right before the optimizer's step, when all gradients exist."""
        if step < COUNTED_STEPS and self._network is not None:
            self.gradients = self._gradients()

    def after_step(self, step: int, optimizer: Any) -> None:
        """Called right after the optimizer's step."""
        if step < COUNTED_STEPS and self._network is not None:
            self.optimizer_state = self._bytes(_tensors(list(optimizer.state.values())))

    def besides_activations(self, step: int) -> int | None:
        """Counted bytes that existed right after the forward pass of a step."""
        state = 0 if step == 0 else self.optimizer_state
        left = self._left.get(min(step, COUNTED_STEPS - 1))
        if self.weights is None or state is None or left is None:
            return None
        return self.weights + state + left

    def _gradients(self) -> int:
        return self._bytes(parameter.grad for parameter in self._network.parameters() if parameter.grad is not None)

    def _bytes(self, tensors: Iterable[Any]) -> int:
        first = next(self._network.parameters(), None)
        on_device = [tensor for tensor in tensors if first is None or tensor.device == first.device]
        storages = {
            storage.data_ptr(): storage.nbytes() for storage in (tensor.untyped_storage() for tensor in on_device)
        }
        return sum(storages.values())


def metrics(parts: MemoryParts, phases: Phases, context: int | None) -> dict[str, Any]:
    """`memory_parts`, `memory_peak`, and the peaks by step and phase; null if unknown.

    `context`: bytes of the process on the GPU beyond those of torch's allocator.
    """
    course = {step: _peaks(phases, step) for step in range(len(phases.steps))}
    gpu = all(course.values()) and bool(course)
    peak = _peak(phases) if gpu else None
    return {
        "memory_parts": {
            "weights": parts.weights,
            "gradients": parts.gradients,
            "optimizer_state": parts.optimizer_state,
            "activations": _activations(parts, phases, peak[0]) if peak else None,
            "workspace_and_fragmentation": _unused(peak[2]) if peak else None,
            "context": context,
        },
        "memory_peak": peak and {"step": peak[0], "phase": peak[1].phase, "allocated": peak[2].memory.peak},
        "peak_allocated_by_step": [max(peaks.values()) for peaks in course.values()] if gpu else None,
        "peak_allocated_by_phase": _by_phase(course) if gpu else None,
    }


def largest_phase(phases: Phases) -> str | None:
    """The phase with the highest allocation so far; None without a GPU."""
    peak = _peak(phases)
    return peak[1].phase if peak else None


def _peak(phases: Phases) -> tuple[int, TimeStamp, Any] | None:
    """Step, start and end of the phase with the highest allocation; the first of equal ones."""
    known = [interval for interval in phases.intervals if interval[2].memory is not None]
    return max(known, key=lambda interval: interval[2].memory.peak if interval[2].memory else 0, default=None)


def _peaks(phases: Phases, number: int) -> dict[str, int]:
    """The peak allocation in each phase of a step; empty without a GPU."""
    peaks: dict[str, int] = {}
    step = phases.steps[number]
    for begin, end in pairwise(step):
        if end.memory is not None:
            peaks[begin.phase] = max(peaks.get(begin.phase, 0), end.memory.peak)
    return peaks


def _by_phase(course: Mapping[int, Mapping[str, int]]) -> dict[str, list[int | None]]:
    return {
        name: [peaks.get(name) for peaks in course.values()]
        for name in PHASES
        if name != HARNESS and any(name in peaks for peaks in course.values())
    }


def _activations(parts: MemoryParts, phases: Phases, step: int) -> int | None:
    after = [end.memory.allocated for number, begin, end in phases.intervals
             if number == step and begin.phase == FORWARD and end.memory]  # fmt: skip
    other_parts = parts.besides_activations(step)
    if not after or other_parts is None or after[-1] < other_parts:
        return None
    return after[-1] - other_parts


def _unused(end: TimeStamp) -> int | None:
    return None if end.memory is None else max(0, end.memory.reserved - end.memory.peak)


def _tensors(value: Any) -> Iterator[Any]:
    """The tensors of an optimizer's state, at any depth."""
    if hasattr(value, "untyped_storage"):
        yield value
    elif isinstance(value, Mapping):
        yield from chain.from_iterable(map(_tensors, value.values()))
    elif isinstance(value, list | tuple):
        yield from chain.from_iterable(map(_tensors, value))


ADVICE: Mapping[str, str] = {
    "cuda": "Take a smaller batch; `funasr-harness estimate` reports which one fits.",
    "cpu": "Take a smaller batch, or raise memory_bytes in the matrix's [limits].",
}
"""A remedy, by device."""

_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_SIZE = r"(\d+(?:\.\d+)?) (bytes|KiB|MiB|GiB|TiB)"
_REQUESTED = re.compile(rf"[Tt]ried to allocate {_SIZE}")
_CAPACITY = re.compile(rf"total capacity of {_SIZE}")
_FREE = re.compile(rf"of which {_SIZE} is free")


def out_of_memory_metrics(
    error: BaseException, install_dir: str, meter: memory.Meter, phases: Phases
) -> dict[str, Any]:
    """`out_of_memory` for the metrics of a training that `error` ended; empty for another exception.

    Called while the exception propagates: its traceback still holds the training's tensors. The requested size and the
    device's capacity are only in torch's message, whose wording is no interface, so each may be None.
    """
    if failures.status_of(error, install_dir) != "out_of_memory":
        return {}
    message = str(error)
    allocator = meter.device().get("allocator", {})
    return {
        "out_of_memory": {
            "requested_bytes": _size(_REQUESTED, message),
            "capacity_bytes": _size(_CAPACITY, message),
            "free_bytes": _size(_FREE, message),
            "allocated_bytes": allocator.get("allocated_bytes"),
            "reserved_bytes": allocator.get("reserved_bytes"),
            "resident_bytes": memory.resident_bytes(),
            "phase": phases.current,
            "step": len(phases.steps),
            "largest_phase": largest_phase(phases),
        }
    }


def _size(pattern: re.Pattern[str], message: str) -> int | None:
    """In bytes; torch rounds to hundredths of its unit."""
    match = pattern.search(message)
    return round(float(match[1]) * _UNITS[match[2]]) if match else None
