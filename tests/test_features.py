"""Features and their statistics."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from harness.core.errors import CorpusError
from harness.corpus.corpus import Corpus, Utterance, build_corpus
from harness.corpus.features import Frontend, Statistics, features, measure

PARAFORMER = Frontend(lfr_m=7, lfr_n=6)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """The built-in corpus."""
    return build_corpus(tmp_path_factory.mktemp("cache"))


def test_settings_come_from_frontend_conf_and_the_rest_is_left() -> None:
    settings = Frontend.of({"n_mels": 40, "lfr_m": 5, "cmvn_file": "x", "dither": 1.0})
    assert settings == Frontend(n_mels=40, lfr_m=5)
    assert settings.size == 200


def test_features_have_a_row_of_7_times_80_for_every_6_frames(corpus: Corpus) -> None:
    utterance = corpus.utterances[0]
    frames = 1 + (utterance.samples - 400) // 160
    assert features(utterance.path, Frontend()).shape == (frames, 80)
    assert features(utterance.path, PARAFORMER).shape == (-(-frames // 6), 560)


def stack_slowly(frames: np.ndarray, m: int, n: int) -> np.ndarray:
    """Stacking as its definition says: 3 copies of the first frame before, copies of the last one after."""
    padded = [frames[0]] * ((m - 1) // 2) + list(frames)
    rows = []
    for start in range(0, len(frames), n):
        row = padded[start : start + m]
        rows.append(np.concatenate(row + [frames[-1]] * (m - len(row))))
    return np.array(rows)


@pytest.mark.parametrize("samples", [400, 560, 16_000, 16_000 + 160, 16_000 + 5 * 160, 17_777])
def test_stacking_agrees_with_its_definition(tmp_path: Path, samples: int) -> None:
    path = tmp_path / "noise.wav"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, samples), 16_000)
    expected = stack_slowly(features(path, Frontend()), 7, 6)
    np.testing.assert_array_equal(features(path, PARAFORMER), expected)


def test_statistics_are_those_of_all_frames_together(corpus: Corpus) -> None:
    statistics = measure(corpus, PARAFORMER)
    everything = np.vstack([features(utterance.path, PARAFORMER) for utterance in corpus.utterances])
    assert statistics.frames == len(everything)
    np.testing.assert_allclose(statistics.means, everything.mean(axis=0))
    np.testing.assert_allclose(statistics.deviations, everything.std(axis=0), rtol=1e-6)


def test_silence_does_not_make_the_scales_explode(tmp_path: Path) -> None:
    path = tmp_path / "silence.wav"
    soundfile.write(path, np.zeros(16_000), 16_000)
    silence = Utterance(key="a", path=path, samples=16_000, text="静")
    statistics = measure(Corpus(utterances=(silence,), sha256="", origin=""), PARAFORMER)
    assert min(statistics.deviations) == pytest.approx(0.01)


def test_channels_are_averaged(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, (16_000, 2))
    soundfile.write(tmp_path / "two.wav", noise, 16_000, subtype="FLOAT")
    soundfile.write(tmp_path / "one.wav", noise.mean(axis=1), 16_000, subtype="FLOAT")
    np.testing.assert_allclose(
        features(tmp_path / "two.wav", PARAFORMER), features(tmp_path / "one.wav", PARAFORMER), rtol=1e-4
    )


def test_a_file_that_vanished_is_reported(corpus: Corpus, tmp_path: Path) -> None:
    gone = replace(corpus.utterances[0], path=tmp_path / "gone.wav")
    with pytest.raises(CorpusError, match=r"gone.wav cannot be read as audio"):
        measure(Corpus(utterances=(gone,), sha256="", origin=""), PARAFORMER)


def test_am_mvn_has_the_form_that_load_cmvn_picks_apart() -> None:
    lines = Statistics(means=(1.5, -2.0), deviations=(2.0, 0.25), frames=1).am_mvn().splitlines()
    assert lines[lines.index("<AddShift> 2 2") + 1].split() == ["<LearnRateCoef>", "0", "[", "-1.5", "2", "]"]
    assert lines[lines.index("<Rescale> 2 2") + 1].split() == ["<LearnRateCoef>", "0", "[", "0.5", "4", "]"]
    # `load_cmvn` takes the first word of every line, so none may be empty.
    assert all(line.split() for line in lines)
