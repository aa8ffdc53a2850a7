"""Ladders, resumed runs, releases that cannot be entered, stack processes that die, and ends by signal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import execute_scene
import pytest
import signals
from execute_scene import Scene, make_cell, marked

from harness.core import processes
from harness.core.cells import Cell, Check, Device, Entry, Outcome, Status
from harness.run import execute

PATIENCE = 600.0
"""Seconds after which something that has to come is given up; nothing is measured against it."""


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path / "workspace")


def add_ladder(scene: Scene, number: int, *, release: str = "1.0.0", **faults: str) -> dict[str, Cell]:
    """Cells of one chain by check, each passing unless a fault is named for it."""
    cells = {}
    for check in (Check.IMPORT, Check.CONSTRUCT, Check.LOSS_CONTRACT, Check.FINETUNE):
        cell = make_cell(number, release=release, check=check)
        if check is not Check.IMPORT or cell not in scene.requests:
            scene.put(cell, faults.get(check, "passes"))
        cells[str(check)] = cell
    return cells


def test_checks_after_one_that_did_not_pass_are_blocked_and_name_it(scene: Scene) -> None:
    faulty = add_ladder(scene, 0, construct="exits_early")
    whole = add_ladder(scene, 1)
    outcomes = scene.run()
    assert {outcomes[cell].status for cell in whole.values()} == {Status.PASSED}
    assert outcomes[faulty["construct"]].status is Status.CRASHED
    for check in ("loss_contract", "finetune"):
        outcome = outcomes[faulty[check]]
        assert outcome.status is Status.BLOCKED
        assert outcome.reason == f"depends on {faulty['construct'].id}, which crashed"
        assert outcome.evidence["blocked_by"] == faulty["construct"].id
    assert faulty["finetune"] not in scene.started


def test_an_import_in_a_batch_of_its_own_blocks_the_checks_of_its_release_only(scene: Scene) -> None:
    faulty = [add_ladder(scene, number, release="1.0.0", **{"import": "exits_early"}) for number in range(3)]
    whole = add_ladder(scene, 0, release="1.0.1")
    assert len(scene.plan().batches) == 6
    outcomes = scene.run()
    assert {outcomes[cell].status for cell in whole.values()} == {Status.PASSED}
    above = [chain[check] for chain in faulty for check in ("construct", "loss_contract", "finetune")]
    assert {outcomes[cell].evidence["blocked_by"] for cell in above} == {faulty[0]["import"].id}


def test_what_depends_on_a_skipped_check_is_skipped_for_the_same_reason(scene: Scene) -> None:
    low = scene.put(make_cell(0), "says", answer={"status": "skipped", "reason": "it has no such encoder"})
    high = scene.put(make_cell(0, check=Check.LOSS_CONTRACT), "passes")
    outcomes = scene.run()
    assert (outcomes[low].status, outcomes[low].reason) == (Status.SKIPPED, "it has no such encoder")
    assert (outcomes[high].status, outcomes[high].reason) == (Status.SKIPPED, "it has no such encoder")


def test_of_two_entry_points_neither_depends_on_the_other(scene: Scene) -> None:
    train = scene.put(make_cell(0, check=Check.FINETUNE), "exits_early")
    train_ds = scene.put(make_cell(0, check=Check.FINETUNE, entry=Entry.TRAIN_DS), "passes")
    outcomes = scene.run()
    assert outcomes[train].status is Status.CRASHED
    assert outcomes[train_ds].status is Status.PASSED


def test_a_resumed_run_runs_only_what_is_not_cached_and_minds_what_is(scene: Scene) -> None:
    good, bad = add_ladder(scene, 0), add_ladder(scene, 1)

    def on_record(cell: Cell, status: Status) -> Outcome:
        return Outcome(cell=cell, status=status, reason="" if status is Status.PASSED else "as it was")

    prior = [
        on_record(good["import"], Status.PASSED),
        on_record(good["construct"], Status.PASSED),
        on_record(bad["construct"], Status.FAILED),
    ]
    outcomes = scene.run(prior)
    assert outcomes.keys() == {good["loss_contract"], good["finetune"], bad["loss_contract"], bad["finetune"]}
    assert scene.started == [good["loss_contract"], good["finetune"]]
    assert {outcomes[cell].status for cell in scene.started} == {Status.PASSED}
    assert outcomes[bad["finetune"]].reason == f"depends on {bad['construct'].id}, which failed"


def test_results_of_an_earlier_run_are_not_taken_for_new_ones(scene: Scene) -> None:
    scene.add("passes")
    scene.run()
    again = Scene(scene.workspace)
    cell = again.add("exits_early")
    assert again.run()[cell].status is Status.CRASHED


def test_fresh_cells_do_not_see_what_the_release_has_imported(scene: Scene) -> None:
    alone = scene.put(make_cell(0, check=Check.IMPORT), "passes")
    forked = scene.add("passes")
    outcomes = scene.run()
    assert outcomes[alone].evidence["entered"] == 0
    assert outcomes[forked].evidence["entered"] == 1


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ("segfaults", Status.CRASHED),
        ("exits_with_three", Status.CRASHED),
        ("raises", Status.ERRORED),
        ("leaves_a_daemon", Status.PASSED),
        ("eats_memory_in_a_daemon", Status.OUT_OF_MEMORY),
    ],
)
def test_fresh_cells_are_watched_like_any_other(scene: Scene, fault: str, status: Status) -> None:
    cell = scene.put(make_cell(0, check=Check.IMPORT), fault, bytes=2 * execute_scene.MEMORY)
    assert scene.run()[cell].status is status


def test_a_fresh_cell_that_hangs_tells_where(scene: Scene) -> None:
    # Within it an interpreter has to start and come to the place, on a busy machine too.
    scene.timeout = 15.0
    cell = scene.put(make_cell(0, check=Check.IMPORT), "hangs")
    outcome = scene.run()[cell]
    assert outcome.reason == "not done after 15 s; it hung in tests/inside_faults.py:hangs"


def test_with_two_gpus_each_cell_has_one_and_two_processes_have_both(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    scene.jobs = scene.gpus = 2
    cells = [
        scene.put(make_cell(number, release=f"1.0.{number}", device=Device.CUDA), "tells_its_gpus")
        for number in range(5)
    ]
    # Two run at once, however long it takes to start one: each of them waits for the other.
    for cell in cells[:2]:
        scene.requests[cell]["meets"] = [str(scene.workspace.parent / f"met-{number}") for number in range(2)]
        scene.requests[cell]["comes"] = scene.requests[cell]["meets"][cells.index(cell)]
    scene.own_gpus[cells[2]] = 2
    told = [outcome.evidence for outcome in map(scene.run().__getitem__, cells)]
    assert [one["visible"] for one in told][2] == "0,1"
    assert {one["visible"] for one in told} == {"0", "1", "0,1"}
    # On one device nothing runs beside anything else.
    for number, one in enumerate(told):
        for other in told[:number]:
            if set(one["visible"].split(",")) & set(other["visible"].split(",")):
                assert one["ran"][0] >= other["ran"][1] or other["ran"][0] >= one["ran"][1]


def test_with_one_gpu_its_processes_see_what_the_users_own_would(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-abc")
    cell = scene.put(make_cell(0, device=Device.CUDA), "tells_its_gpus", seconds=0)
    assert scene.run()[cell].evidence["visible"] == "GPU-abc"


def test_a_release_that_cannot_be_entered_still_runs_its_cells_and_says_why(scene: Scene) -> None:
    scene.on_enter = {"1.0.0": ["raises"]}
    passing = scene.add("passes")
    failing = scene.add("exits_early")
    outcomes = scene.run()
    assert outcomes[passing].status is Status.PASSED
    assert outcomes[failing].evidence["enter_error"] == "RuntimeError: planted, below <workspace>"


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("segfaults", "its release's process was ended by SIGSEGV while the release was imported for it"),
        ("exits_early", "its release's process exited with 0 while the release was imported for it"),
    ],
)
def test_a_release_that_dies_when_imported_fails_each_models_first_check(scene: Scene, fault: str, reason: str) -> None:
    scene.on_enter = {"1.0.0": [fault]}
    cells = [scene.add("passes") for _ in range(3)]
    above = scene.put(make_cell(0, check=Check.LOSS_CONTRACT), "passes")
    other = scene.add("passes", release="1.0.1")
    outcomes = scene.run()
    assert {(outcomes[cell].status, outcomes[cell].reason) for cell in cells} == {(Status.CRASHED, reason)}
    assert outcomes[above].evidence["blocked_by"] == cells[0].id
    assert outcomes[other].status is Status.PASSED


def test_a_release_that_hangs_when_entered_is_a_time_out_that_knows_where(scene: Scene) -> None:
    scene.enter_timeout = 5.0
    scene.on_enter = {"1.0.0": ["leaves_a_daemon_and_hangs"]}
    cell, other = scene.add("passes"), scene.add("passes", release="1.0.1")
    outcomes = scene.run()
    assert outcomes[other].status is Status.PASSED
    assert outcomes[cell].status is Status.TIMED_OUT
    assert outcomes[cell].reason == (
        "entering the release was not done after 5 s; it hung in tests/inside_faults.py:leaves_a_daemon_and_hangs"
    )


def test_what_entering_a_release_leaves_running_is_ended_and_told(scene: Scene) -> None:
    scene.on_enter = {"1.0.0": ["leaves_a_daemon"]}
    cell = scene.add("passes")
    assert scene.run()[cell].status is Status.PASSED
    assert scene.warnings == ["entering the release left 1 processes, ended"]


def test_a_module_that_the_stack_cannot_import_is_reported_and_stops_nothing(scene: Scene) -> None:
    scene.preload = ("json", "no_such_module_at_all")
    cell = scene.add("passes")
    assert scene.run()[cell].status is Status.PASSED
    assert scene.warnings == [
        "the stack cannot import no_such_module_at_all: ModuleNotFoundError: No module named 'no_such_module_at_all'"
    ]


_THREAD = "import threading, time\nthreading.Thread(target=time.sleep, args=({},), daemon=True).start()\n"


@pytest.fixture
def modules(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose modules the process tree can import."""
    scene.workspace.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(scene.workspace.parent))
    return scene.workspace.parent


def test_a_module_that_leaves_a_thread_is_imported_where_it_is_needed(scene: Scene, modules: Path) -> None:
    (modules / "starts_a_thread.py").write_text(_THREAD.format(600))
    (modules / "brings_it.py").write_text("import starts_a_thread\n")
    scene.preload = ("json", "brings_it", "decimal", "starts_a_thread", "fractions")
    cell = scene.add("lists_imported_modules", names=["json", "brings_it", "decimal", "starts_a_thread", "fractions"])
    outcome = scene.run()[cell]
    assert outcome.status is Status.PASSED
    assert outcome.evidence["imported"] == ["json", "decimal", "fractions"]
    assert outcome.evidence["threads"] == 1
    later = "left a thread running, which does not survive a fork: it is imported later, where it is needed"
    assert scene.warnings == [f"importing brings_it {later}", f"importing starts_a_thread {later}"]


def test_a_module_whose_thread_ends_at_once_is_imported_before(scene: Scene, modules: Path) -> None:
    (modules / "starts_a_short_thread.py").write_text(_THREAD.format(0.1))
    scene.preload = ("starts_a_short_thread",)
    cell = scene.add("lists_imported_modules", names=["starts_a_short_thread"])
    assert scene.run()[cell].evidence["imported"] == ["starts_a_short_thread"]
    assert not scene.warnings


def test_a_stack_process_that_always_dies_loses_no_cell_and_ends(scene: Scene) -> None:
    scene.on_enter = {"1.0.0": ["kills_the_stack_process_first"]}
    cells = [scene.add("passes"), scene.add("passes")]
    outcomes = scene.run()
    reason = "not run: the process of all releases was ended by SIGKILL, and again after it was restarted"
    assert {(outcomes[cell].status, outcomes[cell].reason) for cell in cells} == {(Status.ERRORED, reason)}


def test_a_stack_process_that_cannot_start_is_reported_by_its_last_words(scene: Scene) -> None:
    (scene.workspace.parent / "dies.py").write_text(
        "import os, sys\nprint('no driver', file=sys.stderr)\nos._exit(4)\n"
    )
    scene.preload = ("dies",)
    cell = scene.add("passes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(scene.workspace.parent))
        outcome = scene.run()[cell]
    assert outcome.status is Status.ERRORED
    assert outcome.reason == (
        "not run: the process of all releases exited with 4, and again after it was restarted;"
        " its last words: no driver"
    )


def test_a_stack_process_that_never_gets_ready_is_given_up(scene: Scene) -> None:
    (scene.workspace.parent / "sleeps.py").write_text("import time\ntime.sleep(600)\n")
    scene.preload = ("sleeps",)
    scene.preload_timeout = 1.0
    cell = scene.add("passes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(scene.workspace.parent))
        outcome = scene.run()[cell]
    assert outcome.status is Status.ERRORED
    assert "had not imported its modules after 1 s" in outcome.reason


def test_a_stack_process_that_got_no_processor_says_so_and_blames_no_warning(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    (scene.workspace.parent / "warns.py").write_text(
        "import sys, time\nprint('no ffmpeg', file=sys.stderr, flush=True)\ntime.sleep(600)\n"
    )
    scene.preload = ("warns",)
    scene.preload_timeout = 1.0
    cell = scene.add("passes")
    monkeypatch.setenv("PYTHONPATH", str(scene.workspace.parent))
    monkeypatch.setattr(processes, "processor_times", lambda pid: {pid: (100_000_000, 900_000_000)})
    reason = scene.run()[cell].reason
    assert "after 1 s because the machine was busy: it ran for 0.1 s and waited for a processor for 0.9 s" in reason
    assert "ffmpeg" not in reason
    monkeypatch.setattr(processes, "processor_times", lambda pid: {pid: (600_000_000, 900_000_000)})
    assert "busy" not in scene.run()[cell].reason


def test_an_exception_in_a_callback_comes_out_and_leaves_no_process(scene: Scene) -> None:
    scene.add("passes")
    scene.add("leaves_a_daemon_and_hangs")

    def full_disk(outcome: Outcome) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        execute(scene.plan(), full_disk, env={**os.environ, execute_scene.MARK: scene.mark})
    assert marked(scene.mark) == []


def test_processes_of_the_caller_are_left_alone(scene: Scene) -> None:
    own = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        scene.add("leaves_a_daemon")
        scene.run()
        assert own.poll() is None
    finally:
        own.kill()
        own.wait()


def test_the_handlers_of_signals_are_the_callers_again_afterwards(scene: Scene) -> None:
    before = [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    adopted = processes.adopt_orphans(False)
    scene.add("passes")
    scene.run()
    assert [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before
    assert processes.adopt_orphans(adopted) is False


def start_program(scene: Scene) -> subprocess.Popen[str]:
    """The scene in a process of its own."""
    program = [sys.executable, execute_scene.__file__, str(scene.save(scene.workspace.parent / "scene.json"))]
    path = os.pathsep.join((str(Path(execute_scene.__file__).parents[1]), str(scene.workspace.parent)))
    env = {**os.environ, "PYTHONPATH": path, execute_scene.MARK: scene.mark}
    return subprocess.Popen(
        program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, preexec_fn=signals.listen
    )


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


@pytest.fixture
def busy(scene: Scene) -> Scene:
    """Two jobs: one cell passes, then two hang with daemons and deaf children about them."""
    scene.add("passes")
    scene.add("leaves_a_daemon_and_hangs")
    scene.add("leaves_a_daemon_and_hangs", release="1.0.1")
    return scene


def run_until_busy(busy: Scene) -> tuple[subprocess.Popen[str], list[dict[str, object]]]:
    """Start the scene and read until both hanging cells have left all their processes."""
    program = start_program(busy)
    assert program.stdout is not None
    lines: list[dict[str, object]] = []
    while sum("started" in line and "id" not in line for line in lines) < 3 or not any("id" in line for line in lines):
        lines.append(json.loads(program.stdout.readline()))
    # the program, the stack, two releases, two cells with a child and a daemon each
    wait_until(lambda: len(marked(busy.mark)) >= 10)
    return program, lines


@pytest.mark.parametrize(
    ("signum", "status"),
    [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGHUP, 128 + signal.SIGHUP)],
)
def test_an_end_by_signal_leaves_no_process_and_keeps_the_outcomes(
    busy: Scene, signum: signal.Signals, status: int
) -> None:
    program, lines = run_until_busy(busy)
    program.send_signal(signum)
    program.communicate(timeout=PATIENCE)
    assert marked(busy.mark) == []
    assert program.returncode == status
    assert [line["status"] for line in lines if "id" in line] == ["passed"]


def test_a_killed_program_leaves_no_process(busy: Scene) -> None:
    program, _ = run_until_busy(busy)
    program.kill()
    program.communicate(timeout=PATIENCE)
    wait_until(lambda: marked(busy.mark) == [])


def test_a_program_killed_while_the_stack_imports_leaves_no_process(scene: Scene) -> None:
    shows_it = "import pathlib, time\npathlib.Path('it-hangs').touch()\ntime.sleep(600)\n"
    (scene.workspace.parent / "sleeps.py").write_text(shows_it)
    scene.preload = ("sleeps",)
    scene.add("passes")
    program = start_program(scene)
    wait_until((scene.workspace / "it-hangs").exists)
    program.kill()
    program.communicate(timeout=PATIENCE)
    wait_until(lambda: marked(scene.mark) == [])


def test_a_program_killed_while_a_release_is_entered_leaves_no_process(scene: Scene) -> None:
    scene.on_enter = {"1.0.0": ["hangs_and_shows_it"]}
    scene.add("passes")
    program = start_program(scene)
    wait_until((scene.workspace / "it-hangs").exists)
    program.kill()
    program.communicate(timeout=PATIENCE)
    wait_until(lambda: marked(scene.mark) == [])


def test_each_check_of_a_chain_has_a_process_of_its_own_that_finds_nothing_of_the_one_before(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "workspace", jobs=1)
    construct = scene.put(make_cell(0), "remembers", word="lower")
    contract = scene.put(make_cell(0, check=Check.LOSS_CONTRACT), "remembers", word="upper")
    says = {"status": "failed", "reason": "planted"}
    third = scene.put(make_cell(0, check=Check.FINETUNE), "remembers", word="last", answer=says)
    outcomes = scene.run()
    first, second = outcomes[construct].evidence, outcomes[contract].evidence
    assert first["found"] == second["found"] == []
    assert second["pid"] != first["pid"]
    assert second["cwd"] != first["cwd"]
    assert outcomes[third].evidence["log_tail"] == "remembers last"
