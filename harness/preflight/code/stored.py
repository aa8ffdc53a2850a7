"""What was found out about a release's code, kept below the user's cache folder."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from pathlib import Path
from typing import Any

_READERS = ("code", "keys")


@functools.cache
def reader_version() -> str:
    """Of the modules that read code: a change of theirs makes what is stored worthless."""
    above = Path(__file__).parent.parent
    text = b"".join(path.read_bytes() for folder in _READERS for path in sorted((above / folder).glob("*.py")))
    return hashlib.sha256(text).hexdigest()[:12]


def stored(place: Path) -> Any:
    """What was stored; None where there is nothing, or nothing that can be read."""
    try:
        return json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def store(place: Path, value: Any) -> None:
    """Store it whole or not at all; a cache that cannot be written costs a second, and no answer."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = place.with_suffix(f".{os.getpid()}.draft")
        draft.write_text(json.dumps(value), encoding="utf-8")
        draft.replace(place)
    except OSError:
        return
