"""One pass over a log: its errors, what its trainer's lines say, and how its processes ended."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import BinaryIO

from harness.explain.lines import blocks_of
from harness.explain.tracebacks import LoggedError, TracebackReader
from harness.explain.training_lines import OTHER_MARKS, TrainingRecord, whole_step

_PREFIX = re.compile(
    rb"(?:\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:?\d\d)? )?"
    rb"(?:(?:>\s?|\[(?:rank|default|worker)?(?P<rank>\d{1,5})\]:\s?|(?P<other>\d{1,5}): (?=\s|Traceback|\S+Error)))*"
)
"""The time of a container's log, the mark of a quotation, and the rank: torch's `[rank0]:`, torchrun's `[default0]:`,
srun's `0: `."""
_LOGGER = re.compile(rb"\[\d{4}-\d\d-\d\d [\d:,.]+\]\[[^\]]*\]\[[A-Z]+\] - ")
"""hydra's."""
_OF_ERRORS = (
    *(b"rror", b"xception", b"Traceback", b'File "', b".py in ", b".py:", b"> in ", b"-> ", b"Interrupt"),
    *(b"Cell In", b"File ~"),
)
"""What a line has that begins or ends a traceback."""
_OF_ENDS = (b"exitcode", b"exit code", b"(SIG", b"Killed", b"fault", b"Bus error", b"Aborted")
_PRINTED = (
    (
        b"ProcessGroupNCCL.cpp",
        re.compile(rb"Watchdog caught collective operation timeout|Timeout at NCCL work"),
        "NCCL",
    ),
    (b"unrecognized arguments: --local", re.compile(rb"unrecognized arguments: --local[-_]rank"), "SystemExit"),
    *(
        (mark, re.compile(rb"(?:\S*(?:Error|Exception): )?" + re.escape(mark)), "HydraException")
        for mark in (
            *(b"Ambiguous value for argument", b"mismatched input", b"no viable alternative at input"),
            *(b"extraneous input", b"token recognition error", b"LexerNoViableAltException", b"missing EQUAL at"),
            *(b"Could not override", b"Could not append to config", b"Primary config", b"Cannot find primary config"),
        )
    ),
)
"""What ends a training and is printed without a traceback: by NCCL's C++, by argparse, by hydra. Hydra's stand at the
beginning of a line."""
_ANYWHERE = frozenset({"NCCL", "SystemExit"})
_MAY_HAVE_PREFIX = frozenset(b">[0123456789")
_SIGNAL = re.compile(
    rb"(?:exitcode\s*:\s*|exit ?code:? |exitcode=)-(?P<number>\d{1,3})\b|Signal (?P<named>\d{1,3}) \(SIG"
)
_SHELL_SIGNAL = re.compile(
    rb"(?:^|\s)(?P<what>Killed|Segmentation fault|Bus error|Aborted)(?:\s+\(core dumped\))?(?:\s|$)"
)
_CLASS = re.compile(rb"\| (?P<name>\w+) +\| (?P<file>funasr/[\w./]+\.py):(?P<line>\d{1,6}) ")
"""A row of the tables that the trainers print: class and place."""
_SHELL_SIGNALS = {b"Killed": 9, b"Segmentation fault": 11, b"Bus error": 7, b"Aborted": 6}
_MOST_ERRORS = 400
_MOST_RANKS = 1024
_MOST_CLASSES = 400
_LAST_LINES = 3


@dataclass(kw_only=True)
class LogRecord:
    """What one log says."""

    lines: int = 0
    size: int = 0
    """Bytes of its lines."""
    errors: list[LoggedError] = field(default_factory=list)
    """In the log's order; the same error of several ranks or attempts each time, up to a bound."""
    dropped_errors: int = 0
    steps_after: dict[int, int] = field(default_factory=dict)
    """By the line of an error, how many training steps the log had shown before it."""
    training: TrainingRecord = field(default_factory=TrainingRecord)
    signals: Counter[int] = field(default_factory=Counter)
    """Signals that ended processes, as torchrun or a shell names them."""
    classes: dict[tuple[str, int], str] = field(default_factory=dict)
    """Places of classes from the tables that the trainers print, with the class at each."""
    last: list[str] = field(default_factory=list)
    """The last lines that have text."""

    @property
    def empty(self) -> bool:
        """Whether there is no text at all."""
        return not self.last


def read_log(stream: BinaryIO, *, first: bytes = b"", lone: bool = True) -> LogRecord:
    """Read a log to its end.

    Args:
        stream: The log.
        first: What was read of it before.
        lone: Whether an exception's line counts without a traceback.
    """
    reading = _Reading(lone=lone)
    for block, lines in blocks_of(stream, first=first):
        reading.take(block, lines)
    return reading.close()


@dataclass(kw_only=True)
class _Reading:
    lone: bool
    record: LogRecord = field(default_factory=LogRecord)
    readers: dict[bytes, TracebackReader] = field(default_factory=dict)
    busy: set[bytes] = field(default_factory=set)
    last: list[bytes] = field(default_factory=list)

    def take(self, block: bytes, lines: list[bytes]) -> None:
        """Read a block. What a block does not have is looked for in none of its lines: most blocks have steps only."""
        record = self.record
        steps = list(map(whole_step, lines))
        size = len(block)
        if any(steps):
            block = b"\n".join([line for line, step in zip(lines, steps, strict=True) if step is None])
        marks = [mark for mark in _OF_ERRORS if mark in block]
        ends = [mark for mark in _OF_ENDS if mark in block]
        others = any(mark in block for mark in OTHER_MARKS)
        printed = [pattern for pattern in _PRINTED if pattern[0] in block]
        number = record.lines
        for raw_line, step in zip(lines, steps, strict=True):
            number += 1
            if step is not None and b"" not in self.busy:
                record.training.read_whole(step)
                continue
            if not raw_line:
                continue
            line, rank = raw_line, b""
            if raw_line[0] in _MAY_HAVE_PREFIX:
                prefix = _PREFIX.match(raw_line)
                if prefix is not None and prefix.end():
                    line, rank = raw_line[prefix.end() :], prefix["rank"] or prefix["other"] or b""
            if rank in self.busy:
                self._feed(rank, line, number)
            else:
                for mark in marks:
                    if mark in line:
                        self._feed(rank, line, number)
                        break
            for mark, form, kind in printed:
                if mark in line and rank not in self.busy:
                    self._printed(line, rank, number, form, kind)
            record.training.read(line, others=others)
            for mark in ends:
                if mark in line:
                    _note_signal(record, line)
                    break
            if line[:1] == b"|" and len(record.classes) < _MOST_CLASSES and (class_match := _CLASS.search(line)):
                record.classes[class_match["file"].decode(), int(class_match["line"])] = class_match["name"].decode()
        record.lines = number
        record.size += size
        self.last = [
            recent_line for recent_line in (*self.last, *lines[-20:]) if recent_line and not recent_line.isspace()
        ][-_LAST_LINES:]

    def _feed(self, rank: bytes, line: bytes, number: int) -> None:
        reader = self.readers.get(rank)
        if reader is None:
            if len(self.readers) >= _MOST_RANKS:
                return
            reader = self.readers[rank] = TracebackReader(rank=rank.decode(), lone=self.lone)
        text = line[:4000].decode("utf-8", "replace")
        if not reader.busy and (logger := _LOGGER.match(line)):
            # `logging.exception` and hydra print a traceback behind their own prefix.
            text = text[logger.end() :]
        reader.feed(text.rstrip(), number)
        _take(self.record, reader)
        (self.busy.add if reader.busy else self.busy.discard)(rank)

    def _printed(self, line: bytes, rank: bytes, number: int, form: re.Pattern[bytes], kind: str) -> None:
        if not (form.search(line) if kind in _ANYWHERE else form.match(line)):
            return
        text = line[:1000].decode("utf-8", "replace")
        error = LoggedError(type=kind, message=text, frames=(), rank=rank.decode(), at=number)
        _add(self.record, error)

    def close(self) -> LogRecord:
        """The log has ended."""
        for reader in self.readers.values():
            reader.close()
            _take(self.record, reader)
        self.record.errors.sort(key=lambda error: error.at)
        self.record.last = [recent_line[:300].decode("utf-8", "replace") for recent_line in self.last]
        return self.record


def _take(record: LogRecord, reader: TracebackReader) -> None:
    for error in reader.done:
        _add(record, error)
    reader.done.clear()


def _add(record: LogRecord, error: LoggedError) -> None:
    if len(record.errors) >= _MOST_ERRORS:
        # The first ones and the last ones: a loop may print one error forever.
        del record.errors[_MOST_ERRORS // 2]
        record.dropped_errors += 1
    record.errors.append(error)
    record.steps_after[error.at] = record.training.steps


def _note_signal(record: LogRecord, line: bytes) -> None:
    if signal_match := _SIGNAL.search(line):
        record.signals[int(signal_match["number"] or signal_match["named"])] += 1
    elif (b"Killed" in line or b"fault" in line or b"Bus error" in line) and (
        signal_match := _SHELL_SIGNAL.search(line)
    ):
        record.signals[_SHELL_SIGNALS[signal_match["what"]]] += 1
