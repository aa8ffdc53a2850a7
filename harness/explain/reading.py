"""One pass over a log: its errors, what its trainer's lines say, and how its processes ended."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import BinaryIO

from harness.explain.lines import lines_of
from harness.explain.tracebacks import LoggedError, TracebackReader
from harness.explain.training_lines import TrainingRecord

_PREFIX = re.compile(
    rb"(?:\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:?\d\d)? )?"
    rb"(?:(?:>\s?|\[(?:rank|default|worker)?(?P<rank>\d{1,5})\]:\s?|(?P<other>\d{1,5}): (?=\s|Traceback|\S+Error)))*"
)
"""The time of a container's log, the mark of a quotation, and the rank: torch's `[rank0]:`, torchrun's `[default0]:`,
srun's `0: `."""
_LOGGER = re.compile(rb"\[\d{4}-\d\d-\d\d [\d:,.]+\]\[[^\]]*\]\[[A-Z]+\] - ")
"""hydra's."""
_MAY_END = (b"rror", b"xception", b"Traceback", b'File "', b" in ", b"-> ", b"Interrupt", b"In [", b"In[")
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
    return _read(lines_of(stream, first=first), lone=lone)


def _read(lines: Iterable[bytes], *, lone: bool) -> LogRecord:
    record = LogRecord()
    readers: dict[bytes, TracebackReader] = {}
    busy: set[bytes] = set()
    training = record.training
    for number, whole in enumerate(lines, start=1):
        record.lines = number
        record.size += len(whole) + 1
        prefix = _PREFIX.match(whole)
        assert prefix is not None
        line = whole[prefix.end() :] if prefix.end() else whole
        rank = prefix["rank"] or prefix["other"] or b""
        if rank in busy or any(mark in line for mark in _MAY_END):
            reader = readers.get(rank)
            if reader is None and len(readers) < _MOST_RANKS:
                reader = readers[rank] = TracebackReader(rank=rank.decode(), lone=lone)
            if reader is not None:
                _feed(record, reader, line, number)
                (busy.add if reader.busy else busy.discard)(rank)
        training.read(line)
        if b"|" in line[:1] and len(record.classes) < _MOST_CLASSES and (found := _CLASS.search(line)):
            record.classes[found["file"].decode(), int(found["line"])] = found["name"].decode()
        if b"xit" in line or b"SIG" in line or b"Killed" in line or b"fault" in line or b"rror" in line:
            _note_signal(record, line)
        if line and not line.isspace():
            record.last.append(_cut(line))
            if len(record.last) > _LAST_LINES:
                del record.last[0]
    for reader in readers.values():
        reader.close()
        _take(record, reader)
    record.errors.sort(key=lambda one: one.at)
    return record


def _cut(line: bytes) -> str:
    return line[:300].decode("utf-8", "replace")


def _feed(record: LogRecord, reader: TracebackReader, line: bytes, number: int) -> None:
    text = line[:4000].decode("utf-8", "replace")
    if logger := _LOGGER.match(line):
        # `logging.exception` and hydra print a traceback behind their own prefix.
        text = text if reader.busy else text[logger.end() :]
    reader.feed(text.rstrip(), number)
    _take(record, reader)


def _take(record: LogRecord, reader: TracebackReader) -> None:
    for error in reader.done:
        if len(record.errors) >= _MOST_ERRORS:
            # The first ones and the last ones: a loop may print one error forever.
            del record.errors[_MOST_ERRORS // 2]
            record.dropped_errors += 1
        record.errors.append(error)
        record.steps_after[error.at] = record.training.steps
    reader.done.clear()


def _note_signal(record: LogRecord, line: bytes) -> None:
    if found := _SIGNAL.search(line):
        record.signals[int(found["number"] or found["named"])] += 1
    elif (b"Killed" in line or b"fault" in line or b"Bus error" in line) and (found := _SHELL_SIGNAL.search(line)):
        record.signals[_SHELL_SIGNALS[found["what"]]] += 1
