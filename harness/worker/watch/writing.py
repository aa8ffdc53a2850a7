"""Writing the records of one process: whole lines, at once, and never to the training's harm."""

from __future__ import annotations

import json
import math
import os
import re
import socket
import time
from typing import Any, Callable

FORMAT = 1
"""As in `harness/watch/records.py`."""
LONGEST_LINE = 2 * 2**20
_MOST_OF_A_NAME = 60
_MOST_FILES = 20
"""Of one process number."""
_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))
"""Made once: `json.dumps` makes one at each call that is not by its defaults."""


class RecordWriter:
    """The file of one process. It is made with the first record; a forked child writes nothing to it."""

    def __init__(self, folder: str, first: dict[str, Any]) -> None:
        """`first` is the record of the process, which goes before all others."""
        host = re.sub(r"[^A-Za-z0-9.-]", "_", socket.gethostname())[:_MOST_OF_A_NAME] or "host"
        self._pid = os.getpid()
        self._stem = os.path.join(folder, f"{host}-{self._pid}")
        self._file: int | None = None
        self._path = ""
        self._first: dict[str, Any] | None = {"kind": "process", "at": time.time(), **first}
        self._cut = False
        """Whether the last line may be incomplete, as on a full disk."""
        self.lost = 0
        """Records that could not be written."""

    @property
    def path(self) -> str:
        """The file; empty before there is one."""
        return self._path

    @property
    def begun(self) -> bool:
        """Whether there is a file."""
        return self._first is None

    def begin(self) -> None:
        """Make the file now, rather than with the next record."""
        if os.getpid() == self._pid and self._first is not None:
            first, self._first = self._first, None
            self._append(_line(first))

    def write(self, kind: str, fields: dict[str, Any]) -> None:
        """Append one record; a disk that takes none costs the record and nothing else."""
        if os.getpid() == self._pid:
            self.begin()
            self._append(_line({"kind": kind, "at": time.time(), **fields}))

    def _append(self, line: bytes) -> None:
        try:
            if self._file is None:
                self._file = self._open()
            if self._cut:
                line = b"\n" + line
            written = os.write(self._file, line)
        except OSError:
            self.lost += 1
            return
        self._cut = written < len(line)
        self.lost += self._cut

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
        # An earlier process may have had this number.
        number = sum(os.path.exists(self._name(number)) for number in range(_MOST_FILES))
        opened = os.open(self._name(number), flags, 0o644)
        self._path = self._name(number)
        return opened

    def _name(self, number: int) -> str:
        return f"{self._stem}{f'-{number}' if number else ''}.jsonl"


def _line(record: dict[str, Any]) -> bytes:
    try:
        text = _ENCODER.encode(record)
    except (TypeError, ValueError):
        text = json.dumps(plain(record))
    if len(text) > LONGEST_LINE:
        text = json.dumps({"kind": "observer", "at": record["at"], "observer": record["kind"], "error": "too long"})
    return text.encode("ascii") + b"\n"


def plain(value: Any) -> Any:
    """What JSON has: containers of OmegaConf as Python's own, numbers that are not finite as text, others by type."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else "nan" if value != value else "inf" if value > 0 else "-inf"
    if hasattr(value, "items"):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)) or (hasattr(value, "__iter__") and hasattr(value, "__len__")):
        return [plain(item) for item in value]
    return type(value).__name__


class ObserverGuard:
    """Calls observers; one that raises is taken out and said, and the training goes on."""

    def __init__(self, writer: RecordWriter) -> None:
        self._writer = writer
        self._pid = os.getpid()
        self.out: set[str] = set()

    def __call__(self, observer: str, function: Callable[..., Any], *args: Any) -> Any:
        """What the function returns; None from an observer that has failed, and in a forked child."""
        if observer in self.out or os.getpid() != self._pid:
            return None
        try:
            return function(*args)
        except Exception as error:
            self.out.add(observer)
            self._writer.write("observer", {"observer": observer, "error": f"{type(error).__name__}: {error}"[:2000]})
            return None
