"""Cells become batches: by release, by chain when releases are few, and each check after those it depends on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from execute_scene import make_cell

from harness.core import wire
from harness.core.cells import Cell, Check, Device, Entry, Outcome, Status
from harness.core.evidence import BLOCKED_BY
from harness.run import Plan, Settings, build_plan


def plan_of(
    cells: Sequence[Cell],
    *,
    jobs: int = 2,
    gpus: int = 1,
    prior: Sequence[Outcome] = (),
    orders: Sequence[str] = (),
) -> Plan:
    settings = Settings(
        workspace=Path("/nowhere"),
        jobs=jobs,
        gpus=gpus,
        memory_bytes=1 << 30,
        timeout_seconds=dict.fromkeys(Check, 60.0),
    )
    return build_plan(
        cells,
        settings,
        release_for=lambda label: {"label": label},
        request_for=lambda cell: {"cell": cell.id},
        prior=prior,
        order_for=lambda label: {"check": "registrations"} if label in orders else None,
    )


def chain(number: int, release: str = "1.0.0", **others: Any) -> list[Cell]:
    return [make_cell(number, release=release, check=check, **others) for check in Check]


def checks(plan: Plan) -> list[list[Check]]:
    return [[plan.cells[planned.number].check for planned in batch.cells] for batch in plan.batches]


def test_many_releases_make_a_batch_each_first_checks_first() -> None:
    cells = [cell for release in ("1", "2", "3", "4") for number in (0, 1) for cell in reversed(chain(number, release))]
    plan = plan_of(cells)
    assert [batch.release["label"] for batch in plan.batches] == ["1", "2", "3", "4"]
    upper = list(Check)[1:]
    assert checks(plan) == [[Check.IMPORT, *upper, *upper]] * 4


def test_few_releases_are_split_by_model_and_wait_for_their_import() -> None:
    plan = plan_of([*chain(0), *chain(1)])
    upper = list(Check)[1:]
    assert checks(plan) == [[Check.IMPORT], upper, upper]
    imported = plan.batches[0].cells[0].number
    assert all(planned.depends_on[0] == imported for batch in plan.batches[1:] for planned in batch.cells)


def test_what_finds_out_an_order_comes_first_and_is_no_cell() -> None:
    cells = [make_cell(0, release=release) for release in ("1", "2", "3", "4")]
    plan = plan_of(cells, orders=("2", "3"))
    assert [batch.release["label"] for batch in plan.batches] == ["2", "3", "1", "2", "3", "4"]
    assert len({batch.index for batch in plan.batches}) == len(plan.batches)
    first, second = (batch.cells[0] for batch in plan.batches[:2])
    assert first.before_entering
    assert not first.fresh
    assert not {first.number, second.number} & plan.cells.keys()
    assert [batch.cells[0].after for batch in plan.batches[2:]] == [(), (first.number,), (second.number,), ()]
    assert [batch.foreign() for batch in plan.batches[2:]] == [set(), {first.number}, {second.number}, set()]


def test_the_import_of_a_release_shows_its_order() -> None:
    plan = plan_of(chain(0), orders=("1.0.0",))
    assert not [cell for batch in plan.batches for cell in batch.cells if cell.before_entering]


def test_the_longest_batches_of_a_split_run_start_first() -> None:
    short, long = chain(0)[1:3], chain(1)[1:]
    plan = plan_of([*short, *long])
    assert [len(batch.cells) for batch in plan.batches] == [len(long), len(short)]


def test_one_job_keeps_a_release_in_one_batch() -> None:
    assert len(plan_of([*chain(0), *chain(1)], jobs=1).batches) == 1


def test_cells_on_a_gpu_run_one_after_the_other() -> None:
    plan = plan_of([*chain(0), make_cell(0, device=Device.CUDA)], jobs=8)
    assert plan.settings.jobs == 1
    assert plan_of(chain(0), jobs=8).settings.jobs == 8


def test_several_gpus_have_a_cell_each() -> None:
    cells = [*chain(0), *(make_cell(number, device=Device.CUDA) for number in range(3))]
    plan = plan_of(cells, jobs=8, gpus=2)
    assert plan.settings.jobs == 2
    lent = {plan.cells[planned.number].device: planned.gpus for planned in plan.planned().values()}
    assert lent == {Device.CPU: 0, Device.CUDA: 1}
    assert plan_of(cells, jobs=1, gpus=2).settings.jobs == 1


def test_a_cell_depends_on_all_earlier_checks_that_block_first_ones_first() -> None:
    plan = plan_of([*reversed(chain(0)), *chain(1)])
    planned = {plan.cells[each.number]: each for each in plan.planned().values()}
    decode = planned[chain(0)[-1]]
    bearing = [Check.IMPORT, Check.CONSTRUCT, Check.LOSS_CONTRACT, Check.FINETUNE]
    below = [plan.cells[number] for number in decode.depends_on]
    assert below == [cell for cell in chain(0) if cell.check in bearing]


def test_the_two_entry_points_are_siblings() -> None:
    cells = [make_cell(0, check=Check.FINETUNE, entry=entry) for entry in Entry]
    assert [planned.depends_on for planned in plan_of(cells).planned().values()] == [(), ()]


def test_a_cell_named_twice_is_planned_once() -> None:
    assert len(plan_of([make_cell(0), make_cell(0)]).planned()) == 1


def test_cached_outcomes_are_left_out_and_what_depends_on_a_failure_is_decided() -> None:
    cells = chain(0)
    failed = Outcome(cell=cells[1], status=Status.FAILED, reason="it did")
    plan = plan_of(cells, prior=[failed])
    assert list(plan.cells.values()) == [cells[0]]
    assert [outcome.cell for outcome in plan.decided] == cells[2:]
    assert {outcome.status for outcome in plan.decided} == {Status.BLOCKED}
    assert {outcome.evidence[BLOCKED_BY] for outcome in plan.decided} == {cells[1].id}


def test_what_depends_on_a_cached_skip_is_skipped() -> None:
    cells = chain(0)
    plan = plan_of(cells, prior=[Outcome(cell=cells[1], status=Status.SKIPPED, reason="no such model")])
    assert {(outcome.status, outcome.reason) for outcome in plan.decided} == {(Status.SKIPPED, "no such model")}


def test_failures_of_another_model_or_release_block_nothing() -> None:
    others = [make_cell(1), make_cell(0, release="2.0.0")]
    prior = [Outcome(cell=cell, status=Status.FAILED, reason="it did") for cell in others]
    assert plan_of([make_cell(0)], prior=prior).decided == ()


def test_the_inside_reads_what_the_outside_wrote() -> None:
    plan = plan_of([*chain(0), *chain(1)])
    tree = plan.tree({0: True})
    read = wire.TreePlan.from_bytes(tree.to_bytes())
    assert (read.batches, read.done) == (tree.batches, {0: True})
    assert 0 not in {cell.number for batch in read.batches for cell in batch.cells}
    assert {each.name: getattr(tree.settings, each.name) for each in fields(wire.TreeSettings)} == asdict(read.settings)
