"""The lock: which releases were published, under which file name, with which hash."""

from __future__ import annotations

import datetime
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.version import Version

from harness.config.toml_tables import Problems, Table, read_document, tables_of
from harness.core.cells import Release
from harness.core.durable import write_file
from harness.core.errors import IntegrityError
from harness.core.versions import version_of
from harness.releases import package_index
from harness.releases.local import PACKAGE

SCHEMA = 1
_KEYS = ("version", "filename", "sha256", "kind")
_SUFFIXES = {"wheel": ".whl", "sdist": ".tar.gz"}
_HEADER = f"""\
# Every published 1.x release of {PACKAGE}, oldest first: made by `funasr-harness releases lock`, not by hand.
# A release is installed only from a file whose sha256 is the one here.

schema = {SCHEMA}
package = "{PACKAGE}"
"""


@dataclass(frozen=True, kw_only=True)
class LockChange:
    """What a new lock changed."""

    added: tuple[Release, ...]
    """Published since; oldest first."""
    kept: tuple[Release, ...]
    """Locked before and served unchanged."""
    gone: tuple[Release, ...]
    """Locked before and no longer served; they stay in the lock."""

    def __str__(self) -> str:
        lines = [f"{len(self.added)} added, {len(self.kept)} unchanged, {len(self.gone)} no longer served"]
        lines += [f"  + {release.version} ({release.kind})" for release in self.added]
        lines += [f"  ? {release.version} is locked, and the index no longer serves it" for release in self.gone]
        return "\n".join(lines)


def load_lock(path: Path) -> tuple[Release, ...]:
    """The published releases, oldest first.

    Raises:
        MatrixError: the file cannot be read or is no lock; all its problems at once.
    """
    document = read_document(path).tables
    problems = Problems(source=str(path))
    top = Table(values=document, place="", problems=problems)
    top.only(("schema", "package", "made", "release"))
    for key, expected in (("schema", SCHEMA), ("package", PACKAGE)):
        if document.get(key) != expected:
            problems.add(key, f"expected {expected!r}, found {document.get(key)!r}")
    if not isinstance(document.get("made"), datetime.date):
        problems.add("made", "expected a date such as 2026-01-31")
    releases = [_read_release(table) for table in tables_of(document, "release", problems)]
    if not releases:
        problems.add("[[release]]", "the lock holds no release")
    readable = [release for release in releases if release]
    for key in ("version", "filename", "sha256"):
        _note_repeats(key, [getattr(release, key) for release in readable], problems)
    problems.stop_if_any()
    return tuple(sorted(readable, key=_age))


def lock(
    path: Path,
    *,
    today: datetime.date,
    base: Path | None = None,
    on_found: Callable[[Release], None] | None = None,
) -> LockChange:
    """Record every published release of the package index in the lock, which is not written if nothing is new.

    Args:
        path: The lock; created if it is missing.
        today: The date that the lock is given.
        base: Another lock, whose releases are taken over if `path` is not there.
        on_found: Called with each release as it is found, newest first.

    Raises:
        IntegrityError: a release that is locked is now served with another hash; nothing is written.
        FetchError: the index could not be reached.
        MatrixError: the lock that is there cannot be read.
        StoreError: the lock cannot be written.
    """
    known_lock = path if path.exists() else base
    locked = load_lock(known_lock) if known_lock else ()
    served: dict[str, tuple[Release, ...]] = {}
    for files in package_index.published():
        served[files[0].version] = files
        if on_found:
            on_found(files[0])
    _compare(locked, served)
    known = {release.version for release in locked}
    added = sorted((_preferred(files) for version, files in served.items() if version not in known), key=_age)
    no_longer_served = tuple(release for release in locked if not _is_served(release, served))
    if added or not path.exists():
        _write(path, sorted([*locked, *added], key=_age), today)
    return LockChange(
        added=tuple(added),
        kept=tuple(release for release in locked if release not in no_longer_served),
        gone=no_longer_served,
    )


def _compare(locked: Sequence[Release], served: dict[str, tuple[Release, ...]]) -> None:
    changed = [
        f"{old.filename}: locked sha256 {old.sha256}, now served {new.sha256}"
        for old in locked
        for new in served.get(old.version, ())
        if new.filename == old.filename and new.sha256 != old.sha256
    ]
    if changed:
        raise IntegrityError(
            "published files are no longer those that were locked:\n    " + "\n    ".join(changed),
            cause="the index allows files to be replaced, or it is not the index that the lock was made from",
            next_step="find out why; only then take these releases out of the lock by hand and lock again",
        )


def _is_served(release: Release, served: dict[str, tuple[Release, ...]]) -> bool:
    return any(file.filename == release.filename for file in served.get(release.version, ()))


def _preferred(files: Sequence[Release]) -> Release:
    """The file to lock: the wheel if there is one, since laying it out runs no code."""
    wheels = sorted((file for file in files if file.kind == "wheel"), key=lambda file: file.filename)
    pure = [file for file in wheels if file.filename.endswith("-none-any.whl")]
    return (pure or wheels or list(files))[0]


def _write(path: Path, releases: Sequence[Release], today: datetime.date) -> None:
    blocks = [f"{_HEADER}made = {today.isoformat()}\n"]
    for release in releases:
        # What JSON calls a string is a basic string of TOML.
        pairs = (f"{key} = {json.dumps(getattr(release, key))}\n" for key in _KEYS)
        blocks.append("[[release]]\n" + "".join(pairs))
    write_file(path, "\n".join(blocks))


def _read_release(table: Table) -> Release | None:
    table.only(_KEYS)
    version, filename, sha256, kind = (table.text(key) for key in _KEYS)
    if not (version and filename and sha256 and kind):
        return None
    before = len(table.problems.found)
    if version_of(version) is None:
        table.problems.add(table.at("version"), f'"{version}" is no version')
    if kind not in _SUFFIXES:
        table.problems.add(table.at("kind"), f'expected "wheel" or "sdist", found "{kind}"')
    elif not (filename.startswith(f"{PACKAGE}-{version}") and filename.endswith(_SUFFIXES[kind])) or "/" in filename:
        table.problems.add(table.at("filename"), f'"{filename}" is not the name of a {kind} of {PACKAGE} {version}')
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        table.problems.add(table.at("sha256"), f'expected 64 hexadecimal digits, found "{sha256}"')
    if len(table.problems.found) > before:
        return None
    return Release(label=version, version=version, kind=kind, filename=filename, sha256=sha256)


def _note_repeats(key: str, values: Sequence[str], problems: Problems) -> None:
    for value, count in Counter(values).items():
        if count > 1:
            problems.add(f"[[release]] {key}", f'"{value}" is there {count} times')


def _age(release: Release) -> Version:
    return Version(release.version)
