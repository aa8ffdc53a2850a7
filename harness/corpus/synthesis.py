"""Sentences in, 16 kHz samples out: the synthesizer as the corpus sees it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.errors import StackError
from harness.core.temporary import temporary_folder
from harness.corpus import espeak

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SAMPLING_RATE = 16_000
"""In Hz; what the published Paraformer models hear at."""

VOICE = "cmn"
"""espeak-ng's name for Mandarin."""

_PATIENCE_SECONDS = 120.0

# Peak of the room noise, in steps of 16-bit samples. FunASR's frontends add noise of one such step before they
# take a logarithm, and digital silence would make the statistics of the features a matter of that noise alone.
_ROOM_NOISE_PEAK = 16

_LOUDNESS_SAMPLES = 160
"""10 ms."""
_AUDIBLE = 0.03
"""Of a word's greatest loudness: where it begins."""


@dataclass(frozen=True, kw_only=True)
class Synthesizer:
    """What the samples depend on."""

    loader: str
    """Version of the package that brings espeak-ng and its data."""
    resampler: str
    """Version of the package that brings soxr."""

    def __str__(self) -> str:
        return f"espeak-ng voice {VOICE} (espeakng-loader {self.loader}, soxr {self.resampler})"


def synthesizer() -> Synthesizer:
    """The synthesizer that is installed here.

    Raises:
        StackError: it is not.
    """
    from importlib.metadata import PackageNotFoundError, version

    try:
        return Synthesizer(loader=version("espeakng-loader"), resampler=version("soxr"))
    except PackageNotFoundError as missing:
        raise _broken(f"the package {missing.name} is not installed") from None


def speak(texts: Sequence[str]) -> tuple[bytes, ...]:
    """Speak each text: 16-bit mono samples at 16 kHz, little-endian; the same bytes every time.

    Raises:
        StackError: the synthesizer is missing or does not work on this machine.
    """
    import espeakng_loader

    try:
        library, data = espeakng_loader.get_library_path(), espeakng_loader.get_data_path()
    except RuntimeError as error:
        raise _broken(str(error)) from None
    with temporary_folder("speech") as folder:
        request = {"library": library, "data": data, "voice": VOICE, "texts": list(texts), "folder": str(folder)}
        answer = _in_a_process(folder, json.dumps(request))
        rate = int(answer["sampling_rate"])
        return tuple(
            _at_16_khz((folder / f"{number}.raw").read_bytes(), rate, text) for number, text in enumerate(texts)
        )


def speak_in_slots(texts: Sequence[str], seconds: float) -> tuple[bytes, ...]:
    """Speak each character of each text by itself, in a slot of `seconds`; the same form and bytes as `speak`.

    What is longer than its slot is cut off, what is shorter is followed by room noise.

    Raises:
        StackError: the synthesizer is missing or does not work on this machine.
    """
    import numpy as np

    letters = sorted(set("".join(texts)))
    length = round(seconds * SAMPLING_RATE)
    slots = {letter: _in_slot(spoken, length) for letter, spoken in zip(letters, speak(letters), strict=True)}
    return tuple(_as_samples(np.concatenate([slots[letter] for letter in text]), text) for text in texts)


def _in_slot(spoken: bytes, length: int) -> NDArray[np.float64]:
    """`[length]` samples from where the word begins."""
    import numpy as np

    wave = np.frombuffer(spoken, dtype="<i2").astype(np.float64)
    loudness = np.sqrt(np.convolve(np.square(wave), np.full(_LOUDNESS_SAMPLES, 1 / _LOUDNESS_SAMPLES), "same"))
    begin = int(np.argmax(loudness > _AUDIBLE * loudness.max()))
    word = wave[max(0, begin - _LOUDNESS_SAMPLES) :][:length]
    return np.pad(word, (0, length - len(word)))


def _in_a_process(folder: Path, request: str) -> dict[str, str | int]:
    request_file, answer_file = folder / "request.json", folder / "answer.json"
    request_file.write_text(request, encoding="utf-8")
    # -I: neither the user's PYTHONPATH nor the current folder can put a module in the child's way.
    command = [sys.executable, "-I", espeak.__file__, str(request_file), str(answer_file)]
    try:
        child = subprocess.run(
            command, capture_output=True, stdin=subprocess.DEVNULL, timeout=_PATIENCE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise _broken(f"espeak-ng did not end within {_PATIENCE_SECONDS:g} s") from None
    if not answer_file.is_file():
        messages = child.stderr.decode(errors="replace").strip().splitlines()
        raise _broken(
            f"espeak-ng ended with status {child.returncode} ({messages[-1] if messages else 'it said nothing'})"
        )
    answer: dict[str, str | int] = json.loads(answer_file.read_text(encoding="utf-8"))
    if "error" in answer:
        raise _broken(str(answer["error"]))
    return answer


def _at_16_khz(samples: bytes, rate: int, text: str) -> bytes:
    import numpy as np
    import soxr

    wave = np.frombuffer(samples, dtype=np.int16).astype(np.float64)
    return _as_samples(soxr.resample(wave, rate, SAMPLING_RATE, quality="VHQ"), text)


def _as_samples(wave: NDArray[np.float64], text: str) -> bytes:
    """16-bit samples, with room noise that depends on the text alone."""
    import numpy as np

    # The noise comes from a hash: a random generator's stream may change with its library.
    noise = np.frombuffer(hashlib.shake_256(text.encode()).digest(2 * wave.size), dtype=np.uint8).astype(np.float64)
    wave = wave + (noise[0::2] - noise[1::2]) * (_ROOM_NOISE_PEAK / 255)
    at_16_khz: bytes = np.clip(np.rint(wave), -32768, 32767).astype("<i2").tobytes()
    return at_16_khz


def _broken(problem: str) -> StackError:
    return StackError(
        f"speech cannot be synthesized: {problem}",
        cause="the packages espeakng-loader and soxr are missing, or have no build for this machine",
        next_step="install the harness' dependencies again, or give a corpus of your own as a jsonl file",
    )
