"""What the harness and the processes of a release exchange: a plan goes in, results come out.

The one schema of both sides. Standard library only, because a release's process imports it.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

SCHEMA = 3
"""Version of the plan's format."""

_encode = json.JSONEncoder(allow_nan=False).encode
_decode = json.JSONDecoder().decode

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
    before_entering: bool = False
    """Whether it runs before its release is entered, because what it finds out is used for that."""
    after: tuple[int, ...] = ()
    """The numbers of cells that are done before it, whatever became of them; entering uses what they found out."""

    @property
    def informs(self) -> bool:
        """Whether what it finds out is used to enter its release."""
        return self.fresh or self.before_entering


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
        numbers = {cell.number for cell in self.cells}
        return {number for cell in self.cells for number in (*cell.after, *cell.depends_on)} - numbers

    def without(self, passed_by_number: Mapping[int, bool]) -> ReleaseBatch:
        """The same batch with only the cells that are not done."""
        return replace(self, cells=tuple(cell for cell in self.cells if cell.number not in passed_by_number))


@dataclass(frozen=True, kw_only=True)
class TreeSettings:
    """What holds for all processes of the tree."""

    workspace: Path
    """A folder for this run's own files; what an earlier run left in it is removed."""
    isolated: bool = True
    """Whether cells are kept from what they do not need, as far as the kernel can; see `worker.process.isolation`."""
    shared: tuple[str, ...] = ()
    """Further folders that isolated cells may write to, though not remove."""
    compiled: tuple[str, ...] = ()
    """The same for cells in fresh interpreters: folders of bytecode. What these cells run, importing, runs in the
    release's own process too, which writes there; and a time of import that includes compiling is another time."""
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
    admits: bool = False
    """Whether a batch starts only when the outside has admitted it, which may find out that it need not."""


@dataclass(frozen=True, kw_only=True)
class TreePlan:
    """All that the process tree has to do."""

    settings: TreeSettings
    batches: tuple[ReleaseBatch, ...]
    done: Mapping[int, bool]
    """Cells that an earlier process tree has run, and whether they passed."""
    results: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    """Results that an earlier process tree had of cells which others depend on."""

    def to_bytes(self) -> bytes:
        """The plan for the scheduler's process."""
        batches = [{**_fields(batch), "cells": [_fields(cell) for cell in batch.cells]} for batch in self.batches]
        settings = {field.name: getattr(self.settings, field.name) for field in fields(TreeSettings)}
        data = {
            "schema": SCHEMA,
            "settings": {**settings, "workspace": str(self.settings.workspace)},
            "batches": batches,
            "done": {str(number): passed for number, passed in self.done.items()},
            "results": {str(number): result for number, result in self.results.items()},
        }
        return dumps(data).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Read what `to_bytes` wrote.

        Raises:
            ValueError: it is of another schema.
        """
        data = json.loads(content)
        if data["schema"] != SCHEMA:
            raise ValueError(f"plan of schema {data['schema']}, this harness reads {SCHEMA}")
        raw: dict[str, Any] = data["settings"]
        settings: dict[str, Any] = {
            **raw,
            "workspace": Path(raw["workspace"]),
            "preload": tuple(raw["preload"]),
            "sys_path": tuple(raw["sys_path"]),
            "shared": tuple(raw["shared"]),
            "compiled": tuple(raw["compiled"]),
        }
        return cls(
            settings=TreeSettings(**settings),
            batches=tuple(
                ReleaseBatch(**{**batch, "cells": tuple(map(_planned_cell, batch["cells"]))})
                for batch in data["batches"]
            ),
            done={int(number): passed for number, passed in data["done"].items()},
            results={int(number): result for number, result in data["results"].items()},
        )


def _fields(record: PlannedCell | ReleaseBatch) -> dict[str, object]:
    return {field.name: getattr(record, field.name) for field in fields(record)}


def _planned_cell(data: Mapping[str, Any]) -> PlannedCell:
    return PlannedCell(**{**data, "depends_on": tuple(data["depends_on"]), "after": tuple(data["after"])})


def scratch_folder(workspace: Path, number: int) -> Path:
    """The working and temporary directory of a cell."""
    return workspace / "scratch" / str(number)


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


def dumps(data: Mapping[str, Any]) -> str:
    """Strict JSON, by an encoder that was bound before a release could replace `json.dumps`.

    Raises:
        TypeError: a value is not JSON's.
        RecursionError: it is nested too deep.
    """
    return _encode(strict(data))


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write strict JSON so that the file is there whole or not at all.

    Raises:
        TypeError: a value is not JSON's.
    """
    text = dumps(data)
    draft = path.with_name(f"{path.name}.{os.getpid()}.draft")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def parsed(result: bytes) -> dict[str, Any] | None:
    """A cell's result as it lies; None where it is no JSON object. The outside decides whether it fits the check."""
    try:
        data = _decode(result.decode())
    except (ValueError, RecursionError, MemoryError):
        return None
    return data if isinstance(data, dict) else None
