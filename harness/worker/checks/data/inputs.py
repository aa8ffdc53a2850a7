"""The data check's own inputs: vocabulary, seg_dict, texts and utterances, and the tokens that a text should become."""

from __future__ import annotations

import json
import shutil
import wave
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.worker.trainer import launch
from harness.worker.trainer.reference_features import RATE

CHARACTERS = "今天气真好我们一起去公园走他说很爱看书听房间号大涨股三上下了的是在有人这个来到时地出就要"
MARKS = "，。《》"
LETTERS = "abcdefghijklmnopqrstuvwxyz"
PIECES = ("hel@@", "lo")
"""The tokens of `WORD` in the seg_dict: published seg_dicts hold such subwords for Latin words."""
WORD = "hello"
ABSENT = "龘"
"""A Chinese character that is not in the token list."""
ABSENT_SYMBOL = "☃"
UNKNOWN = "<unk>"
SPACE = "<space>"
TOKENS = (
    "<blank>", "<s>", "</s>", *CHARACTERS, *MARKS, *"0123456789", *LETTERS, *LETTERS.upper(), *PIECES, SPACE, UNKNOWN,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class CharTokenization:
    """How a release's CharTokenizer reads a text according to its documentation: character by character."""

    seg_dict: bool
    """Whether words of the seg_dict become its tokens; upper case is then read as lower case."""
    spaces: bool
    """Whether a space is a token, as up to 1.0.5; otherwise it only ends a word."""

    def tokens(self, text: str) -> list[str]:
        """The expected tokens; each character that is not in the list is `<unk>`."""
        if not self.seg_dict:
            named = [SPACE if letter == " " else letter for letter in text if self.spaces or letter != " "]
            return [letter if letter in TOKENS else UNKNOWN for letter in named]
        tokens: list[str] = []
        for word in text.lower().split():
            tokens.extend(PIECES if word == WORD else (letter if letter in TOKENS else UNKNOWN for letter in word))
        return tokens

    def ids(self, text: str) -> tuple[int, ...]:
        """The tokens' ids."""
        return tuple(TOKENS.index(token) for token in self.tokens(text))


def token_text(ids: tuple[int, ...]) -> str:
    """Ids as tokens, for a message."""
    return " ".join(TOKENS[number] if 0 <= number < len(TOKENS) else str(number) for number in ids)


def plain_text(number: int) -> str:
    """One of many distinct texts of 3 to 7 Chinese characters."""
    length = 3 + number % 5
    return "".join(CHARACTERS[(7 * number + 3 * place * (number % 3 + 1)) % len(CHARACTERS)] for place in range(length))


def write_model_folder(published: Path, folder: Path) -> Path:
    """Copy a model folder with this vocabulary and without dither, so that features can be compared."""
    import yaml

    shutil.copytree(published, folder, ignore=shutil.ignore_patterns("start.pt"))
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    config["frontend_conf"] = {**config.get("frontend_conf", {}), "dither": 0.0}
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), encoding="utf-8")
    (folder / "tokens.json").write_text(json.dumps(TOKENS, ensure_ascii=False), encoding="utf-8")
    lines = [f"{token} {token}" for token in TOKENS if len(token) == 1]
    text = "\n".join([*lines, " ".join((WORD, *PIECES))]) + "\n"
    (folder / "seg_dict").write_text(text, encoding="utf-8")
    return folder


_FULL_SCALE = 32767


@dataclass(frozen=True, kw_only=True)
class MadeUtterance:
    """A row of a jsonl file, and the data that should arrive for it."""

    key: str
    text: str
    source: str
    """The path in the row."""
    samples: Any
    """int16 `[samples]` at 16 kHz: the expected input of the frontend."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Fields that replace or extend the usual ones; a field of value None is left out."""

    @property
    def source_len(self) -> int:
        """Frames of 10 ms, as `scp2jsonl` counts them."""
        return len(self.samples) // 160

    def row(self) -> dict[str, Any]:
        """The row as it is written to the file."""
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
    """The speech of a jsonl file as one signal, to be cut into new utterances."""

    def __init__(self, jsonl: Path) -> None:
        """Read the files that the rows of `jsonl` name.

        Raises:
            RuntimeError: one of them cannot be read as audio.
        """
        import numpy
        import soundfile

        pieces = []
        for row in launch.read_rows(str(jsonl)):
            samples, rate = soundfile.read(row["source"], dtype="float64", always_2d=True)
            mono = samples.mean(axis=1)
            if rate != RATE:
                places = numpy.arange(int(len(mono) * RATE / rate)) * rate / RATE
                mono = numpy.interp(places, numpy.arange(len(mono)), mono)
            pieces.append(mono)
            if sum(map(len, pieces)) > 30 * RATE:
                break
        joined = numpy.concatenate(pieces)
        # A little noise: frames of digital silence would all be equal.
        noise = numpy.random.default_rng(0).normal(0, 1e-4, len(joined))
        peak = max(float(numpy.abs(joined).max()), 1e-6)
        self._samples = ((joined / peak * 0.7 + noise) * _FULL_SCALE).astype(numpy.int16)
        self._next = 0

    def cut(self, samples: int) -> Any:
        """The next int16 `[samples]`; starts again at the end of the speech."""
        import numpy

        places = (self._next + numpy.arange(samples)) % len(self._samples)
        self._next = (self._next + samples) % len(self._samples)
        return self._samples[places]


def write_wave(path: Path, samples: Any, rate: int = RATE) -> None:
    """Write int16 `[samples]` or `[samples, channels]` as a WAV file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # By its name, `wave` would print a traceback where the file cannot be opened (Python 3.11 to 3.13).
    with path.open("wb") as file, wave.open(file, "wb") as audio:
        audio.setnchannels(samples.shape[1] if samples.ndim == 2 else 1)
        audio.setsampwidth(2)
        audio.setframerate(rate)
        audio.writeframes(samples.astype("<i2").tobytes())


def write_rows(path: Path, utterances: Iterable[MadeUtterance]) -> str:
    """Write the utterances' rows as jsonl; returns the path."""
    return str(launch.write_rows([utterance.row() for utterance in utterances], path))
