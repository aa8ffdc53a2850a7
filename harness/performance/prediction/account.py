"""Counting: how much is allocated and reserved at most, when, and what it consists of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from harness.performance.prediction.allocator import CachingAllocator, rounded
from harness.performance.prediction.recording import StorageUse
from harness.performance.prediction.training_steps import AllocationChange

PHASES = ("forward", "backward", "update")


@dataclass(frozen=True, kw_only=True)
class Account:
    """A training's memory, in bytes."""

    allocated: int
    """The peak, as `torch.cuda.max_memory_allocated` counts: by blocks, rounding included."""
    requested: int
    """The peak of the tensors' own bytes, nothing rounded: what lives on a CPU too."""
    reserved: int
    """The peak, as `torch.cuda.max_memory_reserved` counts."""
    phase: str
    """In which phase of a step the peak lies."""
    parts: Mapping[StorageUse, int]
    """What was allocated at the peak; each tensor rounded up to 512 bytes."""
    activations: Mapping[str, int]
    """Of the parts, the activations by where they were made: a stack of blocks by its name, empty outside of them."""
    by_phase: Mapping[str, int]
    """The most that was allocated in each phase."""
    held: int
    """Allocated between two steps."""
    gradients: int
    """The most that gradients took, each tensor rounded up."""
    unmatched: int = field(default=0)
    """Storages that grew in number from step to step; anything but 0 is a fault of what was carried."""

    @property
    def rounding(self) -> int:
        """What the allocator's blocks hold beyond the tensors in them, at the peak."""
        return self.allocated - sum(self.parts.values())


def account(changes: Iterable[AllocationChange]) -> Account:
    """Follow a training through the allocator."""
    allocator = CachingAllocator()
    live: dict[int, tuple[int, AllocationChange]] = {}
    uses: Counter[StorageUse] = Counter()
    places: Counter[str] = Counter()
    parts: dict[StorageUse, int] = {}
    activations: dict[str, int] = {}
    by_phase: Counter[str] = Counter()
    counts: dict[int, int] = {}
    held_by_step: dict[int, int] = {}
    phase, highest = "", 0
    requested, most_requested, gradients = 0.0, 0.0, 0
    for change in changes:
        if change.size > 0:
            address = allocator.allocate(change.size)
            live[change.key] = (address, change)
            _count(change, rounded(change.size), uses, places)
            requested += change.size
            most_requested = max(most_requested, requested)
            gradients = max(gradients, uses[StorageUse.GRADIENT])
        else:
            address, allocation = live.pop(change.key)
            allocator.free(address, allocation.size)
            _count(allocation, -rounded(allocation.size), uses, places)
            requested -= allocation.size
        by_phase[change.phase] = max(by_phase[change.phase], allocator.allocated)
        counts[change.step], held_by_step[change.step] = len(live), allocator.allocated
        if allocator.allocated > highest:
            highest, phase = allocator.allocated, change.phase
            parts, activations = dict(uses), dict(places)
    last = max(counts, default=0)
    return Account(
        allocated=allocator.peak_allocated,
        requested=round(most_requested),
        reserved=allocator.peak_reserved,
        phase=phase,
        parts={use: parts.get(use, 0) for use in StorageUse},
        activations={place: size for place, size in activations.items() if size},
        by_phase={name: by_phase[name] for name in PHASES},
        held=held_by_step.get(last, 0),
        gradients=gradients,
        unmatched=counts.get(last, 0) - counts.get(last - 1, 0) if last > 1 else 0,
    )


def _count(change: AllocationChange, size: int, uses: Counter[StorageUse], places: Counter[str]) -> None:
    uses[change.use] += size
    if change.use is StorageUse.ACTIVATION:
        places[change.place] += size
