"""The `checkpoint` check on a miniature release: sound, and with each fault planted; judged as an outcome is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import saving_release
from forked import Forked
from parsed import judge_checkpoint

from harness.core.evidence.questions import AnswerStatus
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
    request = saving_release.request(install_dir, "checkpoint", folder, saving_release.write_speech(room))
    (room / "cell").mkdir()
    answer: dict[str, Any] = forked(run, request=request, room=str(room / "cell"))
    return answer


def failing(answer: dict[str, Any]) -> set[str]:
    assert (answer["status"], answer["reason"]) == ("passed", "")
    return {question.name for question in judge_checkpoint(answer["metrics"]) if question.status is AnswerStatus.FAILS}


def test_a_sound_release_keeps_every_invariant_and_names_what_it_leaves_out(
    forked: Forked, install_dir: Path, tmp_path: Path
) -> None:
    answer = ask(forked, install_dir, tmp_path)
    questions = judge_checkpoint(answer["metrics"])
    assert {
        question.name: question.message for question in questions if question.status is not AnswerStatus.HOLDS
    } == {}
    classes = {"model_classes/Tiny": "funasr.models.tiny:Tiny"}
    assert answer["evidence"] == {"entry_is_native": True, "trainer_options": [], "classes": classes, "findings": []}
    trials = answer["metrics"]["trials"]
    assert trials["resume_in_train_conf"] == {"began": True, "failure": None}
    assert trials["missing_init_param"]["failure"]["type"] == "FileNotFoundError"
    assert (trials["no_rows"]["steps"], trials["no_rows"]["failure"]["type"]) == (0, "ValueError")
    cases = {(case["kind"], case["ignore"]): case for case in answer["metrics"]["mismatch"]}
    vocabulary = cases["vocabulary", True]
    assert vocabulary["left_out"] == [
        {"name": "decoder.output_layer.weight", "model": [23, 6], "checkpoint": [21, 6]},
        {"name": "decoder.output_layer.bias", "model": [23], "checkpoint": [21]},
    ]
    assert vocabulary["taken"] == 5
    assert "decoder.output_layer.weight" in vocabulary["line"]
    assert cases["width", True]["left_out"][0]["name"] == "encoder.weight"
    assert "size mismatch" in cases["vocabulary", False]["failure"]["message"]


@pytest.mark.parametrize(
    ("faults", "found"),
    [
        (
            "resume_forgets_optimizer accuracy_stays_zero average_of_one silent_mismatch",
            {"resumes_optimizer", "resumes_losses", "criterion_is_measured", "average_is_mean", "mismatch_said"}
            # with the optimizer's state goes the learning rate that it was at
            | {"resumes_schedule"},
        ),
        (
            "resume_forgets_schedule resume_forgets_step best_is_first folder_loads_base",
            {"resumes_schedule", "resumes_losses", "best_is_best", "folder_loads", "bare_folder_loads"}
            | {"resumes_within_epoch", "resumes_within_sorted_epoch"},
        ),
        (
            "resume_forgets_epoch no_average",
            {"resumes_at_epoch", "average_is_mean", "average_survives_pruning"},
        ),
        (
            "checkpoint_without_tensor",
            {"saved_whole", "resumes_weights", "resumes_losses", "average_loads", "folder_loads"},
        ),
    ],
)
def test_planted_faults_are_found_and_nothing_else(
    forked: Forked, install_dir: Path, tmp_path: Path, faults: str, found: set[str]
) -> None:
    assert failing(ask(forked, install_dir, tmp_path, faults)) == found


@pytest.mark.parametrize(
    ("fault", "code", "place", "words"),
    [
        (
            "resume_twice",
            "resume-in-train-conf",
            "funasr/bin/train.py:__init__",
            "ends in TypeError: Trainer() got multiple values for keyword argument 'resume'",
        ),
        (
            "missing_init_param",
            "init-param-missing",
            "funasr/auto/auto_model.py:AutoModel",
            "the release prints that it does not exist, and trains from the parameters that it drew",
        ),
        (
            "no_rows",
            "training-without-rows",
            "funasr/bin/train.py",
            "the trainer takes no step, saves model.pt, model.pt.avg10, model.pt.best, model.pt.ep1, model.pt.ep2, and",
        ),
    ],
)
def test_what_should_have_been_an_error_or_none_is_a_finding(
    forked: Forked, install_dir: Path, tmp_path: Path, fault: str, code: str, place: str, words: str
) -> None:
    answer = ask(forked, install_dir, tmp_path, fault)
    (finding,) = answer["evidence"]["findings"]
    assert (finding["code"], finding["place"]) == (code, place)
    assert words in finding["message"]
    assert failing(answer) == set()


def test_a_training_that_breaks_off_is_reported_as_such(forked: Forked, install_dir: Path, tmp_path: Path) -> None:
    answer = ask(forked, install_dir, tmp_path, "forward_raises")
    assert answer["status"] == "failed"
    assert answer["failure"]["signature"] == "IndexError@funasr/models/tiny.py:forward"


def test_an_entry_that_the_release_does_not_ship_is_skipped(forked: Forked, install_dir: Path, tmp_path: Path) -> None:
    folder = saving_release.write_model_folder(tmp_path / "folder")
    request = saving_release.request(install_dir, "checkpoint", folder, saving_release.write_speech(tmp_path))
    answer = forked(run, request={**request, "entry": "train_ds"}, room=str(tmp_path))
    assert (answer["status"], answer["reason"]) == ("skipped", "the release ships no funasr/bin/train_ds.py")
