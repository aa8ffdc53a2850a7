"""A checks module whose cells do to the process tree what a release might; no FunASR is needed for it.

`enter` and `run` are called in the tree's processes: a request names the fault and gives its arguments.
"""

from __future__ import annotations

import builtins
import contextlib
import ctypes
import io
import json
import mmap
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.core import processes
from harness.core.channels import write_file

FOREVER = 600.0

PASSED: dict[str, Any] = {
    "status": "passed",
    "reason": "",
    "failure": None,
    "metrics": {},
    "evidence": {},
    "shims": [],
}

_entered: list[Mapping[str, Any]] = []
_left: list[int] = []


def enter(release: Mapping[str, Any]) -> None:
    _entered.append(release)
    for name in release.get("on_enter", ()):
        FAULTS[name]({})


def run(request: Mapping[str, Any]) -> dict[str, Any]:
    answer = FAULTS[request["fault"]](request)
    return {**PASSED, **(answer or {})}


def passes(request: Mapping[str, Any]) -> dict[str, Any]:
    return {"evidence": {"entered": len(_entered), "cwd": str(Path.cwd()), "pid": os.getpid()}}


def lists_imported_modules(request: Mapping[str, Any]) -> dict[str, Any]:
    imported = [name for name in request["names"] if name in sys.modules]
    return {"evidence": {"imported": imported, "threads": processes.count_threads()}}


def tells_its_gpus(request: Mapping[str, Any]) -> dict[str, Any]:
    """Passes, when those that it is to meet have come as well."""
    began = time.monotonic()
    if "meets" in request:
        Path(request["comes"]).touch()
        while not all(Path(other).exists() for other in request["meets"]):
            time.sleep(0.01)
    time.sleep(0.05)
    return {"evidence": {"visible": os.environ.get("CUDA_VISIBLE_DEVICES"), "ran": [began, time.monotonic()]}}


def remembers(request: Mapping[str, Any]) -> dict[str, Any]:
    """Passes, tells what cells before it in the same process left, and leaves something itself."""
    found = list(_left)
    _left.append(os.getpid())
    print("remembers", request["word"])
    return {"evidence": {"found": found, "pid": os.getpid(), "cwd": str(Path.cwd())}, **request.get("answer", {})}


def works(request: Mapping[str, Any]) -> dict[str, Any]:
    """Takes a moment, and writes to its folder."""
    for number in range(4):
        Path(f"file-{number}").write_text("x" * 1000)
        time.sleep(0.04)
    return {"metrics": {"loss": 1.5}}


def says(request: Mapping[str, Any]) -> dict[str, Any]:
    return dict(request["answer"])


def raises(request: Mapping[str, Any]) -> None:
    raise RuntimeError("planted, below " + str(Path.cwd()))


def segfaults(request: Mapping[str, Any]) -> None:
    ctypes.string_at(0)


def exits_early(request: Mapping[str, Any]) -> None:
    os._exit(0)


def exits_with_three(request: Mapping[str, Any]) -> None:
    print("three it is")
    os._exit(3)


def calls_sys_exit(request: Mapping[str, Any]) -> None:
    sys.exit("x")


def raises_keyboard_interrupt(request: Mapping[str, Any]) -> None:
    raise KeyboardInterrupt


def hangs(request: Mapping[str, Any]) -> None:
    time.sleep(FOREVER)


def computes_without_end(request: Mapping[str, Any]) -> None:
    _stays_last_on(request)
    while True:
        pass


def hangs_where_nothing_is_free(request: Mapping[str, Any]) -> None:
    _stays_last_on(request)
    hangs(request)


def _stays_last_on(request: Mapping[str, Any]) -> None:
    """On one processor, behind everybody else who wants it."""
    os.sched_setaffinity(0, {request["processor"]})
    os.nice(19)


def hangs_and_shows_it(request: Mapping[str, Any]) -> None:
    """From `enter`, where the directory is the workspace."""
    Path("it-hangs").touch()
    hangs(request)


def hangs_in_c_with_signals_blocked(request: Mapping[str, Any]) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    ctypes.CDLL(None).sleep(int(FOREVER))


def leaves_a_hanging_child(request: Mapping[str, Any]) -> None:
    if os.fork() == 0:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        time.sleep(FOREVER)


def leaves_a_daemon(request: Mapping[str, Any]) -> None:
    _daemon(lambda: time.sleep(FOREVER))


def leaves_a_daemon_that_is_known(request: Mapping[str, Any]) -> None:
    """It writes its number down, for `finds_it_gone`."""

    def wait() -> None:
        Path(request["pid_file"]).write_text(str(os.getpid()))
        time.sleep(FOREVER)

    _daemon(wait)
    while not Path(request["pid_file"]).exists() or not Path(request["pid_file"]).read_text():
        time.sleep(0.01)


def finds_it_gone(request: Mapping[str, Any]) -> dict[str, Any]:
    pid = Path(request["pid_file"]).read_text()
    return {"status": "failed", "reason": "it is still there"} if Path("/proc", pid).exists() else {}


def leaves_a_daemon_with_an_empty_environment(request: Mapping[str, Any]) -> None:
    """It cannot be found by its environment, and holds the cell's output open."""
    nobody = [sys.executable, "-c", f"import time; time.sleep({FOREVER})", "funasr-harness-nobody"]
    subprocess.Popen(nobody, env={}, start_new_session=True)


def leaves_a_daemon_and_hangs(request: Mapping[str, Any]) -> None:
    leaves_a_daemon(request)
    leaves_a_hanging_child(request)
    time.sleep(FOREVER)


def eats_memory(request: Mapping[str, Any]) -> None:
    held = _eat(request["bytes"])
    time.sleep(FOREVER + held[0])


def eats_memory_in_a_child(request: Mapping[str, Any]) -> None:
    if os.fork() == 0:
        eats_memory(request)
    os.wait()


def eats_memory_in_a_daemon(request: Mapping[str, Any]) -> None:
    _daemon(lambda: eats_memory(request))
    time.sleep(FOREVER)


def shares_memory_with_children(request: Mapping[str, Any]) -> None:
    """Each of the children sees the same pages, which count once."""
    held = _eat(request["bytes"])
    for _ in range(4):
        if os.fork() == 0:
            time.sleep(1.0)
            os._exit(held[0])
    for _ in range(4):
        os.wait()


def gives_up_for_want_of_memory(request: Mapping[str, Any]) -> None:
    raise MemoryError("planted")


def prints_megabytes(request: Mapping[str, Any]) -> None:
    print("the first line")
    line = "x" * 1023
    for _ in range(4096):
        print(line)
    print("the last line")


def prints_without_end(request: Mapping[str, Any]) -> None:
    while True:
        os.write(1, b"and so on\n" * 6000)


def prints_and_fails(request: Mapping[str, Any]) -> dict[str, Any]:
    prints_megabytes(request)
    return {"status": "failed", "reason": "planted"}


def gives_nan(request: Mapping[str, Any]) -> dict[str, Any]:
    return {"metrics": {"losses": [1.0, float("nan"), float("-inf")]}}


def gives_an_object(request: Mapping[str, Any]) -> dict[str, Any]:
    return {"metrics": {"loss": object()}}


def writes_nan_itself(request: Mapping[str, Any]) -> None:
    text = json.dumps({**PASSED, "metrics": {"loss": float("nan")}})
    _write_result(text)
    os._exit(0)


def writes_and_segfaults(request: Mapping[str, Any]) -> None:
    _write_result(json.dumps(PASSED))
    segfaults(request)


def deletes_its_directory(request: Mapping[str, Any]) -> None:
    shutil.rmtree(Path.cwd())


def kills_its_parent(request: Mapping[str, Any]) -> None:
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(FOREVER)


def kills_its_parent_and_leaves_a_daemon(request: Mapping[str, Any]) -> None:
    leaves_a_daemon_that_is_known(request)
    kills_its_parent(request)


def kills_the_stack_process(request: Mapping[str, Any]) -> None:
    leaves_a_daemon(request)
    os.kill(_parent_of(os.getppid()), signal.SIGKILL)
    time.sleep(FOREVER)


def kills_the_stack_process_first(request: Mapping[str, Any]) -> None:
    """From `enter`, before any cell is settled."""
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(FOREVER)


def writes(request: Mapping[str, Any]) -> None:
    """A result of its own, in place of the one that the check would give."""
    _write_result(request["text"] * request.get("times", 1))
    os._exit(0)


def puts_a_fifo_in_the_place_of_its_result(request: Mapping[str, Any]) -> None:
    os.mkfifo("fifo")
    _replace_result(os.open("fifo", os.O_RDWR))


def puts_a_sparse_file_in_the_place_of_its_result(request: Mapping[str, Any]) -> None:
    with contextlib.suppress(OSError):
        os.ftruncate(_descriptor("result"), 3 << 30)
    sparse = os.open("sparse", os.O_RDWR | os.O_CREAT)
    os.ftruncate(sparse, 3 << 30)
    _replace_result(sparse)


def _replace_result(descriptor: int) -> None:
    os.dup2(descriptor, _descriptor("result"))
    os._exit(0)


def fills_its_result(request: Mapping[str, Any]) -> None:
    with contextlib.suppress(OSError):
        while True:
            os.write(_descriptor("result"), b"[" * (1 << 24))
    os._exit(0)


def stops_its_parent(request: Mapping[str, Any]) -> None:
    os.kill(os.getppid(), signal.SIGSTOP)


def stops_the_stack_process(request: Mapping[str, Any]) -> None:
    os.kill(_parent_of(os.getppid()), signal.SIGSTOP)


def stops_its_parent_without_end(request: Mapping[str, Any]) -> None:
    while True:
        os.kill(os.getppid(), signal.SIGSTOP)


def removes_all_it_can_reach(request: Mapping[str, Any]) -> dict[str, Any]:
    """The folders above its own, too."""
    shutil.rmtree(Path.cwd().parents[request["levels"] - 1], ignore_errors=True)
    return {"evidence": {"gone": not Path(request["kept"]).exists()}}


def writes_to(request: Mapping[str, Any]) -> dict[str, Any]:
    """Tells what it was not allowed to."""
    refused = []
    for name in request["paths"]:
        try:
            Path(name).write_text("planted")
        except OSError as error:
            refused.append([name, error.errno])
    return {"evidence": {"refused": refused}}


def finds_sockets(request: Mapping[str, Any]) -> dict[str, Any]:
    return {"evidence": {"sockets": len(_sockets())}}


def forges_events(request: Mapping[str, Any]) -> None:
    """From `enter`, in the release's process."""
    for descriptor in _sockets():
        end = socket.socket(fileno=os.dup(descriptor))
        for message in FORGED:
            end.send(message)


FORGED = (
    b"\xff\x00",
    b"[" * 50_000,
    b"null",
    b"{}",
    b'{"event": "finished", "files": []}',
    b'{"event": "finished", "files": [], "number": 99999, "passed": true}',
    b'{"event": "finished", "files": [], "number": 0, "passed": true}',
    b'{"event": "finished", "files": ["result"], "number": 0, "passed": true}',
    b'{"event": "started", "files": [], "number": [0], "started": "now"}',
    b'{"event": "started", "files": [], "number": -1, "started": "now"}',
    b'{"event": "blocked", "files": [], "number": 0, "by": [99999]}',
    b'{"event": "blocked", "files": [], "number": 99999, "by": []}',
    b'{"event": "blocked", "files": [], "number": 1e999, "by": []}',
    b'{"event": "entered", "files": [], "number": 0, "error": ["a list"]}',
    b'{"event": "opened", "files": [], "batch": 0}',
    b'{"event": "release_died", "files": [], "number": 0, "batch": 0, "entering": true}',
)


def _sockets() -> list[int]:
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if "socket:" in str(entry.readlink()):
                found.append(int(entry.name))
    return found


def replaces_functions(request: Mapping[str, Any]) -> None:
    def broken(*_arguments: Any, **_options: Any) -> Any:
        raise TypeError("replaced")

    json.dumps = json.loads = broken
    builtins.open = io.open = broken


def wants_more_memory_than_there_is(request: Mapping[str, Any]) -> None:
    mmap.mmap(-1, 1 << 46)


def starts_a_thread_that_never_ends(request: Mapping[str, Any]) -> None:
    threading.Thread(target=time.sleep, args=(FOREVER,)).start()


def _daemon(action: Callable[[], None]) -> None:
    """Fork twice, with a session of its own in between."""
    child = os.fork()
    if child == 0:
        os.setsid()
        if os.fork() == 0:
            action()
        os._exit(0)
    os.waitpid(child, 0)


def _eat(count: int) -> bytearray:
    held = bytearray(count)
    for place in range(0, count, 4096):
        held[place] = 1
    return held


def _write_result(text: str) -> None:
    """As only code that looks for it can: into the file in memory that takes the result."""
    write_file(_descriptor("result"), text.encode())


def _descriptor(name: str) -> int:
    """Of the file in memory of this name."""
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if f"memfd:{name}" in str(entry.readlink()):
                return int(entry.name)
    raise LookupError(name)


def _parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


FAULTS: dict[str, Callable[[Mapping[str, Any]], dict[str, Any] | None]] = {
    name: value
    for name, value in list(globals().items())
    if callable(value) and not name.startswith("_") and getattr(value, "__module__", "") == __name__
}
