"""What the process tree asks of the operating system, and what it does where there is nobody to ask."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from execute_scene import Scene

from harness.core import processes
from harness.core.cells import Status

SLEEP = "import time; time.sleep(600)"


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", SLEEP])
    yield process
    process.kill()
    process.wait()


def test_children_are_found_with_and_without_the_kernels_list(
    child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert child.pid in processes.children(os.getpid())
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: path.name != "children" and exists(path))
    assert child.pid in processes.children(os.getpid())


def test_a_process_that_has_gone_has_no_children_and_no_memory(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait()
    assert processes.children(child.pid) == []
    assert processes.resident_bytes([child.pid]) == processes.own_bytes([child.pid]) == 0
    assert not processes.is_running(child.pid)
    processes.kill(child.pid)
    processes.kill_group(child.pid)


def test_a_zombie_is_not_running(child: subprocess.Popen[bytes]) -> None:
    assert processes.is_running(child.pid)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not processes.is_running(child.pid)


def test_own_memory_counts_shared_pages_in_part(child: subprocess.Popen[bytes]) -> None:
    # Between fork and exec it holds hardly a page, and none that it shares.
    end = time.monotonic() + 60
    while processes.own_bytes([child.pid]) >= processes.resident_bytes([child.pid]) and time.monotonic() < end:
        time.sleep(0.01)
    assert 0 < processes.own_bytes([child.pid]) < processes.resident_bytes([child.pid])


def test_a_wait_ends_when_the_child_does(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    assert processes.wait_readable([], timeout=600, pid=child.pid) == set()


def test_a_wait_ends_when_a_descriptor_is_readable() -> None:
    read, write = os.pipe()
    os.write(write, b"x")
    assert processes.wait_readable([read], timeout=600) == {read}
    os.close(read)
    os.close(write)


def test_without_pidfds_a_wait_looks_again_soon(
    child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    processes.wait_readable([], timeout=600, pid=child.pid)
    assert child.poll() is None


def test_waiting_is_sleeping_until_the_time_is_over(child: subprocess.Popen[bytes]) -> None:
    calls, end = 0, time.monotonic() + 0.3
    while (left := end - time.monotonic()) > 0:
        processes.wait_readable([], timeout=left, pid=child.pid)
        calls += 1
    assert calls <= 3


POORER_SYSTEM = """
import ctypes, os, pathlib
from harness.core import processes

def no_library(*_args, **_kwargs):
    raise OSError("planted: no prctl")

if os.environ.get("FUNASR_HARNESS_TEST_MARK"):
    ctypes.CDLL = no_library
    del os.pidfd_open
    processes._PROC = pathlib.Path("/planted-no-proc")
"""


def test_without_prctl_proc_and_pidfds_cells_are_still_run_and_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(POORER_SYSTEM)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    scene = Scene(tmp_path / "workspace")
    wanted = {
        scene.add("passes"): Status.PASSED,
        scene.add("segfaults"): Status.CRASHED,
        scene.add("exits_early"): Status.CRASHED,
        scene.add("hangs"): Status.TIMED_OUT,
        scene.add("leaves_a_hanging_child"): Status.PASSED,
        scene.add("passes", release="1.0.1"): Status.PASSED,
    }
    scene.limits = {cell: 3.0 for cell, status in wanted.items() if status is Status.TIMED_OUT}
    assert {cell: outcome.status for cell, outcome in scene.run().items()} == wanted
