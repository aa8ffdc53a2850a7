"""The `decode` check on a miniature release whose text comes back when it was trained; judged as an outcome is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import saving_release
from forked import Forked
from parsed import judge_decode

from harness.worker.checks import dispatch


@pytest.fixture(scope="module")
def install_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saving_release.write_release(tmp_path_factory.mktemp("release"))


def run(request: dict[str, Any], room: str) -> dict[str, Any]:
    os.chdir(room)
    dispatch.enter(request["release"])
    return dispatch.run(request)


def ask(forked: Forked, install_dir: Path, room: Path, fault: str = "") -> dict[str, Any]:
    folder = saving_release.write_model_folder(room / "folder", fault=fault)
    settings = {"steps": 6, "utterances": 4, "batch_size": 2, "error_rate": 0.25}
    request = saving_release.request(install_dir, "decode", folder, saving_release.write_speech(room), **settings)
    (room / "cell").mkdir()
    answer: dict[str, Any] = forked(run, request=request, room=str(room / "cell"))
    return answer


def test_the_text_of_a_trained_model_comes_back(forked: Forked, install_dir: Path, tmp_path: Path) -> None:
    answer = ask(forked, install_dir, tmp_path)
    assert (answer["status"], answer["reason"]) == ("passed", "")
    metrics = answer["metrics"]
    assert (metrics["steps"], len(metrics["losses"])) == (6, 6)
    assert metrics["references"] == metrics["hypotheses"] == list(saving_release.TEXTS[:4])
    assert metrics["untrained_hypotheses"] == ["?????"] * 4
    assert (metrics["weights_tensors"], metrics["weights_differ_count"]) == (7, 0)
    assert answer["evidence"]["loaded_as"] == "folder"
    verdict = judge_decode(metrics)
    assert (verdict.passed, verdict.error_rate, verdict.untrained_error_rate) == (True, 0.0, 1.0)


def test_a_folder_that_loads_its_base_is_found_by_its_weights_and_its_text(
    forked: Forked, install_dir: Path, tmp_path: Path
) -> None:
    verdict = judge_decode(ask(forked, install_dir, tmp_path, "folder_loads_base")["metrics"])
    assert verdict.unmet == ("weights", "error_rate")
    assert verdict.error_rate == 1.0


def test_a_text_that_comes_back_without_learning_proves_nothing(
    forked: Forked, install_dir: Path, tmp_path: Path
) -> None:
    verdict = judge_decode(ask(forked, install_dir, tmp_path, "knows_without_learning")["metrics"])
    assert (verdict.unmet, verdict.proves) == (("untrained",), False)


def test_a_checkpoint_without_a_tensor_is_found_by_the_weights(
    forked: Forked, install_dir: Path, tmp_path: Path
) -> None:
    metrics = ask(forked, install_dir, tmp_path, "checkpoint_without_tensor")["metrics"]
    assert metrics["weights_differ"] == ["predictor.weight"]
    assert judge_decode(metrics).unmet == ("weights",)


def test_a_training_that_breaks_off_is_reported_as_such(forked: Forked, install_dir: Path, tmp_path: Path) -> None:
    answer = ask(forked, install_dir, tmp_path, "forward_raises")
    assert answer["status"] == "failed"
    assert answer["failure"]["signature"] == "IndexError@funasr/models/tiny.py:forward"
    assert answer["metrics"]["hypotheses"] is None
