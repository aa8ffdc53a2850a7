"""A checks module whose cells do to the process tree what a release might; no FunASR is needed for it.

`enter` and `run` are called in the tree's processes: a request names the fault and gives its arguments.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

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
    return {"evidence": {"found": found, "pid": os.getpid(), "cwd": str(Path.cwd())}}


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
    Path(request["result"]).write_text(text, encoding="utf-8")
    os._exit(0)


def writes_and_segfaults(request: Mapping[str, Any]) -> None:
    Path(request["result"]).write_text(json.dumps(PASSED), encoding="utf-8")
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


def _parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


FAULTS: dict[str, Callable[[Mapping[str, Any]], dict[str, Any] | None]] = {
    name: value
    for name, value in list(globals().items())
    if callable(value) and not name.startswith("_") and getattr(value, "__module__", "") == __name__
}
