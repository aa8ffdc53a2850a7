"""What comes out of a cell is hostile input: it decides that cell's outcome and nobody else's."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from execute_scene import Scene, make_cell
from inside_faults import PASSED

from harness.core.cells import Cell, Check, Outcome, Status
from harness.worker.process import isolation

FAILED = {**PASSED, "status": "failed", "reason": "planted"}
FAILURE = {"type": "E", "message": "m", "frames": [], "signature": "E@f:g"}
FRAME = {"file": "funasr/a.py", "line": 1, "function": "f", "code": "pass"}


def result(**changes: Any) -> dict[str, Any]:
    return {"text": json.dumps({**FAILED, **changes})}


MALFORMED: dict[str, dict[str, Any]] = {
    "brackets": {"text": "[", "times": 200_000},
    "brackets in evidence": {"text": json.dumps(FAILED).replace('"evidence": {}', '"evidence": ' + "[" * 200_000)},
    "900 levels": {"text": json.dumps({**FAILED, "metrics": {"x": 0}}).replace("0", "[" * 900 + "]" * 900)},
    "failure without a message": result(failure={**FAILURE, "message": None}),
    "failure that is a text": result(failure="E"),
    "frames that hold numbers": result(failure={**FAILURE, "frames": [1, 2]}),
    "a frame with a list for a file": result(failure={**FAILURE, "frames": [{**FRAME, "file": []}]}),
    "a frame with a text for a line": result(failure={**FAILURE, "frames": [{**FRAME, "line": "1"}]}),
    "frames that are a number": result(failure={**FAILURE, "frames": 7}),
    "a reason that is a list": result(reason=["x"]),
    "shims that are numbers": result(shims=[1]),
    "a status that is a list": result(status=[]),
    "infinity in digits": {"text": json.dumps({**FAILED, "metrics": {"x": 0}}).replace("0", "1e999")},
    "4,000 digits": {"text": json.dumps({**FAILED, "metrics": {"x": 0}}).replace("0", "9" * 4000)},
    "5,000 digits": {"text": json.dumps({**FAILED, "metrics": {"x": 0}}).replace("0", "9" * 5000)},
    "no result but a text": {"text": '"passed"'},
}


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path / "workspace")


def assert_passed(outcomes: dict[Cell, Outcome], cells: list[Cell]) -> None:
    assert [(outcomes[cell].status, outcomes[cell].reason) for cell in cells] == [(Status.PASSED, "")] * len(cells)


def test_a_hostile_result_costs_its_own_cell_and_every_bystander_runs(scene: Scene) -> None:
    """One run of all of them, among cells that pass."""
    before = scene.bystanders()
    malformed = {name: scene.add("writes", **request) for name, request in MALFORMED.items()}
    half = scene.add("writes", text=json.dumps({**FAILED, "evidence": {"log": "\ud800"}}))
    long = scene.add("writes", text=json.dumps({**FAILED, "reason": "x" * 100_000}))
    lost = [
        scene.add("puts_a_fifo_in_the_place_of_its_result"),
        scene.add("puts_a_sparse_file_in_the_place_of_its_result"),
    ]
    full = scene.add("fills_its_result")
    replaced = scene.add("replaces_functions")
    refused = scene.add("wants_more_memory_than_there_is")
    stopped = [scene.add("stops_its_parent"), scene.add("stops_the_stack_process", release="1.0.1")]
    sockets = scene.add("finds_sockets")
    after = scene.bystanders()
    outcomes = scene.run()
    assert_passed(outcomes, [*before, *after, replaced, *stopped, sockets])
    for name, cell in malformed.items():
        assert outcomes[cell].status is Status.ERRORED, name
        assert outcomes[cell].reason.startswith("the result file is malformed: "), name
        assert len(outcomes[cell].reason) < 1000, name
    assert outcomes[half].status is Status.FAILED
    assert outcomes[half].evidence["log"] == "?"
    assert (outcomes[long].status, len(outcomes[long].reason)) == (Status.FAILED, 8000)
    assert {outcomes[cell].status for cell in lost} == {Status.CRASHED}
    assert outcomes[full].status is Status.ERRORED
    assert outcomes[refused].status is Status.OUT_OF_MEMORY
    assert outcomes[sockets].evidence["sockets"] == 0
    assert sorted(scene.warnings) == [
        "the process of 1.0.0 was stopped by a signal, and continued",
        "the process of all releases was stopped by a signal, and continued",
    ]


def test_a_release_that_forges_events_is_skipped_and_reported_once(scene: Scene) -> None:
    victims = scene.bystanders(2, releases=["1.0.1"])
    scene.on_enter = {"1.0.2": ["forges_events"]}
    own = scene.bystanders(2, releases=["1.0.2"])
    assert_passed(scene.run(), [*victims, *own])
    assert set(scene.warnings) == {"the process of 1.0.2 sent what is no event of its cells; it was passed over"}
    # once for each of its processes
    assert len(scene.warnings) <= len(own)


def test_a_cell_that_stops_its_release_without_end_is_ended_at_its_time_limit(scene: Scene) -> None:
    cell = scene.add("stops_its_parent_without_end")
    scene.limits[cell] = 3.0
    others = scene.bystanders()
    outcomes = scene.run()
    assert_passed(outcomes, others)
    assert outcomes[cell].status is Status.TIMED_OUT or "because the machine was busy" in outcomes[cell].reason


@pytest.mark.parametrize("levels", [1, 2])
def test_a_cell_that_removes_the_folders_of_the_run_keeps_no_other_from_running(scene: Scene, levels: int) -> None:
    scene.jobs = 1
    before = scene.bystanders(1)
    culprit = scene.add("removes_all_it_can_reach", levels=levels, kept=str(scene.workspace))
    fresh = scene.put(make_cell(0, check=Check.IMPORT, release="1.0.2"), "passes")
    others = [*before, *scene.bystanders(1), fresh]
    outcomes = scene.run()
    assert outcomes[culprit].status is Status.PASSED
    assert_passed(outcomes, others)


@pytest.mark.skipif(len(isolation.supported()) < 2, reason="this kernel has no Landlock of version 6")
def test_an_isolated_cell_changes_nothing_but_its_own_folder_and_signals_nobody(scene: Scene) -> None:
    scene.isolated, elsewhere = True, scene.workspace.parent / "elsewhere"
    elsewhere.mkdir()
    own = "in-its-own-folder"
    culprit = scene.add("removes_all_it_can_reach", levels=3, kept=str(elsewhere))
    writer = scene.add("writes_to", paths=[own, str(elsewhere / "file"), "/dev/null", "/dev/shm/funasr-harness-test"])
    fresh = scene.put(
        make_cell(0, check=Check.IMPORT), "writes_to", paths=[own, str(elsewhere / "file"), str(Path.home() / "file")]
    )
    signals = [scene.add(fault) for fault in ("kills_its_parent", "stops_its_parent", "kills_the_stack_process")]
    daemons = scene.add("leaves_a_daemon")
    others = scene.bystanders(2)
    outcomes = scene.run()
    Path("/dev/shm/funasr-harness-test").unlink()
    assert_passed(outcomes, [culprit, writer, fresh, daemons, *others])
    assert outcomes[culprit].evidence["gone"] is False
    assert [one[1] for one in outcomes[writer].evidence["refused"]] == [errno.EACCES]
    assert [one[1] for one in outcomes[fresh].evidence["refused"]] == [errno.EACCES] * 2
    assert {outcomes[cell].reason for cell in signals} == {
        "the check itself raised PermissionError: [Errno 1] Operation not permitted"
    }
    assert outcomes[daemons].evidence["leftovers_killed"] == 1
    assert scene.warnings == []


def test_without_landlock_or_with_isolation_turned_off_cells_run_as_they_are(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(isolation.VARIABLE, "none")
    isolation._version.cache_clear()
    scene.isolated, place = True, scene.workspace.parent / "file"
    cell = scene.add("writes_to", paths=[str(place)])
    assert isolation.supported() == ()
    assert scene.run()[cell].evidence["refused"] == []
    assert place.read_text() == "planted"
    isolation._version.cache_clear()
    assert os.environ[isolation.VARIABLE] == "none"
