"""Keeping what a cell prints: the beginning and the end of it, however much it is."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from pathlib import Path

LOG_BYTES = 1 << 20
"""How much is kept: the first half of it and the last."""
_CHUNK_BYTES = 1 << 16
"""As much as a pipe holds."""
_MOST_CHUNKS = 16


class Log:
    """What comes out of a cell's pipe, the middle left out when there is too much of it."""

    def __init__(self, path: Path, pipe: int) -> None:
        self.pipe: int | None = pipe
        self._file = path.open("wb", buffering=0)
        self._room = LOG_BYTES // 2
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0
        self._left_out = 0
        os.set_blocking(pipe, False)

    def drain(self) -> None:
        """Take what is there now, though not forever from one who never stops; at the end of the file, close."""
        for _ in range(_MOST_CHUNKS):
            if self.pipe is None:
                return
            try:
                chunk = os.read(self.pipe, _CHUNK_BYTES)
            except BlockingIOError:
                return
            if chunk:
                self._keep(chunk)
            else:
                os.close(self.pipe)
                self.pipe = None

    def _keep(self, chunk: bytes) -> None:
        head, rest = chunk[: self._room], chunk[self._room :]
        self._write(head)
        self._room -= len(head)
        if rest:
            self._tail.append(rest)
            self._tail_bytes += len(rest)
        while self._tail and self._tail_bytes - len(self._tail[0]) >= LOG_BYTES // 2:
            gone = len(self._tail.popleft())
            self._tail_bytes -= gone
            self._left_out += gone

    def close(self) -> None:
        """Write the end of what was printed."""
        self.drain()
        if self.pipe is not None:
            os.close(self.pipe)
        if self._left_out:
            self._write(f"\n[... {self._left_out} bytes left out ...]\n".encode())
        self._write(b"".join(self._tail))
        self._file.close()

    def _write(self, data: bytes) -> None:
        # a full disk shows in the results, which matter more
        with contextlib.suppress(OSError):
            self._file.write(data)
