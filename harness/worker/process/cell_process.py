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

from harness.core import channels, processes, wire
from harness.worker.process import isolation

_INTERPRETER_FLAGS = ("-P", "-X", "faulthandler")
_MOST_FRAMES = 30


@dataclass(frozen=True, kw_only=True)
class Task:
    """All that a cell's process needs to know."""

    checks_module: str
    request: Mapping[str, Any]
    result: int
    """Descriptor of the file in memory that takes the result."""
    trace: int
    """Descriptor of the one that takes tracebacks."""

    def to_file(self, sys_path: tuple[str, ...]) -> int:
        """A file in memory for an interpreter that starts afresh; returns its descriptor."""
        data = {"checks_module": self.checks_module, "request": self.request, "sys_path": sys_path}
        content = wire.dumps(data).encode()
        descriptor = channels.make_file("request", len(content) + 1)
        channels.write_file(descriptor, content)
        return descriptor


@dataclass(frozen=True, kw_only=True)
class ProcessContext:
    """Where a cell's process runs."""

    parent: int
    scratch: Path
    output: int
    """Descriptor of the pipe that takes what it prints."""
    isolated: bool
    shared: tuple[str, ...]
    """Folders besides its own that an isolated cell may write to."""


def detach(context: ProcessContext) -> None:
    """In the forked child: a session of its own, no input, output to the pipe, a directory of its own and no other."""
    processes.die_with_parent(context.parent)
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (context.output, 1), (context.output, 2)):
        os.dup2(source, target)
    for descriptor in {nothing, context.output} - {0, 1, 2}:
        os.close(descriptor)
    os.chdir(context.scratch)
    os.environ["TMPDIR"] = str(context.scratch)
    tempfile.tempdir = None
    if context.isolated:
        isolation.restrict(own_folders=(context.scratch,), shared_folders=tuple(map(Path, context.shared)))


def exec_fresh_interpreter(request: int, task: Task) -> NoReturn:
    """Become an interpreter that has imported nothing; the process, its session and its parent stay."""
    descriptors = (request, task.result, task.trace)
    for descriptor in descriptors:
        os.set_inheritable(descriptor, True)
    arguments = [sys.executable, *_INTERPRETER_FLAGS, "-m", "harness.worker", "cell", *map(str, descriptors)]
    os.execv(sys.executable, arguments)  # noqa: S606 - a list, no shell


def serve(request: int, result: int, trace: int) -> NoReturn:
    """The `cell` command: what `exec_fresh_interpreter` became."""
    for descriptor in (result, trace):
        # what the cell starts does not get them
        os.set_inheritable(descriptor, False)
    data = json.loads(channels.read_file(request, os.fstat(request).st_size))
    os.close(request)
    for entry in reversed(data["sys_path"]):
        if entry not in sys.path:
            sys.path.insert(0, entry)
    run_and_exit(Task(checks_module=data["checks_module"], request=data["request"], result=result, trace=trace))


def run_and_exit(task: Task) -> NoReturn:
    """Run the check, write its result, end the process.

    Whatever the check raises becomes an `errored` result: a check that blames the release says so itself.
    What is no `Exception`, such as `sys.exit`, ends the process without a result, as it was meant to.
    """
    status = wire.OWN_FAULT
    try:
        _watch_for_crashes(task.trace)
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
            os.write(task.trace, traceback.format_exc().encode(errors="replace"))
    finally:
        _flush()
        os._exit(status)


def _watch_for_crashes(trace: int) -> None:
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


def _write(descriptor: int, result: Mapping[str, Any]) -> None:
    try:
        content = wire.dumps(result).encode()
    except (TypeError, ValueError, RecursionError) as error:
        content = wire.dumps(_errored(error)).encode()
    if len(content) >= channels.RESULT_BYTES:
        too_long = ValueError(f"its result has {len(content)} bytes, and {channels.RESULT_BYTES} is the most")
        content = wire.dumps(_errored(too_long)).encode()
    channels.write_file(descriptor, content)


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
