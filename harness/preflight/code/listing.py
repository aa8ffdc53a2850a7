"""The Python files of a release: the digest of each, and what it registers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.preflight.code.source_file import SourceRegistration, source_file
from harness.preflight.code.stored import reader_version, store, stored


@dataclass(frozen=True, kw_only=True)
class ListedFile:
    """A file of a release."""

    size: int
    modified: int
    """In nanoseconds."""
    digest: str
    registrations: tuple[SourceRegistration, ...]

    def to_json(self) -> list[Any]:
        """For the cache."""
        return [
            self.size,
            self.modified,
            self.digest,
            [[registration.table, registration.key, registration.defined] for registration in self.registrations],
        ]

    @classmethod
    def from_json(cls, row: list[Any]) -> ListedFile:
        """From the cache.

        Raises:
            TypeError, ValueError: it has another form.
        """
        size, modified, digest, registered = row
        return cls(
            size=int(size),
            modified=int(modified),
            digest=str(digest),
            registrations=tuple(
                SourceRegistration(table=table, key=key, defined=defined) for table, key, defined in registered
            ),
        )


def list_files(root: Path, cache: Path | None) -> Mapping[str, ListedFile]:
    """By path below `root`, in their order; a file that is as it was when it was listed before is not read again.

    Args:
        root: The folder of the package.
        cache: The folder in which the harness keeps what it found out.
    """
    place = cache / "preflight" / "code" / f"{root.parent.name}-{reader_version()}.json" if cache else None
    before = _before(place)
    listed_files, changed = {}, False
    for name, stat in _walk(root):
        listed = before.get(name)
        if listed is None or (listed.size, listed.modified) != (stat.st_size, stat.st_mtime_ns):
            file, changed = source_file(root / name), True
            if file is None:
                continue
            listed = ListedFile(
                size=stat.st_size, modified=stat.st_mtime_ns, digest=file.digest, registrations=file.registrations
            )
        listed_files[name] = listed
    if place and (changed or len(listed_files) != len(before)):
        store(place, {name: listed_file.to_json() for name, listed_file in listed_files.items()})
    return listed_files


def _before(place: Path | None) -> dict[str, ListedFile]:
    try:
        return {name: ListedFile.from_json(row) for name, row in (stored(place) if place else {}).items()}
    except (AttributeError, TypeError, ValueError):
        return {}


def _walk(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    """The paths below `root`, sorted as those of `sorted(root.rglob("*.py"))`."""
    files: list[tuple[list[str], os.stat_result]] = []
    waiting: list[tuple[str, list[str]]] = [(str(root), [])]
    while waiting:
        folder, above = waiting.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError:
            continue
        for entry in entries:
            if entry.is_dir():
                waiting.append((entry.path, [*above, entry.name]))
            elif entry.name.endswith(".py") and entry.is_file():
                files.append(([*above, entry.name], entry.stat()))
    for parts, stat in sorted(files, key=lambda entry_of_file: entry_of_file[0]):
        yield "/".join(parts), stat
