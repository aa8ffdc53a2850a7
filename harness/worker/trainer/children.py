"""Running work in a forked child of the cell's process, whose hooks and state end with it.

The cell's process itself computes nothing with torch, so it can be forked safely, and each child is as fresh as a new
interpreter.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from harness.core import processes, wire
from harness.worker.release import findings, registry, shims

RESULT = "result.json"
OUTPUT = "said.txt"

before_exit: list[Callable[[], None]] = []
"""Called in each child before it writes its result."""


class ChildEnded(Exception):
    """A child ended without a result: it crashed, or something in it called exit."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status
        """Its exit status; negative is the signal that ended it."""


@dataclass
class ChildContext:
    """A child's folder and the answer that it fills."""

    path: Path
    answer: dict[str, Any] = field(default_factory=dict)
    """Plain data; the parent gets its content at the child's end, however that comes."""

    def leave(self) -> NoReturn:
        """End the child at once, like a kill: the release's code does not continue."""
        _answer(self.path, {"value": self.answer, "error": None})
        _flush()
        os._exit(0)


@dataclass(frozen=True, kw_only=True)
class ChildResult:
    """The result of a child."""

    value: dict[str, Any]
    """The child's answer at its end."""
    failure: dict[str, Any] | None
    """As in an outcome, with `status` and `reason`; None if nothing was raised."""
    output: str
    """Everything that was printed and logged, in order."""


RunChild = Callable[[str, Callable[[ChildContext], None]], ChildResult]
"""Runs work in a child whose folder has this name."""


def in_child(path: Path, install_dir: str, work: Callable[[ChildContext], None]) -> ChildResult:
    """Run `work` in a forked child with the new folder `path` as its working directory, and wait for its end.

    An exception of `work` becomes the result's failure; `SystemExit` with status 0 is a normal end.

    Raises:
        ChildEnded: the child ended without a result.
    """
    path.mkdir(parents=True, exist_ok=True)
    _flush()
    parent, child = os.getpid(), os.fork()
    if child == 0:
        _perform(path, parent, install_dir, work)
    _, status = os.waitpid(child, 0)
    output = (path / OUTPUT).read_text(encoding="utf-8", errors="replace") if (path / OUTPUT).exists() else ""
    print(output, end="")
    if not (path / RESULT).exists():
        code = os.waitstatus_to_exitcode(status)
        raise ChildEnded(f"the child of {path.name!r} ended with status {code}", code)
    result = json.loads((path / RESULT).read_text(encoding="utf-8"))
    for name in result["shims"]:
        shims.note(name)
    registry.add(result["classes"])
    findings.add(result["findings"])
    return ChildResult(value=result["value"], failure=result["error"], output=output)


def _perform(path: Path, parent: int, install_dir: str, work: Callable[[ChildContext], None]) -> NoReturn:
    status = wire.OWN_FAULT
    try:
        processes.die_with_parent(parent)
        os.chdir(path)
        _redirect(path / OUTPUT)
        context, failure = ChildContext(path), None
        try:
            work(context)
        except (Exception, SystemExit) as error:
            traceback.print_exc()
            failure = _failure(error, install_dir)
        _answer(path, {"value": context.answer, "error": failure})
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        _flush()
        os._exit(status)


def _failure(error: BaseException, install_dir: str) -> dict[str, Any] | None:
    if isinstance(error, SystemExit) and not error.code:
        return None
    ended = findings.raised(error, install_dir)
    return {**ended.pop("failure"), **ended}


def _redirect(output_file: Path) -> None:
    """Redirect file descriptors 1 and 2 to one file."""
    target = os.open(output_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(target, stream)
    os.close(target)


def _answer(path: Path, result: Mapping[str, Any]) -> None:
    for last_word in before_exit:
        last_word()
    noted = {"shims": shims.used(), "classes": registry.classes_in_process(), "findings": findings.noted()}
    wire.write_json(path / RESULT, {**result, **noted})


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
