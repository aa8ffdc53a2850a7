"""What a cell's process left on disk: its result file, its output, and the traceback of a crash, hang or exit."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from linecache import getline
from typing import Any

from harness.core.cells import Check, Failure, Frame, Status
from harness.core.evidence.parsing import parse

_FROM_INSIDE = frozenset(Status) - {Status.BLOCKED, Status.CRASHED}
"""What a check can say of itself; `timed_out` where it stopped in time to say how far it came."""
_DEEPEST = 64
_LARGEST = 2**64
_LONGEST_TEXT = 8000
_LONGEST_FAULT = 500
_LINE = re.compile(r'^  File "(?P<file>[^"]+)", line (?P<line>\d+),? in (?P<function>.+)$')
_THREAD = re.compile(r"^(?P<current>Current thread|Thread) 0x[0-9a-f]+.*\(most recent call first\):$")
_TREE = re.compile(r"harness/worker/process/(cell_process|release_worker|scheduler)\.py$")
_PYTHON = "Traceback (most recent call last):"


@dataclass(frozen=True, kw_only=True)
class CellArtifacts:
    """What a cell left on disk; the log and the frames without folders of this machine, so that places can be named."""

    result: str | None = None
    """Text of the result file; None if there is none."""
    log: str = ""
    """The end of what it printed."""
    frames: tuple[Frame, ...] = ()
    """Where it hung, crashed or exited, outermost first."""
    enter_error: str | None = None
    """What went wrong when its release was entered."""


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """A well-formed result file."""

    status: Status
    reason: str
    failure: Failure | None
    metrics: Mapping[str, Any]
    evidence: Mapping[str, Any]
    shims: tuple[str, ...]


def read_answer(text: str | None, check: Check) -> tuple[CellResult | None, str]:
    """The answer, or what is wrong with it; its metrics and evidence have the form that the check declares."""
    if text is None:
        return None, "there is none"
    try:
        return _parse(_plain(json.loads(text, parse_constant=_refuse)), check), ""
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        return None, str(error)[:_LONGEST_FAULT]
    except MemoryError:
        return None, "it is too large to be read"
    except KeyError as error:
        return None, f"the key {error} is missing"


def _plain(value: Any) -> Any:
    """The value, if everything that handles outcomes can take it.

    Raises:
        ValueError: it is nested too deep, or has a number that is not finite or has no place in 64 bits.
    """
    level = [value]
    for _ in range(_DEEPEST):
        if not level:
            return value
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below += item.values()
            elif isinstance(item, list):
                below += item
            elif isinstance(item, int | float) and not -_LARGEST < item < _LARGEST:
                raise ValueError("it has a number that is not finite, or none of 64 bits")
        level = below
    raise ValueError(f"it is nested deeper than {_DEEPEST} levels")


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _parse(data: Any, check: Check) -> CellResult:
    if not isinstance(data, dict):
        raise TypeError("it is no JSON object")
    status = Status(data["status"])
    if status not in _FROM_INSIDE:
        raise ValueError(f"a check cannot say {status} of itself")
    reason = data["reason"]
    if not isinstance(reason, str) or bool(reason.strip()) == (status is Status.PASSED):
        raise ValueError(f"{status} with the reason {reason!r}")
    for name, record in (("metrics", check.facts.metrics), ("evidence", check.facts.evidence)):
        if not isinstance(data[name], dict):
            raise TypeError(f"{name} is no JSON object")
        parse(record, data[name], place=name)
    shims = data["shims"]
    if not isinstance(shims, list) or not all(isinstance(name, str) for name in shims):
        raise TypeError("shims is no list of texts")
    return CellResult(
        status=status,
        reason=reason[:_LONGEST_TEXT],
        failure=_failure(data["failure"]) if data["failure"] else None,
        metrics=data["metrics"],
        evidence=data["evidence"],
        shims=tuple(shims),
    )


def _failure(data: Any) -> Failure:
    failure = Failure.from_json(data)
    for name in ("type", "message", "signature"):
        if not isinstance(getattr(failure, name), str):
            raise TypeError(f"failure.{name} is no text")
    for frame in failure.frames:
        texts = (frame.file, frame.function, frame.code)
        if not all(isinstance(text, str) for text in texts) or type(frame.line) is not int:
            raise TypeError("a frame of failure does not have the form of one")
    return replace(failure, message=failure.message[:_LONGEST_TEXT])


def read_frames(text: str, source: Callable[[str, int], str] = getline) -> tuple[Frame, ...]:
    """The frames of the last traceback in `text`, outermost first; empty when there is none.

    It understands what faulthandler writes (of its threads the one that was interrupted, else the main thread,
    which stands last) and what Python prints for an exception.

    Args:
        source: gives the text of a line of a file; faulthandler writes none.
    """
    block: list[Frame] = []
    newest_first, in_chosen_thread = False, False
    for line in text.splitlines():
        thread = _THREAD.match(line)
        if thread and not in_chosen_thread:
            block, newest_first = [], True
            in_chosen_thread = thread["current"] == "Current thread"
        elif thread:
            break
        elif line == _PYTHON:
            block, newest_first, in_chosen_thread = [], False, False
        elif match := _LINE.match(line):
            number = int(match["line"])
            code = source(match["file"], number).strip()
            block.append(Frame(file=match["file"], line=number, function=match["function"], code=code))
    return tuple(reversed(block) if newest_first else block)


def without_tree(frames: Iterable[Frame]) -> tuple[Frame, ...]:
    """The frames below those of the process tree, which every cell has."""
    all_frames = list(frames)
    tree_frames = [index for index, frame in enumerate(all_frames) if _TREE.search(frame.file)]
    return tuple(all_frames[tree_frames[-1] + 1 :]) if tree_frames else tuple(all_frames)


def place(frames: Iterable[Frame]) -> str:
    """`file:function` of the innermost frame of funasr's own, else of the innermost; `unknown` without frames."""
    all_frames = list(frames)
    funasr_frames = [frame for frame in all_frames if frame.file.startswith("funasr/")]
    return (
        f"{(funasr_frames or all_frames)[-1].file}:{(funasr_frames or all_frames)[-1].function}"
        if all_frames
        else "unknown"
    )
