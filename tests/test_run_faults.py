"""Cells that crash, hang, vanish or eat memory take only themselves along, and leave nothing running."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from execute_scene import MEMORY, Scene

from harness.core.cells import Cell, Outcome, Status
from harness.core.tree_events import Ready


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path / "workspace")


HANG = 3.0
"""Seconds after which a cell that hangs is ended."""


def run_beside_others(scene: Scene, fault: str, *, limit: float | None = None, **request: Any) -> Outcome:
    """The outcome of one faulty cell in the midst of others, all of which pass."""
    before, cell = scene.bystanders(), scene.add(fault, **request)
    if limit is not None:
        scene.limits[cell] = limit
    others = [*before, *scene.bystanders()]
    outcomes = scene.run()
    assert outcomes.keys() == {cell, *others}
    assert_all_passed(outcomes, others)
    return outcomes[cell]


def assert_all_passed(outcomes: dict[Cell, Outcome], cells: list[Cell]) -> None:
    assert {outcomes[cell].status for cell in cells} == {Status.PASSED}
    assert {outcomes[cell].reason for cell in cells} == {""}


def test_cells_that_pass_share_one_entered_release_and_each_have_a_directory_of_their_own(scene: Scene) -> None:
    cells = scene.bystanders()
    outcomes = scene.run()
    assert_all_passed(outcomes, cells)
    evidence = [outcomes[cell].evidence for cell in cells]
    assert {each["entered"] for each in evidence} == {1}
    assert len({each["pid"] for each in evidence}) == len(cells)
    assert {each["cwd"] for each in evidence} == {f"<workspace>/scratch/{number}" for number in range(len(cells))}
    assert list((scene.workspace / "scratch").iterdir()) == []
    assert scene.started == sorted(cells, key=scene.started.index)
    assert all(outcome.seconds > 0 and outcome.started.endswith("Z") for outcome in outcomes.values())
    assert all(outcome.metrics["peak_resident_bytes"] > 0 for outcome in outcomes.values())
    assert scene.warnings == []


def test_a_check_that_raises_is_errored_with_its_traceback(scene: Scene) -> None:
    outcome = run_beside_others(scene, "raises")
    assert outcome.status is Status.ERRORED
    assert outcome.reason == "the check itself raised RuntimeError: planted, below <workspace>/scratch/6"
    assert outcome.failure is not None
    assert outcome.failure.signature == "RuntimeError@tests/inside_faults.py:raises"
    assert "RuntimeError: planted" in outcome.evidence["log_tail"]


def test_a_segfault_is_a_crash_that_names_the_signal_and_the_place(scene: Scene) -> None:
    outcome = run_beside_others(scene, "segfaults")
    assert outcome.status is Status.CRASHED
    assert outcome.reason == "was ended by SIGSEGV before it gave a result"
    assert outcome.failure is not None
    assert outcome.failure.type == "SIGSEGV"
    assert [frame.function for frame in outcome.failure.frames][:2] == ["run", "segfaults"]
    assert outcome.failure.frames[1].code == "ctypes.string_at(0)"


def test_an_exit_with_zero_before_the_result_is_a_crash(scene: Scene) -> None:
    outcome = run_beside_others(scene, "exits_early")
    assert (outcome.status, outcome.reason) == (Status.CRASHED, "exited with 0 before it gave a result")


def test_an_exit_with_another_status_is_a_crash_with_its_last_words(scene: Scene) -> None:
    outcome = run_beside_others(scene, "exits_with_three")
    assert outcome.status is Status.CRASHED
    assert outcome.reason == "exited with 3 before it gave a result; its last words: three it is"


def test_sys_exit_in_a_check_is_a_crash_that_knows_where(scene: Scene) -> None:
    outcome = run_beside_others(scene, "calls_sys_exit")
    assert outcome.status is Status.CRASHED
    assert outcome.reason == "exited with 1 before it gave a result; its last words: SystemExit: x"
    assert outcome.failure is not None
    assert outcome.failure.signature == "Exit1@tests/inside_faults.py:calls_sys_exit"


def test_a_keyboard_interrupt_raised_in_a_check_stays_in_its_cell(scene: Scene) -> None:
    outcome = run_beside_others(scene, "raises_keyboard_interrupt")
    assert outcome.status is Status.CRASHED
    assert outcome.reason == "exited with 130 before it gave a result; its last words: KeyboardInterrupt"


def test_a_hang_in_python_is_a_time_out_that_knows_where(scene: Scene) -> None:
    outcome = run_beside_others(scene, "hangs", limit=HANG)
    assert outcome.status is Status.TIMED_OUT
    assert outcome.reason == "not done after 3 s; it hung in tests/inside_faults.py:hangs"
    assert outcome.failure is not None
    assert outcome.failure.signature == "Timeout@tests/inside_faults.py:hangs"
    assert outcome.failure.frames[-1].code == "time.sleep(FOREVER)"


def test_a_hang_in_c_with_all_signals_blocked_is_a_time_out(scene: Scene) -> None:
    outcome = run_beside_others(scene, "hangs_in_c_with_signals_blocked", limit=HANG)
    assert outcome.status is Status.TIMED_OUT
    assert outcome.reason == "not done after 3 s; where it hung could not be seen"


@pytest.mark.parametrize(
    "fault", ["leaves_a_hanging_child", "leaves_a_daemon", "leaves_a_daemon_with_an_empty_environment"]
)
def test_a_cell_that_passes_and_leaves_a_process_passes_and_the_process_is_ended(scene: Scene, fault: str) -> None:
    outcome = run_beside_others(scene, fault)
    assert outcome.status is Status.PASSED
    assert outcome.evidence["leftovers_killed"] == 1
    assert not any(b"funasr-harness-nobody" in line for line in command_lines())


def test_a_cell_that_leaves_processes_and_hangs_takes_them_along(scene: Scene) -> None:
    outcome = run_beside_others(scene, "leaves_a_daemon_and_hangs", limit=HANG)
    assert outcome.status is Status.TIMED_OUT


@pytest.mark.parametrize("fault", ["eats_memory", "eats_memory_in_a_child", "eats_memory_in_a_daemon"])
def test_memory_above_the_limit_ends_the_cell_wherever_it_is_held(scene: Scene, fault: str) -> None:
    outcome = run_beside_others(scene, fault, bytes=2 * MEMORY)
    assert outcome.status is Status.OUT_OF_MEMORY
    assert outcome.reason == "its processes held more than the 0.25 GiB they were allowed"


def test_memory_that_children_share_counts_once(scene: Scene) -> None:
    outcome = run_beside_others(scene, "shares_memory_with_children", bytes=MEMORY // 2)
    assert outcome.status is Status.PASSED


def test_a_check_that_gives_up_for_want_of_memory_is_out_of_memory(scene: Scene) -> None:
    outcome = run_beside_others(scene, "gives_up_for_want_of_memory")
    assert outcome.status is Status.OUT_OF_MEMORY
    assert "MemoryError" in outcome.reason


def test_of_megabytes_of_output_the_end_is_kept(scene: Scene) -> None:
    outcome = run_beside_others(scene, "prints_and_fails")
    assert (outcome.status, outcome.reason) == (Status.FAILED, "planted")
    assert outcome.evidence["log_tail"].splitlines()[-1] == "the last line"
    assert "the first line" not in outcome.evidence["log_tail"]


def test_output_without_end_keeps_nobody_from_looking_at_the_clock(scene: Scene) -> None:
    outcome = run_beside_others(scene, "prints_without_end", limit=HANG)
    # it computes all the time: of a machine that is busy with others it gets too little to be judged
    assert outcome.status is Status.TIMED_OUT or "because the machine was busy" in outcome.reason
    # the last line may be cut off where the writer was ended
    assert outcome.evidence["log_tail"].splitlines()[-2] == "and so on"


def test_numbers_that_json_has_no_word_for_become_strings(scene: Scene) -> None:
    outcome = run_beside_others(scene, "gives_nan")
    assert outcome.status is Status.PASSED
    assert outcome.metrics["losses"] == [1.0, "nan", "-inf"]


def test_a_result_that_is_not_strict_json_is_errored(scene: Scene) -> None:
    outcome = run_beside_others(scene, "writes_nan_itself")
    assert (outcome.status, outcome.reason) == (Status.ERRORED, "the result file is malformed: NaN is not JSON")


def test_a_result_that_is_not_json_at_all_is_errored(scene: Scene) -> None:
    outcome = run_beside_others(scene, "gives_an_object")
    assert outcome.status is Status.ERRORED
    assert "not JSON serializable" in outcome.reason


def test_a_pass_followed_by_a_crash_is_a_crash(scene: Scene) -> None:
    outcome = run_beside_others(scene, "writes_and_segfaults")
    assert outcome.status is Status.CRASHED
    assert outcome.reason == "gave a result (passed), and then was ended by SIGSEGV"
    assert outcome.evidence["result_before_the_end"] == "passed"


@pytest.mark.parametrize("fault", ["deletes_its_directory", "starts_a_thread_that_never_ends", "prints_megabytes"])
def test_a_cell_may_pass_in_spite_of_bad_manners(scene: Scene, fault: str) -> None:
    assert run_beside_others(scene, fault).status is Status.PASSED


def test_a_cell_cannot_claim_a_status_that_is_not_its_own_to_give(scene: Scene) -> None:
    outcome = run_beside_others(scene, "says", answer={"status": "crashed", "reason": "tired"})
    assert outcome.status is Status.ERRORED
    assert outcome.reason == "the result file is malformed: a check cannot say crashed of itself"


def test_a_cell_that_kills_its_release_crashes_and_the_others_go_on(scene: Scene) -> None:
    outcome = run_beside_others(scene, "kills_its_parent")
    assert outcome.status is Status.CRASHED
    assert outcome.reason == "its release's process was ended by SIGKILL while it ran"
    assert stack_processes(scene) == 1


def test_what_a_cell_leaves_is_gone_before_the_next_starts_even_if_it_killed_its_release(scene: Scene) -> None:
    scene.jobs = 1
    pid_file = str(scene.workspace.parent / "pid")
    before = scene.add("leaves_a_daemon_that_is_known", pid_file=pid_file)
    first = scene.add("finds_it_gone", pid_file=pid_file)
    killer = scene.add("kills_its_parent_and_leaves_a_daemon", pid_file=pid_file + "2")
    second = scene.add("finds_it_gone", pid_file=pid_file + "2")
    outcomes = scene.run()
    assert outcomes[killer].status is Status.CRASHED
    assert_all_passed(outcomes, [before, first, second])
    assert stack_processes(scene) == 1


def test_a_cell_that_kills_the_stack_process_is_errored_and_the_others_go_on(scene: Scene) -> None:
    scene.jobs = 1
    outcome = run_beside_others(scene, "kills_the_stack_process")
    assert outcome.status is Status.ERRORED
    assert outcome.reason == "the process of all releases was ended by SIGKILL while this cell ran"


def stack_processes(scene: Scene) -> int:
    """How many were started."""
    return sum(isinstance(event, Ready) for event in scene.events)


def command_lines() -> list[bytes]:
    """Of all processes."""
    lines = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(entry.read_bytes())
        except OSError:
            continue
    return lines
