"""Tracebacks of hangs, crashes and exits are read, and say where."""

from __future__ import annotations

import faulthandler
import tempfile
import threading
import traceback

from harness.core.cells import Frame
from harness.run.artifacts import place, read_frames, without_tree

CRASH = """Fatal Python error: Segmentation fault

Thread 0x00007f1 (most recent call first):
  File "/py/threading.py", line 324 in wait

Current thread 0x00007f2 (most recent call first):
  File "/x/funasr/losses/loss.py", line 64 in forward
  File "/x/harness/worker/process/cell_process.py", line 100 in perform
  File "<frozen runpy>", line 198 in _run_module_as_main

Extension modules: numpy (total: 1)
"""


def nothing(_file: str, _line: int) -> str:
    return ""


def test_of_several_threads_the_interrupted_one_is_read_outermost_first() -> None:
    frames = read_frames(CRASH, nothing)
    assert [(frame.line, frame.function) for frame in frames] == [
        (198, "_run_module_as_main"),
        (100, "perform"),
        (64, "forward"),
    ]
    assert [frame.function for frame in without_tree(frames)] == ["forward"]


def test_without_an_interrupted_thread_the_main_one_is_read() -> None:
    text = CRASH.replace("Current thread", "Thread")
    assert read_frames(text, nothing)[-1].function == "forward"


def test_what_faulthandler_writes_today_is_understood() -> None:
    release, ready = threading.Event(), threading.Event()

    def wait() -> None:
        ready.set()
        release.wait()

    thread = threading.Thread(target=wait)
    thread.start()
    ready.wait()
    with tempfile.TemporaryFile("w+") as file:
        faulthandler.dump_traceback(file)
        file.seek(0)
        frames = read_frames(file.read())
    release.set()
    thread.join()
    assert frames[-1].function == "test_what_faulthandler_writes_today_is_understood"
    assert frames[-1].code == "faulthandler.dump_traceback(file)"


def test_what_python_prints_for_an_exception_is_understood() -> None:
    def inner() -> None:
        raise SystemExit("x")

    try:
        inner()
    except SystemExit:
        frames = read_frames(traceback.format_exc())
    assert [frame.function for frame in frames][-1] == "inner"
    assert frames[-1].code == 'raise SystemExit("x")'


def test_no_traceback_gives_no_frames() -> None:
    assert read_frames("", nothing) == ()
    assert place(()) == "unknown"


def test_the_place_is_the_innermost_of_funasrs_own() -> None:
    files = ("funasr/a.py", "funasr/b.py", "torch/nn/functional.py")
    frames = [Frame(file=file, line=1, function="f", code="") for file in files]
    assert place(frames) == "funasr/b.py:f"
    assert place(frames[2:]) == "torch/nn/functional.py:f"
