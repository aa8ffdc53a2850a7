"""Temporary folders that outlast nobody: removed at the end, or at the next start after a kill.

The owner holds a lock in its folder for as long as it lives, and the system lets go of it however the owner ends. So a
folder is known to be left over wherever its owner ran, in another container too, and when its process number is taken.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PREFIX = "fh-"
_OWNER = ".owner"
_WITHOUT_OWNER_SECONDS = 7 * 86400.0
"""A folder without an owner's file is being made, or is of an older harness, which may be using it."""


@contextlib.contextmanager
def temporary_folder(word: str = "") -> Iterator[Path]:
    """A new folder for this process alone, removed at the end. Its path has no links in it, and is short.

    Args:
        word: For people who look into the folder of temporary files.

    Raises:
        OSError: there is no such folder, or it is full.
    """
    top = tempfile.gettempdir()
    _sweep_once(top)
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{word}{'-' if word else ''}", dir=top)).resolve()
    draft = folder / f"{_OWNER}.draft"
    owner = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # locked before it has its name: nobody meets it without its lock
        fcntl.flock(owner, fcntl.LOCK_EX)
        os.write(owner, f"{os.getpid()}\n".encode())
        draft.rename(folder / _OWNER)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(owner)


@cache
def _sweep_once(top: str) -> None:
    """Each process sweeps once."""
    sweep(Path(top))


def sweep(top: Path) -> list[Path]:
    """Remove the folders of processes that were killed; returns those."""
    removed = []
    for folder in top.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            status = folder.lstat()
            if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and _is_left(folder, status.st_mtime):
                shutil.rmtree(folder, ignore_errors=True)
                removed.append(folder)
    return removed


def _is_left(folder: Path, changed: float) -> bool:
    try:
        owner = os.open(folder / _OWNER, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return time.time() - changed > _WITHOUT_OWNER_SECONDS
    try:
        fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(owner)
    return True
