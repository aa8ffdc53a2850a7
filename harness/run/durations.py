"""How long a cell is expected to take, from the outcomes of earlier runs where they have such a cell."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Self

from harness.config import built_in
from harness.config.matrix import Matrix
from harness.core.cells import Cell, Check, Status
from harness.core.durable import storage_error
from harness.core.earlier_schemas import upgraded
from harness.core.errors import StoreError
from harness.core.evidence import REUSED
from harness.run.archive import OUTCOMES, holds_run, read_outcomes
from harness.run.time_left import usual_seconds

_DID_NOT_RUN = frozenset({Status.BLOCKED, Status.SKIPPED, Status.ERRORED})


@dataclass(frozen=True, kw_only=True)
class RecordedCell:
    """How a cell ended in an earlier run, and after how long."""

    id: str
    status: Status
    seconds: float


@dataclass(frozen=True, kw_only=True)
class ExpectedSeconds:
    """The seconds of a cell: its own, else the median of cells that differ in their release only, else the usual."""

    own: Mapping[str, float]
    """By cell id."""
    alike: Mapping[str, float]
    """By the id without its release."""
    usual: Mapping[Check, float]

    @classmethod
    def of(cls, recorded: Iterable[RecordedCell], usual: Mapping[Check, float]) -> Self:
        """What these tell; a cell that was blocked or skipped takes no time, of one that errored nothing is known."""
        seconds_by_id: dict[str, float] = {}
        seconds_elsewhere: dict[str, list[float]] = defaultdict(list)
        for cell in recorded:
            if cell.status is Status.ERRORED:
                continue
            seconds_by_id[cell.id] = cell.seconds
            if cell.status not in _DID_NOT_RUN:
                seconds_elsewhere[_without_release(cell.id)].append(cell.seconds)
        return cls(
            own=seconds_by_id, alike={name: median(seconds) for name, seconds in seconds_elsewhere.items()}, usual=usual
        )

    def __call__(self, cell: Cell) -> float:
        """In seconds."""
        if (seconds := self.own.get(cell.id)) is not None:
            return seconds
        return self.alike.get(_without_release(cell.id), self.usual[cell.check])


def expected_seconds(matrix: Matrix, folders: Sequence[Path]) -> ExpectedSeconds:
    """What runs in these folders, and the checks' usual seconds, let expect of the cells of a matrix.

    Raises:
        StoreError: a folder holds no run, or it cannot be read.
    """
    return ExpectedSeconds.of((cell for folder in folders for cell in _read(folder)), usual_seconds(matrix))


def committed_run(matrix: Matrix) -> tuple[Path, ...]:
    """The folder of the committed run of a matrix, as every checkout and the wheel have it; empty where there is none.

    A run of this machine's own is not looked for: other machines do not have it, and would split the cells differently.
    """
    folders = (Path(built_in.REPORTS) / matrix.name, built_in.committed_reports() / matrix.name)
    return tuple(filter(holds_run, folders))[:1]


def _read(folder: Path) -> Iterator[RecordedCell]:
    """The cells of a run. Its metrics, which are nearly all of a run's bytes, are not looked at."""
    if not holds_run(folder):
        raise StoreError(f"{folder} holds no run", next_step="name the folder of an earlier run of the matrix")
    path = folder / OUTCOMES
    try:
        lines = read_outcomes(path).split(b"\n")[:-1]
        for data in map(upgraded, map(json.loads, lines)):
            if REUSED in data.get("evidence", ()):
                # It took no time there, and takes its time where it runs.
                continue
            yield RecordedCell(id=str(data["id"]), status=Status(data["status"]), seconds=float(data["seconds"]))
    except OSError as error:
        raise storage_error(error, path, "read") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{path} holds a line that is no outcome: {error}", next_step="name another run") from error


def _without_release(cell_id: str) -> str:
    return cell_id.partition("/")[2]
