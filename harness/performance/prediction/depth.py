"""Carrying a measured step to the full depth.

The blocks of a stack are equal, so the block in the middle of the measured ones stands for all that are left out: what
it makes and frees is repeated, and what it frees of its neighbours, or they of it, is moved along. No size is carried
by arithmetic; the full step is as if each block had been measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from harness.performance.prediction.recording import (
    Birth,
    BlockStack,
    End,
    Event,
    Label,
    Ref,
    Step,
    StepSegment,
    StorageUse,
)

LEAST_MEASURED = 5
"""Blocks of a stack: the one in the middle and its neighbours must be neither the first nor the last."""


def deepen(step: Step, stacks: Sequence[BlockStack]) -> Step:
    """The step of the model with as many blocks as the stacks have at full depth."""
    for stack in stacks:
        step = _deepened(step, stack)
    return step


def uneven_blocks(step: Step, stacks: Sequence[BlockStack]) -> tuple[str, ...]:
    """Stacks of which the block in the middle and its neighbours do not do the same; carrying them is a guess."""
    return tuple(stack.name for stack in stacks if stack.full > stack.measured and not _equal(step, stack))


def _equal(step: Step, stack: BlockStack) -> bool:
    middle = stack.measured // 2
    segments_of_blocks: dict[int, list[object]] = {place: [] for place in (middle - 1, middle, middle + 1)}
    for segment in step:
        if segment.label.stack == stack.name and segment.label.index in segments_of_blocks:
            segments_of_blocks[segment.label.index].append(_form(segment))
    # The order of the segments of different blocks differs between the passes; each block's own does not.
    return segments_of_blocks[middle] == segments_of_blocks[middle - 1] == segments_of_blocks[middle + 1]


def _form(segment: StepSegment) -> tuple[object, ...]:
    """What a segment makes; which of its neighbour's tensors it frees differs where the neighbour is the last one."""
    births = [(event.size, event.use) for event in segment.events if isinstance(event, Birth)]
    return (segment.label.kind, segment.label.turn, len(segment.events), *births)


class _Moved:
    """A stack being deepened."""

    def __init__(self, step: Step, stack: BlockStack) -> None:
        self.stack = stack
        self.middle = stack.measured // 2
        self.more = stack.full - stack.measured
        self.repeats = range(self.middle, self.middle + self.more + 1)
        """The places of the block in the middle and of all that it stands for."""
        self._made = dict(self._made_outside(step))

    def _made_outside(self, step: Step) -> Iterator[tuple[Ref, End]]:
        """Gradients that are made of the middle block's outside of it, each with the end of what it was made of.

        So it is with half precision where a block's weights were cast in an earlier pass without gradients: all their
        gradients are widened at once, when the backward pass comes to where that was.
        """
        for segment in step:
            if segment.label.stack == self.stack.name or segment.label.kind != "backward":
                continue
            ordinal = -1
            for event, following in zip(segment.events, segment.events[1:], strict=False):
                if not isinstance(event, Birth):
                    continue
                ordinal += 1
                if (
                    event.use is StorageUse.GRADIENT
                    and isinstance(following, End)
                    and self._is_of_the_middle(following.ref)
                ):
                    yield Ref(label=segment.label, ordinal=ordinal, earlier=False), following

    def _is_of_the_middle(self, ref: Ref) -> bool:
        return (ref.label.stack, ref.label.index, ref.label.kind) == (self.stack.name, self.middle, "backward")

    def moved(self, index: int) -> int:
        """Where a measured block stands in the full stack."""
        return index if index <= self.middle else index + self.more

    def repeated(self, segment: StepSegment) -> Iterator[StepSegment]:
        """What a segment outside makes of the middle block, once more for each block that it stands for."""
        pairs = [
            (event, self._made[ref])
            for ordinal, event in enumerate(_births(segment))
            if (ref := Ref(label=segment.label, ordinal=ordinal, earlier=False)) in self._made
        ]
        for place in self.repeats[1:] if pairs else ():
            events: list[Event] = []
            for birth, end in pairs:
                events += [birth, End(ref=self._at(end.ref, place))]
            yield StepSegment(label=self._with_index(segment.label, place), events=tuple(events))

    def _with_index(self, label: Label, place: int) -> Label:
        return replace(label, stack=f"{label.stack}/{self.stack.name}", index=place, turn=label.index)

    def events(self, segment: StepSegment, place: int | None) -> Iterator[Event]:
        """A segment's events; `place` is where its block stands in the full stack."""
        freed_once = {id(end) for ref, end in self._made.items() if ref.label == segment.label}
        for event in segment.events:
            if isinstance(event, Birth):
                yield event
            elif event.ref.label.stack != self.stack.name:
                if self._is_told_once(segment, place):
                    yield event
                    yield from self._besides_end(event.ref)
            elif id(event) in freed_once:
                # The others of its kind end in segments of their own.
                yield End(ref=self._at(event.ref, self.middle))
            else:
                for target in self._places(event.ref, segment.label, place):
                    yield End(ref=self._at(event.ref, target))

    def _besides_end(self, ref: Ref) -> Iterator[Event]:
        if ref not in self._made:
            return
        made_together = [ref_made for ref_made in self._made if ref_made.label == ref.label]
        for place in self.repeats[1:]:
            yield End(
                ref=Ref(label=self._with_index(ref.label, place), ordinal=made_together.index(ref), earlier=False)
            )

    def _is_told_once(self, segment: StepSegment, place: int | None) -> bool:
        """Of the repeated block the one that runs last frees what is not of the stack."""
        if place is None or segment.label.index != self.middle:
            return True
        return place == (self.repeats[-1] if segment.label.kind == "forward" else self.repeats[0])

    def _places(self, ref: Ref, label: Label, place: int | None) -> tuple[int, ...]:
        """The blocks of the full stack that a reference from this segment means."""
        index = ref.label.index
        if place is not None and abs(index - label.index) <= 1:
            return (place + index - label.index,)
        return tuple(self.repeats) if index == self.middle else (self.moved(index),)

    def _at(self, ref: Ref, place: int) -> Ref:
        return replace(ref, label=replace(ref.label, index=place))


def _births(segment: StepSegment) -> list[Birth]:
    return [event for event in segment.events if isinstance(event, Birth)]


def _deepened(step: Step, stack: BlockStack) -> Step:
    if stack.full <= stack.measured:
        return step
    if stack.measured < LEAST_MEASURED:
        raise ValueError(f"{stack.name}: {stack.measured} blocks were measured, {LEAST_MEASURED} are needed")
    moved = _Moved(step, stack)
    segments: list[StepSegment] = []
    for segment in step:
        label = segment.label
        if label.stack != stack.name:
            segments.append(StepSegment(label=label, events=tuple(moved.events(segment, None))))
            segments.extend(moved.repeated(segment))
            continue
        places: Sequence[int] = (moved.moved(label.index),)
        if label.index == moved.middle:
            places = moved.repeats if label.kind == "forward" else moved.repeats[::-1]
        for place in places:
            events = tuple(moved.events(segment, place))
            segments.append(StepSegment(label=replace(label, index=place), events=events))
    return tuple(segments)
