"""A matrix split into shards, each of which another machine can run; `merge` makes one run of them.

Cells that depend on each other stay together: with an `import` cell all cells of its release, without one those of the
same model. Where that balances, whole releases stay together too, because entering a release takes time of its own.
The split follows from the cells and their expected seconds alone, so every machine makes the same one.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

from harness.core.cells import Cell, Check

_PATTERN = re.compile(r"([1-9][0-9]{0,3})/([1-9][0-9]{0,3})", re.ASCII)
_UNEVEN = 1.15
"""Releases are split up where keeping them whole makes the longest shard longer than the mean by more than this."""


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One part of a matrix, written `2/5`."""

    number: int
    """From 1."""
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` wrote.

        Raises:
            ValueError: `text` names no shard.
        """
        match = _PATTERN.fullmatch(text)
        if match is None or int(match[1]) > int(match[2]):
            raise ValueError(f'expected a shard such as 2/5 (the second of five), found "{text}"')
        return cls(number=int(match[1]), count=int(match[2]))


@dataclass(frozen=True, kw_only=True)
class ShardOrigin:
    """What a run says of the shard that it is."""

    number: int
    count: int
    selected: int
    """Cells of all shards together."""
    split_sha256: str
    """Of which cell is in which shard: shards of different splits have cells in common, and lack others."""
    durations: tuple[str, ...] = ()
    """The runs that the expected seconds are from, as `--durations` names them."""

    @property
    def name(self) -> str:
        """Such as `2/5`."""
        return f"{self.number}/{self.count}"

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what `dataclasses.asdict` made.

        Raises:
            ValueError: a field is missing or unknown.
        """
        if set(data) != set(cls.__dataclass_fields__):
            raise ValueError("its shard has not the fields " + ", ".join(cls.__dataclass_fields__))
        return cls(**{**data, "durations": tuple(data["durations"])})


@dataclass(frozen=True, kw_only=True)
class Split:
    """All cells, by shard."""

    parts: tuple[tuple[Cell, ...], ...]
    """Each in the order of the matrix."""

    def part(self, shard: Shard) -> tuple[Cell, ...]:
        """The cells of one shard."""
        return self.parts[shard.number - 1]

    def origin(self, shard: Shard, durations: Sequence[str] = ()) -> ShardOrigin:
        """What the run of this shard says of itself."""
        return ShardOrigin(
            number=shard.number,
            count=shard.count,
            selected=sum(map(len, self.parts)),
            split_sha256=self.sha256,
            durations=tuple(durations),
        )

    @cached_property
    def sha256(self) -> str:
        """Of which cell is in which shard."""
        lines = [f"{cell.id} {number}\n" for number, part in enumerate(self.parts, 1) for cell in part]
        return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def split(cells: Sequence[Cell], count: int, seconds: Callable[[Cell], float]) -> Split:
    """Split cells into so many shards that are expected to take about as long; some are empty if there are few groups.

    Args:
        seconds: How long a cell is expected to take.
    """
    expected = {cell: seconds(cell) for cell in cells}
    groups = dependent_groups(cells)
    releases: dict[str, list[Cell]] = defaultdict(list)
    for cell in expected:
        releases[cell.release].append(cell)
    placed = _place(list(releases.values()), count, expected)
    loads = [sum(expected[cell] for cell in part) for part in placed]
    if max(loads) > _UNEVEN * sum(loads) / count:
        placed = _place(groups, count, expected)
    order = {cell: number for number, cell in enumerate(cells)}
    return Split(parts=tuple(tuple(sorted(part, key=order.__getitem__)) for part in placed))


def dependent_groups(cells: Sequence[Cell]) -> list[list[Cell]]:
    """The cells in groups; no cell depends on one of another group."""
    importing = {cell.release for cell in cells if cell.check is Check.IMPORT}
    groups: dict[tuple[object, ...], list[Cell]] = defaultdict(list)
    for cell in dict.fromkeys(cells):
        model = (cell.variant, cell.dimensions, cell.depth, cell.device, cell.precision)
        groups[(cell.release,) if cell.release in importing else (cell.release, *model)].append(cell)
    return list(groups.values())


def _place(groups: Sequence[Sequence[Cell]], count: int, seconds: Mapping[Cell, float]) -> list[list[Cell]]:
    """The longest group first, each into the shard that has least; ties by the group's first id and shard's number."""
    load = {id(group): sum(seconds[cell] for cell in group) for group in groups}
    parts: list[list[Cell]] = [[] for _ in range(count)]
    loads = [0.0] * count
    for group in sorted(groups, key=lambda group: (-load[id(group)], min(cell.id for cell in group))):
        least = min(range(count), key=lambda number: (loads[number], len(parts[number]), number))
        parts[least] += group
        loads[least] += load[id(group)]
    return parts
