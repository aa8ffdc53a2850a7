"""Channels between the processes of the tree: sockets handed down, and files in memory that have no name and no room
to grow.

A cell cannot find the channels of others, and what it writes into its own cannot block, follow a link or fill a disk.
Standard library only, because a release's process imports it.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import socket
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.core.tree_events import Event, from_bytes, to_bytes

RESULT_BYTES = 64 << 20
"""The longest result of a cell; the largest of 5,000 committed ones has 50 kB, a trace some megabytes."""
TRACE_BYTES = 1 << 20
LOG_BYTES = 1 << 16
"""As much of the end of what a cell printed is kept."""
_MESSAGE_BYTES = 1 << 17
_RIGHTS_BYTES = socket.CMSG_SPACE(4 * array.array("i").itemsize)
"""Of the descriptors with a message."""
_AT_ONCE = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
_MOST_AT_ONCE = 256
"""Messages; whoever sends without end keeps nobody from looking at the clock."""
_CHUNK_BYTES = 1 << 16


def make_file(name: str, most_bytes: int) -> int:
    """A file in memory of at most so many bytes, closed on exec; nobody can make it longer or shorter.

    It reads as NUL bytes where nothing was written, and takes memory only where something was.

    Args:
        name: For people who look at `/proc/PID/fd`; it is no path.
    """
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, most_bytes)
    with contextlib.suppress(OSError):
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
    return descriptor


def write_file(descriptor: int, content: bytes) -> None:
    """Replace the content, ended by a NUL byte.

    Raises:
        OSError: it is longer than the file can be.
    """
    content += b"\0"
    at = 0
    while at < len(content):
        at += os.pwrite(descriptor, content[at : at + (1 << 24)], at)


def read_file(descriptor: int, most_bytes: int) -> bytes:
    """The content up to the first NUL byte, however much there is: at most `most_bytes`.

    Raises:
        OSError: it is no regular file; whoever sent the descriptor may have sent another.
    """
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise OSError("it is no regular file")
    chunks: list[bytes] = []
    at = 0
    while at < most_bytes:
        chunk = os.pread(descriptor, min(_CHUNK_BYTES, most_bytes - at), at)
        end = chunk.find(b"\0")
        chunks.append(chunk if end < 0 else chunk[:end])
        at += len(chunk)
        if end >= 0 or not chunk:
            break
    return b"".join(chunks)


def _descriptors(rights: list[tuple[int, int, bytes]]) -> list[int]:
    """The descriptors that came with a message."""
    descriptors = array.array("i")
    for level, kind, data in rights:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    return list(descriptors)


@dataclass(frozen=True, kw_only=True)
class EventMessage:
    """An event and the files that came with it; whoever takes it closes them."""

    event: Event
    files: Mapping[str, int] = field(default_factory=dict)
    """Descriptors by name."""

    def close(self) -> None:
        """Close the files."""
        for descriptor in self.files.values():
            os.close(descriptor)


class Channel:
    """One end of a pair of sockets that carry events and descriptors of files."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self.descriptor = end.fileno()
        self.malformed = 0
        """How many messages were no events."""

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        """Both ends, closed on exec."""
        first, second = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(first), cls(second)

    @classmethod
    def of(cls, descriptor: int) -> Channel:
        """The end that came with an exec or a message; it goes no further."""
        os.set_inheritable(descriptor, False)
        return cls(socket.socket(fileno=descriptor))

    def send(self, event: Event, files: Mapping[str, int] | None = None, *, wait: bool = True) -> None:
        """Send an event; the descriptors stay open here.

        Args:
            wait: Whether to wait for room; without, the event is dropped where there is none.

        Raises:
            OSError: nobody is at the other end.
        """
        descriptors = files or {}
        message = to_bytes(event, list(descriptors))
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors.values()))] if descriptors else []
        with contextlib.suppress(BlockingIOError):
            # not `socket.send_fds` and `recv_fds`: Python 3.11 ignores their flags
            self._socket.sendmsg([message], rights, 0 if wait else socket.MSG_DONTWAIT)

    def receive(self) -> list[EventMessage]:
        """What has come since the last call; what is no event is counted and passed over."""
        messages: list[EventMessage] = []
        for _ in range(_MOST_AT_ONCE):
            try:
                data, rights, flags, _ = self._socket.recvmsg(_MESSAGE_BYTES, _RIGHTS_BYTES, _AT_ONCE)
            except OSError:
                return messages
            descriptors = _descriptors(rights)
            if not data and not descriptors:
                return messages
            try:
                event, names = from_bytes(data)
            except ValueError:
                event, names = None, []
            complete = not flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC)
            if event is not None and complete and len(descriptors) == len(names) == len(set(names)):
                messages.append(EventMessage(event=event, files=dict(zip(names, descriptors, strict=True))))
                continue
            self.malformed += 1
            for descriptor in descriptors:
                os.close(descriptor)
        return messages

    def close(self) -> None:
        """Let go of this end."""
        self._socket.close()
