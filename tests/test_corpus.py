"""Speech whose text is known."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.errors import CorpusError, StackError, StoreError
from harness.speech import corpus as corpora
from harness.speech import synthesis as speech
from harness.speech.corpus import SENTENCES, Corpus, build_corpus, load_corpus, write_jsonl


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


def test_a_missing_synthesizer_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
        "import sys, harness.speech.corpus; print(sorted({'numpy', 'soundfile', 'soxr', 'yaml'} & set(sys.modules)))"
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


def test_a_jsonl_that_cannot_be_written_is_told(built: Corpus, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot write"):
        write_jsonl(built.utterances, tmp_path / "absent" / "train.jsonl")


def write_audio(path: Path, *, rate: int = 16_000, samples: int = 8_000) -> None:
    """A file of noise."""
    noise = np.random.default_rng(0).integers(-999, 999, samples, dtype=np.int16)
    with wave.open(str(path), "wb") as audio:
        audio.setnchannels(1)
        audio.setsampwidth(2)
        audio.setframerate(rate)
        audio.writeframes(noise.tobytes())


def own_file(folder: Path, *rows: dict[str, Any]) -> Path:
    """A user's jsonl file beside good.wav."""
    write_audio(folder / "good.wav")
    path = folder / "own.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_relative_paths_are_read_from_the_files_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    own_file(tmp_path / "data", {"key": "a", "source": "good.wav", "target": "好"})
    monkeypatch.chdir(tmp_path)
    (utterance,) = load_corpus(Path("data/own.jsonl")).utterances
    assert utterance.path == tmp_path / "data" / "good.wav"
    assert utterance.samples == 8_000


def test_the_hash_follows_key_text_and_audio_but_not_the_place(tmp_path: Path) -> None:
    def hash_of(name: str, key: str = "a", target: str = "好", samples: int = 8_000) -> str:
        folder = tmp_path / name
        folder.mkdir()
        file = own_file(folder, {"key": key, "source": "good.wav", "target": target})
        write_audio(folder / "good.wav", samples=samples)
        return load_corpus(file).sha256

    base = hash_of("base")
    assert hash_of("elsewhere") == base
    assert len({base, hash_of("key", key="b"), hash_of("text", target="坏"), hash_of("audio", samples=8_001)}) == 4


def test_every_fault_of_a_users_file_is_told_at_once(tmp_path: Path) -> None:
    write_audio(tmp_path / "slow.wav", rate=8_000)
    write_audio(tmp_path / "short.wav", samples=399)
    (tmp_path / "no.wav").write_text("this is text")
    file = own_file(
        tmp_path,
        {"key": "a", "source": "good.wav", "target": "好"},
        {"key": "b", "target": "好"},
        {"key": "c", "source": "absent.wav", "target": "好"},
        {"key": "d", "source": "slow.wav", "target": "好"},
        {"key": "e", "source": "short.wav", "target": "好"},
        {"key": "f", "source": "no.wav", "target": "好"},
        {"key": "g", "source": "https://example.org/a.wav", "target": "好"},
        {"key": "a", "source": "good.wav", "target": "好"},
        {"key": "h", "source": ".", "target": "好"},
    )
    with pytest.raises(CorpusError) as caught:
        load_corpus(file)
    told = str(caught.value)
    for expected in (
        "line 2: no `source`",
        "line 3: no such audio file: absent.wav",
        "line 4: slow.wav has 8000 samples a second; expected 16000",
        "line 5: short.wav has 399 samples; one analysis window needs 400",
        "line 6: no.wav cannot be read as audio: Format not recognised",
        "line 7: `source` is an address, not a file",
        "line 8: the key 'a' is already that of line 1",
        "line 9: no such audio file: .",
    ):
        assert expected in told
    assert "8 problems" in told
    assert caught.value.exit_code == 2


def test_text_outside_a_given_token_list_is_told(tmp_path: Path) -> None:
    file = own_file(
        tmp_path,
        {"key": "a", "source": "good.wav", "target": "好 OK"},
        {"key": "b", "source": "good.wav", "target": "坏蛋"},
    )
    with pytest.raises(CorpusError, match="line 2: not in the token list: 坏 蛋") as caught:
        load_corpus(file, token_list=["<blank>", "好", "o", "k", "<unk>"])
    assert "1 problem\n" in str(caught.value)
    assert len(load_corpus(file, token_list="好坏蛋ok").utterances) == 2


def test_an_endless_list_of_faults_is_cut(tmp_path: Path) -> None:
    file = own_file(tmp_path, *({"key": str(number), "source": "absent.wav", "target": "好"} for number in range(60)))
    with pytest.raises(CorpusError, match="60 problems") as caught:
        load_corpus(file)
    assert "… and 10 more" in str(caught.value)


def test_source_len_is_in_frames_of_10_ms(built: Corpus, tmp_path: Path) -> None:
    write_jsonl(built.utterances, tmp_path / "train.jsonl")
    first = json.loads((tmp_path / "train.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert first["source_len"] == built.utterances[0].samples // 160
    assert first["target_len"] == len(SENTENCES[0])
    assert corpora.SHORTEST_SAMPLES == 400
