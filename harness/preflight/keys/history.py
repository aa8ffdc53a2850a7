"""Which releases read a key, and which keys FunASR's own configs contain: recorded data.

`known_keys.json` was made by `tests/preflight_key_recording.py` from all published releases and FunASR's repository.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path

_RECORDED = Path(__file__).parent / "known_keys.json"


@dataclass(frozen=True, kw_only=True)
class KnownKeys:
    """The recorded keys."""

    read: dict[str, dict[str, tuple[tuple[str, str], ...]]]
    """Entry point, then dotted key: ranges of releases that read it, first and last."""
    configs: frozenset[str]
    """Keys that a template or recipe of FunASR's repository contains."""


@functools.cache
def known_keys() -> KnownKeys:
    """The recorded keys."""
    document = json.loads(_RECORDED.read_text(encoding="utf-8"))
    return KnownKeys(
        read={
            entry: {key: tuple((first, last) for first, last in ranges) for key, ranges in keys.items()}
            for entry, keys in document["read"].items()
        },
        configs=frozenset(document["configs"]),
    )


def read_in(path: str, entry: str) -> str:
    """The releases that read a key: `train_ds of 1.0.28 to 1.2.9`; empty where none does."""
    parts = []
    for name in sorted(known_keys().read, key=lambda name_of_entry: name_of_entry != entry):
        ranges = known_keys().read[name].get(path, ())
        if ranges:
            written = ", ".join(first if first == last else f"{first} to {last}" for first, last in ranges)
            parts.append(f"{name} of {written}")
    return "; ".join(parts)


def is_known(path: str) -> bool:
    """Whether some release reads a key, or a config of FunASR contains it."""
    known = known_keys()
    return path in known.configs or any(path in keys for keys in known.read.values())
