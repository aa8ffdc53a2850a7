"""Real releases take the model folder and the jsonl file as the harness means them."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.core.cells import Depth, Dimensions
from harness.corpus.corpus import Corpus, build_corpus, write_jsonl
from harness.corpus.tokens import tokens_of
from harness.environments.environment import Environment, probe, scrubbed_environment
from harness.releases import default_cache, fetch, install_path, load_lock, resolve
from harness.variants.catalogue import load_variant
from harness.variants.model_folder import ModelFolder, write_model_folder

pytestmark = pytest.mark.release

ROOT = Path(__file__).parent.parent
SHAPE = Dimensions(vocab_size=8404, hidden_size=320)

# Together they have every generation of funasr/tokenizer/char_tokenizer.py, funasr/download/*.py,
# funasr/datasets/audio_datasets/index_ds.py and funasr/frontends/wav_frontend.py that treats its input differently.
VERSIONS = ("1.0.0", "1.0.6", "1.0.20", "1.0.24", "1.1.0", "1.4.16")

# Beside the corpus' own: what a user's text may hold and some tokenizer would have made <unk> of.
HARD_TEXTS = ("今天 天气", "二〇二四年，你好", "打开 WiFi 看 A股", "，开头 的 标点", "it's ok")


@pytest.fixture(scope="session")
def stack() -> Environment:
    """The interpreter that runs the tests, with torch."""
    pytest.importorskip("torch", reason="runs releases: install the `stack` extra")
    return probe()


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """The built-in corpus."""
    return build_corpus(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def hard_corpus(corpus: Corpus) -> Corpus:
    """The first utterance, with each of the hard texts."""
    utterances = tuple(replace(corpus.utterances[0], key=text, text=text) for text in HARD_TEXTS)
    return Corpus(utterances=utterances, sha256="hard", origin="")


@pytest.fixture(scope="session")
def folders(corpus: Corpus, hard_corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> list[ModelFolder]:
    """Slim model folders: both variants with the corpus, and one with the hard texts."""
    cache = tmp_path_factory.mktemp("folders")
    pairs = [("paraformer", corpus), ("paraformer_streaming", corpus), ("paraformer", hard_corpus)]
    return [
        write_model_folder(load_variant(variant), speech, cache, dimensions=SHAPE, depth=Depth.REDUCED)
        for variant, speech in pairs
    ]


@pytest.fixture(scope="module", params=VERSIONS)
def answers(
    request: pytest.FixtureRequest,
    stack: Environment,
    corpus: Corpus,
    folders: list[ModelFolder],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Any]:
    """What one release says to all questions, with its version."""
    room = tmp_path_factory.mktemp("room")
    write_jsonl(corpus.utterances, room / "train.jsonl")
    questions = {
        "models": {"folders": [str(folder.path) for folder in folders[:2]]},
        "tokens": {"folder": str(folders[2].path), "texts": HARD_TEXTS},
        "rows": {"jsonl": str(room / "train.jsonl")},
        "features": {
            "cmvn_file": str(folders[0].path / "am.mvn"),
            "files": [str(utterance.path) for utterance in corpus.utterances],
        },
    }
    (release,) = resolve(request.param, load_lock(ROOT / "matrices" / "releases.lock.toml"))
    fetch([release], default_cache(), jobs=1)
    environment = scrubbed_environment(stack, room / "w", cache=default_cache())
    environment["PYTHONPATH"] = f"{install_path(release, default_cache())}:{environment['PYTHONPATH']}"
    child = subprocess.run(
        [stack.python, str(Path(__file__).parent / "release_probe.py"), "answers.json"],
        input=json.dumps(questions),
        env=environment,
        cwd=room,
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    made: dict[str, Any] = json.loads((room / "answers.json").read_text(encoding="utf-8"))
    return {**made, "version": request.param}


def test_auto_model_builds_the_shape_from_the_folder(answers: dict[str, Any]) -> None:
    assert answers["models"] == [
        {
            "class": name,
            "input_size": 560,
            "outputs": 8404,
            "hidden_size": 320,
            # 1.0.0 forgets what configuration.json says after the tokenizer.
            "normalised": answers["version"] != "1.0.0",
        }
        for name in ("Paraformer", "ParaformerStreaming")
    ]


def test_every_text_becomes_its_characters_and_never_unk(answers: dict[str, Any], folders: list[ModelFolder]) -> None:
    for text, made in zip(HARD_TEXTS, answers["tokens"], strict=True):
        assert set(made) <= tokens_of(text) <= set(folders[2].token_list)
        assert "".join(made).replace("<space>", "").lower() == text.replace(" ", "").lower()


def test_every_form_of_the_index_reads_the_rows(answers: dict[str, Any], corpus: Corpus) -> None:
    assert [(row["target"], row["source"], row["length"]) for row in answers["rows"]] == [
        (utterance.text, str(utterance.path), utterance.samples // 160) for utterance in corpus.utterances
    ]


def test_the_corpus_comes_out_of_the_frontend_with_mean_0_and_deviation_1(answers: dict[str, Any]) -> None:
    made = answers["features"]
    assert np.abs(made["means"]).max() < 0.01
    assert np.abs(np.array(made["deviations"]) - 1).max() < 0.01
