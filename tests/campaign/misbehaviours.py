"""Planted misbehaviours of cells beside cells that behave: each gets the right status, and the others pass."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from execute_scene import MEMORY, Scene, make_cell
from test_run_hostile import MALFORMED

from harness.core.cells import Check, Status
from tests.campaign.trials import PartResult

LIMIT = 4.0
"""Seconds of a cell that hangs."""


@dataclass(frozen=True, kw_only=True)
class Misbehaviour:
    """One, as a cell that commits it."""

    name: str
    fault: str
    expected: Status
    """Of that cell."""
    request: dict[str, Any] = field(default_factory=dict)
    hangs: bool = False
    alone: bool = False
    """Whether it ends a process that other cells need: it runs when no other cell does."""
    fresh: bool = False
    """Whether the cell has an interpreter of its own, as `import` has."""


def _ends(fault: str, expected: Status, **more: Any) -> Misbehaviour:
    return Misbehaviour(name=fault.replace("_", " "), fault=fault, expected=expected, **more)


def misbehaviours() -> tuple[Misbehaviour, ...]:
    """All of them."""
    large = {"bytes": 2 * MEMORY}
    return (
        _ends("raises", Status.ERRORED),
        _ends("segfaults", Status.CRASHED),
        _ends("exits_early", Status.CRASHED),
        _ends("exits_with_three", Status.CRASHED),
        _ends("calls_sys_exit", Status.CRASHED),
        _ends("raises_keyboard_interrupt", Status.CRASHED),
        _ends("hangs", Status.TIMED_OUT, hangs=True),
        _ends("hangs_in_c_with_signals_blocked", Status.TIMED_OUT, hangs=True),
        _ends("leaves_a_daemon_and_hangs", Status.TIMED_OUT, hangs=True),
        _ends("leaves_a_hanging_child", Status.PASSED),
        _ends("leaves_a_daemon", Status.PASSED),
        _ends("leaves_a_daemon_with_an_empty_environment", Status.PASSED),
        _ends("eats_memory", Status.OUT_OF_MEMORY, request=large),
        _ends("eats_memory_in_a_child", Status.OUT_OF_MEMORY, request=large),
        _ends("eats_memory_in_a_daemon", Status.OUT_OF_MEMORY, request=large),
        _ends("gives_up_for_want_of_memory", Status.OUT_OF_MEMORY),
        _ends("wants_more_memory_than_there_is", Status.OUT_OF_MEMORY),
        _ends("prints_megabytes", Status.PASSED),
        _ends("prints_and_fails", Status.FAILED),
        _ends("gives_nan", Status.PASSED),
        _ends("gives_an_object", Status.ERRORED),
        _ends("writes_nan_itself", Status.ERRORED),
        _ends("writes_and_segfaults", Status.CRASHED),
        _ends("deletes_its_directory", Status.PASSED),
        _ends("starts_a_thread_that_never_ends", Status.PASSED),
        _ends("puts_a_fifo_in_the_place_of_its_result", Status.CRASHED),
        _ends("puts_a_sparse_file_in_the_place_of_its_result", Status.CRASHED),
        _ends("fills_its_result", Status.ERRORED),
        _ends("replaces_functions", Status.PASSED),
        _ends("stops_its_parent", Status.PASSED),
        _ends("stops_the_stack_process", Status.PASSED),
        _ends("segfaults", Status.CRASHED, fresh=True),
        _ends("leaves_a_daemon", Status.PASSED, fresh=True),
        _ends("eats_memory_in_a_daemon", Status.OUT_OF_MEMORY, request=large, fresh=True),
        _ends("kills_its_parent", Status.CRASHED, alone=True),
        _ends("kills_the_stack_process", Status.ERRORED, alone=True),
        Misbehaviour(
            name="removes the folders of the run",
            fault="removes_all_it_can_reach",
            expected=Status.PASSED,
            request={"levels": 2, "kept": "/"},
            alone=True,
        ),
        Misbehaviour(
            name="claims to have crashed",
            fault="says",
            expected=Status.ERRORED,
            request={"answer": {"status": "crashed", "reason": "x"}},
        ),
        *(
            Misbehaviour(name=f"result: {name}", fault="writes", expected=Status.ERRORED, request=request)
            for name, request in MALFORMED.items()
        ),
    )


def run_misbehaviours(*, seed: int = 0) -> PartResult:
    """All of them, those that end shared processes in a run in which one cell runs at a time."""
    result = PartResult(part="misbehaviours of cells", seed=seed)
    began = time.monotonic()
    every = misbehaviours()
    for alone in (False, True):
        some = [one for one in every if one.alone == alone]
        with tempfile.TemporaryDirectory(prefix="campaign-") as folder:
            _run(some, Path(folder) / "workspace", result, jobs=1 if alone else 2)
    result.seconds = round(time.monotonic() - began, 1)
    return result


def _run(some: Sequence[Misbehaviour], workspace: Path, result: PartResult, *, jobs: int) -> None:
    scene = Scene(workspace, jobs=jobs)
    cells, bystanders = [], []
    for number, one in enumerate(some):
        if one.fresh:
            # of a release of its own: an import blocks what depends on it
            made = make_cell(0, release=f"1.1.{number}", check=Check.IMPORT)
            cell = scene.put(made, one.fault, **one.request)
        else:
            cell = scene.add(one.fault, release=f"1.0.{number % 2}", **one.request)
        if one.hangs:
            scene.limits[cell] = LIMIT
        cells.append(cell)
        bystanders.append(scene.add("passes", release=f"1.0.{number % 3}"))
    try:
        found = scene.run()
    except AssertionError as error:
        result.processes_left += 1
        result.fault(f"a process was left, or a cell has two outcomes: {error}")
        return
    result.tried += len(some)
    result.cells += len(found)
    result.lost += len(scene.requests) - len(found)
    for one, cell in zip(some, cells, strict=True):
        outcome = found[cell]
        busy = one.expected is Status.TIMED_OUT and "because the machine was busy" in outcome.reason
        if outcome.status is not one.expected and not busy:
            result.differing += 1
            result.fault(f"{one.name}: {outcome.status}, not {one.expected}: {outcome.reason[:160]}")
    failed = [cell.id for cell in bystanders if found[cell].status is not Status.PASSED]
    result.differing += len(failed)
    result.figures["bystanders that passed"] = (
        result.figures.get("bystanders that passed", 0) + len(bystanders) - len(failed)
    )
    for name in failed:
        result.fault(f"bystander {name} did not pass")
