"""Doing something in a forked child of the cell's process: a run that ends there, hooks that are gone with it.

The cell's process itself computes nothing with torch, so a fork of it is sound, and each child is as fresh as the
interpreter of a user who starts the next command.
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
from harness.worker.process import failures
from harness.worker.release import findings, registry, shims

RESULT = "result.json"
SAID = "said.txt"

before_leaving: list[Callable[[], None]] = []
"""Called in each child before it answers, however its work went."""


class ChildEnded(Exception):
    """A child ended without an answer: it crashed, or something in it left."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status
        """Its exit status; negative is the signal that ended it."""


@dataclass
class ChildContext:
    """What a child works with: a folder of its own, and the answer that it fills while it goes on."""

    path: Path
    answer: dict[str, Any] = field(default_factory=dict)
    """Plain data; whatever is in it when the child ends is what the parent gets."""

    def leave(self) -> NoReturn:
        """End the child as a kill would: nothing that the release would still have done is done."""
        _answer(self.path, {"value": self.answer, "error": None})
        _flush()
        os._exit(0)


@dataclass(frozen=True, kw_only=True)
class ChildResult:
    """What came of a child."""

    value: dict[str, Any]
    """What the child had put in its answer when it ended."""
    failure: dict[str, Any] | None
    """As in an outcome, with `status` and `reason` besides; None where nothing was raised."""
    said: str
    """All that was printed and logged, in order."""


def in_child(path: Path, overlay: str, work: Callable[[ChildContext], None]) -> ChildResult:
    """Do `work` in a forked child with `path` as its directory, made for it, and wait for its end.

    What `work` raises is told as an outcome tells it; `SystemExit` with a status of 0 is an ordinary end.

    Raises:
        ChildEnded: the child ended without an answer.
    """
    path.mkdir(parents=True, exist_ok=True)
    _flush()
    parent, child = os.getpid(), os.fork()
    if child == 0:
        _perform(path, parent, overlay, work)
    _, status = os.waitpid(child, 0)
    said = (path / SAID).read_text(encoding="utf-8", errors="replace") if (path / SAID).exists() else ""
    print(said, end="")
    if not (path / RESULT).exists():
        code = os.waitstatus_to_exitcode(status)
        raise ChildEnded(f"the child of {path.name!r} ended with status {code}", code)
    result = json.loads((path / RESULT).read_text(encoding="utf-8"))
    for name in result["shims"]:
        shims.note(name)
    registry.add(result["classes"])
    findings.add(result["findings"])
    return ChildResult(value=result["value"], failure=result["error"], said=said)


def _perform(path: Path, parent: int, overlay: str, work: Callable[[ChildContext], None]) -> NoReturn:
    status = wire.OWN_FAULT
    try:
        processes.die_with_parent(parent)
        os.chdir(path)
        _redirect(path / SAID)
        room, failure = ChildContext(path), None
        try:
            work(room)
        except (Exception, SystemExit) as error:
            traceback.print_exc()
            failure = _failure(error, overlay)
        _answer(path, {"value": room.answer, "error": failure})
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        _flush()
        os._exit(status)


def _failure(error: BaseException, overlay: str) -> dict[str, Any] | None:
    if isinstance(error, SystemExit) and not error.code:
        return None
    failure = failures.describe(error, overlay)
    kind, _, place = failure["signature"].partition("@")
    return {
        **failure,
        "status": failures.status_of(error, overlay),
        "reason": f"{kind} in {place}: {failure['message'] or 'no message'}",
    }


def _redirect(said: Path) -> None:
    """Everything that is written to standard output and error, by whatever means, goes to one file."""
    target = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(target, stream)
    os.close(target)


def _answer(path: Path, result: Mapping[str, Any]) -> None:
    for last_word in before_leaving:
        last_word()
    noted = {"shims": shims.used(), "classes": registry.seen(), "findings": findings.noted()}
    wire.write_json(path / RESULT, {**result, **noted})


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
