"""Files that outlive a kill or a full disk: locks, whole writes, atomic replacement, and errors that say what to do."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.core.errors import BusyError, StoreError
from harness.core.wire import strict
from harness.text.plain import plain, plain_json

_AGAIN = "and run the same command again"
_CAUSES = {
    errno.ENOSPC: ("the disk is full", f"free some space, or {{elsewhere}}, {_AGAIN}"),
    errno.EDQUOT: ("your quota is used up", f"free some space, or {{elsewhere}}, {_AGAIN}"),
    errno.EFBIG: ("a limit on the size of files", f"raise it (ulimit -f) {_AGAIN}"),
    errno.EIO: ("the disk reports an error", f"check the disk {_AGAIN}"),
    errno.EACCES: ("no permission", "{elsewhere}, or correct the permissions"),
    errno.EPERM: ("no permission", "{elsewhere}, or correct the permissions"),
    errno.EROFS: ("the file system is read-only", "{elsewhere}"),
    errno.ENOTDIR: ("a part of the path is a file, not a folder", "{elsewhere}"),
    errno.EEXIST: ("there is a file of that name, not a folder", "{elsewhere}"),
    errno.EISDIR: ("there is a folder of that name", "{elsewhere}"),
}
"""Likely cause and next step by error number."""

_EXHAUSTED = {
    errno.EMFILE: ("a process may have no more files open", f"raise the limit (ulimit -n) {_AGAIN}"),
    errno.ENFILE: ("the machine can have no more files open", f"end other programs {_AGAIN}"),
    errno.ENOMEM: ("no memory is left", f"end other programs, or use fewer --jobs, {_AGAIN}"),
    errno.EAGAIN: ("no more processes may be started", f"raise the limit (ulimit -u) {_AGAIN}"),
}
"""What is not about a file: likely cause and next step by error number."""

_UNFORESEEN = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EACCES, errno.EPERM, errno.EROFS)
"""Of these one can say what to do without knowing what was being done."""


def storage_error(error: OSError, path: Path, deed: str, *, alternative: str = "write elsewhere with -o") -> StoreError:
    """The error for a `path` that could not be opened, written or read.

    Args:
        deed: "opened", "written" or "read".
        elsewhere: How the user makes the command use another place.
    """
    cause, next_step = _CAUSES.get(error.errno or 0, ("", "{elsewhere}"))
    return StoreError(
        f"{path} cannot be {deed}: {error.strerror or error}",
        cause=cause,
        next_step=next_step.format(elsewhere=alternative),
    )


def unforeseen_storage_error(error: OSError) -> StoreError | None:
    """The same for an error from anywhere; None if it is not about space, permissions or what the machine lacks."""
    if exhausted := _EXHAUSTED.get(error.errno or 0):
        message = f"the operating system gives no more: {error.strerror}"
        return StoreError(message, cause=exhausted[0], next_step=exhausted[1])
    if error.errno not in _UNFORESEEN:
        return None
    return storage_error(error, Path(os.fsdecode(error.filename or "a file")), "written")


def is_about_storage(error: OSError) -> bool:
    """Whether an error is about space, permissions, or a file in the place of a folder or the reverse."""
    return error.errno in _CAUSES


def take_lock(path: Path) -> int:
    """Lock a file for this process alone, and write the process's id into it; `release_lock` or its end lets go.

    The file stays when the lock is let go: removing it would let two processes hold two files of one name.

    Raises:
        BusyError: another process holds it.
        OSError: the file cannot be opened.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise _busy(path.parent, holder) from None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def release_lock(descriptor: int) -> None:
    """Let go of a lock, even if a process that was forked meanwhile has the descriptor too."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def _busy(folder: Path, holder: str) -> BusyError:
    cause = "the same command was started twice"
    if holder.isdecimal() and not _alive(int(holder)):
        cause = "it has ended, but a process that it started still runs"
    return BusyError(
        f"another run writes to {folder} (process {holder or 'unknown'})",
        cause=cause,
        next_step="wait for it to end, or write elsewhere with -o",
    )


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def write_all(descriptor: int, content: bytes) -> None:
    """Write every byte; the operating system may take a long content in parts."""
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def sync_folder(folder: Path) -> None:
    """Make the folder's list of names as durable as the files in it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Put `content` in the place of `path`, so that at every moment the old or the new one is there, whole.

    Args:
        durable: Whether it outlives a power cut; else nothing waits for the disk.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        _write_new(draft, content, sync=durable)
        draft.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def write_file(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all, and make its folder if it is missing.

    Text is written as UTF-8; half of a surrogate pair, which UTF-8 cannot spell, is escaped.

    Raises:
        StoreError: it cannot be written.
    """
    if isinstance(content, str):
        content = content.encode("utf-8", "backslashreplace")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, content)
    except OSError as error:
        raise storage_error(error, path, "written") from error


def write_document(path: Path, text: str) -> None:
    """Write a text that somebody opens: what could act in a terminal, an editor or a browser is made visible.

    Raises:
        StoreError: it cannot be written.
    """
    write_file(path, plain(text))


def write_json(path: Path, data: Mapping[str, Any], *, indent: int = 1) -> None:
    """Write strict JSON with a field a line, whole or not at all; NaN and the infinities become strings.

    Raises:
        StoreError: it cannot be written.
        TypeError: a value is not JSON's.
    """
    write_file(path, json_text(data, indent=indent))


def json_text(data: Mapping[str, Any], *, indent: int = 1) -> str:
    """Strict JSON with a field a line; NaN and the infinities become the strings "nan", "inf" and "-inf".

    Control and bidirectional characters are escaped, so that it may be printed.
    """
    return plain_json(json.dumps(strict(data), indent=indent, ensure_ascii=False, allow_nan=False)) + "\n"


def set_aside(path: Path, word: str) -> Path:
    """Rename a file to `name.word-1.ending`, or the next number that is free."""
    target = free_name(path, word)
    path.rename(target)
    return target


def cut_tail(path: Path, keep: int) -> Path:
    """Move what follows the first `keep` bytes into a file of its own next to it, `name.torn-1.ending`."""
    tail = path.read_bytes()[keep:]
    target = free_name(path, "torn")
    # The copy is on disk before the original loses it: a kill between the two leaves it twice, not lost.
    _write_new(target, tail)
    sync_folder(path.parent)
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.ftruncate(descriptor, keep)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return target


def free_name(path: Path, word: str) -> Path:
    """`name.word-1.ending` next to `path`, or with the first number that is free."""
    number = 1
    while (target := path.with_name(f"{path.stem}.{word}-{number}{path.suffix}")).exists():
        number += 1
    return target


def _write_new(path: Path, content: bytes, *, sync: bool = True) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        write_all(descriptor, content)
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
