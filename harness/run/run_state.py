"""What is known so far of the cells of a plan: each event may settle one, and each is settled once."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core import wire
from harness.core.cells import Cell, Outcome, Status
from harness.run import crash_traces, events
from harness.run.blocking import blocked
from harness.run.decide import CellArtifacts, decide, errored
from harness.run.plan import Plan
from harness.run.scrub import Scrubber

_LOG_BYTES = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Callbacks:
    """Who is told what."""

    on_outcome: Callable[[Outcome], None]
    on_started: Callable[[Cell], None]
    on_warning: Callable[[str], None]


class RunState:
    """The cells of a plan and their outcomes."""

    def __init__(self, plan: Plan, callbacks: Callbacks) -> None:
        settings = plan.settings
        self._plan = plan
        self._tell = callbacks
        self._cells = plan.cells
        self._batch_of = {each.number: batch for batch in plan.batches for each in batch.cells}
        self._files = wire.Workspace(root=settings.workspace)
        overlays = [Path(batch.release["overlay"]) for batch in plan.batches if "overlay" in batch.release]
        self._scrub = Scrubber.of(overlays=overlays, places=settings.places, workspace=settings.workspace)
        self._settled: dict[int, Outcome] = {}
        self._running: dict[int, str] = {}
        self._enter_errors: dict[int, str] = {}

    def clear(self) -> None:
        """Remove what an earlier run left in the workspace: a stale result would be taken for a new one."""
        self._files.root.mkdir(parents=True, exist_ok=True)
        self._files.events.unlink(missing_ok=True)
        for folder in self._files.folders:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()

    @property
    def settled(self) -> int:
        """How many cells have an outcome."""
        return len(self._settled)

    @property
    def complete(self) -> bool:
        """Whether each cell has an outcome."""
        return len(self._settled) == len(self._cells)

    def write_plan(self, path: Path) -> None:
        """Write the plan of what is not settled, for a stack process."""
        done = {number: outcome.status is Status.PASSED for number, outcome in self._settled.items()}
        self._plan.tree(done).save(path)

    def take(self, data: Mapping[str, Any]) -> events.Event | None:
        """Take an event, tell what follows from it, and give it back as a typed value."""
        event = events.parse(data)
        match event:
            case events.Started():
                self._running[event.number] = event.started
                self._tell.on_started(self._cells[event.number])
            case events.Finished() | events.ReleaseDied():
                cell = self._cells[event.number]
                self._settle(event.number, decide(cell, event, self._remains(event)))
            case events.Blocked():
                below = [self._settled[number] for number in event.by]
                self._settle(event.number, blocked(self._cells[event.number], below))
            case events.Entered(error=str() as error):
                for each in self._batch_of[event.number].cells:
                    self._enter_errors[each.number] = self._scrub.text(error)
            case events.Warned():
                self._tell.on_warning(self._scrub.text(event.text))
        return event

    def lose_running(self, reason: str) -> None:
        """The stack process is gone, and with it the cells that ran."""
        for number, started in list(self._running.items()):
            self._settle(number, errored(self._cells[number], self._scrub.text(reason), started))

    def mark_rest_errored(self, reason: str) -> None:
        """Nothing more will be run."""
        for number, cell in self._cells.items():
            if number not in self._settled:
                self._settle(number, errored(cell, self._scrub.text(reason)))

    def _settle(self, number: int, outcome: Outcome) -> None:
        self._running.pop(number, None)
        if number not in self._settled:
            self._settled[number] = self._scrub.outcome(outcome)
            self._tell.on_outcome(self._settled[number])

    def _remains(self, event: events.Finished | events.ReleaseDied) -> CellArtifacts:
        number = event.number
        log = self._files.log(number)
        if isinstance(event, events.ReleaseDied) and event.entering:
            log = self._files.release_log(event.batch)
        trace = _read_end(self._files.trace(number))
        scrubbed = self._scrub.frames(crash_traces.read_frames(trace))
        result = self._files.result(number)
        return CellArtifacts(
            result=result.read_text(encoding="utf-8", errors="replace") if result.is_file() else None,
            log=self._scrub.text(_read_end(log)),
            frames=scrubbed,
            enter_error=self._enter_errors.get(number),
        )


def _read_end(path: Path) -> str:
    """The last part of a file that may not be there."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _LOG_BYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return ""
