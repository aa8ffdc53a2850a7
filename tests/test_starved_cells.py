"""A cell that a busy machine kept waiting is `errored`; one that hangs or computes without end is a time-out."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from execute_scene import Scene, make_cell

from harness.core import processes
from harness.core.cells import Outcome, Status
from harness.core.tree_events import Finished, ReleaseDied
from harness.run.artifacts import CellArtifacts
from harness.run.decide import ENOUGH, decide
from harness.worker.process.processor_use import ProcessorUse

LIMIT = 600.0
NO_ARTIFACTS = CellArtifacts(result=None, log="", frames=())


def ended(ran: float, waited: float) -> Outcome:
    event = Finished(number=0, timed_out=True, timeout_seconds=LIMIT, ran_seconds=ran, waited_seconds=waited)
    return decide(make_cell(0), event, NO_ARTIFACTS)


@pytest.mark.parametrize(
    ("ran", "waited"),
    [
        (2.0, 0.1),  # asleep
        (599.0, 0.5),  # computes without end
        (590.0, 900.0),  # three threads on two processors, each of them ready all the time
        (310.0, 300.0),  # beside one other, with its half of a processor
        (40.0, 250.0),  # waited at the beginning, and then slept
        (0.0, 0.0),  # the kernel does not say
    ],
)
def test_a_cell_that_hangs_or_computes_without_end_is_a_time_out(ran: float, waited: float) -> None:
    assert ended(ran, waited).status is Status.TIMED_OUT


@pytest.mark.parametrize(("ran", "waited"), [(24.0, 570.0), (180.0, 410.0), (ENOUGH * LIMIT - 1, ENOUGH * LIMIT)])
def test_a_cell_that_a_busy_machine_kept_waiting_is_errored(ran: float, waited: float) -> None:
    outcome = ended(ran, waited)
    assert (outcome.status, outcome.failure) == (Status.ERRORED, None)
    assert outcome.reason == (
        f"not done after 600 s because the machine was busy: it ran for {ran:.3g} s and waited for a processor for "
        f"{waited:.3g} s"
    )


@pytest.mark.parametrize(
    ("how", "status", "begins"),
    [
        ({"timed_out": True}, Status.TIMED_OUT, "entering the release was not done after 10 s; "),
        ({"timed_out": True, "ran_seconds": 1.0, "waited_seconds": 8.0}, Status.ERRORED, "entering the release was "),
        ({"silent": True, "ran_seconds": 1.0, "waited_seconds": 1.0}, Status.CRASHED, "its release's process reported"),
        ({"silent": True, "ran_seconds": 1.0, "waited_seconds": 18.0}, Status.ERRORED, "its release's process was "),
    ],
)
def test_entering_a_release_on_a_busy_machine_is_no_time_out(how: dict[str, Any], status: Status, begins: str) -> None:
    event = ReleaseDied(number=0, batch=0, entering=True, timeout_seconds=10.0, seconds=20.0, **how)
    outcome = decide(make_cell(0), event, NO_ARTIFACTS)
    assert outcome.status is status
    assert outcome.reason.startswith(begins)


def write_schedstat(proc: Path, pid: int, **threads: str) -> None:
    for name, text in threads.items():
        folder = proc / str(pid) / "task" / name.removeprefix("t")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "schedstat").write_text(text)


def test_what_threads_and_processes_used_counts_after_they_have_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_PROC", tmp_path)
    write_schedstat(tmp_path, 7, t7="2000000000 500000000 3\n", t8="1000000000 0 1\n")
    write_schedstat(tmp_path, 9, t9="0 4000000000 1\n")
    use = ProcessorUse()
    use.look([7, 9])
    assert (use.ran_seconds, use.waited_seconds) == (3.0, 4.5)
    (tmp_path / "7" / "task" / "8" / "schedstat").unlink()
    write_schedstat(tmp_path, 7, t7="2500000000 700000000 5\n")
    use.look([7, 11])
    assert (use.ran_seconds, use.waited_seconds) == (3.5, 4.7)
    later = ProcessorUse.from_now([7])
    write_schedstat(tmp_path, 7, t7="2600000000 1700000000 6\n")
    later.look([7])
    assert (later.ran_seconds, later.waited_seconds) == (0.1, 1.0)


@pytest.mark.parametrize("text", ["", "no numbers here\n", "1\n"])
def test_a_kernel_that_does_not_say_is_as_if_nobody_waited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr(processes, "_PROC", tmp_path)
    write_schedstat(tmp_path, 7, t7=text)
    use = ProcessorUse()
    use.look([7])
    assert (use.ran_seconds, use.waited_seconds) == (0.0, 0.0)


@pytest.fixture
def busy_processor() -> Iterator[int]:
    """One that four processes want all the time, each in a session of its own."""
    processor = max(os.sched_getaffinity(0))
    code = f"import os\nos.sched_setaffinity(0, {{{processor}}})\nprint(flush=True)\nwhile True: pass"
    command = [sys.executable, "-c", code]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) for _ in range(4)]
    for process in started:
        assert process.stdout is not None
        process.stdout.readline()
    yield processor
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="this kernel does not say who waits")
def test_a_process_that_gets_no_processor_is_told_apart_from_one_that_sleeps(
    tmp_path: Path, busy_processor: int
) -> None:
    """Both real, on one processor that is busy with others."""
    scene = Scene(tmp_path / "workspace")
    starved = scene.add("computes_without_end", processor=busy_processor)
    asleep = scene.add("hangs_where_nothing_is_free", release="1.0.1", processor=busy_processor)
    scene.limits = {starved: 4.0, asleep: 4.0}
    others = scene.bystanders(1)
    outcomes = scene.run()
    assert {outcomes[cell].status for cell in others} == {Status.PASSED}
    assert outcomes[asleep].status is Status.TIMED_OUT, outcomes[asleep].reason
    assert outcomes[starved].status is Status.ERRORED, outcomes[starved].reason
    assert outcomes[starved].reason.startswith("not done after 4 s because the machine was busy: it ran for ")
