"""The parts of the `data` check that need no release: the reference, the expectations, the counting, the verdict."""

from __future__ import annotations

import json
import wave
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.evidence.questions import AnswerStatus, Question
from harness.corpus.features import Frontend, Statistics, features
from harness.worker.checks import data
from harness.worker.checks.data import inputs
from harness.worker.checks.data.answers import Expected, ReceivedRow, RowCounts, fails, holds, listed, not_tested
from harness.worker.checks.data.context import CapturedLogs, capture_logs
from harness.worker.checks.data.epochs import worst
from harness.worker.checks.data.inputs import (
    TOKENS,
    CharTokenization,
    MadeUtterance,
    SpeechSource,
    write_rows,
    write_wave,
)
from harness.worker.trainer.reference_features import ReferenceFrontend, is_supported, read_am_mvn

CONF = {"fs": 16000, "window": "hamming", "n_mels": 80, "frame_length": 25, "frame_shift": 10, "lfr_m": 7, "lfr_n": 6}
READING = CharTokenization(seg_dict=True, spaces=False)


def am_mvn(folder: Path, size: int = 560) -> Path:
    path = folder / "am.mvn"
    statistics = Statistics(means=tuple(np.linspace(5, 9, size)), deviations=tuple(np.linspace(1, 3, size)), frames=9)
    path.write_text(statistics.am_mvn(), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> ReferenceFrontend:
    return ReferenceFrontend.of(CONF, am_mvn(tmp_path_factory.mktemp("statistics")))


def noise(samples: int) -> Any:
    return (np.random.default_rng(samples).normal(0, 2000, samples)).astype(np.int16)


@pytest.mark.parametrize("samples", [400, 560, 4321, 16000])
@pytest.mark.parametrize(("lfr_m", "lfr_n"), [(7, 6), (1, 1), (5, 1)])
def test_the_reference_agrees_with_another_implementation_of_kaldis_features(
    tmp_path: Path, samples: int, lfr_m: int, lfr_n: int
) -> None:
    conf = {**CONF, "lfr_m": lfr_m, "lfr_n": lfr_n}
    write_wave(tmp_path / "one.wav", noise(samples))
    reference = ReferenceFrontend.of(conf, am_mvn(tmp_path, 80 * lfr_m))
    other = features(tmp_path / "one.wav", Frontend.of(conf))
    made = reference.features(noise(samples))
    assert made.shape == other.shape == (reference.frames(samples), 80 * lfr_m)
    assert np.abs(made - other).max() < 1e-2
    assert np.median(np.abs(made - other)) < 1e-4


@given(samples=st.integers(400, 40_000))
def test_frames_are_counted_as_they_come(samples: int) -> None:
    reference = ReferenceFrontend(n_mels=80, window=400, shift=160, lfr_m=7, lfr_n=6, shifts=0, scales=1)
    starts = range(0, samples - 400 + 1, 160)
    assert reference.frames(samples) == len(starts[::6])
    assert reference.frames(399) == 0


def test_am_mvn_is_read_as_it_was_written(tmp_path: Path) -> None:
    shifts, scales = read_am_mvn(am_mvn(tmp_path))
    assert shifts == pytest.approx(-np.linspace(5, 9, 560))
    assert scales == pytest.approx(1 / np.linspace(1, 3, 560))


def test_normalised_speech_is_shifted_before_it_is_scaled(reference: ReferenceFrontend) -> None:
    plain = np.full((1, 560), 9.0)
    assert reference.normalised(plain)[0, 0] == pytest.approx(4.0)
    assert reference.normalised(plain)[0, -1] == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("config", "known"),
    [
        ({"frontend": "WavFrontend", "frontend_conf": CONF}, True),
        ({"frontend": "WavFrontendOnline"}, True),
        ({"frontend": "WhisperFrontend", "frontend_conf": CONF}, False),
        ({"frontend": "WavFrontend", "frontend_conf": {**CONF, "window": "povey"}}, False),
        ({"frontend": "WavFrontend", "frontend_conf": {**CONF, "fs": 8000}}, False),
    ],
)
def test_only_features_that_it_computes_are_held_against_the_reference(config: dict[str, Any], known: bool) -> None:
    assert is_supported(config) is known


@pytest.mark.parametrize(
    ("text", "with_dict", "without", "old"),
    [
        ("今天", "今 天", "今 天", "今 天"),
        ("今天 天气", "今 天 天 气", "今 天 天 气", "今 天 <space> 天 气"),
        ("今天  天气 ", "今 天 天 气", "今 天 天 气", "今 天 <space> <space> 天 气 <space>"),
        ("说 hello", "说 hel@@ lo", "说 h e l l o", "说 <space> h e l l o"),
        ("A股", "a 股", "A 股", "A 股"),
        ("今龘天", "今 <unk> 天", "今 <unk> 天", "今 <unk> 天"),
        ("《今》", "《 今 》", "《 今 》", "《 今 》"),
        ("", "", "", ""),
    ],
)
def test_a_text_is_read_character_by_character(text: str, with_dict: str, without: str, old: str) -> None:
    readings = (READING, CharTokenization(seg_dict=False, spaces=False), CharTokenization(seg_dict=False, spaces=True))
    assert [" ".join(reading.tokens(text)) for reading in readings] == [with_dict, without, old]
    assert inputs.token_text(READING.ids(text)) == with_dict


def test_the_token_list_has_no_token_twice_and_lacks_what_it_should() -> None:
    assert len(set(TOKENS)) == len(TOKENS)
    assert not {inputs.ABSENT, inputs.ABSENT_SYMBOL} & set(TOKENS)
    texts = {inputs.plain_text(number) for number in range(40)}
    assert len(texts) == 40
    assert set("".join(texts)) <= set(TOKENS)


def utterance(key: str, text: str, samples: int) -> MadeUtterance:
    return MadeUtterance(key=key, text=text, source=f"{key}.wav", samples=noise(samples))


ONE, TWO = utterance("one", "今天", 4000), utterance("two", "天气真", 9000)


def row(text: str, samples: int, reference: ReferenceFrontend) -> ReceivedRow:
    return ReceivedRow(ids=READING.ids(text), frames=reference.frames(samples), features=None)


@pytest.mark.parametrize(
    ("text", "samples", "owner", "problem"),
    [
        ("今天", 4000, "one", ""),
        ("今天", 9000, "one", "the text of one arrives with speech as long as that of two"),
        ("今天", 6000, "one", "one has 4 frames, 6 arrive"),
        ("真", 9000, "two", "two should be 天 气 真; 真 arrives"),
        ("", 4000, "one", "one should be 今 天; nothing arrives"),
        ("真", 6000, None, "a row arrives that belongs to no utterance: 6 frames, tokens: 真"),
    ],
)
def test_a_row_is_held_against_the_utterance_whose_it_is(
    reference: ReferenceFrontend, text: str, samples: int, owner: str | None, problem: str
) -> None:
    expected = Expected(utterances=[ONE, TWO], reading=READING, reference=reference)
    found, said = expected.owner(row(text, samples, reference))
    assert (found.key if found else None, said) == (owner, problem)


def test_what_is_lost_repeated_wrong_and_empty_is_counted(reference: ReferenceFrontend) -> None:
    expected = Expected(utterances=[ONE, TWO], reading=READING, reference=reference)
    one, wrong = row("今天", 4000, reference), row("今天", 9000, reference)
    tally = RowCounts.of(expected, [[one, one], [], [one]])
    assert [lost.key for lost in tally.lost] == ["two"]
    assert (dict(tally.repeated), tally.spare, tally.empty, tally.wrong) == ({"one": 3}, 2, 1, ())
    assert len(RowCounts.of(expected, [[wrong]]).wrong) == 1


@pytest.mark.parametrize(
    ("line", "mentions"),
    [
        ("total_num of samplers: 3, rows1.jsonl", False),
        ("{'dropout_rate': 0.1, 'filter_length_min': -1}", False),
        ("dropout is 0.1", False),
        ("Warning, start_step > 0, dataloader start from step: 2", False),
        ("skip seconds21.wav", True),
        ("seconds21 has 2100 frames", True),
        ("2 rows were dropped", True),
        ("source_len exceeds the limit", True),
        ("filtered 3 samples", True),
        ("the utterance is too long", True),
    ],
)
def test_a_word_about_leaving_out_is_heard(line: str, mentions: bool) -> None:
    assert CapturedLogs(lines=[line]).mentions(["seconds21"]) is mentions


def test_logs_warnings_and_prints_are_heard() -> None:
    import logging
    import warnings

    with capture_logs() as logs:
        logging.info("logged %s", 1)
        warnings.warn("warned", stacklevel=1)
        print("printed")
    assert logs.lines == ["logged 1", "warned", "printed"]


def test_a_failure_names_its_questions_in_order() -> None:
    answers = [fails("steps", "two"), holds("ranks"), fails("once", "one"), listed("long", "l"), not_tested("x", "y")]
    verdict = data.verdict(answers)
    assert verdict["status"] == "failed"
    assert verdict["failure"]["signature"] == "DataDiffers@once+steps"
    assert verdict["reason"] == "2 of 4 tests fail: once: one; steps: two"
    assert data.verdict([fails("once", "one")])["reason"] == "once: one"
    own = holds(data.limits.NAME, "all 44 rows of train.jsonl arrive")
    verdict = data.verdict([fails("once", "one"), own])
    assert verdict["reason"] == "all 44 rows of train.jsonl arrive. With rows made for this check, once: one"
    assert verdict["failure"]["signature"] == "DataDiffers@once"
    assert data.verdict([fails(data.limits.NAME, "line 3 never arrives")])["reason"] == "own_rows: line 3 never arrives"
    assert data.verdict([holds("ranks"), listed("long", "l")]) == {"status": "passed", "reason": ""}


def test_the_gravest_answer_counts() -> None:
    answers = [holds("a"), listed("a", "l"), fails("a", "first"), fails("a", "second")]
    assert worst(answers).message == "first"
    assert worst(answers[:2]).status is AnswerStatus.LISTED


def test_an_answer_is_plain_data() -> None:
    answer = fails("long", "never arrives", utterance="one", file="source_len 2100")
    assert json.loads(json.dumps(asdict(answer))) == {
        "name": "long",
        "status": "fails",
        "message": "never arrives",
        "example": {"utterance": "one", "file": "source_len 2100"},
    }
    assert isinstance(answer, Question)


def test_rows_have_the_fields_of_the_recipes_but_what_is_left_out(tmp_path: Path) -> None:
    odd = MadeUtterance(key="one", text="今 天", source="一.wav", samples=noise(1700), fields={"key": None, "more": 1})
    path = write_rows(tmp_path / "rows.jsonl", [odd])
    assert json.loads(Path(path).read_text(encoding="utf-8")) == {
        "prompt": "<ASR>",
        "source": "一.wav",
        "source_len": 10,
        "target": "今 天",
        "target_len": 2,
        "more": 1,
    }


def test_speech_is_cut_without_gaps_and_begins_again_at_its_end(tmp_path: Path) -> None:
    write_wave(tmp_path / "one.wav", noise(3000))
    write_wave(tmp_path / "two.wav", np.stack([noise(500), noise(500)], axis=1), 8000)
    rows = [{"source": str(tmp_path / name)} for name in ("one.wav", "two.wav")]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n", encoding="utf-8")
    speech = SpeechSource(tmp_path / "train.jsonl")
    whole = speech.cut(4000)
    assert whole.dtype == np.int16
    assert 0.6 < np.abs(whole / 32767).max() < 0.8
    assert (speech.cut(4000) == whole).all()
    assert (speech.cut(300) == whole[:300]).all()


def test_a_wave_file_has_its_rate_and_channels(tmp_path: Path) -> None:
    write_wave(tmp_path / "new" / "one.wav", np.stack([noise(80), noise(80)], axis=1), 8000)
    with wave.open(str(tmp_path / "new" / "one.wav")) as file:
        assert (file.getnchannels(), file.getframerate(), file.getnframes()) == (2, 8000, 80)
