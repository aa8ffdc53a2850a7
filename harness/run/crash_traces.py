"""Reading the tracebacks that a process left when it crashed, hung or exited."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from linecache import getline

from harness.core.cells import Frame

_LINE = re.compile(r'^  File "(?P<file>[^"]+)", line (?P<line>\d+),? in (?P<function>.+)$')
_THREAD = re.compile(r"^(?P<current>Current thread|Thread) 0x[0-9a-f]+.*\(most recent call first\):$")
_TREE = re.compile(r"harness/worker/process/(cell_process|release_worker|scheduler)\.py$")
_PYTHON = "Traceback (most recent call last):"


def read_frames(text: str, source: Callable[[str, int], str] = getline) -> tuple[Frame, ...]:
    """The frames of the last traceback in `text`, outermost first; empty when there is none.

    It understands what faulthandler writes (of its threads the one that was interrupted, else the main thread,
    which stands last) and what Python prints for an exception.

    Args:
        source: gives the text of a line of a file; faulthandler writes none.
    """
    block: list[Frame] = []
    newest_first, settled = False, False
    for line in text.splitlines():
        thread = _THREAD.match(line)
        if thread and not settled:
            block, newest_first = [], True
            settled = thread["current"] == "Current thread"
        elif thread:
            break
        elif line == _PYTHON:
            block, newest_first, settled = [], False, False
        elif match := _LINE.match(line):
            number = int(match["line"])
            code = source(match["file"], number).strip()
            block.append(Frame(file=match["file"], line=number, function=match["function"], code=code))
    return tuple(reversed(block) if newest_first else block)


def without_tree(frames: Iterable[Frame]) -> tuple[Frame, ...]:
    """The frames below those of the process tree, which every cell has."""
    kept = list(frames)
    ours = [index for index, frame in enumerate(kept) if _TREE.search(frame.file)]
    return tuple(kept[ours[-1] + 1 :]) if ours else tuple(kept)


def place(frames: Iterable[Frame]) -> str:
    """`file:function` of the innermost frame of funasr's own, else of the innermost; `unknown` without frames."""
    every = list(frames)
    own = [frame for frame in every if frame.file.startswith("funasr/")]
    return f"{(own or every)[-1].file}:{(own or every)[-1].function}" if every else "unknown"
