"""What was seen of a training step, as typed values: each storage's birth and end, by where in the step they lie."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

SMALL_BYTES = 4096
"""What is born and ends within one segment outside the blocks and is not larger is left out: a loop over utterances
makes as many of them as there are utterances, and all of them weigh nothing."""


class StorageUse(StrEnum):
    """What a tensor is there for; the parts of a peak."""

    WEIGHT = "weights"
    GRADIENT = "gradients"
    OPTIMIZER = "optimizer state"
    ACTIVATION = "activations"
    TEMPORARY = "temporaries"
    BATCH = "batch"


@dataclass(frozen=True, kw_only=True, order=True)
class Label:
    """A segment of a step."""

    kind: str
    """`load`, `forward`, `backward` or `update`."""
    stack: str
    """Name of a stack of equal blocks; empty outside of one."""
    index: int
    """The block's place in its stack; outside the place among the segments of its kind that are outside."""
    turn: int
    """How often the block ran before in this step."""


@dataclass(frozen=True, kw_only=True)
class Ref:
    """A storage, by where it was born."""

    label: Label
    ordinal: int
    """The how manieth of its segment."""
    earlier: bool
    """Whether that was in the step before."""


@dataclass(frozen=True, kw_only=True)
class Birth:
    """A storage is made."""

    size: float
    """Bytes, before any rounding; between the sizes that were measured it need not be whole."""
    use: StorageUse


@dataclass(frozen=True, kw_only=True)
class End:
    """A storage is freed."""

    ref: Ref


Event = Birth | End


@dataclass(frozen=True, kw_only=True)
class StepSegment:
    """What happened in a segment, in order."""

    label: Label
    events: tuple[Event, ...]


Step = tuple[StepSegment, ...]


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One of the model's own tensors."""

    name: str
    size: int
    """Bytes."""
    trained: bool
    """Whether the optimizer moves it: it is meant to be trained, and the loss reaches it."""


@dataclass(frozen=True, kw_only=True)
class BlockStack:
    """A stack of equal blocks."""

    name: str
    measured: int
    full: int
    """Blocks at the depth of the prediction."""


@dataclass(frozen=True, kw_only=True)
class StepRecording:
    """All that was measured of one model at one length."""

    parameters: tuple[Parameter, ...]
    """At full depth, in the model's order."""
    buffers: tuple[Parameter, ...]
    stacks: tuple[BlockStack, ...]
    steps: Mapping[int, Step]
    """By the number of utterances."""
    kept: tuple[float, ...]
    """Sizes of what the model makes in its first step and keeps for good, such as a table of positions."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> StepRecording:
        """Read what the release's process recorded.

        Raises:
            ValueError: it is of another form.
        """
        if data.get("schema") != 1:
            raise ValueError(f"a footprint of schema {data.get('schema')}, this harness reads 1")
        stacks = tuple(BlockStack(name=name, measured=few, full=many) for name, (few, many) in data["stacks"].items())
        lost = frozenset(data["without_gradient"])
        labelled_passes = [_labelled(segments) for segments in (data["before"], *data["steps"])]
        reader = _Reader(labelled_passes)
        steps = [reader.step(number) for number in range(1, len(labelled_passes))]
        return cls(
            parameters=tuple(
                Parameter(name=name, size=size, trained=trained and measured_name(name, stacks) not in lost)
                for name, size, trained in data["parameters"]
            ),
            buffers=tuple(Parameter(name=name, size=size, trained=False) for name, size, _ in data["buffers"]),
            stacks=stacks,
            steps=dict(zip(data["batches"], steps, strict=True)),
            kept=reader.never_freed(),
        )


def measured_name(name: str, stacks: Sequence[BlockStack]) -> str:
    """The name of the parameter of the measured model that stands for one of the full model."""
    for stack in stacks:
        index, dot, name_in_block = name.removeprefix(stack.name + ".").partition(".")
        if name.startswith(stack.name + ".") and dot and index.isdecimal():
            return f"{stack.name}.{standing_for(int(index), stack)}.{name_in_block}"
    return name


def standing_for(index: int, stack: BlockStack) -> int:
    """The measured block that stands for one of the full stack; those in its middle are the one in the middle."""
    middle, more = stack.measured // 2, stack.full - stack.measured
    if index <= middle:
        return index
    return middle if index <= middle + more else index - more


def _labelled(segments: Sequence[Mapping[str, Any]]) -> list[tuple[Label, list[list[int]]]]:
    outside: Counter[str] = Counter()
    occurrences: Counter[tuple[str, str, int, int]] = Counter()
    labelled = []
    for segment in segments:
        kind, stack = segment["kind"], segment["stack"] or ""
        index, turn = segment["index"], segment["turn"]
        if not stack:
            index = outside[kind]
            outside[kind] += 1
        again = occurrences[kind, stack, index, turn]
        occurrences[kind, stack, index, turn] += 1
        # A block whose output's gradient comes more than once begins more than once.
        label = Label(kind=kind, stack=stack, index=index, turn=turn + 1000 * again)
        labelled.append((label, segment["events"]))
    return labelled


class _Reader:
    """Storages by their numbers, over all steps."""

    def __init__(self, labelled_passes: Sequence[list[tuple[Label, list[list[int]]]]]) -> None:
        self._told = labelled_passes
        births: dict[int, tuple[int, Label, int]] = {}
        self._ends: dict[int, tuple[int, Label]] = {}
        for number, segments in enumerate(labelled_passes):
            for label, events in segments:
                for event in events:
                    if len(event) == 2:
                        births[event[0]] = (number, label, event[1])
                    else:
                        self._ends[event[0]] = (number, label)
        self._births = births
        self._refs = self._number_within_segments()
        self._outliving: dict[tuple[int, Label], list[int]] = defaultdict(list)
        for storage, (number, label, _) in births.items():
            if storage not in self._ends or self._ends[storage][0] != number:
                self._outliving[number, label].append(storage)

    def _number_within_segments(self) -> dict[int, tuple[int, Label, int]]:
        counts: dict[tuple[int, Label], int] = defaultdict(int)
        refs = {}
        for storage, (number, label, size) in self._births.items():
            if self._is_left_out(storage, label, size):
                continue
            refs[storage] = (number, label, counts[number, label])
            counts[number, label] += 1
        return refs

    def _is_left_out(self, storage: int, label: Label, size: int) -> bool:
        ended = self._ends.get(storage)
        freed_in_segment = ended is not None and ended == (self._births[storage][0], label)
        return not label.stack and size <= SMALL_BYTES and freed_in_segment

    def step(self, number: int) -> Step:
        """One step; what it frees of the step before is named by its place there."""
        return tuple(
            StepSegment(label=label, events=tuple(self._events(number, events))) for label, events in self._told[number]
        )

    def _events(self, number: int, events: Sequence[Sequence[int]]) -> list[Event]:
        own_events: list[Event] = []
        for storage, *size in events:
            if storage not in self._refs:
                continue
            born, label, ordinal = self._refs[storage]
            if size:
                own_events.append(Birth(size=size[0], use=self._use(storage)))
            elif born == number:
                own_events.append(End(ref=Ref(label=label, ordinal=ordinal, earlier=False)))
            elif born == number - 1 and (heir := self._heir(storage, number)) is not None:
                own_events.append(End(ref=Ref(label=label, ordinal=self._refs[heir][2], earlier=True)))
        return own_events

    def _heir(self, storage: int, number: int) -> int | None:
        """The storage that has in this step the place that another had in the step before.

        By its place among those that outlive their step, because a batch of another size makes others between them.
        """
        _, label, _ = self._births[storage]
        before, now = self._outliving[number - 1, label], self._outliving[number, label]
        return now[before.index(storage)] if len(before) == len(now) else None

    def _use(self, storage: int) -> StorageUse:
        number, label, _ = self._births[storage]
        ended = self._ends.get(storage)
        within = ended is not None and ended[0] == number
        until = ended[1].kind if ended is not None and within else ""
        if label.kind == "load":
            return StorageUse.BATCH
        if label.kind == "forward":
            return StorageUse.TEMPORARY if until == "forward" else StorageUse.ACTIVATION
        return StorageUse.GRADIENT if label.kind == "backward" and until == "update" else StorageUse.TEMPORARY

    def never_freed(self) -> tuple[float, ...]:
        """What the pass before the steps made and no step freed."""
        return tuple(
            float(size)
            for storage, (number, _, size) in self._births.items()
            if number == 0 and storage not in self._ends
        )
