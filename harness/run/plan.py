"""Which cells run one after the other in which process, and on which others they stand."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.core import wire
from harness.core.cells import Cell, Check, Device, Outcome, Status
from harness.run.blocking import blocked


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What holds for all cells of a run."""

    workspace: Path
    """A folder for this run's own files; what an earlier run left in it is removed."""
    jobs: int
    """How many cells run at once; with cells on a GPU at most as many as there are GPUs."""
    memory_bytes: int
    """Limit for a cell and its children together, pages shared with the stack process hardly counted."""
    timeout_seconds: Mapping[Check, float]
    """For each check that occurs."""
    gpus: int = 1
    """How many GPUs cells are shared out to, where there are cells on a GPU."""
    fresh: Collection[Check] = frozenset({Check.IMPORT})
    """Checks whose cells get an interpreter that has imported nothing."""
    preload: tuple[str, ...] = ()
    """Third-party modules that the stack process imports for all; none of them may start a thread."""
    sys_path: tuple[str, ...] = ()
    """Put at the front of the path of every process, before the release."""
    checks_module: str = "harness.worker.checks.dispatch"
    enter_timeout_seconds: float = 120.0
    preload_timeout_seconds: float = 300.0
    places: Mapping[str, str] = field(default_factory=dict)
    """Folders of this machine and what outcomes call them, such as the cache's and `<cache>`."""


@dataclass(frozen=True, kw_only=True)
class PlannedCell:
    """A cell that is to run."""

    number: int
    cell: Cell
    fresh: bool
    timeout_seconds: float
    depends_on: tuple[int, ...]
    """Numbers of all earlier checks in the plan, lowest first."""
    continues: bool
    """Whether the process of the check just before may leave it the model that it built."""
    gpus: int
    """How many GPUs it has to itself."""
    request: Mapping[str, Any]
    """JSON that only the inside understands."""

    def to_json(self) -> dict[str, Any]:
        """The cell as the stack process reads it."""
        return {
            "number": self.number,
            "id": self.cell.id,
            "check": self.cell.check,
            "fresh": self.fresh,
            "timeout_seconds": self.timeout_seconds,
            "depends_on": list(self.depends_on),
            "continues": self.continues,
            "gpus": self.gpus,
            "request": dict(self.request),
        }


@dataclass(frozen=True, kw_only=True)
class ReleaseBatch:
    """Cells of one release that share a process, earlier checks first."""

    release: Mapping[str, Any]
    """JSON that only the inside understands, but for `overlay`, the folder the release lies in."""
    cells: tuple[PlannedCell, ...]

    def to_json(self, done: Collection[int]) -> dict[str, Any]:
        """The batch as the stack process reads it, without the cells that are done."""
        cells = [planned.to_json() for planned in self.cells if planned.number not in done]
        return {"release": dict(self.release), "cells": cells}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that `execute` needs."""

    settings: Settings
    batches: tuple[ReleaseBatch, ...]
    decided: tuple[Outcome, ...] = ()
    """Cells that will not run, because a earlier check is on record as not passed."""

    def planned(self) -> dict[int, PlannedCell]:
        """The cells that are to run, by number."""
        return {planned.number: planned for batch in self.batches for planned in batch.cells}

    def to_json(self, done: Mapping[int, bool]) -> dict[str, Any]:
        """The plan as the stack process reads it.

        Args:
            done: cells that an earlier stack process settled, and whether they passed.
        """
        settings = self.settings
        batches = [batch.to_json(done) for batch in self.batches]
        return {
            "schema": wire.SCHEMA,
            "jobs": settings.jobs,
            "gpus": settings.gpus,
            "preload": list(settings.preload),
            "sys_path": list(settings.sys_path),
            "checks_module": settings.checks_module,
            "memory_bytes": settings.memory_bytes,
            "enter_timeout_seconds": settings.enter_timeout_seconds,
            "workspace": str(settings.workspace),
            "done": {str(number): passed for number, passed in done.items()},
            "batches": [batch for batch in batches if batch["cells"]],
        }


def build_plan(
    cells: Sequence[Cell],
    settings: Settings,
    *,
    release_for: Callable[[str], Mapping[str, Any]],
    request_for: Callable[[Cell], Mapping[str, Any]],
    gpus_for: Callable[[Cell], int] = lambda cell: int(cell.device is Device.CUDA),
    prior: Iterable[Outcome] = (),
) -> Plan:
    """Lay out a run.

    Cells that `prior` holds an outcome of are left out; cells that stand on one of those that did not pass
    are decided here. `release_for` and `request_for` are called only for what is to run.

    Args:
        gpus_for: How many GPUs a cell has to itself; at most as many as there are.
    """
    known: dict[str, dict[Cell, Outcome]] = defaultdict(dict)
    for outcome in prior:
        known[outcome.cell.release][outcome.cell] = outcome
    decided: list[Outcome] = []
    wanted: list[Cell] = []
    for cell in dict.fromkeys(cells):
        if cell in known[cell.release]:
            continue
        below = [outcome for outcome in known[cell.release].values() if cell.depends_on(outcome.cell)]
        if any(outcome.status is not Status.PASSED for outcome in below):
            decided.append(blocked(cell, below))
        else:
            wanted.append(cell)
    if any(cell.device is Device.CUDA for cell in wanted):
        settings = _a_gpu_each(settings)
    planned = _number(wanted, settings, request_for, gpus_for)
    groups = _split(planned, settings.jobs)
    releases = {label: release_for(label) for label in dict.fromkeys(cell.release for cell in wanted)}
    batches = [ReleaseBatch(release=releases[group[0].cell.release], cells=tuple(group)) for group in groups]
    return Plan(settings=settings, batches=tuple(batches), decided=tuple(decided))


def _a_gpu_each(settings: Settings) -> Settings:
    """Two cells on one GPU would measure each other."""
    return replace(settings, jobs=min(settings.jobs, settings.gpus))


def _number(
    cells: Sequence[Cell],
    settings: Settings,
    request_for: Callable[[Cell], Mapping[str, Any]],
    gpus_for: Callable[[Cell], int],
) -> list[PlannedCell]:
    by_release: dict[str, list[tuple[int, Cell]]] = defaultdict(list)
    for number, cell in enumerate(cells):
        by_release[cell.release].append((number, cell))
    planned = []
    for number, cell in enumerate(cells):
        below = [(low.check.position, other) for other, low in by_release[cell.release] if cell.depends_on(low)]
        planned.append(
            PlannedCell(
                number=number,
                cell=cell,
                fresh=cell.check in settings.fresh,
                timeout_seconds=settings.timeout_seconds[cell.check],
                depends_on=tuple(other for _, other in sorted(below)),
                # A process that has used a GPU cannot be forked.
                continues=cell.check is Check.LOSS_CONTRACT and cell.device is Device.CPU,
                gpus=gpus_for(cell),
                request=request_for(cell),
            )
        )
    return planned


def _split(planned: Sequence[PlannedCell], jobs: int) -> list[list[PlannedCell]]:
    """By release; by chain as well when there are too few releases to keep all jobs busy."""
    releases: dict[str, list[PlannedCell]] = defaultdict(list)
    for each in planned:
        releases[each.cell.release].append(each)
    whole = [sorted(group, key=_ladder_order) for group in releases.values()]
    if jobs == 1 or len(whole) >= 2 * jobs:
        return whole
    chains: dict[tuple[object, ...], list[PlannedCell]] = defaultdict(list)
    for group in whole:
        for each in group:
            chains[_chain(each.cell)].append(each)
    # imports first, because the other chains of their release wait for them; then the longest
    return sorted(chains.values(), key=lambda group: (group[0].cell.check is not Check.IMPORT, -_weight(group)))


def _weight(group: Sequence[PlannedCell]) -> float:
    return sum(each.cell.check.facts.usual_seconds for each in group)


def _chain(cell: Cell) -> tuple[object, ...]:
    if cell.check is Check.IMPORT:
        return (cell.release,)
    return (cell.release, cell.variant, cell.dimensions, cell.depth, cell.device, cell.precision)


def _ladder_order(each: PlannedCell) -> tuple[bool, str, int, int]:
    """Imports first, then chain by chain, each from its lowest check up."""
    cell = each.cell
    chain = f"{cell.variant}/{cell.dimensions}/{cell.depth}/{cell.device}/{cell.precision}"
    return (cell.check is not Check.IMPORT, chain, cell.check.position, each.number)
