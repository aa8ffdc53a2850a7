"""What the cache holds, by release and age, and how it is freed: never what a living process uses.

Each process that uses the cache says so in a file of its own below `users/`, with the releases that it uses, and holds
a lock on that file for as long as it lives.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from harness.releases.cache import locked, remove, storage_errors
from harness.releases.manifest import manifest_path

_DAY = 86400.0
_KINDS = {
    "corpora": "speech",
    "models": "model folder",
    "stack": "adapted library",
    "user-folders": "model folder",
    "preflight": "code that preflight read",
    "numba": "compiled by numba",
    "files": "file brought along",
    "reuse": "outcomes to reuse",
}
"""Folders of the cache besides `releases` and `bytecode`, and what each entry in them is."""
_BYTECODE = "bytecode"

_MOST_CACHES = 16
_own: dict[Path, int] = {}
"""By cache, the descriptor of this process's file."""


@dataclass(frozen=True, kw_only=True)
class Holding:
    """One entry of the cache."""

    kind: str
    name: str
    """A release's label, or the name of the entry."""
    paths: tuple[Path, ...]
    bytes: int
    used: float
    """When it was last used, or made where that is not noted; seconds since the epoch."""
    key: str
    """What a process that uses it writes down; empty where any process that uses the cache may use it."""

    def days(self, now: float) -> float:
        """How long it has not been used."""
        return max(0.0, (now - self.used) / _DAY)


def hold(cache: Path, names: Sequence[str] = ()) -> None:
    """Keep entries from being freed for as long as this process lives; without names, what is no release.

    A cache that cannot be written to cannot be freed either.
    """
    with contextlib.suppress(OSError):
        users = cache / "users"
        users.mkdir(parents=True, exist_ok=True)
        with locked(users / "gate"):
            if cache not in _own:
                if len(_own) >= _MOST_CACHES:
                    os.close(_own.pop(next(iter(_own))))
                # not the process number, which another container may have given too
                descriptor, _ = tempfile.mkstemp(prefix=f"{os.getpid()}-", dir=users)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                _own[cache] = descriptor
            os.write(_own[cache], "".join(f"{name}\n" for name in names).encode())


def let_go() -> None:
    """Use nothing any more; the end of the process does the same."""
    while _own:
        os.close(_own.popitem()[1])


def note_use(path: Path) -> None:
    """Note that an entry is used now."""
    with contextlib.suppress(OSError):
        os.utime(path)


def holdings(cache: Path) -> list[Holding]:
    """All that the cache holds, the largest first."""
    all_holdings = [*_releases(cache), *_bytecode(cache)]
    for folder, kind in _KINDS.items():
        for path in _entries(cache / folder):
            used = path.lstat().st_mtime
            all_holdings.append(Holding(kind=kind, name=path.name, paths=(path,), bytes=_size(path), used=used, key=""))
    return sorted(all_holdings, key=lambda holding: (-holding.bytes, holding.kind, holding.name))


def free(cache: Path, *, older_than_days: float, keep: Sequence[str] = ()) -> tuple[list[Holding], list[Holding]]:
    """Remove what has not been used for so long, but for releases that a glob of `keep` matches.

    Returns:
        What was removed, and what was not because a living process uses it.

    Raises:
        StoreError: the cache cannot be written to.
    """
    freed: list[Holding] = []
    in_use: list[Holding] = []
    now = time.time()
    if not cache.is_dir():
        return freed, in_use
    with storage_errors(cache):
        (cache / "users").mkdir(exist_ok=True)
        # while it is held nobody begins to use anything
        with locked(cache / "users" / "gate"):
            busy, used = _users(cache)
            for holding in holdings(cache):
                if holding.days(now) < older_than_days or any(fnmatchcase(holding.name, glob) for glob in keep):
                    continue
                if (busy and not holding.key) or holding.key in used:
                    in_use.append(holding)
                    continue
                for path in holding.paths:
                    remove(path, cache)
                freed.append(holding)
    return freed, in_use


def _users(cache: Path) -> tuple[bool, set[str]]:
    """Whether living processes use the cache, and which releases they use; what dead ones left is removed."""
    busy, used = False, set()
    for path in (cache / "users").iterdir():
        if path.name == "gate":
            continue
        descriptor = os.open(path, os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
        except BlockingIOError:
            busy = True
            used |= set(path.read_text(encoding="utf-8").splitlines())
        finally:
            os.close(descriptor)
    return busy, used


def _releases(cache: Path) -> Iterator[Holding]:
    for place in _entries(cache / "releases"):
        known = manifest_path(place)
        code = cache / _BYTECODE / place.absolute().relative_to("/")
        existing = tuple(path for path in (place, known, code) if path.exists())
        yield Holding(
            kind="release",
            name=place.name.rpartition("-")[0] or place.name,
            paths=existing,
            bytes=sum(map(_size, existing)),
            used=(known if known.exists() else place).stat().st_mtime,
            key=place.name,
        )


def _bytecode(cache: Path) -> Iterator[Holding]:
    """Bytecode besides that of releases, by the folder that its sources are in."""
    top = cache / _BYTECODE
    for code in _tops(top, lambda path: not _source(path, top).is_dir() or any(path.glob("*.pyc"))):
        source = _source(code, top)
        if source.parent == (cache / "releases").absolute() and source.is_dir():
            continue
        kind = "bytecode" if source.is_dir() else "bytecode of what is gone"
        yield Holding(
            kind=kind,
            name=str(source),
            paths=(code,),
            bytes=_size(code),
            used=code.stat().st_mtime if source.is_dir() else 0.0,
            key="",
        )


def _source(code: Path, top: Path) -> Path:
    return Path("/") / code.relative_to(top)


def _tops(folder: Path, is_one: Callable[[Path], bool]) -> Iterator[Path]:
    """The uppermost folders below `folder` of which it is so."""
    for path in _entries(folder):
        if path.is_dir():
            if is_one(path):
                yield path
            else:
                yield from _tops(path, is_one)


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _size(path: Path) -> int:
    """The bytes of a file, or of all files below a folder; links are not followed."""
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size
    total = 0
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                total += _size(Path(entry.path))
            else:
                total += entry.stat(follow_symlinks=False).st_size
    return total
