"""What the process tree tells while it runs, as typed values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Ready:
    """The stack process has imported what it was to import."""

    threads: int
    """One, if forks of it are to be safe."""


@dataclass(frozen=True, kw_only=True)
class Started:
    """A cell's process was started."""

    number: int
    started: str


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A cell's process has ended, and whatever it left."""

    number: int
    exit_code: int | None = None
    """None when a signal ended it, or when nothing could."""
    signal: int | None = None
    timed_out: bool = False
    timeout_seconds: float = 0.0
    """The time it had."""
    over_memory: bool = False
    memory_bytes: int = 0
    """The memory it had."""
    oom_killed: bool = False
    """Whether the kernel killed processes for want of memory meanwhile."""
    leftovers_killed: int = 0
    survivors: int = 0
    """Processes that would not die."""
    seconds: float = 0.0
    started: str = ""
    peak_resident_bytes: int | None = None
    """Of the largest process of the cell, pages shared with its parents included."""


@dataclass(frozen=True, kw_only=True)
class ReleaseDied:
    """The release's process ended before its cells were done; `number` is the cell that ran, or was to run next."""

    number: int
    batch: int
    """The place of the cell's batch in the plan that the stack process was given."""
    entering: bool
    """Whether it happened while the release was being entered for that cell."""
    timed_out: bool = False
    timeout_seconds: float = 0.0
    """The time that entering a release has."""
    exit_code: int | None = None
    signal: int | None = None
    seconds: float = 0.0
    started: str = ""


@dataclass(frozen=True, kw_only=True)
class Blocked:
    """A cell will not run, because it depends on others that did not pass."""

    number: int
    by: list[int]


@dataclass(frozen=True, kw_only=True)
class Entered:
    """A release was entered for a cell and those that follow in its batch, or could not be."""

    number: int
    error: str | None


@dataclass(frozen=True, kw_only=True)
class Warned:
    """Something that the person who runs it should know."""

    text: str


Event = Ready | Started | Finished | ReleaseDied | Blocked | Entered | Warned

_KINDS: dict[str, type[Event]] = {
    "ready": Ready,
    "started": Started,
    "finished": Finished,
    "release_died": ReleaseDied,
    "blocked": Blocked,
    "entered": Entered,
    "warning": Warned,
}


def parse(data: Mapping[str, Any]) -> Event | None:
    """Read an event; None for one that only the tree itself needs.

    Raises:
        TypeError: a field is missing.
    """
    kind = _KINDS.get(data["event"])
    if kind is None:
        return None
    names = {each.name for each in fields(kind)}
    return kind(**{name: value for name, value in data.items() if name in names})
