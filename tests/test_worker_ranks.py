"""Two small trainings with two processes, on a miniature release whose trainer wraps its model as the real one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import tiny_release
from forked import Forked
from parsed import judge_invariants

from harness.worker.checks import dispatch, ranks
from harness.worker.release import shims
from harness.worker.trainer import launch
from harness.worker.trainer.children import ChildResult

SETTINGS = {"epochs": 3, "batch_size": 2, "learning_rate": 0.01, "warmup_steps": 1, "processes": 2, "gpus": 0}


KEYS = (ranks.WEIGHTS, ranks.LOSSES, ranks.NORMS, ranks.ROWS)


@pytest.fixture(scope="module")
def install_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_release.write_release(tmp_path_factory.mktemp("release"))


def request_of(install_dir: Path, room: Path, fault: str = "", **others: Any) -> dict[str, Any]:
    rows = [{"key": f"k{number}", "source": "a.wav", "target": f"t{number}"} for number in range(6)]
    source = room / "speech.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    data = {"train": str(source), "valid": str(source), "utterances": 6, "frame_seconds": 0.06}
    folder = tiny_release.write_model_folder(room / "folder", fault=fault)
    return tiny_release.request(install_dir, "finetune", folder, finetune=SETTINGS, data=data, **others)


def run(request: dict[str, Any], room: str) -> dict[str, Any]:
    os.chdir(room)
    return dispatch.run(request)


def asked(forked: Forked, install_dir: Path, room: Path, fault: str = "") -> tuple[dict[str, Any], tuple[str, ...]]:
    """What was seen, and what the judge says of it."""
    answer = forked(run, request=request_of(install_dir, room, fault), room=str(room))
    assert (answer["status"], answer["reason"]) == ("passed", "")
    assert shims.WITHOUT_GPUS in answer["shims"]
    return answer["metrics"]["ranks"], judge_invariants(answer["metrics"]).reasons["ranks"]


def test_sound_processes_end_with_the_weights_and_losses_of_one(
    forked: Forked, install_dir: Path, tmp_path: Path
) -> None:
    found, reasons = asked(forked, install_dir, tmp_path)
    assert reasons == ()
    same, other = found[ranks.SAME], found[ranks.OTHER]
    assert (same["ranks_ended"], same["between_ranks"], other["between_ranks"]) == (2, 0.0, 0.0)
    assert same["from_single"] < 1e-6
    losses = same["losses"]
    assert len(losses["single"]) == ranks.STEPS
    assert losses["ranks"] == [losses["single"]] * 2
    assert "noise" not in same, "a CPU has none"


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("ranks_apart", f"With two processes ({ranks.OTHER}) the two processes end with different weights"),
        ("ranks_see_more", f"With two processes ({ranks.SAME}) rank 1 has a loss of"),
        ("ranks_see_more", f"With two processes ({ranks.SAME}) the gradients are not those of a single process"),
        ("adds_over_ranks", f"With two processes ({ranks.SAME}) the gradients are not those of a single process"),
        ("a_rank_dies", f"Training with two processes ({ranks.SAME}) ends in"),
    ],
)
def test_what_goes_wrong_between_processes_is_reported(
    forked: Forked, install_dir: Path, tmp_path: Path, fault: str, said: str
) -> None:
    _, reasons = asked(forked, install_dir, tmp_path, fault)
    assert any(reason.startswith(said) for reason in reasons), reasons


def test_processes_that_see_the_same_rows_say_nothing_of_exchanging_gradients(
    forked: Forked, install_dir: Path, tmp_path: Path
) -> None:
    found, reasons = asked(forked, install_dir, tmp_path, "ranks_see_the_same_rows")
    assert found[ranks.OTHER]["rows_differ"] is False
    assert reasons == ()
    (tmp_path / "sound").mkdir()
    assert asked(forked, install_dir, tmp_path / "sound")[0][ranks.OTHER]["rows_differ"] is True


def test_processes_without_a_gpu_each_are_not_asked(install_dir: Path, tmp_path: Path) -> None:
    request = request_of(install_dir, tmp_path, device="cuda")
    request["finetune"] = {**SETTINGS, "gpus": 1}
    found = ranks.compare(request, 2)
    assert found == {ranks.NOT_MEASURED: "2 processes need as many GPUs, and the cell has 1"}
    assert "ranks" in judge_invariants({"ranks": found}).not_observed


@pytest.mark.parametrize(
    ("device", "backend", "singles"), [("cpu", "gloo", ("single",)), ("cuda", "nccl", ("single", "again"))]
)
def test_on_gpus_they_talk_by_nccl_and_the_device_is_asked_for_its_noise(
    install_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    backend: str,
    singles: tuple[str, ...],
) -> None:
    request = request_of(install_dir, tmp_path, device=device)
    said: list[dict[str, Any]] = []
    monkeypatch.setattr(launch, "import_model_class", lambda *_: None)
    monkeypatch.setattr(launch, "run_trainer", lambda _entry, words: said.append(words))
    monkeypatch.setattr(ranks, "_record_steps", lambda *_: {key: [] for key in KEYS})
    ranks.train(request, tmp_path, 1)
    assert [words["backend"] for words in said] == [backend]
    assert ranks.single_trainings(request) == singles


@pytest.mark.parametrize(("waited", "measured"), [(0.0, True), (ranks.PATIENCE_SECONDS, False)])
def test_a_rank_that_got_no_processor_is_no_fault_of_the_release(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, waited: float, measured: bool
) -> None:
    """A release that hangs sleeps; a rank that could have run and was kept waiting says nothing of it."""

    def child(_request: Any, name: str, _work: Any) -> ChildResult:
        ranked = name.startswith("ranks-")
        failure = {"signature": "RuntimeError@barrier"} if ranked else None
        return ChildResult(value={ranks.WAITED: waited} if ranked else {}, failure=failure, output="")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launch, "run_in_child", child)
    found = ranks.compare({"device": "cpu"}, 2)
    judged = judge_invariants({"ranks": found}).reasons.get("ranks")
    if measured:
        assert judged
        assert "RuntimeError@barrier" in judged[0]
    else:
        assert found == {ranks.NOT_MEASURED: "the machine was busy: a process waited 120 s for a processor"}
        assert not judged


def test_a_process_that_sleeps_waits_for_no_processor() -> None:
    assert ranks._waited_seconds(os.getpid()) >= 0.0
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as sleeper:
        time.sleep(0.3)
        assert ranks._waited_seconds(sleeper.pid) < ranks.PATIENCE_SECONDS / 2
        sleeper.kill()
