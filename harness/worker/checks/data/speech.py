"""Utterances that are made for the questions: pieces of the speech that the cell was given, each with a text."""

from __future__ import annotations

import json
import wave
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.worker.trainer.reference_features import RATE

_FULL_SCALE = 32767


@dataclass(frozen=True, kw_only=True)
class MadeUtterance:
    """A row of a jsonl file, and what should arrive for it."""

    key: str
    text: str
    source: str
    """As the row has it."""
    samples: Any
    """int16 `[samples]` at 16 kHz: what the frontend should be given."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the row in place of the usual ones or besides; one that is None is left out."""

    @property
    def source_len(self) -> int:
        """Frames of 10 ms, as `scp2jsonl` counts them."""
        return len(self.samples) // 160

    def row(self) -> dict[str, Any]:
        """What the file says."""
        usual = {
            "key": self.key,
            "prompt": "<ASR>",
            "source": self.source,
            "source_len": self.source_len,
            "target": self.text,
            "target_len": len(self.text.split()) if " " in self.text else len(self.text),
        }
        return {name: value for name, value in {**usual, **self.fields}.items() if value is not None}


class SpeechSource:
    """The speech of a jsonl file in one piece, to be cut anew."""

    def __init__(self, jsonl: Path) -> None:
        """Read the files that the rows of `jsonl` name.

        Raises:
            RuntimeError: one of them cannot be read as audio.
        """
        import numpy
        import soundfile

        pieces = []
        for line in jsonl.read_text(encoding="utf-8").split("\n"):
            if not line.strip():
                continue
            samples, rate = soundfile.read(json.loads(line)["source"], dtype="float64", always_2d=True)
            mono = samples.mean(axis=1)
            if rate != RATE:
                places = numpy.arange(int(len(mono) * RATE / rate)) * rate / RATE
                mono = numpy.interp(places, numpy.arange(len(mono)), mono)
            pieces.append(mono)
            if sum(map(len, pieces)) > 30 * RATE:
                break
        joined = numpy.concatenate(pieces)
        # A little noise: digital silence would make one frame look like another.
        noise = numpy.random.default_rng(0).normal(0, 1e-4, len(joined))
        peak = max(float(numpy.abs(joined).max()), 1e-6)
        self._samples = ((joined / peak * 0.7 + noise) * _FULL_SCALE).astype(numpy.int16)
        self._next = 0

    def cut(self, samples: int) -> Any:
        """The next int16 `[samples]`; after the end the speech begins again."""
        import numpy

        places = (self._next + numpy.arange(samples)) % len(self._samples)
        self._next = (self._next + samples) % len(self._samples)
        return self._samples[places]


def write_wave(path: Path, samples: Any, rate: int = RATE) -> None:
    """Write int16 `[samples]` or `[samples, channels]` as a wav file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(samples.shape[1] if samples.ndim == 2 else 1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())


def write_rows(path: Path, utterances: Iterable[MadeUtterance]) -> str:
    """Write the utterances' rows as jsonl and give the file's name."""
    lines = (json.dumps(utterance.row(), ensure_ascii=False) for utterance in utterances)
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return str(path)
