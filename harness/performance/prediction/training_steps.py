"""Whole training steps as an allocator meets them: weights, then step after step, with what the optimizer adds.

The optimizer's form follows torch's own rule: on a GPU `torch.optim.Adam` and `AdamW` run their `foreach` form unless
asked otherwise. It keeps two tensors a parameter from its first step on (`exp_avg`, `exp_avg_sq`; the count of steps
stays on the CPU), and within a step it makes one more of each parameter's size, the square roots, and another where
there is a weight decay that is added to the gradients. Clipping makes one number a parameter.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from harness.performance.prediction.recording import (
    Birth,
    Label,
    Parameter,
    Step,
    StepRecording,
    StepSegment,
    StorageUse,
)

STEPS = 3
"""From the second on a step meets the optimizer's state; after the third nothing changes any more."""
_NORM_BYTES = 4.0


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """What the optimizer holds, in tensors of each trained parameter's size."""

    name: str
    kept: int
    """From its first step on."""
    made: int
    """Besides, within a step."""


def optimizer_of(name: str, weight_decay: float) -> Optimizer | None:
    """The rule for an optimizer of FunASR's `optim`; None for one that no rule is known of."""
    match name:
        case "adam":
            return Optimizer(name=name, kept=2, made=2 if weight_decay else 1)
        case "adamw":
            return Optimizer(name=name, kept=2, made=1)
        case _:
            return None


@dataclass(frozen=True, kw_only=True, slots=True)
class AllocationChange:
    """A storage is made or freed."""

    key: int
    size: float
    """Bytes to allocate; 0 frees the key."""
    use: StorageUse
    phase: str
    """`start`, `load`, `forward`, `backward` or `update`."""
    step: int
    """Counted from 1; 0 is before the first."""
    place: str = ""
    """The stack of blocks in which it is made; empty outside of them."""


def changes(
    recording: StepRecording, step: Step, optimizer: Optimizer, *, steps: int = STEPS
) -> Iterator[AllocationChange]:
    """A training of some steps; `step` is at full depth."""
    run = _Run(optimizer=optimizer, trained=[parameter for parameter in recording.parameters if parameter.trained])
    for tensor in (*recording.parameters, *recording.buffers):
        yield run.allocated(tensor.size, StorageUse.WEIGHT, "start")
    for size in recording.kept:
        yield run.allocated(size, StorageUse.ACTIVATION, "start")
    for _ in range(steps):
        yield from run.step(step)


class _Run:
    def __init__(self, *, optimizer: Optimizer, trained: list[Parameter]) -> None:
        self._optimizer = optimizer
        self._trained = trained
        self._count = 0
        self._number = 0
        self._born: dict[tuple[Label, int], int] = {}
        self._before: dict[tuple[Label, int], int] = {}

    def allocated(self, size: float, use: StorageUse, phase: str, place: str = "") -> AllocationChange:
        """A new storage."""
        self._count += 1
        return AllocationChange(key=self._count, size=size, use=use, phase=phase, step=self._number, place=place)

    def _freed(self, key: int, phase: str) -> AllocationChange:
        return AllocationChange(key=key, size=0.0, use=StorageUse.TEMPORARY, phase=phase, step=self._number)

    def step(self, step: Step) -> Iterator[AllocationChange]:
        """One step; what it frees of the step before is freed by the place that it had there."""
        self._number += 1
        self._before, self._born = self._born, {}
        for segment in step:
            if segment.label.kind == "update":
                yield from self._update()
            yield from self._segment(segment)

    def _segment(self, segment: StepSegment) -> Iterator[AllocationChange]:
        ordinal = 0
        phase = segment.label.kind
        for event in segment.events:
            if isinstance(event, Birth):
                if event.size > 0:
                    change = self.allocated(event.size, event.use, phase, segment.label.stack.partition("/")[0])
                    self._born[segment.label, ordinal] = change.key
                    yield change
                ordinal += 1
                continue
            known = self._before if event.ref.earlier else self._born
            key = known.pop((event.ref.label, event.ref.ordinal), None)
            if key is not None:
                yield self._freed(key, phase)

    def _update(self) -> Iterator[AllocationChange]:
        """Clipping, then the optimizer's step."""
        yield from self._passing([_NORM_BYTES] * len(self._trained))
        if self._number == 1:
            for parameter in self._trained:
                for _ in range(self._optimizer.kept):
                    yield self.allocated(parameter.size, StorageUse.OPTIMIZER, "update")
        yield from self._passing(
            [float(parameter.size) for parameter in self._trained for _ in range(self._optimizer.made)]
        )

    def _passing(self, sizes: list[float]) -> Iterator[AllocationChange]:
        allocations = [self.allocated(size, StorageUse.TEMPORARY, "update") for size in sizes]
        yield from allocations
        yield from (self._freed(change.key, "update") for change in allocations)
