"""The life of one cell's process: detached from its parent, it runs the check, writes the result and ends."""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import importlib
import io
import json
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from harness.core import processes, wire

_INTERPRETER_FLAGS = ("-P", "-X", "faulthandler")
_MOST_FRAMES = 30


@dataclass(frozen=True, kw_only=True)
class Task:
    """All that a cell's process needs to know."""

    checks_module: str
    request: Mapping[str, Any]
    result: Path
    trace: Path

    def save(self, path: Path, sys_path: tuple[str, ...]) -> None:
        """Write the request file of an interpreter that starts afresh."""
        data = {
            "checks_module": self.checks_module,
            "request": self.request,
            "trace": str(self.trace),
            "sys_path": sys_path,
        }
        wire.write_json(path, data)


def detach(*, parent: int, scratch: Path, output: int) -> None:
    """In the forked child: a session of its own, no input, output to the pipe, a directory of its own."""
    processes.die_with_parent(parent)
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    for descriptor in {nothing, output} - {0, 1, 2}:
        os.close(descriptor)
    os.chdir(scratch)
    os.environ["TMPDIR"] = str(scratch)
    tempfile.tempdir = None


def exec_fresh_interpreter(request: Path, result: Path) -> NoReturn:
    """Become an interpreter that has imported nothing; the process, its session and its parent stay."""
    arguments = [sys.executable, *_INTERPRETER_FLAGS, "-m", "harness.worker", "cell", str(request), str(result)]
    os.execv(sys.executable, arguments)  # noqa: S606 - a list, no shell


def serve(request: Path, result: Path) -> NoReturn:
    """The `cell` command: what `exec_fresh_interpreter` became."""
    data = json.loads(request.read_text(encoding="utf-8"))
    for entry in reversed(data["sys_path"]):
        if entry not in sys.path:
            sys.path.insert(0, entry)
    task = Task(
        checks_module=data["checks_module"],
        request=data["request"],
        result=result,
        trace=Path(data["trace"]),
    )
    run_and_exit(task)


def run_and_exit(task: Task) -> NoReturn:
    """Run the check, write its result, end the process.

    Whatever the check raises becomes an `errored` result: a check that blames the release says so itself.
    What is no `Exception`, such as `sys.exit`, ends the process without a result, as it was meant to.
    """
    status = wire.OWN_FAULT
    trace = task.trace.open("w", encoding="utf-8")
    try:
        _watch_for_crashes(trace)
        gc.enable()
        try:
            result = _ask(task)
        except Exception as error:
            traceback.print_exc()
            result = _errored(error)
        _write(task.result, result)
        status = 0
    except BaseException as error:
        status = _exit_status(error)
        with contextlib.suppress(BaseException):
            traceback.print_exc()
            trace.write(traceback.format_exc())
            trace.flush()
    finally:
        _flush()
        os._exit(status)


def _watch_for_crashes(trace: io.TextIOWrapper) -> None:
    """Leave a traceback when the process crashes, and when the parent asks where it hangs."""
    faulthandler.enable(trace)
    faulthandler.register(signal.SIGUSR1, trace)
    for stream in (sys.stdout, sys.stderr):
        # a process that is killed flushes nothing
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)


def _ask(task: Task) -> Mapping[str, Any]:
    answer = importlib.import_module(task.checks_module).run(task.request)
    if not isinstance(answer, Mapping):
        raise TypeError(f"the check gave {type(answer).__name__} instead of a result")
    return answer


def _errored(error: BaseException) -> dict[str, Any]:
    """The result of a check that raised; its last frame is where."""
    frames = [
        {"file": entry.filename, "line": entry.lineno or 0, "function": entry.name, "code": entry.line or ""}
        for entry in traceback.extract_tb(error.__traceback__)[-_MOST_FRAMES:]
    ]
    kind, message = type(error).__name__, " ".join(str(error).split())
    place = f"{frames[-1]['file']}:{frames[-1]['function']}" if frames else "unknown"
    return {
        "status": "errored",
        "reason": f"the check itself raised {kind}: {message}",
        "failure": {"type": kind, "message": message, "frames": frames, "signature": f"{kind}@{place}"},
        "metrics": {},
        "evidence": {},
        "shims": [],
    }


def _write(path: Path, result: Mapping[str, Any]) -> None:
    try:
        wire.write_json(path, result)
    except (TypeError, ValueError) as error:
        wire.write_json(path, _errored(error))


def _exit_status(error: BaseException) -> int:
    """What the interpreter would have exited with."""
    if isinstance(error, SystemExit):
        if error.code is None:
            return 0
        return error.code & 0xFF if isinstance(error.code, int) else 1
    return 128 + signal.SIGINT if isinstance(error, KeyboardInterrupt) else wire.OWN_FAULT


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
