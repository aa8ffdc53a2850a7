"""Which cells run one after the other in which process, and which others they depend on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harness.core.cells import Cell, Check, Device, Outcome, Status
from harness.core.wire import PlannedCell, ReleaseBatch, TreePlan, TreeSettings
from harness.run.decide import blocked


@dataclass(frozen=True, kw_only=True)
class Settings(TreeSettings):
    """What holds for all cells of a run: that of the process tree, and what the plan is made with."""

    timeout_seconds: Mapping[Check, float]
    """For each check that occurs."""
    fresh: Collection[Check] = frozenset({Check.IMPORT})
    """Checks whose cells get an interpreter that has imported nothing."""
    preload_timeout_seconds: float = 300.0
    places: Mapping[str, str] = field(default_factory=dict)
    """Folders of this machine and what outcomes call them, such as the cache's and `<cache>`."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that `execute` needs."""

    settings: Settings
    batches: tuple[ReleaseBatch, ...]
    cells: Mapping[int, Cell]
    """The cells that are to run, by number."""
    decided: tuple[Outcome, ...] = ()
    """Cells that do not run, because an earlier check has an outcome already and did not pass."""

    def planned(self) -> dict[int, PlannedCell]:
        """The cells of all batches, by number."""
        return {planned.number: planned for batch in self.batches for planned in batch.cells}

    def tree(self, passed_by_number: Mapping[int, bool]) -> TreePlan:
        """What the process tree has left to do.

        Args:
            passed_by_number: cells that an earlier process tree settled, and whether they passed.
        """
        left = (batch.without(passed_by_number) for batch in self.batches)
        return TreePlan(
            settings=self.settings, batches=tuple(batch for batch in left if batch.cells), done=passed_by_number
        )


def build_plan(
    cells: Sequence[Cell],
    settings: Settings,
    *,
    release_for: Callable[[str], Mapping[str, Any]],
    request_for: Callable[[Cell], Mapping[str, Any]],
    gpus_for: Callable[[Cell], int] = lambda cell: int(cell.device is Device.CUDA),
    prior: Iterable[Outcome] = (),
    order_for: Callable[[str], Mapping[str, Any] | None] = lambda _: None,
    imports_first: bool = False,
) -> Plan:
    """Plan a run.

    Cells that have an outcome in `prior` are left out; cells that depend on one of those that did not pass
    are decided here. `release_for` and `request_for` are called only for what is to run.

    Args:
        gpus_for: How many GPUs a cell has to itself; at most as many as there are.
        order_for: The request that finds out in which order a release registers its components; None where no cell
            needs to know. It is no cell: it has no outcome.
        imports_first: Whether the imports of all releases run before other cells: for `harness.run.reuse`, which can
            say what need not run once a release's import is known and before its process starts.
    """
    known: dict[str, dict[Cell, Outcome]] = defaultdict(dict)
    for outcome in prior:
        known[outcome.cell.release][outcome.cell] = outcome
    decided: list[Outcome] = []
    to_run: list[Cell] = []
    for cell in dict.fromkeys(cells):
        if cell in known[cell.release]:
            continue
        below = [outcome for outcome in known[cell.release].values() if cell.depends_on(outcome.cell)]
        if any(outcome.status is not Status.PASSED for outcome in below):
            decided.append(blocked(cell, below))
        else:
            to_run.append(cell)
    if any(cell.device is Device.CUDA for cell in to_run):
        settings = _a_gpu_each(settings)
    numbered = dict(enumerate(to_run))
    planned = _plan_cells(numbered, settings, request_for, gpus_for)
    releases = {label: release_for(label) for label in dict.fromkeys(cell.release for cell in to_run)}
    orders = _plan_orders(numbered, planned, order_for, settings)
    groups = _split(numbered, settings.jobs, imports_first=imports_first)
    batches = [
        ReleaseBatch(index=len(groups) + place, release=releases[label], cells=(order,))
        for place, (label, order) in enumerate(orders)
    ]
    batches += [
        ReleaseBatch(
            index=index,
            release=releases[numbered[group[0]].release],
            cells=tuple(planned[number] for number in group),
        )
        for index, group in enumerate(groups)
    ]
    return Plan(settings=settings, batches=tuple(batches), cells=numbered, decided=tuple(decided))


def _plan_orders(
    cells: Mapping[int, Cell],
    planned: dict[int, PlannedCell],
    order_for: Callable[[str], Mapping[str, Any] | None],
    settings: Settings,
) -> list[tuple[str, PlannedCell]]:
    """What finds out orders of registrations, each with its release; makes the cells of `planned` wait for it."""
    orders: list[tuple[str, PlannedCell]] = []
    for label in dict.fromkeys(cell.release for cell in cells.values()):
        numbers = [number for number, cell in cells.items() if cell.release == label]
        if any(planned[number].fresh for number in numbers) or (request := order_for(label)) is None:
            continue
        number = len(cells) + len(orders)
        order = PlannedCell(
            number=number,
            id=f"{label}/registrations",
            fresh=False,
            timeout_seconds=settings.enter_timeout_seconds,
            depends_on=(),
            gpus=0,
            request=request,
            before_entering=True,
        )
        orders.append((label, order))
        planned.update(
            {number_of_cell: replace(planned[number_of_cell], after=(number,)) for number_of_cell in numbers}
        )
    return orders


def _a_gpu_each(settings: Settings) -> Settings:
    """Two cells on one GPU would measure each other."""
    return replace(settings, jobs=min(settings.jobs, settings.gpus))


def _plan_cells(
    cells: Mapping[int, Cell],
    settings: Settings,
    request_for: Callable[[Cell], Mapping[str, Any]],
    gpus_for: Callable[[Cell], int],
) -> dict[int, PlannedCell]:
    by_release: dict[str, list[tuple[int, Cell]]] = defaultdict(list)
    for number, cell in cells.items():
        by_release[cell.release].append((number, cell))
    planned = {}
    for number, cell in cells.items():
        below = [(low.check.position, other) for other, low in by_release[cell.release] if cell.depends_on(low)]
        planned[number] = PlannedCell(
            number=number,
            id=cell.id,
            fresh=cell.check in settings.fresh,
            timeout_seconds=settings.timeout_seconds[cell.check],
            depends_on=tuple(other for _, other in sorted(below)),
            gpus=gpus_for(cell),
            request=request_for(cell),
        )
    return planned


def _split(cells: Mapping[int, Cell], jobs: int, *, imports_first: bool) -> list[list[int]]:
    """The cells' numbers by release; by chain as well when there are too few releases to keep all jobs busy."""
    releases: dict[str, list[int]] = defaultdict(list)
    for number, cell in cells.items():
        releases[cell.release].append(number)
    by_release = [sorted(group, key=lambda number: (*_order(cells[number]), number)) for group in releases.values()]
    if jobs == 1 or len(by_release) >= 2 * jobs:
        return _imports_first(by_release, cells) if imports_first else by_release
    chains: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for number in (number for group in by_release for number in group):
        chains[_chain(cells[number])].append(number)
    # imports first, because the other chains of their release wait for them; then the longest
    return sorted(
        chains.values(),
        key=lambda group: (
            cells[group[0]].check is not Check.IMPORT,
            -sum(cells[number].check.facts.usual_seconds for number in group),
        ),
    )


def _imports_first(groups: Sequence[Sequence[int]], cells: Mapping[int, Cell]) -> list[list[int]]:
    """Two groups of each: that of its imports among the first."""
    imports = [[number for number in group if cells[number].check is Check.IMPORT] for group in groups]
    others = [[number for number in group if cells[number].check is not Check.IMPORT] for group in groups]
    return [group for group in (*imports, *others) if group]


def _chain(cell: Cell) -> tuple[object, ...]:
    if cell.check is Check.IMPORT:
        return (cell.release,)
    return (cell.release, cell.variant, cell.dimensions, cell.depth, cell.device, cell.precision)


def _order(cell: Cell) -> tuple[bool, str, int]:
    """Imports first, then chain by chain, each from its earliest check on."""
    chain = f"{cell.variant}/{cell.dimensions}/{cell.depth}/{cell.device}/{cell.precision}"
    return (cell.check is not Check.IMPORT, chain, cell.check.position)
