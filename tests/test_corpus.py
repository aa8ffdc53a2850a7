"""Speech whose text is known."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest

from harness.core.errors import StackError, StoreError
from harness.corpus import corpus as corpora
from harness.corpus import synthesis as speech
from harness.corpus.corpus import SENTENCES, Corpus, build_corpus, write_jsonl
from harness.corpus.user_speech import load_corpus
from harness.worker.checks.data.inputs import write_wave


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that already holds the corpus."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def built(cache: Path) -> Corpus:
    """The built-in corpus."""
    return build_corpus(cache)


def test_the_sentences_are_distinct_chinese_and_of_everyday_length() -> None:
    assert len(SENTENCES) == len(set(SENTENCES)) == 16
    assert all(re.fullmatch(r"[\u4e00-\u9fa5]{5,14}", sentence) for sentence in SENTENCES)


def test_every_utterance_is_a_16_khz_mono_16_bit_file_of_1_to_4_seconds(built: Corpus) -> None:
    assert built.texts == SENTENCES
    for utterance in built.utterances:
        with wave.open(str(utterance.path)) as audio:
            assert (audio.getframerate(), audio.getnchannels(), audio.getsampwidth()) == (16_000, 1, 2)
            assert audio.getnframes() == utterance.samples
        assert 1.0 < utterance.seconds < 4.0


def test_the_corpus_is_the_same_wherever_it_is_made(built: Corpus, tmp_path: Path) -> None:
    again = build_corpus(tmp_path)
    assert again.sha256 == built.sha256
    assert [u.path.read_bytes() for u in again.utterances] == [u.path.read_bytes() for u in built.utterances]


def test_a_corpus_that_is_there_is_not_made_again(built: Corpus, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech, "speak", lambda texts: pytest.fail("spoken again"))
    assert build_corpus(cache) == built


@pytest.mark.parametrize("write", ["corpus", "rows"])
def test_speech_that_cannot_be_written_is_an_error_without_a_traceback(
    built: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: str
) -> None:
    lost: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lost.append)
    if write == "rows":
        with pytest.raises(IsADirectoryError):
            write_wave(tmp_path, np.zeros(16, "int16"))
    else:
        cut_short = built.utterances[0].path.name
        monkeypatch.setattr(corpora, "_file_name", lambda *_: f"none/{cut_short}")
        with pytest.raises(FileNotFoundError):
            build_corpus(tmp_path)
    assert lost == []


@pytest.mark.parametrize("damage", ["cut", "change", "remove", "empty", "unsigned"])
def test_a_damaged_cache_is_made_anew(built: Corpus, cache: Path, damage: str) -> None:
    victim = built.utterances[3].path
    content = victim.read_bytes()
    if damage == "cut":
        victim.write_bytes(content[:-100])
    elif damage == "change":
        victim.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "remove":
        victim.unlink()
    elif damage == "empty":
        victim.write_bytes(b"")
    else:
        (victim.parent / "sha256").unlink()
    assert build_corpus(cache) == built
    assert victim.read_bytes() == content


def test_another_synthesizer_makes_a_corpus_beside_the_old_one(
    built: Corpus, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speech, "synthesizer", lambda: speech.Synthesizer(loader="99", resampler="99"))
    other = build_corpus(cache)
    assert other.utterances[0].path != built.utterances[0].path
    assert built.utterances[0].path.is_file()
    assert "99" in other.origin


def test_an_interrupted_synthesis_leaves_no_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(texts: object) -> tuple[bytes, ...]:
        raise KeyboardInterrupt

    monkeypatch.setattr(speech, "speak", interrupt)
    with pytest.raises(KeyboardInterrupt):
        build_corpus(tmp_path)
    assert list(tmp_path.rglob("*.wav")) == []


def test_a_missing_synthesizer_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import metadata

    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    with pytest.raises(StackError, match="the package espeakng-loader is not installed"):
        build_corpus(tmp_path)


def test_the_origin_names_the_synthesizer_and_no_path(built: Corpus, cache: Path) -> None:
    assert built.origin.startswith("16 sentences, espeak-ng voice cmn")
    assert str(cache) not in built.origin


def test_importing_the_module_does_not_import_numpy() -> None:
    loaded = (
        "import sys, harness.corpus.corpus; print(sorted({'numpy', 'soundfile', 'soxr', 'yaml'} & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


def test_a_written_corpus_is_read_back_the_same(built: Corpus, tmp_path: Path) -> None:
    write_jsonl(built.utterances, tmp_path / "train.jsonl")
    read = load_corpus(tmp_path / "train.jsonl")
    assert read.utterances == built.utterances
    assert read.sha256 == built.sha256
    assert read.origin == "16 utterances of train.jsonl"


def test_part_of_a_corpus_can_be_written(built: Corpus, tmp_path: Path) -> None:
    write_jsonl(built.utterances[:2], tmp_path / "val.jsonl")
    assert load_corpus(tmp_path / "val.jsonl").texts == SENTENCES[:2]


def test_a_jsonl_that_cannot_be_written_is_reported(built: Corpus, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be written"):
        write_jsonl(built.utterances, tmp_path / "absent" / "train.jsonl")


def test_source_len_is_in_frames_of_10_ms(built: Corpus, tmp_path: Path) -> None:
    write_jsonl(built.utterances, tmp_path / "train.jsonl")
    first = json.loads((tmp_path / "train.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert first["source_len"] == built.utterances[0].samples // 160
    assert first["target_len"] == len(SENTENCES[0])
    assert corpora.SHORTEST_SAMPLES == 400
