"""The synthesizer: the same samples every time, and clear words when it is broken."""

from __future__ import annotations

import ctypes
import json
import shutil
import subprocess
import sys
from pathlib import Path

import espeakng_loader
import numpy as np
import pytest

from harness.core.errors import StackError
from harness.corpus import espeak
from harness.corpus import synthesis as speech


def test_the_same_sentences_give_the_same_samples() -> None:
    texts = ["今天天气真好", "火车几点出发"]
    assert speech.speak(texts) == speech.speak(texts)


def test_speech_is_loud_enough_and_never_digitally_silent() -> None:
    (samples,) = speech.speak(["今天天气真好"])
    wave = np.frombuffer(samples, dtype="<i2").astype(np.float64)
    assert 1.0 < wave.size / speech.SAMPLING_RATE < 4.0
    assert 3_000 < np.abs(wave).max() < 32_767
    windows = wave[: wave.size // 400 * 400].reshape(-1, 400)
    assert windows.std(axis=1).min() > 2.0


def test_different_sentences_sound_different() -> None:
    one, other = speech.speak(["今天天气真好", "火车几点出发"])
    assert one != other


def test_the_librarys_data_may_lie_at_the_end_of_a_long_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    far = tmp_path.joinpath(*["a-rather-long-folder-name"] * 10)
    far.mkdir(parents=True)
    shutil.copytree(espeakng_loader.get_data_path(), far / "espeak-ng-data")
    monkeypatch.setattr(espeakng_loader, "get_data_path", lambda: str(far / "espeak-ng-data"))
    assert speech.speak(["今天天气真好"])


def test_missing_data_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr(espeakng_loader, "get_data_path", lambda: str(tmp_path / "empty"))
    with pytest.raises(StackError, match="espeak-ng does not start with the data in"):
        speech.speak(["今天天气真好"])


def test_a_missing_library_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(espeakng_loader, "get_library_path", lambda: str(tmp_path / "libespeak-ng.so"))
    with pytest.raises(StackError, match=r"espeak-ng ended with status 1 \(OSError: .*cannot open shared object"):
        speech.speak(["今天天气真好"])


def test_a_crash_of_the_library_takes_only_its_own_process(monkeypatch: pytest.MonkeyPatch) -> None:
    # libc has no espeak functions; what is planted instead ends the process as a segmentation fault does.
    crash = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    child = speech.subprocess.run
    monkeypatch.setattr(speech.subprocess, "run", lambda command, **rest: child([sys.executable, "-c", crash], **rest))
    with pytest.raises(StackError, match="espeak-ng ended with status -11"):
        speech.speak(["今天天气真好"])


def test_an_unknown_voice_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech, "VOICE", "no-such-voice")
    with pytest.raises(StackError, match="no voice 'no-such-voice'"):
        speech.speak(["今天天气真好"])


def test_the_child_runs_without_the_harness_on_its_path(tmp_path: Path) -> None:
    request = {
        "library": espeakng_loader.get_library_path(),
        "data": espeakng_loader.get_data_path(),
        "voice": speech.VOICE,
        "texts": ["好"],
        "folder": str(tmp_path),
    }
    (tmp_path / "request.json").write_text(json.dumps(request))
    command = [
        sys.executable,
        "-I",
        "-S",
        espeak.__file__,
        str(tmp_path / "request.json"),
        str(tmp_path / "answer.json"),
    ]
    subprocess.run(command, check=True, cwd=tmp_path)
    assert json.loads((tmp_path / "answer.json").read_text())["sampling_rate"] == 22050
    assert (tmp_path / "0.raw").stat().st_size % ctypes.sizeof(ctypes.c_short) == 0
