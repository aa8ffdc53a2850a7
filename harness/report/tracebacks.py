"""Tracebacks of several releases as one: the fault stays in its place while the line numbers move."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from harness.core.cells import Failure

Structure = tuple[tuple[str, str, str], ...]
"""File, function and code of each frame."""


@dataclass(frozen=True, kw_only=True)
class TracebackLine:
    """One frame that several tracebacks share."""

    file: str
    function: str
    code: str
    first: int
    """The lowest line number that it has in any of them, and the highest."""
    last: int

    @property
    def place(self) -> str:
        """`funasr/losses/label_smoothing_loss.py:64`, or `…:64–71` where releases differ."""
        return f"{self.file}:{self.first}" + (f"–{self.last}" if self.last != self.first else "")


def structure(failure: Failure | None) -> Structure:
    """A traceback without its line numbers."""
    if failure is None:
        return ()
    return tuple((frame.file, frame.function, frame.code.strip()) for frame in failure.frames)


def shared_lines(failures: Iterable[Failure]) -> tuple[TracebackLine, ...]:
    """The frames of tracebacks of one structure, with the range of their line numbers.

    Raises:
        ValueError: the tracebacks are of different lengths.
    """
    stacks = [failure.frames for failure in failures]
    return tuple(
        TracebackLine(
            file=frames[0].file,
            function=frames[0].function,
            code=frames[0].code.strip(),
            first=min(frame.line for frame in frames),
            last=max(frame.line for frame in frames),
        )
        for frames in zip(*stacks, strict=True)
    )
