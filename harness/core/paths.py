"""Paths that somebody wrote into a file or an option."""

from __future__ import annotations

import os
from pathlib import Path

_LONGEST = 4095
_LONGEST_PART = 255
"""Bytes, of a whole path and of each of its parts: Linux's limits."""


class UnusablePathError(ValueError):
    """Why a text is no path, in a few words."""


def path_of(text: str) -> Path:
    """The path, with a home folder in the place of `~`.

    Raises:
        UnusablePathError: no file can have it: it has a NUL, is too long, or names a user who does not exist.
    """
    try:
        raw = os.fsencode(text)
    except UnicodeEncodeError:
        raise UnusablePathError("it holds half a character (a lone surrogate), which no path can hold") from None
    if "\0" in text:
        raise UnusablePathError("a path cannot hold a NUL")
    if len(raw) > _LONGEST or any(len(part) > _LONGEST_PART for part in raw.split(b"/")):
        raise UnusablePathError(f"longer than a path can be ({len(raw):,} bytes)")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise UnusablePathError(f"there is no user {text.split('/')[0][:40]}") from None
