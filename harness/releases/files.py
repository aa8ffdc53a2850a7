"""What wheels, sdists and checkouts have in common."""

from __future__ import annotations

import hashlib
from pathlib import Path

from harness.core.cells import Release
from harness.core.errors import IntegrityError, ReleaseError

PACKAGE = "funasr"
"""Name on the package index and of the package that is imported."""


def file_sha256(path: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unusable(path: Path, cause: str) -> ReleaseError:
    """The error for something that the user named and that is no FunASR release."""
    next_step = "give a wheel, an sdist or a checkout of FunASR 1.x"
    return ReleaseError(f"not a FunASR release: {path}", cause=cause, next_step=next_step)


def mismatch(release: Release, got: str) -> IntegrityError:
    """The error for a file that is not the one which was locked."""
    return IntegrityError(
        f"release {release.label}: {release.filename} is not the file that was locked\n"
        f"    expected sha256 {release.sha256}\n    got      sha256 {got}",
        cause="the file was replaced or damaged, or the index is not the one that the lock was made from",
        next_step="do not use it; find out where it came from, then fetch again or make the lock anew",
    )
