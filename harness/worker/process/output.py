"""Keeping the end of what a process prints, however much it is; in memory, where no cell can delete it."""

from __future__ import annotations

import os
from collections import deque

from harness.core.channels import LOG_BYTES, make_file, write_file

_CHUNK_BYTES = 1 << 16
"""As much as a pipe holds."""
_MOST_CHUNKS = 16


class Log:
    """The last of what comes out of a pipe."""

    def __init__(self, pipe: int) -> None:
        self.pipe: int | None = pipe
        self._chunks: deque[bytes] = deque()
        self._bytes = 0
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
        self._chunks.append(chunk)
        self._bytes += len(chunk)
        while self._bytes - len(self._chunks[0]) >= LOG_BYTES:
            self._bytes -= len(self._chunks.popleft())

    def close(self) -> None:
        """Take what is left and let go of the pipe."""
        self.drain()
        if self.pipe is not None:
            os.close(self.pipe)
            self.pipe = None

    def to_file(self) -> int:
        """A new file in memory with the end of what was printed; its descriptor is the caller's."""
        text = b"".join(self._chunks)[-LOG_BYTES + 1 :]
        descriptor = make_file("log", LOG_BYTES)
        # a NUL byte ends the file
        write_file(descriptor, text.replace(b"\0", b"?"))
        return descriptor
