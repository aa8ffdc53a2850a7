"""A user's files: recordings of noise and rows about them."""

from __future__ import annotations

import json
import wave
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def write_audio(path: Path, *, rate: int = 16_000, samples: int = 24_000, channels: int = 1) -> Path:
    """A file of noise, by default of 1.5 seconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(samples).integers(-999, 999, samples * channels, dtype=np.int16)
    with wave.open(str(path), "wb") as audio:
        audio.setnchannels(channels)
        audio.setsampwidth(2)
        audio.setframerate(rate)
        audio.writeframes(noise.tobytes())
    return path


def line(fields: Mapping[str, Any], end: str = "\n") -> bytes:
    """One row."""
    return (json.dumps(fields, ensure_ascii=False) + end).encode()


def fields(source: str, **others: Any) -> dict[str, Any]:
    """A sound row about a recording of 1.5 seconds; a field that is None is left out."""
    usual = {"key": source, "source": source, "source_len": 150, "target": "今天天气", "target_len": 4}
    return {name: value for name, value in {**usual, **others}.items() if value is not None}


def write_rows(path: Path, *rows: Mapping[str, Any]) -> Path:
    """A jsonl file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(map(line, rows)))
    return path
