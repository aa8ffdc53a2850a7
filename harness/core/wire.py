"""What the harness and the processes of a release exchange by file: a plan goes in, events and results come out.

The one schema of both sides. Standard library only, because a release's process imports it.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

SCHEMA = 2
"""Version of the plan's format."""

OWN_FAULT = 70
"""Exit status of a process of the tree that failed by a fault of the harness (EX_SOFTWARE in sysexits.h)."""


@dataclass(frozen=True, kw_only=True)
class PlannedCell:
    """A cell that is to run."""

    number: int
    """Its name in events and files; ids contain slashes."""
    id: str
    """For people who read the plan."""
    fresh: bool
    """Whether it gets an interpreter that has imported nothing, so that its import is measured in full."""
    timeout_seconds: float
    depends_on: tuple[int, ...]
    """The numbers of all earlier checks in the plan that block it, earliest first."""
    gpus: int
    """How many GPUs it has to itself."""
    request: Mapping[str, Any]
    """The argument of `run` of the checks module. JSON."""


@dataclass(frozen=True, kw_only=True)
class ReleaseBatch:
    """Cells of one release that run one after the other in children of one process, earlier checks first."""

    index: int
    """Its place in the plan; names its log."""
    release: Mapping[str, Any]
    """The argument of `enter` of the checks module. JSON; `install_dir` is the folder of the release."""
    cells: tuple[PlannedCell, ...]

    @property
    def gpus(self) -> int:
        """How many GPUs its process needs: those of the cell that has most."""
        return max((cell.gpus for cell in self.cells), default=0)

    def foreign(self) -> set[int]:
        """The cells of other batches that cells of this one depend on."""
        own = {cell.number for cell in self.cells}
        return {number for cell in self.cells for number in cell.depends_on} - own

    def without(self, done: Mapping[int, bool]) -> ReleaseBatch:
        """The same batch with only the cells that are not done."""
        return replace(self, cells=tuple(cell for cell in self.cells if cell.number not in done))


@dataclass(frozen=True, kw_only=True)
class TreeSettings:
    """What holds for all processes of the tree."""

    workspace: Path
    """A folder for this run's own files; what an earlier run left in it is removed."""
    jobs: int
    """How many cells run at once; with cells on a GPU at most as many as there are GPUs."""
    memory_bytes: int
    """Limit for a cell and its children together, pages shared with the scheduler's process hardly counted."""
    gpus: int = 1
    """How many GPUs the cells share, where there are cells on a GPU."""
    preload: tuple[str, ...] = ()
    """Third-party modules that the scheduler's process imports for all; none of them may start a thread."""
    sys_path: tuple[str, ...] = ()
    """Put at the front of the path of every process, before the release."""
    checks_module: str = "harness.worker.checks.dispatch"
    enter_timeout_seconds: float = 120.0


@dataclass(frozen=True, kw_only=True)
class TreePlan:
    """All that the process tree has to do."""

    settings: TreeSettings
    batches: tuple[ReleaseBatch, ...]
    done: Mapping[int, bool]
    """Cells that an earlier process tree has run, and whether they passed."""

    def save(self, path: Path) -> None:
        """Write it for the scheduler's process."""
        batches = [{**_fields(batch), "cells": [_fields(cell) for cell in batch.cells]} for batch in self.batches]
        settings = {each.name: getattr(self.settings, each.name) for each in fields(TreeSettings)}
        data = {
            "schema": SCHEMA,
            "settings": {**settings, "workspace": str(self.settings.workspace)},
            "batches": batches,
            "done": {str(number): passed for number, passed in self.done.items()},
        }
        write_json(path, data)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            ValueError: it is of another schema.
        """
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["schema"] != SCHEMA:
            raise ValueError(f"plan of schema {data['schema']}, this harness reads {SCHEMA}")
        given: dict[str, Any] = data["settings"]
        settings: dict[str, Any] = {
            **given,
            "workspace": Path(given["workspace"]),
            "preload": tuple(given["preload"]),
            "sys_path": tuple(given["sys_path"]),
        }
        return cls(
            settings=TreeSettings(**settings),
            batches=tuple(
                ReleaseBatch(**{**batch, "cells": tuple(map(_planned_cell, batch["cells"]))})
                for batch in data["batches"]
            ),
            done={int(number): passed for number, passed in data["done"].items()},
        )


def _fields(record: PlannedCell | ReleaseBatch) -> dict[str, Any]:
    return {each.name: getattr(record, each.name) for each in fields(record)}


def _planned_cell(data: Mapping[str, Any]) -> PlannedCell:
    return PlannedCell(**{**data, "depends_on": tuple(data["depends_on"])})


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """The files of one run of the process tree."""

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
