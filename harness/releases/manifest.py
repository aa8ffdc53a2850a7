"""Whether an installed release is what was installed: a list of its files, compared before each use.

Sizes, times and inodes are compared, which takes some milliseconds; where one differs, hashes decide. Whoever may write
to the cache may write to the list too: it finds what releases and people change by the way.
"""

from __future__ import annotations

import base64
import contextlib
import csv
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.core.durable import write_json

_SCHEMA = 1
_FileState = tuple[int, int, int]
_Entry = tuple[int, int, int, str]
"""Bytes, nanoseconds of the last change of the inode, its number, SHA-256."""


def manifest_path(place: Path) -> Path:
    """Where the list of an installed release is: outside its folder."""
    return place.parent.parent / "manifests" / f"{place.name}.json"


def protect(installed: Path) -> None:
    """Make the files of a release that was just installed read-only. Its folders stay as they are, to be removed."""
    for _, entry in _files(installed):
        if entry.is_file(follow_symlinks=False):
            os.chmod(entry.path, 0o444)  # noqa: PTH101 - an entry, not a path


def record(place: Path) -> None:
    """Note what an installed release consists of.

    Raises:
        OSError: the cache cannot be written to.
    """
    files = {name: [*_file_state(entry), _sha256(Path(entry.path))] for name, entry in _files(place)}
    path = manifest_path(place)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"schema": _SCHEMA, "files": files})


def changes(place: Path) -> list[str]:
    """The files of an installed release that were changed, added or removed since; empty where all is as it was.

    A release that was installed before there was a list gets one, once its files have the hashes that its wheel states.

    Raises:
        OSError: the cache cannot be read or written to.
    """
    known = _load(manifest_path(place))
    if known is None:
        different = list(_unlike_wheel(place))
        if not different:
            record(place)
        return different
    entries = dict(_files(place))
    different = sorted(known.keys() ^ entries.keys())
    doubtful = [name for name in known.keys() & entries.keys() if _file_state(entries[name]) != known[name][:3]]
    different += [name for name in doubtful if _sha256(Path(entries[name].path)) != known[name][3]]
    if doubtful and not different:
        # copied, or restored from a backup
        record(place)
    return different


def _load(path: Path) -> dict[str, _Entry] | None:
    """The list; None where there is none that can be read."""
    try:
        data: Any = json.loads(path.read_bytes())
        if data["schema"] != _SCHEMA:
            return None
        return {
            name: (int(size), int(time), int(inode), str(sha))
            for name, (size, time, inode, sha) in data["files"].items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _files(folder: Path, below: str = "") -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Everything but folders, with its path; links are not followed."""
    with os.scandir(folder / below) as entries:
        for entry in entries:
            name = f"{below}/{entry.name}" if below else entry.name
            if entry.is_dir(follow_symlinks=False):
                yield from _files(folder, name)
            else:
                yield name, entry


def _file_state(entry: os.DirEntry[str]) -> _FileState:
    status = entry.stat(follow_symlinks=False)
    # Not the time of the content: anybody can set that, and a file in the place of another may get its inode's number.
    return status.st_size, status.st_ctime_ns, status.st_ino


def _sha256(path: Path) -> str:
    """Of a regular file; of anything else what it is, without opening it."""
    if path.is_symlink() or not path.is_file():
        return "no regular file"
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _unlike_wheel(place: Path) -> Iterator[str]:
    """The files whose hash is not the one that the wheel's own list states; nothing where there is no such list."""
    for name, stated_hash in _stated_hashes(place).items():
        path = place / name
        # scripts are left out on purpose, see `harness.releases.install`
        if path.is_file() and not path.is_symlink() and stated_hash:
            digest = base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).rstrip(b"=").decode()
            if digest != stated_hash:
                yield name


def _stated_hashes(place: Path) -> Mapping[str, str]:
    hashes: dict[str, str] = {}
    for path in place.glob("*.dist-info/RECORD"):
        with contextlib.suppress(OSError, csv.Error), path.open(encoding="utf-8", newline="") as file:
            for row in csv.reader(file):
                if len(row) == 3 and row[1].startswith("sha256=") and not row[0].startswith(("/", "..", "bin/")):
                    hashes[row[0]] = row[1].removeprefix("sha256=")
    return hashes
