"""A cell's process that leaves a successor: a fork of itself, which waits to answer the next cell.

What the cell made, such as the built model, need not be made again. Each cell keeps a process of its own, with its
own output, directory, limits and end; where there is no successor, or it is not wanted, a process is forked as ever.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from harness.core import processes

_DIGITS = 32


@dataclass(frozen=True, kw_only=True)
class Pipe:
    """Two ends of a pipe."""

    read: int
    write: int

    @classmethod
    def open(cls) -> Self:
        """A new one."""
        read, write = os.pipe()
        return cls(read=read, write=write)


@dataclass(frozen=True, kw_only=True)
class ModelHandoff:
    """The pipes between a release's process, a cell's, and the successor that the cell's may leave."""

    output: Pipe
    """What the successor prints."""
    go: Pipe
    """A byte tells the successor to begin; the end of the file, that it is not wanted."""
    name: Pipe
    """Tells the release's process the successor's process id."""

    @classmethod
    def open(cls) -> Self:
        """To be called in the release's process, before the cell's is forked."""
        return cls(output=Pipe.open(), go=Pipe.open(), name=Pipe.open())

    def in_cell(self) -> None:
        """In the cell's process: let go of what is the release's."""
        _close([self.output.read, self.go.write, self.name.read])

    def in_release(self) -> None:
        """In the release's process: let go of what is the cell's."""
        _close([self.output.write, self.go.read, self.name.write])
        os.set_blocking(self.name.read, False)

    def fork(self) -> bool:
        """In the cell's process, once its answer is written: leave a successor.

        A process with threads leaves none: they would be missing in its fork.

        Returns:
            True in the successor, once it is wanted; False in the cell's own process. A successor that is not wanted
            never returns.
        """
        if processes.count_threads() > 1:
            return False
        pid = os.fork()
        if pid:
            os.write(self.name.write, str(pid).encode())
            return False
        for target in (1, 2):
            os.dup2(self.output.write, target)
        os.close(self.name.write)
        wanted = os.read(self.go.read, 1)
        os.close(self.go.read)
        if not wanted:
            os._exit(0)
        return True

    def successor(self) -> int | None:
        """In the release's process, once the cell's has ended: the successor, if it left one and this one got it."""
        with contextlib.suppress(BlockingIOError):
            name = os.read(self.name.read, _DIGITS)
            # Only a process that adopts orphans gets it, and only a child can be waited for.
            if name.isdigit() and int(name) in processes.children(os.getpid()):
                return int(name)
        return None

    def begin(self) -> None:
        """In the release's process: the successor is wanted."""
        os.write(self.go.write, b"!")
        _close([self.go.write, self.name.read])

    def refuse(self) -> None:
        """In the release's process: there is no successor, or it is not wanted."""
        _close([self.output.read, self.go.write, self.name.read])


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
