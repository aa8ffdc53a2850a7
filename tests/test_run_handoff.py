"""A cell's process that leaves the next cell what it made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from execute_scene import Scene, make_cell

from harness.core.cells import Cell, Check, Device, Status


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    # Nothing but the cells of one chain: their numbers are 0 and 1.
    return Scene(tmp_path / "workspace", jobs=1)


def pair(scene: Scene, lower: str, upper: str = "remembers", number: int = 0) -> tuple[Cell, Cell]:
    construct = scene.put(make_cell(number, check=Check.CONSTRUCT), lower, word="lower")
    contract = scene.put(make_cell(number, check=Check.LOSS_CONTRACT), upper, word="upper")
    return construct, contract


def test_the_contract_finds_what_the_process_of_construct_made_in_a_process_of_its_own(scene: Scene) -> None:
    construct, contract = pair(scene, "remembers")
    outcomes = scene.run()
    first, second = outcomes[construct].evidence, outcomes[contract].evidence
    assert first["found"] == []
    assert second["found"] == [first["pid"]]
    assert second["pid"] != first["pid"]
    assert second["cwd"] != first["cwd"]
    assert (scene.workspace / "logs" / "0.txt").read_text() == "remembers lower\n"
    assert (scene.workspace / "logs" / "1.txt").read_text() == "remembers upper\n"


def test_each_ladder_finds_its_own(scene: Scene) -> None:
    pairs = [pair(scene, "remembers", number=number) for number in range(3)]
    outcomes = scene.run()
    for construct, contract in pairs:
        assert outcomes[contract].evidence["found"] == [outcomes[construct].evidence["pid"]]


def test_a_process_with_threads_leaves_no_successor_and_the_next_cell_starts_from_nothing(scene: Scene) -> None:
    construct, contract = pair(scene, "remembers_with_a_thread")
    outcomes = scene.run()
    assert outcomes[construct].status is Status.PASSED
    assert (outcomes[contract].status, outcomes[contract].evidence["found"]) == (Status.PASSED, [])


def test_what_a_cell_leaves_running_is_ended_and_its_successor_is_not(scene: Scene) -> None:
    construct, contract = pair(scene, "remembers_and_leaves_a_child")
    outcomes = scene.run()
    assert outcomes[contract].evidence["found"] == [outcomes[construct].evidence["pid"]]
    assert outcomes[construct].evidence["leftovers_killed"] == 1
    assert "leftovers_killed" not in outcomes[contract].evidence


def test_a_successor_that_hangs_takes_only_its_own_cell_along(scene: Scene) -> None:
    construct, contract = pair(scene, "remembers_and_hangs_at_the_second", "remembers_and_hangs_at_the_second")
    scene.limits[contract] = 3.0
    after = scene.add("passes")
    outcomes = scene.run()
    assert outcomes[construct].status is Status.PASSED
    assert outcomes[contract].status is Status.TIMED_OUT
    assert outcomes[after].status is Status.PASSED


@pytest.mark.parametrize("fault", ["exits_with_three", "segfaults", "exits_early"])
def test_a_successor_that_dies_takes_only_its_own_cell_along(scene: Scene, fault: str) -> None:
    construct, contract = pair(scene, "remembers", fault)
    after = scene.add("passes")
    outcomes = scene.run()
    assert outcomes[construct].status is Status.PASSED
    assert outcomes[contract].status is Status.CRASHED
    assert outcomes[after].status is Status.PASSED


def test_a_cell_that_does_not_pass_leaves_no_successor(scene: Scene) -> None:
    construct = scene.put(make_cell(0), "says", answer={"status": "failed", "reason": "it does not build"})
    contract = scene.put(make_cell(0, check=Check.LOSS_CONTRACT), "remembers", word="upper")
    outcomes = scene.run()
    assert outcomes[contract].status is Status.BLOCKED
    assert outcomes[contract].evidence["blocked_by"] == construct.id


def test_the_contract_of_another_ladder_finds_nothing(scene: Scene) -> None:
    construct = scene.put(make_cell(0), "remembers", word="lower")
    contract = scene.put(make_cell(1, check=Check.LOSS_CONTRACT), "remembers", word="upper")
    assert scene.run()[contract].evidence["found"] == []
    assert construct.dimensions != contract.dimensions


def test_on_a_gpu_no_process_is_forked_from_one_that_may_have_used_it(scene: Scene) -> None:
    cells = [replace(cell, device=Device.CUDA) for cell in (make_cell(0), make_cell(0, check=Check.LOSS_CONTRACT))]
    for cell in cells:
        scene.put(cell, "remembers", word="x")
    assert [planned.continues for planned in scene.plan().planned().values()] == [False, False]
    assert scene.run()[cells[1]].evidence["found"] == []
