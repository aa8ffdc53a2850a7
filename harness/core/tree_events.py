"""What the processes of the tree report while it runs, as typed values; the one schema of both sides.

Standard library only, because a release's process imports it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields


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
    ran_seconds: float = 0.0
    """Of a cell that met its time limit: how long its threads ran, all together."""
    waited_seconds: float = 0.0
    """The same: how long they could have run and waited for a processor."""
    over_memory: bool = False
    memory_bytes: int = 0
    """The memory it had."""
    oom_killed: bool = False
    """Whether the kernel killed processes for want of memory meanwhile."""
    leftovers_killed: int = 0
    survivors: int = 0
    """Processes that would not die."""
    passed: bool = False
    """Whether it ended well and says that it passed; the outside decides the rest."""
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
    silent: bool = False
    """Whether it was ended because it reported nothing any more, long after its cell's time was up."""
    timeout_seconds: float = 0.0
    """The time that entering a release has."""
    ran_seconds: float = 0.0
    """Where it was ended for taking too long: how long its threads ran in that time, all together."""
    waited_seconds: float = 0.0
    """The same: how long they could have run and waited for a processor."""
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
class Entering:
    """A release is being entered, for this cell first."""

    number: int


@dataclass(frozen=True, kw_only=True)
class Entered:
    """A release was entered for a cell and those that follow in its batch, or could not be."""

    number: int
    error: str | None


@dataclass(frozen=True, kw_only=True)
class Warned:
    """Something that the person who runs it should know."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A release's process was started for the batch of this number; its channel comes along.

    Who gets it reads it only if the process of all releases dies, with reports that it had not passed on."""

    batch: int


@dataclass(frozen=True, kw_only=True)
class Closed:
    """A release's process has ended."""

    batch: int


@dataclass(frozen=True, kw_only=True)
class Alive:
    """The process of all releases is at work; it says so twice a second."""


@dataclass(frozen=True, kw_only=True)
class Settled:
    """Cells that need not run any more; the outside says so to the process of all releases.

    It heeds this for cells whose release's process has not been started yet."""

    passed: list[int]
    """Numbers of cells whose outcome is known, and passed."""
    failed: list[int]
    """The same of those that did not pass."""


@dataclass(frozen=True, kw_only=True)
class Admitted:
    """Batches that may start; the outside says so to the process of all releases, where the plan makes it wait."""

    batches: list[int]


Event = (
    Admitted
    | Settled
    | Ready
    | Started
    | Finished
    | ReleaseDied
    | Blocked
    | Entering
    | Entered
    | Warned
    | Opened
    | Closed
    | Alive
)

_KINDS: dict[str, type[Event]] = {
    "admitted": Admitted,
    "settled": Settled,
    "ready": Ready,
    "started": Started,
    "finished": Finished,
    "release_died": ReleaseDied,
    "blocked": Blocked,
    "entering": Entering,
    "entered": Entered,
    "warning": Warned,
    "opened": Opened,
    "closed": Closed,
    "alive": Alive,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}

_MOST_INTEGER = 2**63
_LONGEST_TEXT = 8000
"""Characters of a text; a message has to fit into a socket's buffer."""

_encode = json.JSONEncoder(allow_nan=False).encode
"""Bound before a release can replace `json.dumps`."""
_decode = json.JSONDecoder().decode


def to_bytes(event: Event, files: Sequence[str] = ()) -> bytes:
    """An event as a message, with the names of the files that go with it; long texts are cut."""
    values = {field.name: getattr(event, field.name) for field in fields(event)}
    cut = {name: value[:_LONGEST_TEXT] if isinstance(value, str) else value for name, value in values.items()}
    return _encode({"event": _NAMES[type(event)], "files": list(files), **cut}).encode()


def from_bytes(message: bytes) -> tuple[Event, list[str]]:
    """Read what `to_bytes` wrote.

    Raises:
        ValueError: it is no event: what a release's process sends is what the release made of it.
    """
    try:
        data = _decode(message.decode())
        kind = _KINDS[data.pop("event")]
        files = data.pop("files")
        event = kind(**data)
    except (KeyError, TypeError, AttributeError, RecursionError, ValueError) as error:
        raise ValueError(f"{type(error).__name__}: {str(error)[:200]}") from None
    wrong = [field.name for field in fields(kind) if not _FITS[str(field.type)](getattr(event, field.name))]
    if wrong or not _is_texts(files):
        raise ValueError(f"of another type than declared: {', '.join(wrong) or 'files'}")
    return event, files


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < _MOST_INTEGER


def _is_number(value: object) -> bool:
    return _is_integer(value) or (isinstance(value, float) and math.isfinite(value))


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= _LONGEST_TEXT


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


_FITS: dict[str, Callable[[object], bool]] = {
    "int": _is_integer,
    "int | None": lambda value: value is None or _is_integer(value),
    "float": _is_number,
    "bool": lambda value: isinstance(value, bool),
    "str": _is_text,
    "str | None": lambda value: value is None or _is_text(value),
    "list[int]": lambda value: isinstance(value, list) and all(map(_is_integer, value)),
}
"""By a field's annotation, whether a value is of its type."""
