"""The `data` check on real releases: what it lists of them, and that it names each fault that is planted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import data_faults
import pytest
from forked import Forked

from harness.core.cells import Depth, Dimensions
from harness.corpus.corpus import build_corpus, write_jsonl
from harness.environments.environment import probe
from harness.releases import default_cache
from harness.report.data import WORDS
from harness.variants.catalogue import load_variant
from harness.variants.model_folder import write_model_folder

pytestmark = [pytest.mark.release, pytest.mark.timeout(1200)]

SINCE_1_0_28 = {
    "batches_below",
    "long",
    "long_allowed",
    "path_aishell",
    "ranks_frames",
    "start_step",
    "start_step_frames",
    "text_double_space",
    "text_empty",
    "text_mark_first",
}
"""What fails in every release since: nothing of an ordinary set-up, in batches of examples, is among it."""
UP_TO_1_0_17 = {
    *("batches_below", "batches_frames", "fewer_than_a_batch", "limit_max_token_length", "long", "once", "ranks"),
    *("ranks_frames", "remainder", "steps", "validation", "path_aishell"),
    *("text_double_space", "text_empty", "text_latin_inside", "text_latin_word", "text_mark_first", "text_mark_inside"),
    *("text_unknown_symbol", "text_upper"),
}
KNOWN = {"1.0.17": ("train", UP_TO_1_0_17), "1.2.9": ("train", SINCE_1_0_28), "1.4.16": ("train_ds", SINCE_1_0_28)}


@pytest.fixture(scope="module")
def answers(
    forked: Forked, layout: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], dict[str, Any]]:
    """What came of a release's check, asked once."""
    corpus = build_corpus(default_cache())
    shape = Dimensions(vocab_size=8404, hidden_size=64)
    variant = load_variant("paraformer_streaming")
    folder = write_model_folder(variant, corpus, default_cache(), dimensions=shape, depth=Depth.REDUCED)
    train = tmp_path_factory.mktemp("speech") / "train.jsonl"
    write_jsonl(corpus.utterances[:16], train)
    paths = [str(path) for path in probe(cache=default_cache()).extra_paths]
    asked: dict[str, dict[str, Any]] = {}

    def answer(version: str) -> dict[str, Any]:
        if version not in asked:
            request = {
                "release": {"install_dir": str(layout(version)), "version": version},
                "entry": KNOWN[version][0],
                "model_class": "ParaformerStreaming",
                "model_folder": str(folder.path),
                "data": {"train": str(train)},
            }
            asked[version] = forked(data_faults.ask, request=request, paths=paths, faults=version == "1.4.16")
        return asked[version]

    return answer


@pytest.mark.parametrize("version", KNOWN)
def test_exactly_what_is_known_of_a_release_fails(answers: Callable[[str], dict[str, Any]], version: str) -> None:
    result = answers(version)["result"]
    questions = {question["name"]: question for question in result["evidence"]["questions"]}
    failed = {name for name, question in questions.items() if question["status"] == "fails"}
    assert failed == KNOWN[version][1]
    assert result["status"] == "failed"
    assert result["failure"]["signature"] == "DataDiffers@" + "+".join(sorted(failed))
    assert all(question["message"] for question in questions.values() if question["status"] != "holds")
    assert set(questions) <= set(WORDS)
    assert result["metrics"]["questions"] == len(questions) - result["metrics"]["questions_not_tested"] > 45
    assert result["metrics"]["epochs"] > 15


@pytest.mark.parametrize(("name", "fault"), data_faults.FAULTS.items())
def test_a_planted_fault_is_named(
    answers: Callable[[str], dict[str, Any]], name: str, fault: data_faults.Fault
) -> None:
    answer = answers("1.4.16")
    before = {question["name"]: question["status"] for question in answer["result"]["evidence"]["questions"]}
    assert before.get(fault.question, "holds") != "fails"
    found = answer["faults"][name]
    assert (found["name"], found["status"]) == (fault.question, "fails"), found["message"]


def test_a_text_of_another_row_is_said_to_be_one(answers: Callable[[str], dict[str, Any]]) -> None:
    found = answers("1.4.16")["faults"]["the text is that of the next row"]
    assert found["message"] == "plain00 arrives with the text of plain01"


def test_an_example_says_what_the_file_has_and_what_arrived(answers: Callable[[str], dict[str, Any]]) -> None:
    questions = {one["name"]: one for one in answers("1.4.16")["result"]["evidence"]["questions"]}
    assert questions["text_mark_first"]["example"] == {
        "utterance": "text_mark_first",
        "file": "《天气》真好",
        "arrived": "<unk>",
    }
    assert questions["long"]["example"]["file"] == "source_len 2100"
