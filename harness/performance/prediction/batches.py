"""Carrying a measured step to a batch of another size.

All utterances are of one length, so every tensor's size is affine in their number: `a + b · utterances`. Two measured
batches give `a` and `b` of each. Where the release loops over the utterances, a larger batch makes more tensors; such
segments are described by their sums: what they free, what outlives them, by where it ends, and how high they rise.
Those are affine too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from harness.core.errors import HarnessError
from harness.performance.prediction.recording import Birth, End, Event, Label, Ref, Step, StepSegment, StorageUse

MOST_PIECES = 32

Group = tuple[Label | None, bool, StorageUse]
"""Where the storages of a group end, whether in the step after, and what they are for."""


class CarryError(HarnessError):
    """What was measured does not show how the step grows."""


@dataclass(frozen=True, kw_only=True)
class BatchPair:
    """The same step with two batches."""

    small: Step
    large: Step
    sizes: tuple[int, int]

    def at(self, utterances: int) -> Step:
        """The step with another number of utterances.

        Raises:
            CarryError: the two steps do not match.
        """
        if utterances == self.sizes[0]:
            return self.small
        small, large = self._evened
        share = (utterances - self.sizes[0]) / (self.sizes[1] - self.sizes[0])
        return tuple(
            _between(small_segment, large_segment, share)
            for small_segment, large_segment in zip(small, large, strict=True)
        )

    @cached_property
    def _evened(self) -> tuple[Step, Step]:
        return _even(self.small, self.large)


def _between(small: StepSegment, large: StepSegment, share: float) -> StepSegment:
    events: list[Event] = []
    for small_event, large_event in zip(small.events, large.events, strict=True):
        if isinstance(small_event, Birth) and isinstance(large_event, Birth):
            size = max(0.0, small_event.size + (large_event.size - small_event.size) * share)
            events.append(Birth(size=size, use=small_event.use))
        else:
            events.append(small_event)
    return StepSegment(label=small.label, events=tuple(events))


def _even(small: Step, large: Step) -> tuple[Step, Step]:
    """Both steps with the same events: segments that differ in them are described by their sums."""
    if [segment.label for segment in small] != [segment.label for segment in large]:
        raise CarryError(
            "a batch of another size runs other code of the model",
            next_step="predict this batch alone, without --fit",
        )
    uneven: set[Label] = set()
    while True:
        first, second = _summed(small, large, uneven)
        differing = {
            small_segment.label
            for small_segment, large_segment in zip(first, second, strict=True)
            if _form(small_segment.events) != _form(large_segment.events)
        } - uneven
        if not differing:
            return first, second
        uneven |= differing


def _form(events: tuple[Event, ...]) -> list[object]:
    return [event.use if isinstance(event, Birth) else event.ref for event in events]


@dataclass(frozen=True, kw_only=True)
class _Shared:
    """What describes both steps in their uneven segments, so that they have the same events."""

    places: Mapping[Label, Mapping[Group, int]]
    """The order of the groups; one that only one of the steps has, has no size in the other."""
    frees: Mapping[Label, list[Ref]]
    pieces: Mapping[Label, int]
    """In how many pieces the passing tensors of a segment are counted: an allocator serves small ones otherwise."""


def _summed(small: Step, large: Step, uneven: set[Label]) -> tuple[Step, Step]:
    if not uneven:
        return small, large
    small_sums, large_sums = _Sums(small, uneven), _Sums(large, uneven)
    groups = {label: sorted({*small_sums.groups[label], *large_sums.groups[label]}, key=str) for label in uneven}
    shared = _Shared(
        places={
            label: {group: place for place, group in enumerate(sorted_groups)}
            for label, sorted_groups in groups.items()
        },
        frees={label: _agreed(small_sums.frees[label], large_sums.frees[label]) for label in uneven},
        pieces={label: _pieces(large_sums.highest[label], large_sums.largest.get(label, 0.0)) for label in uneven},
    )
    return small_sums.step(shared), large_sums.step(shared)


def _pieces(highest: float, largest: float) -> int:
    return min(MOST_PIECES, max(1, round(highest / largest))) if largest else 1


def _agreed(first: list[Ref], second: list[Ref]) -> list[Ref]:
    return [*first, *(ref for ref in second if ref not in first)]


class _Sums:
    """One step whose uneven segments are to be summed."""

    def __init__(self, step: Step, uneven: set[Label]) -> None:
        self._step = step
        self._uneven = uneven
        self._sizes: dict[tuple[Label, int], float] = {}
        self.groups: dict[Label, dict[Group, float]] = {label: {} for label in uneven}
        self.frees: dict[Label, list[Ref]] = {label: [] for label in uneven}
        """What an uneven segment frees of even ones."""
        self.highest: dict[Label, float] = {}
        """The most that lives at once in an uneven segment, above what lived when it began."""
        self.largest: dict[Label, float] = {}
        """The largest tensor that it makes."""
        ends = {
            (event.ref.label, event.ref.ordinal): (segment.label, event.ref.earlier)
            for segment in step
            for event in segment.events
            if isinstance(event, End)
        }
        for segment in step:
            births = [event for event in segment.events if isinstance(event, Birth)]
            self._sizes |= {(segment.label, ordinal): event.size for ordinal, event in enumerate(births)}
        for segment in step:
            if segment.label in uneven:
                self._sum(segment, ends)

    def _sum(self, segment: StepSegment, ends: Mapping[tuple[Label, int], tuple[Label, bool]]) -> None:
        label, level, highest, ordinal = segment.label, 0.0, 0.0, 0
        for event in segment.events:
            if isinstance(event, End):
                level -= self._sizes[event.ref.label, event.ref.ordinal]
                if event.ref.label not in self._uneven:
                    self.frees[label].append(event.ref)
                continue
            level += event.size
            highest = max(highest, level)
            where, later = ends.get((label, ordinal), (None, False))
            if where != label or later:
                group = (where, later, event.use)
                self.groups[label][group] = self.groups[label].get(group, 0.0) + event.size
            self.largest[label] = max(self.largest.get(label, 0.0), event.size)
            ordinal += 1
        self.highest[label] = highest

    def step(self, shared: _Shared) -> Step:
        """The step with its uneven segments summed."""
        freed: dict[Label, list[Ref]] = {}
        for label, groups in shared.places.items():
            for (where, later, _), place in groups.items():
                if where is not None:
                    freed.setdefault(where, []).append(Ref(label=label, ordinal=place, earlier=later))
        segments = []
        for segment in self._step:
            label = segment.label
            if label in self._uneven:
                refs = [*shared.frees[label], *freed.get(label, ())]
                events = tuple(self._summed(label, refs, shared))
            else:
                remaining = [event for event in segment.events if not self._into_uneven(event)]
                events = (*remaining, *(End(ref=ref) for ref in freed.get(label, ())))
            segments.append(StepSegment(label=label, events=events))
        return tuple(segments)

    def _summed(self, label: Label, refs: list[Ref], shared: _Shared) -> Iterator[Event]:
        """What the segment frees, what outlives it, and on top as much as makes it as high as it was."""
        places, level = shared.places[label], 0.0
        for ref in refs:
            level -= self._size(ref, shared)
            yield End(ref=ref)
        for group in sorted(places, key=places.__getitem__):
            size = self.groups[label].get(group, 0.0)
            level += size
            yield Birth(size=size, use=group[2])
        pieces, above = shared.pieces[label], max(0.0, self.highest[label] - level)
        yield from (Birth(size=above / pieces, use=StorageUse.TEMPORARY) for _ in range(pieces))
        yield from (End(ref=Ref(label=label, ordinal=len(places) + piece, earlier=False)) for piece in range(pieces))

    def _size(self, ref: Ref, shared: _Shared) -> float:
        if ref.label not in self._uneven:
            return self._sizes.get((ref.label, ref.ordinal), 0.0)
        group = next(group for group, place in shared.places[ref.label].items() if place == ref.ordinal)
        return self.groups[ref.label].get(group, 0.0)

    def _into_uneven(self, event: Event) -> bool:
        return isinstance(event, End) and event.ref.label in self._uneven
