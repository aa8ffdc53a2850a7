"""Tracebacks out of a stream of lines: several, chained, nested, cut, of a notebook, of ranks that print in turns."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum, auto

from harness.core.cells import Frame
from harness.explain.frame_lines import ARROW, is_decoration, is_numbered_code, read_frame

_HEAD = "Traceback (most recent call last)"
_CAUSE = "The above exception was the direct cause of the following exception"
_DURING = "During handling of the above exception, another exception occurred"
_RAISED = re.compile(r"(?P<type>(?:[A-Za-z_]\w*\.)*(?:_*[A-Z]\w*|timeout|error))(?P<said>: ?(?P<message>.*))?$")
"""After frames: a class's name, whatever its ending."""
_IGNORED = "Exception ignored in"
_CAUGHT = "Loading wav failed!"
_NO_ERRORS = frozenset(
    {"Notice", "Warning", "INFO", "ERROR", "WARNING", "DEBUG", "CRITICAL", "File", "Type", "Loading"}
)
_LONE = re.compile(
    r"(?P<type>(?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*(?:Error|Exception|Interrupt))(?P<said>: ?(?P<message>.*))?$"
)
_LOGGED = re.compile(
    r"\[\d{4}-\d\d-\d\d |\d{4}-\d\d-\d\d \d\d:|(?:INFO|WARNING|ERROR|DEBUG|CRITICAL)\b|Error executing job|\$ "
)
_BAR = re.compile(r"\d%\||(?:it/s|s/it)[],]|\brank: \d")
"""Of a progress bar."""
_MOST_FRAMES = 120
_MOST_MESSAGE_LINES = 40
_LONGEST_MESSAGE = 4000
_MOST_BLANK = 2
_MOST_FOREIGN = 60
"""Lines of other processes between the lines of a traceback."""
_MOST_CODE = 400


@dataclass(frozen=True, kw_only=True)
class LoggedError:
    """An exception as a log shows it."""

    type: str
    """Without its module: `OutOfMemoryError`."""
    message: str
    """With its line ends."""
    frames: tuple[Frame, ...]
    """Outermost first; empty where the log has the exception's line alone."""
    rank: str
    """The rank whose prefix its lines have; empty without one."""
    at: int
    """Number of the line in the log with its type, from 1."""
    chain: tuple[LoggedError, ...] = ()
    """What was raised before it and led to it, the first one first."""

    @property
    def own(self) -> Frame | None:
        """The innermost frame of FunASR's own."""
        return next((frame for frame in reversed(self.frames) if frame.file.startswith("funasr/")), None)

    @property
    def signature(self) -> str:
        """`Type@file:function`, as the outcomes of cells have it; without a place where the log shows none."""
        inner = self.own or (self.frames[-1] if self.frames else None)
        return f"{self.type}@{inner.file}:{inner.function}" if inner else f"{self.type}@unknown"

    @property
    def text(self) -> str:
        """What it says; a bare assertion's is its code."""
        if self.message or self.type != "AssertionError" or not self.frames:
            return self.message
        return self.frames[-1].code


class _State(Enum):
    IDLE = auto()
    FRAMES = auto()
    MESSAGE = auto()


@dataclass(kw_only=True)
class TracebackReader:
    """The tracebacks of one rank; feed it its lines in turn."""

    rank: str = ""
    lone: bool = True
    """Whether a line such as `ValueError: …` counts without a traceback above it."""
    done: list[LoggedError] = field(default_factory=list)
    """Whole errors, to be taken out by whoever feeds."""
    _state: _State = _State.IDLE
    _frames: list[Frame] = field(default_factory=list)
    _chain: list[LoggedError] = field(default_factory=list)
    _nested: list[LoggedError] = field(default_factory=list)
    _type: str = ""
    _message: list[str] = field(default_factory=list)
    _at: int = 0
    _blank: int = 0
    _foreign: int = 0
    _dropped: bool = False
    """Whether the error that is being read ended nothing."""
    _open: bool = False
    """Whether the last frame still lacks its code."""

    @property
    def busy(self) -> bool:
        """Whether a traceback is being read."""
        return self._state is not _State.IDLE

    def feed(self, text: str, number: int) -> None:
        """Read one line."""
        if text.startswith(_IGNORED) or _CAUGHT in text:
            # Python cannot raise it, or the data set catches it: the training goes on.
            self._dropped = True
        if _HEAD in text:
            self._start(text)
        elif self._state is _State.MESSAGE:
            self._feed_message(text, number)
        elif self._state is _State.FRAMES:
            self._feed_frames(text, number)
        elif (frame := read_frame(text)) and frame.line:
            # A traceback whose beginning was cut off.
            self._state = _State.FRAMES
            self._feed_frames(text, number)
        elif self.lone and (match := _LONE.match(text.strip())):
            self._raise(match["type"], match["message"] or "", number)

    def close(self) -> None:
        """The log ends: what was read so far is all there is."""
        if self._state is _State.MESSAGE:
            self._finish()
        elif self._frames:
            self._type = ""
            self._finish()
        self._reset()
        self._chain.clear()

    def _start(self, text: str) -> None:
        if text.lstrip().startswith("Original "):
            # A worker's exception within the message of the one that reports it.
            if self._state is _State.MESSAGE:
                self._nested.append(self._error())
        elif self._state is _State.MESSAGE:
            self._finish()
        self._reset()
        self._state = _State.FRAMES

    def _feed_frames(self, text: str, number: int) -> None:
        frame = read_frame(text)
        if frame is not None:
            new = Frame(file=frame.file, line=frame.line, function=frame.function, code="")
            if not (self._open and self._frames and self._frames[-1] == new):
                # Two ranks that print at once give each line twice.
                self._frames.append(new)
            if len(self._frames) > _MOST_FRAMES:
                del self._frames[_MOST_FRAMES // 4]
            self._open, self._blank = True, 0
        elif not text.strip():
            self._blank += 1
            if self._blank > _MOST_FOREIGN:
                self._give_up()
        elif arrow := ARROW.match(text):
            self._point(int(arrow["line"]) if len(arrow["line"]) < 9 else 0, (arrow["code"] or "").strip())
        elif is_decoration(text):
            return
        elif self._is_code(text):
            if self._open and self._frames:
                self._point(self._frames[-1].line, text.strip())
        elif (match := _RAISED.match(text.strip())) and self._frames and match["type"] not in _NO_ERRORS:
            self._raise(match["type"], match["message"] or "", number)
        else:
            self._foreign += 1
            if self._foreign > _MOST_FOREIGN:
                self._give_up()

    def _is_code(self, text: str) -> bool:
        if text[0] in " \t" or is_numbered_code(text):
            return True
        # A page may have lost the indentation: the line below a frame is its code unless it is an exception.
        return self._open and not _LONE.match(text.strip()) and not _LOGGED.match(text) and not _BAR.search(text)

    def _point(self, line: int, code: str) -> None:
        """Give the last frame its code."""
        if not self._frames:
            return
        last = self._frames.pop()
        self._frames.append(Frame(file=last.file, line=line, function=last.function, code=code[:_MOST_CODE]))
        self._open = False

    def _raise(self, kind: str, message: str, number: int) -> None:
        self._type, self._at = kind.rpartition(".")[2], number
        self._message = [message]
        self._state, self._blank = _State.MESSAGE, 0

    def _feed_message(self, text: str, number: int) -> None:
        if _CAUSE in text or _DURING in text:
            self._chain.append(self._error())
            self._reset()
            self._state = _State.FRAMES
            return
        if not text.strip():
            self._blank += 1
            if self._blank > _MOST_BLANK:
                self._finish()
            return
        again = _LONE.match(text.strip()) if self._frames or not self.lone else None
        if _LOGGED.match(text) or again or read_frame(text) or (self._blank and text[0] not in " \t"):
            self._finish()
            self.feed(text, number)
        elif len(self._message) < _MOST_MESSAGE_LINES:
            self._message.append(text)

    def _error(self) -> LoggedError:
        return LoggedError(
            type=self._type,
            message="\n".join(self._message).strip()[:_LONGEST_MESSAGE],
            frames=tuple(self._frames),
            rank=self.rank,
            at=self._at,
            chain=(*self._chain, *self._nested),
        )

    def _finish(self) -> None:
        if not self._dropped:
            self.done.append(self._error())
        self._dropped = False
        self._chain.clear()
        self._nested.clear()
        self._reset()

    def _give_up(self) -> None:
        """No exception follows the frames: a stack that was printed for another reason, or lines of another process."""
        if self._frames and self._chain:
            self.done.append(self._chain[-1])
        self._chain.clear()
        self._nested.clear()
        self._reset()

    def _reset(self) -> None:
        self._state = _State.IDLE
        self._frames, self._message = [], []
        self._type, self._at, self._blank, self._foreign, self._open = "", 0, 0, 0, False
