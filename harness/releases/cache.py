"""The cache of installed releases: a folder gets there whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from harness.core.cells import Release
from harness.core.durable import is_about_storage, storage_error
from harness.core.errors import InputError
from harness.core.paths import UnusablePathError, path_of

_ELSEWHERE = "set FUNASR_HARNESS_CACHE to another folder"


def default_cache() -> Path:
    """`$FUNASR_HARNESS_CACHE`, or `funasr-harness` in the user's XDG cache folder.

    Raises:
        InputError: the environment names a folder that nobody can have.
    """
    configured = os.environ.get("FUNASR_HARNESS_CACHE")
    if configured:
        return _path_of("FUNASR_HARNESS_CACHE", configured).absolute()
    shared = _path_of("XDG_CACHE_HOME", os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG specification has relative values ignored.
    return (shared if shared.is_absolute() else _path_of("HOME", "~") / ".cache") / "funasr-harness"


def _path_of(variable: str, text: str) -> Path:
    try:
        return path_of(text)
    except UnusablePathError as error:
        raise InputError(
            f"{variable} names no folder: {error}", next_step="correct the variable, or set FUNASR_HARNESS_CACHE"
        ) from None


def install_path(release: Release, cache: Path) -> Path:
    """The folder to put at the front of `sys.path` for this release; complete if it exists.

    Named by label and hash, so that releases of the same label from different files are kept apart.
    """
    return cache / "releases" / f"{release.label}-{release.sha256[:16]}"


def carried_path(release: Release, cache: Path) -> Path:
    """Where the file of a published release may be put by hand, for a machine without a package index."""
    return cache / "files" / release.filename


@contextlib.contextmanager
def working_folder(cache: Path) -> Iterator[Path]:
    """A folder in the cache for this process alone, gone when the block ends.

    What processes that were killed left behind is removed first. A living owner holds a lock
    on its room, and the system lets go of a lock with the process, however that ends.

    Raises:
        StoreError: the disk is full, or the cache cannot be written to.
    """
    with storage_errors(cache):
        rooms = cache / "making"
        try:
            rooms.mkdir(parents=True, exist_ok=True)
        except FileNotFoundError as error:
            # such as a home of /proc, which nobody can make a folder in
            raise storage_error(error, cache, "made", alternative=_ELSEWHERE) from error
        with locked(rooms / "gate"):
            _sweep(rooms)
            folder = Path(tempfile.mkdtemp(dir=rooms))
            owner = os.open(folder / "owner", os.O_CREAT | os.O_RDWR, 0o644)
            fcntl.flock(owner, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(owner)


def move_into_place(finished: Path, place: Path) -> None:
    """Move a whole folder to its place; when another process was faster, its folder stays."""
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        finished.rename(place)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        shutil.rmtree(finished, ignore_errors=True)


def remove(place: Path, cache: Path) -> None:
    """Take a folder out of the cache at once, and then remove it: nobody meets half of it.

    A process that has imported modules of it keeps those, and finds the others gone or in the folder that replaces it.
    """
    with working_folder(cache) as folder, contextlib.suppress(FileNotFoundError):
        place.rename(folder / "removed")


@contextlib.contextmanager
def storage_errors(place: Path) -> Iterator[None]:
    """Turn an OSError about space or permissions into a StoreError.

    Raises:
        StoreError: in place of such an OSError.
    """
    try:
        yield
    except OSError as error:
        if not is_about_storage(error):
            raise
        raise storage_error(error, place, "written", alternative=_ELSEWHERE) from error


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sweep(rooms: Path) -> None:
    """Remove the folders of dead processes. The caller holds the gate, so that no folder is half made."""
    for folder in rooms.iterdir():
        if not folder.is_dir():
            continue
        try:
            descriptor = os.open(folder / "owner", os.O_RDWR)
        except FileNotFoundError:
            # Its owner died between making the folder and the lock, or is removing it right now.
            shutil.rmtree(folder, ignore_errors=True)
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            pass
        finally:
            os.close(descriptor)
