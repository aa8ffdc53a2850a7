"""What crosses the border between outside and inside, by file: the plan coming in, events and results going out."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

SCHEMA = 1
"""Version of the plan's form."""

OWN_FAULT = 70
"""Exit status of a process of the tree that failed by a fault of the harness (EX_SOFTWARE in sysexits.h)."""


@dataclass(frozen=True, kw_only=True)
class CellOrder:
    """One cell to run."""

    number: int
    """Its name in events and files; ids hold slashes."""
    fresh: bool
    """Whether it gets an interpreter that has imported nothing, so that it pays the full price of an import."""
    timeout_seconds: float
    depends_on: tuple[int, ...]
    continues: bool
    """Whether a successor of the process of the check just before may answer it: it can use what that one made."""
    gpus: int
    """How many GPUs it has to itself."""
    request: Mapping[str, Any]
    """What `run` of the checks module is called with."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read one cell of a plan; keys that only people read are passed over."""
        return cls(
            number=data["number"],
            fresh=data["fresh"],
            timeout_seconds=data["timeout_seconds"],
            depends_on=tuple(data["depends_on"]),
            continues=data["continues"],
            gpus=data["gpus"],
            request=data["request"],
        )


@dataclass(frozen=True, kw_only=True)
class BatchOrder:
    """Cells of one release that are run one after the other in children of one process."""

    index: int
    release: Mapping[str, Any]
    """What `enter` of the checks module is called with."""
    cells: tuple[CellOrder, ...]

    @property
    def gpus(self) -> int:
        """How many GPUs its process needs: those of the cell that has most."""
        return max((cell.gpus for cell in self.cells), default=0)

    def foreign(self) -> set[int]:
        """The cells of other batches that cells of this one stand on."""
        own = {cell.number for cell in self.cells}
        return {number for cell in self.cells for number in cell.depends_on} - own

    def without(self, done: Mapping[int, bool]) -> BatchOrder:
        """The same batch with only the cells that are not done."""
        return replace(self, cells=tuple(cell for cell in self.cells if cell.number not in done))


@dataclass(frozen=True, kw_only=True)
class StackOrder:
    """All that a stack process has to do."""

    jobs: int
    gpus: int
    """How many GPUs the batches are shared out to."""
    preload: tuple[str, ...]
    sys_path: tuple[str, ...]
    checks_module: str
    memory_bytes: int
    enter_timeout_seconds: float
    workspace: Path
    done: Mapping[int, bool]
    """Cells that an earlier stack process has run, and whether they passed."""
    batches: tuple[BatchOrder, ...]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a plan.

        Raises:
            ValueError: it is of another schema.
        """
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["schema"] != SCHEMA:
            raise ValueError(f"plan of schema {data['schema']}, this harness reads {SCHEMA}")
        batches = tuple(
            BatchOrder(index=index, release=batch["release"], cells=tuple(map(CellOrder.from_json, batch["cells"])))
            for index, batch in enumerate(data["batches"])
        )
        return cls(
            jobs=data["jobs"],
            gpus=data["gpus"],
            preload=tuple(data["preload"]),
            sys_path=tuple(data["sys_path"]),
            checks_module=data["checks_module"],
            memory_bytes=data["memory_bytes"],
            enter_timeout_seconds=data["enter_timeout_seconds"],
            workspace=Path(data["workspace"]),
            done={int(number): passed for number, passed in data["done"].items()},
            batches=batches,
        )


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """Where the files of one run of the process tree lie."""

    root: Path

    @property
    def events(self) -> Path:
        """One JSON line per event."""
        return self.root / "events.jsonl"

    @property
    def folders(self) -> tuple[Path, ...]:
        """Those that must be there, and empty, before anything runs."""
        return tuple(self.root / name for name in ("results", "logs", "traces", "scratch"))

    def result(self, number: int) -> Path:
        """What the cell found."""
        return self.root / "results" / f"{number}.json"

    def log(self, number: int) -> Path:
        """What the cell and its children printed."""
        return self.root / "logs" / f"{number}.txt"

    def release_log(self, batch: int) -> Path:
        """What was printed while the release was entered."""
        return self.root / "logs" / f"release-{batch}.txt"

    def trace(self, number: int) -> Path:
        """Where the cell was when it hung, crashed or left."""
        return self.root / "traces" / f"{number}.txt"

    def scratch(self, number: int) -> Path:
        """The cell's working and temporary directory."""
        return self.root / "scratch" / str(number)

    def emit(self, kind: str, **fields: Any) -> None:
        """Append an event in a single write, so that lines of different processes never mix."""
        line = (json.dumps({"event": kind, **fields}, allow_nan=False) + "\n").encode()
        descriptor = os.open(self.events, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)


class EventReader:
    """Follows an event file; a line is read once it is whole."""

    def __init__(self, path: Path, *, from_end: bool = False) -> None:
        self._path = path
        self._offset = path.stat().st_size if from_end and path.exists() else 0

    def read(self) -> list[dict[str, Any]]:
        """The events since the last call; a line that a full disk cut off is passed over."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._offset += len(whole) + len(newline)
        events = []
        for line in whole.splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and "event" in event:
                events.append(event)
        return events


def now() -> str:
    """UTC, ISO 8601, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def strict(value: Any) -> Any:
    """The same value with what JSON cannot say as a string: `nan`, `inf`, `-inf`."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(float(value))
    if isinstance(value, Mapping):
        return {key: strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [strict(item) for item in value]
    return value


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write strict JSON so that the file is there whole or not at all.

    Raises:
        TypeError: a value is not JSON's.
    """
    text = json.dumps(strict(data), allow_nan=False)
    draft = path.with_name(f"{path.name}.{os.getpid()}.draft")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def passed(result: Path) -> bool:
    """Whether a cell that ended well says that it passed; the outside decides the rest."""
    try:
        data = json.loads(result.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(data, dict) and data.get("status") == "passed"
