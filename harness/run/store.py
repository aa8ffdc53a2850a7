"""Outcomes and their provenance on disk.

A run is a folder:

    outcomes.jsonl          one whole line per outcome, appended and flushed to disk
    outcomes.jsonl.xz       the same in its place, packed for keeping
    run.json                where they come from
    lock                    held by the process that writes, and by no other
    outcomes.torn-1.jsonl   set aside: the end of a line that a kill cut short
    outcomes.before-1.jsonl set aside by `fresh`, with run.before-1.json
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from harness.core.cells import Cell, Check, Outcome, Status
from harness.core.documents import LARGEST_JSON, parse_json, read_bytes
from harness.core.durable import (
    cut_tail,
    release_lock,
    set_aside,
    storage_error,
    sync_folder,
    take_lock,
    write_all,
    write_json,
)
from harness.core.errors import DamagedFileError, StoreError
from harness.core.evidence import BLOCKED_BY, REUSED
from harness.run.archive import LOCK, OUTCOMES, holds_run, known_runs, run_folders, run_name, unpack
from harness.run.outcome_lines import line_of, read_lines
from harness.run.provenance import Provenance, StackFacts, collect_provenance

__all__ = [
    "OUTCOMES",
    "LoadedRun",
    "Provenance",
    "RunStore",
    "StackFacts",
    "collect_provenance",
    "holds_run",
    "known_runs",
    "load_run",
    "run_folders",
    "run_name",
]

RUN = "run.json"


@dataclass(frozen=True, kw_only=True)
class LoadedRun:
    """A run as it was read for a report."""

    provenance: Provenance
    outcomes: tuple[Outcome, ...]
    """One for each cell, in the order in which they were first written."""
    notices: tuple[str, ...] = ()
    """What the reader should know, such as a last line that was cut short."""
    folder: Path | None = None
    """The folder that it was read from, which also has what was found out about it; None for a run in memory."""

    @property
    def missing(self) -> int:
        """How many cells have no outcome though one is expected."""
        return self.provenance.missing(len(self.outcomes))


class RunStore:
    """The one writer of a run; made by `RunStore.open`, ended by `close` or by leaving a `with`.

    A cell that has an outcome is not run again, whatever it was: a numeric mismatch or a time-out that is tried
    until it passes is a finding lost. The exception is `errored`, the machine's own fault, from which nothing was
    learned; and with it what stands blocked on such a cell.
    """

    def __init__(self, folder: Path, lock: int, descriptor: int, notices: Sequence[str]) -> None:
        self.folder = folder
        self.notices = tuple(notices)
        """What was found and set aside on opening; to be shown to the user."""
        self._lock: int | None = lock
        self._descriptor: int | None = descriptor
        self._outcomes = {outcome.cell.id: outcome for outcome in read_lines(folder / OUTCOMES).outcomes}
        self._not_reusable: frozenset[Check] = frozenset()
        """Checks of which a reused outcome turned out to be wrong in this run, and those that depend on them."""

    @classmethod
    def open(cls, folder: Path, *, fresh: bool = False) -> Self:
        """Take a folder for writing, making it where there is none; `fresh` sets aside what it holds.

        Raises:
            BusyError: another process writes there.
            StoreError: the folder cannot be made or written, or a line in it is not an outcome.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = take_lock(folder / LOCK)
        except OSError as error:
            raise storage_error(error, folder, "opened") from error
        descriptor = -1
        try:
            unpack(folder)
            notices = _set_aside_all(folder) if fresh else ()
            notices = (*notices, *_set_aside_torn(folder / OUTCOMES))
            descriptor = os.open(folder / OUTCOMES, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            sync_folder(folder)
            sync_folder(folder.parent)
            return cls(folder, lock, descriptor, notices)
        except BaseException as error:
            if descriptor >= 0:
                os.close(descriptor)
            release_lock(lock)
            if isinstance(error, OSError):
                raise storage_error(error, folder, "opened") from error
            raise

    def load(self) -> tuple[Outcome, ...]:
        """The outcomes written so far, this process's own among them; one for each cell, the last written."""
        return tuple(self._outcomes.values())

    def begin(self, provenance: Provenance) -> Provenance:
        """State where the outcomes to come are from, and write it; returns it merged with what the run holds.

        Raises:
            StoreError: the run holds outcomes of another matrix, stack or machine, or of unknown origin.
        """
        if self._outcomes:
            provenance = self._continued(provenance)
            self._not_reusable = provenance.reuse.not_reusable if provenance.reuse else frozenset()
        self._write_run(provenance)
        return provenance

    def note(self, provenance: Provenance) -> None:
        """Write more about where the outcomes come from, of the run that `begin` began.

        Raises:
            StoreError: it could not be written.
        """
        self._write_run(provenance)

    def append(self, outcome: Outcome) -> None:
        """Write one outcome, whole, and flush it to the disk.

        Raises:
            StoreError: it could not be written; what was written before can still be read.
        """
        if self._descriptor is None:
            raise StoreError(f"{self.folder / OUTCOMES} takes no more outcomes", cause="it is closed, or broke before")
        before = os.fstat(self._descriptor).st_size
        try:
            write_all(self._descriptor, line_of(outcome))
            os.fsync(self._descriptor)
        except OSError as error:
            self._take_back(before)
            raise storage_error(error, self.folder / OUTCOMES, "written") from error
        self._outcomes[outcome.cell.id] = outcome

    def reused(self) -> int:
        """How many outcomes were taken over from other cells."""
        return sum(REUSED in outcome.evidence for outcome in self._outcomes.values())

    def remaining(self, cells: Sequence[Cell]) -> tuple[Cell, ...]:
        """The cells that are still to be run: without an outcome, errored, or blocked by such a cell.

        So are those that were reused before the run turned out not to be able to, if it ended before they were run.
        """
        return tuple(cell for cell in cells if not self._is_settled(cell.id, frozenset()))

    def finish(self, provenance: Provenance, finished: str) -> Provenance:
        """Note that the run came to its end.

        Raises:
            StoreError: it could not be written.
        """
        finished_run = replace(provenance, finished=finished)
        self._write_run(finished_run)
        return finished_run

    def close(self) -> None:
        """Let go of the folder; may be called twice."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        if self._lock is not None:
            release_lock(self._lock)
        self._descriptor = self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _continued(self, provenance: Provenance) -> Provenance:
        afresh = "start afresh with --fresh (what is there is set aside), or write elsewhere with -o"
        if not (self.folder / RUN).exists():
            raise StoreError(
                f"{self.folder} holds outcomes, and nothing says where they come from",
                cause=f"{RUN} was removed",
                next_step=afresh,
            )
        earlier = _read_run(self.folder)
        if differences := earlier.differences(provenance):
            listing = "\n".join(f"  - {difference}" for difference in differences)
            raise StoreError(
                f"{self.folder} holds outcomes that these must not be mixed with\n{listing}",
                cause="the run was begun with another matrix, stack or machine",
                next_step=afresh,
            )
        return earlier.merge_resumed(provenance)

    def _write_run(self, provenance: Provenance) -> None:
        write_json(self.folder / RUN, provenance.to_json(), indent=2)

    def _take_back(self, size: int) -> None:
        """Cut off what a failed write left, so that the next line does not begin within it."""
        if self._descriptor is None:
            return
        try:
            os.ftruncate(self._descriptor, size)
        except OSError:
            os.close(self._descriptor)
            self._descriptor = None

    def _is_settled(self, name: str, above: frozenset[str]) -> bool:
        outcome = self._outcomes.get(name)
        if outcome is None or outcome.status is Status.ERRORED or name in above:
            return False
        if REUSED in outcome.evidence and outcome.cell.check in self._not_reusable:
            return False
        if outcome.status is not Status.BLOCKED:
            return True
        below = str(outcome.evidence.get(BLOCKED_BY))
        # What blocks it may have been run again since, and have passed.
        return self._is_settled(below, above | {name}) and self._outcomes[below].status is not Status.PASSED


def load_run(folder: Path, only: Callable[[str], bool] | None = None) -> LoadedRun:
    """Read a run, for a report; nothing is changed, and it may still be going on.

    Args:
        only: Whether the outcome of a cell of this id is wanted; with it, cells without an outcome are not counted.

    Raises:
        StoreError: there is no run, or it cannot be read.
    """
    if not holds_run(folder):
        raise StoreError(f"{folder} holds no run", next_step="make one with: funasr-harness run")
    try:
        content = read_lines(folder / OUTCOMES, only)
    except OSError as error:
        raise storage_error(error, folder / OUTCOMES, "read") from error
    provenance, count = _read_run(folder), len(content.outcomes)
    notices = [f"the last line of {OUTCOMES} is cut short and was left out"] if content.truncated else []
    if only is None and (missing := provenance.missing(count)):
        notices.append(
            f"{missing} of {count + missing} cells have no outcome: the run was broken off, or is still going on; "
            "what was not measured is no success"
        )
    return LoadedRun(provenance=provenance, outcomes=content.outcomes, notices=tuple(notices), folder=folder)


def _read_run(folder: Path) -> Provenance:
    path = folder / RUN
    try:
        return Provenance.from_json(parse_json(read_bytes(path, LARGEST_JSON)))
    except FileNotFoundError:
        raise StoreError(f"{path} is missing", cause="it was removed, or the run never began") from None
    except OSError as error:
        raise storage_error(error, path, "read") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise DamagedFileError(
            f"{path} does not say where a run comes from: {error}",
            cause="the file was edited, damaged, or written by another version of the harness",
            next_step="start afresh with --fresh, or write elsewhere with -o",
        ) from error


def _set_aside_all(folder: Path) -> tuple[str, ...]:
    paths = [folder / name for name in (OUTCOMES, RUN) if (folder / name).exists()]
    return tuple(f"{path.name} of an earlier run was set aside as {set_aside(path, 'before').name}" for path in paths)


def _set_aside_torn(path: Path) -> tuple[str, ...]:
    if not path.exists():
        return ()
    content = path.read_bytes()
    complete_bytes = content.rfind(b"\n") + 1
    if complete_bytes == len(content):
        return ()
    target = cut_tail(path, complete_bytes)
    return (
        f"the last line of {path.name} was cut short, as by a kill or a full disk; "
        f"it was set aside as {target.name}, and its cell will be run again",
    )
