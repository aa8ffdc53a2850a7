"""Reading the files that the observers write, while they are written.

They come from processes that run the user's and a release's code: a line that does not fit is counted and left out, and
nothing in a file ends the reader.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from harness.core.evidence.parsing import EvidenceMismatch, parse
from harness.watch.records import KINDS, Ended, Record, TrainingStep

LONGEST_LINE = 4 * 2**20
_BLOCK = 2**20
SIGTERM, CRASH, PLACE = ".sigterm", ".crash", ".place"
"""Files in which `worker/watch/termination.py` has tracebacks written; empty while the process runs."""
_LONGEST_REASON = 200
_MOST_LINES = 40


class NotARecord(ValueError):
    """A line that is no record of this format; the message says why."""


def parse_line(line: bytes) -> Record:
    """One line of a file.

    Raises:
        NotARecord: it is none.
    """
    try:
        data = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise NotARecord(f"no JSON: {error}") from error
    name = data.get("kind") if isinstance(data, dict) else None
    if not isinstance(name, str) or name not in KINDS:
        raise NotARecord("no kind of record that is known")
    try:
        return parse(KINDS[name], data, place=name)
    except EvidenceMismatch as error:
        raise NotARecord(str(error)) from error


@dataclass
class RecordFile:
    """One file of records; `read` returns what was added since the last call."""

    path: Path
    damaged: int = 0
    """Lines that were no record."""
    first_damage: str = ""
    ended: bool = False
    """Whether the end of the process has been read."""
    _step: int = 0
    _epoch: int = 0
    _offset: int = 0
    _rest: bytes = b""
    _overlong: bool = False

    def read(self) -> Iterator[Record]:
        """The records of all lines that are complete now."""
        for line in self._lines():
            try:
                record = parse_line(line)
            except NotARecord as error:
                self._note(str(error))
                continue
            if isinstance(record, TrainingStep):
                self._step, self._epoch = record.step, record.epoch
            self.ended = self.ended or isinstance(record, Ended)
            yield record

    def ended_at(self, path: Path) -> Ended | None:
        """The end of a process by SIGTERM or a crash, from the traceback that it left; None while there is none."""
        with _regular_file(path) as opened:
            text = b"" if opened is None else os.read(opened, _BLOCK)
            at = 0.0 if opened is None else os.fstat(opened).st_mtime
        if not text:
            return None
        self.ended = True
        lines = text.decode("utf-8", "replace").splitlines()
        crashed = path.suffix == CRASH
        epoch, batches = _place(path.with_suffix(PLACE))
        return Ended(
            at=at,
            step=self._step,
            epoch=self._epoch if batches is None else epoch,
            how="crash" if crashed else "signal",
            status=None if crashed else 128 + signal.SIGTERM,
            exception=lines[0][:_LONGEST_REASON] if crashed else "",
            traceback=tuple(lines[-_MOST_LINES:]),
            batches=batches,
        )

    def _lines(self) -> Iterator[bytes]:
        with _regular_file(self.path) as opened:
            if opened is None:
                return
            os.lseek(opened, self._offset, os.SEEK_SET)
            while block := os.read(opened, _BLOCK):
                self._offset += len(block)
                *lines, self._rest = (self._rest + block).split(b"\n")
                for line in lines:
                    if self._overlong:
                        self._overlong = False
                        self._note(f"a line of more than {LONGEST_LINE} bytes")
                    elif line.strip():
                        yield line
                if len(self._rest) > LONGEST_LINE:
                    self._rest, self._overlong = b"", True

    def _note(self, why: str) -> None:
        self.damaged += 1
        self.first_damage = self.first_damage or why


@dataclass
class RecordFolder:
    """All files of records in a folder, also those that appear later."""

    folder: Path
    files: dict[str, RecordFile] = field(default_factory=dict)

    def read(self) -> Iterator[tuple[str, Record]]:
        """What was added since the last call: the file's name, which stands for the process, and the record."""
        # Looked at first: what such a process wrote before it ended is read before its end.
        paths = (path for suffix in (SIGTERM, CRASH) for path in self.folder.glob(f"*{suffix}"))
        left = {path.stem: path for path in paths if _size(path)}
        for path in sorted(self.folder.glob("*.jsonl")):
            file = self.files.setdefault(path.name, RecordFile(path))
            for record in file.read():
                yield path.name, record
            if path.stem in left and not file.ended:
                ended = file.ended_at(left[path.stem])
                if ended is not None:
                    yield path.name, ended


def _place(path: Path) -> tuple[int, int | None]:
    """The epoch and the batch that a process of several was in; None where it was in none, or left no such file."""
    with _regular_file(path) as opened:
        words = (b"" if opened is None else os.read(opened, 100)).split()
    if len(words) != 2 or not all(word.isdigit() for word in words):
        return 0, None
    return int(words[0]), int(words[1]) or None


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0


@contextlib.contextmanager
def _regular_file(path: Path) -> Iterator[int | None]:
    """A descriptor for reading; None for what is no regular file or cannot be opened: it neither follows nor blocks."""
    try:
        opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        yield None
        return
    try:
        yield opened if stat.S_ISREG(os.fstat(opened).st_mode) else None
    finally:
        os.close(opened)
