"""A run packed for keeping: `outcomes.jsonl.xz`, which holds `outcomes.jsonl` byte for byte, in its place.

A thirtieth of the size or less, so that the runs of every release fit in a repository: outcomes of different releases
are alike, and xz, unlike gzip, finds repetitions that are megabytes apart. It is read as the plain file is, and so is
`outcomes.jsonl.gz` of earlier versions. A run that is continued is unpacked first.
"""

from __future__ import annotations

import gzip
import lzma
import zlib
from collections.abc import Iterator
from pathlib import Path

from harness.config import built_in
from harness.core.durable import release_lock, replace_file, storage_error, take_lock
from harness.core.errors import DamagedFileError, StoreError

OUTCOMES = "outcomes.jsonl"
PACKED = f"{OUTCOMES}.xz"
_PACKED_EARLIER = f"{OUTCOMES}.gz"
LOCK = "lock"
FOLDERS = ("runs", built_in.REPORTS)
"""Where runs are looked for when none is named, below the working folder."""

_MOST_BYTES = 1 << 30
"""More than a run of any size; what unpacks to more is no run."""
_ALWAYS_BYTES = 1 << 24
"""So much is read however well it was compressed."""
MOST_COMPRESSED = 200
"""How many times its packed size a run may have; outcomes have ten to ninety times theirs."""
_MOST_MEMORY = 1 << 28
"""The memory limit for unpacking a file; what `pack` writes needs 9 MiB."""


def holds_run(folder: Path) -> bool:
    """Whether a folder has outcomes, packed or not."""
    return (folder / OUTCOMES).is_file() or packed_file(folder) is not None


def packed_file(folder: Path) -> Path | None:
    """The packed outcomes of a folder, if it has any."""
    return next((folder / name for name in (PACKED, _PACKED_EARLIER) if (folder / name).is_file()), None)


def known_runs() -> list[Path]:
    """The folders of the runs that are looked at where none is named, by name.

    They are in `runs/` and `reports/` of the working folder. The committed runs that are part of the harness are
    looked at in every working folder, but for those of which `reports/` there has one of the same name.
    """
    working_runs = list(run_folders(*FOLDERS))
    names = {folder.name for folder in working_runs if folder.parent == Path(built_in.REPORTS)}
    return sorted(
        [*working_runs, *(folder for folder in run_folders(built_in.committed_reports()) if folder.name not in names)]
    )


def run_name(folder: Path) -> str:
    """A run's folder as messages name it: `reports/NAME` of a committed run that the harness brings along."""
    committed = built_in.committed_reports()
    if folder.is_absolute() and folder.is_relative_to(committed):
        return folder.relative_to(committed.parent).as_posix()
    return folder.as_posix()


def run_folders(*tops: str | Path) -> Iterator[Path]:
    """The folders of all runs directly below `tops`, by name."""
    for top in tops:
        yield from (folder for folder in sorted(Path(top).glob("*/")) if holds_run(folder))


def read_outcomes(path: Path) -> bytes:
    """The content of a run's `outcomes.jsonl`: the plain file, or else the packed one next to it.

    Raises:
        DamagedFileError: the packed file is damaged.
        OSError: neither can be read.
    """
    packed = None if path.exists() else packed_file(path.parent)
    if packed is None:
        return path.read_bytes()
    most = min(_MOST_BYTES, max(_ALWAYS_BYTES, MOST_COMPRESSED * packed.stat().st_size))
    try:
        content = _unpacked(packed, most + 1)
    except (gzip.BadGzipFile, lzma.LZMAError, EOFError, zlib.error) as error:
        raise _damaged(packed, str(error)) from error
    if len(content) > most:
        raise _damaged(packed, f"it unpacks to more than {most} bytes, more than any run of its size")
    return content


def _unpacked(packed: Path, most: int) -> bytes:
    """At most so many bytes of the content.

    Raises:
        gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError: the file is damaged.
    """
    if packed.name == _PACKED_EARLIER:
        with gzip.open(packed) as file:
            return file.read(most)
    unpacking = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MOST_MEMORY)
    content = unpacking.decompress(packed.read_bytes(), max_length=most)
    if not unpacking.eof and len(content) < most:
        raise EOFError("it ends in the middle")
    return content


def pack(folder: Path) -> tuple[int, int]:
    """Put the packed file in the place of the plain one; returns the bytes before and after.

    Raises:
        StoreError: there is no plain run there, its last line is cut short, or the folder cannot be written.
        BusyError: a process is writing the run.
    """
    path = folder / OUTCOMES
    if not path.is_file():
        reason = "its outcomes are packed already" if packed_file(folder) else "there are no outcomes"
        raise StoreError(f"{folder} cannot be packed: {reason}", next_step="give the folder of a run")
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
        # It holds no time and no name: the same outcomes are the same file.
        packed = lzma.compress(content)
        replace_file(folder / PACKED, packed)
        path.unlink()
        (folder / _PACKED_EARLIER).unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(error, folder / PACKED, "written") from error
    finally:
        release_lock(lock)
    return len(content), len(packed)


def unpack(folder: Path) -> None:
    """Put the plain file in the place of the packed one, where there is one; a plain one that is there stays.

    Raises:
        DamagedFileError: the packed file is damaged.
        OSError: it cannot be read, or the folder not be written.
    """
    if not packed_file(folder):
        return
    if not (folder / OUTCOMES).exists():
        replace_file(folder / OUTCOMES, read_outcomes(folder / OUTCOMES))
    for name in (PACKED, _PACKED_EARLIER):
        (folder / name).unlink(missing_ok=True)


def _damaged(path: Path, cause: str) -> DamagedFileError:
    return DamagedFileError(f"{path} is damaged: {cause}", next_step="copy the file again, or run the matrix again")
