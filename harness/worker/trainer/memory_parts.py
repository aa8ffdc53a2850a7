"""What a training's memory is made of: counted where it can be, told apart where the allocator says enough.

Weights, gradients and the optimizer's state are counted: the bytes of the distinct storages behind them, on the model's
device. That is exact, on a CPU too; the allocator rounds each up to a multiple of 512 bytes. Activations are what the
allocator held right after the forward pass besides what was counted (the batch and autocast's copies of the weights
among it), at the step with the highest peak. On a CPU they would have to be estimated, so they are null.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, pairwise
from typing import Any

from harness.worker.trainer.phases import FORWARD, HARNESS, PHASES, Border, Phases

COUNTED_STEPS = 2
"""The optimizer's state is there from the end of the first step on, so the second is the first of the usual kind."""


@dataclass
class Parts:
    """Counts at the first two steps of a training."""

    weights: int | None = None
    gradients: int | None = None
    optimizer_state: int | None = None
    _network: Any = None
    _left: dict[int, int] = field(default_factory=dict)
    """Gradients that lay there right after the forward pass of each counted step."""

    def before_first_forward(self, network: Any) -> None:
        """The model is on its device, and nothing was computed yet."""
        self._network = network
        self.weights = self._bytes(chain(network.parameters(), network.buffers()))

    def after_forward(self, step: int) -> None:
        """After a forward pass of the step with this number, counted from 0."""
        if step < COUNTED_STEPS:
            self._left[step] = self._gradients()

    def before_step(self, step: int) -> None:
        """Right before the optimizer's step, when all gradients are there."""
        if step < COUNTED_STEPS and self._network is not None:
            self.gradients = self._gradients()

    def after_step(self, step: int, optimizer: Any) -> None:
        """Right after the optimizer's step."""
        if step < COUNTED_STEPS and self._network is not None:
            self.optimizer_state = self._bytes(_tensors(list(optimizer.state.values())))

    def besides_activations(self, step: int) -> int | None:
        """Bytes that were counted and lay there right after the forward pass of a step."""
        state = 0 if step == 0 else self.optimizer_state
        left = self._left.get(min(step, COUNTED_STEPS - 1))
        if self.weights is None or state is None or left is None:
            return None
        return self.weights + state + left

    def _gradients(self) -> int:
        return self._bytes(one.grad for one in self._network.parameters() if one.grad is not None)

    def _bytes(self, tensors: Iterable[Any]) -> int:
        first = next(self._network.parameters(), None)
        here = [one for one in tensors if first is None or one.device == first.device]
        storages = {storage.data_ptr(): storage.nbytes() for storage in (one.untyped_storage() for one in here)}
        return sum(storages.values())


def figures(parts: Parts, phases: Phases, context: int | None) -> dict[str, Any]:
    """`memory_parts`, `memory_peak`, and the course over the steps; null where nobody can say.

    `context` is what the process held on the GPU besides what torch's allocator did, in bytes.
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
        "peak_allocated_by_step": [max(one.values()) for one in course.values()] if gpu else None,
        "peak_allocated_by_phase": _by_phase(course) if gpu else None,
    }


def largest_phase(phases: Phases) -> str | None:
    """The phase in which most was allocated so far; None without a GPU."""
    peak = _peak(phases)
    return peak[1].phase if peak else None


def _peak(phases: Phases) -> tuple[int, Border, Any] | None:
    """Step, beginning and end of the phase in which most was allocated; the first of several."""
    known = [one for one in phases.borders if one[2].memory is not None]
    return max(known, key=lambda one: one[2].memory.peak if one[2].memory else 0, default=None)


def _peaks(phases: Phases, number: int) -> dict[str, int]:
    """The most that was allocated in each phase of a step; empty without a GPU."""
    found: dict[str, int] = {}
    step = phases.steps[number]
    for begin, end in pairwise(step):
        if end.memory is not None:
            found[begin.phase] = max(found.get(begin.phase, 0), end.memory.peak)
    return found


def _by_phase(course: Mapping[int, Mapping[str, int]]) -> dict[str, list[int | None]]:
    return {
        name: [one.get(name) for one in course.values()]
        for name in PHASES
        if name != HARNESS and any(name in one for one in course.values())
    }


def _activations(parts: Parts, phases: Phases, step: int) -> int | None:
    after = [end.memory.allocated for number, begin, end in phases.borders
             if number == step and begin.phase == FORWARD and end.memory]  # fmt: skip
    besides = parts.besides_activations(step)
    if not after or besides is None or after[-1] < besides:
        return None
    return after[-1] - besides


def _unused(end: Border) -> int | None:
    return None if end.memory is None else max(0, end.memory.reserved - end.memory.peak)


def _tensors(value: Any) -> Iterator[Any]:
    """The tensors of an optimizer's state, however deep."""
    if hasattr(value, "untyped_storage"):
        yield value
    elif isinstance(value, Mapping):
        yield from chain.from_iterable(map(_tensors, value.values()))
    elif isinstance(value, list | tuple):
        yield from chain.from_iterable(map(_tensors, value))
