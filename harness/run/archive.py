"""A run packed for keeping: `outcomes.jsonl.gz`, which holds `outcomes.jsonl` byte for byte, in its place.

A tenth of the size, so that the runs of every release can lie in a repository. It is read as the plain file is;
a run that goes on is unpacked first.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from harness.core.durable import release_lock, replace_file, storage_error, take_lock
from harness.core.errors import StoreError

OUTCOMES = "outcomes.jsonl"
PACKED = f"{OUTCOMES}.gz"
LOCK = "lock"

_MOST_BYTES = 1 << 30
"""More than a run of any size; what unpacks to more is no run."""
_ALWAYS_BYTES = 1 << 24
"""So much is read however well it was compressed."""
MOST_COMPRESSED = 200
"""How many times its packed size a run may have; outcomes have some ten times theirs."""


def holds_run(folder: Path) -> bool:
    """Whether outcomes lie there, packed or not."""
    return (folder / OUTCOMES).is_file() or (folder / PACKED).is_file()


def run_folders(*tops: str | Path) -> Iterator[Path]:
    """The folders of all runs directly below `tops`, by name."""
    for top in tops:
        yield from (folder for folder in sorted(Path(top).glob("*/")) if holds_run(folder))


def read_outcomes(path: Path) -> bytes:
    """The content of a run's `outcomes.jsonl`, wherever it lies: the plain file, or else the packed one beside it.

    Raises:
        StoreError: the packed file is damaged.
        OSError: neither can be read.
    """
    packed = path.with_name(f"{path.name}.gz")
    if path.exists() or not packed.exists():
        return path.read_bytes()
    try:
        most = min(_MOST_BYTES, max(_ALWAYS_BYTES, MOST_COMPRESSED * packed.stat().st_size))
        with gzip.open(packed) as file:
            content = file.read(most + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise _damaged(packed, str(error)) from error
    if len(content) > most:
        raise _damaged(packed, f"it unpacks to more than {most} bytes, more than any run of its size")
    return content


def pack(folder: Path) -> tuple[int, int]:
    """Put the packed file in the place of the plain one; returns the bytes before and after.

    Raises:
        StoreError: there is no plain run there, its last line is cut short, or the folder cannot be written.
        BusyError: a process is writing the run.
    """
    path = folder / OUTCOMES
    if not path.is_file():
        there = "its outcomes are packed already" if (folder / PACKED).is_file() else "there are no outcomes"
        raise StoreError(f"{folder} cannot be packed: {there}", next_step="give the folder of a run")
    try:
        lock = take_lock(folder / LOCK)
    except OSError as error:
        raise storage_error(error, folder, "opened") from error
    try:
        content = path.read_bytes()
        if not content.endswith(b"\n"):
            raise StoreError(
                f"the last line of {path} is cut short", next_step="finish the run first: the same command resumes it"
            )
        # No time and no name within: the same outcomes are the same file.
        packed = gzip.compress(content, mtime=0)
        replace_file(folder / PACKED, packed)
        path.unlink()
    except OSError as error:
        raise storage_error(error, folder / PACKED, "written") from error
    finally:
        release_lock(lock)
    return len(content), len(packed)


def unpack(folder: Path) -> None:
    """Put the plain file in the place of the packed one, where there is one; a plain one that is there stays.

    Raises:
        StoreError: the packed file is damaged.
        OSError: it cannot be read, or the folder not be written.
    """
    packed = folder / PACKED
    if not packed.exists():
        return
    if not (folder / OUTCOMES).exists():
        replace_file(folder / OUTCOMES, read_outcomes(folder / OUTCOMES))
    packed.unlink()


def _damaged(path: Path, cause: str) -> StoreError:
    return StoreError(f"{path} is damaged: {cause}", next_step="copy the file again, or run the matrix again")
