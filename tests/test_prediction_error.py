"""Predictions stored beside what a GPU measured: for its trainings alone, never in place of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from baseline_scene import GPU_CELL, cell, cuda_metrics, gpu_run, write
from cli_scene import World, make_world

from harness.core.cells import Cell, Outcome
from harness.core.errors import InputError
from harness.performance.prediction.measure import MeasureRequest
from harness.performance.prediction.prediction_error import TrainingBatch, error_of, predicted, unpredicted_trainings
from harness.run.store import load_run

LARGEST = {"utterances": 4, "frames": 120, "tokens": 33}
TOLD = {"predicted_allocated_bytes": 9_000 << 20, "predicted_reserved_bytes": 12_000 << 20}


def training(**changed: Any) -> Outcome:
    metrics = {**cuda_metrics(), "peak_reserved_bytes": 11_000 << 20, "largest_batch": LARGEST, **changed}
    return replace(cell(GPU_CELL), metrics=metrics)


def test_a_gpus_training_is_asked_for_its_largest_batch() -> None:
    asked: list[tuple[str, TrainingBatch]] = []

    def ask(one: Cell, batch: TrainingBatch) -> dict[str, int]:
        asked.append((one.id, batch))
        return TOLD

    outcome = training()
    (found,) = predicted([outcome], ask, pytest.fail)
    assert asked == [(GPU_CELL, TrainingBatch(utterances=4, frames=120, tokens=33))]
    assert found.metrics == {**outcome.metrics, **TOLD}


@pytest.mark.parametrize(
    "changed",
    [
        {"peak_allocated_bytes": None},
        {"peak_reserved_bytes": None},
        {"largest_batch": None},
        {"largest_batch": {"utterances": 0, "frames": 1, "tokens": 1}},
        {"largest_batch": {"utterances": "4", "frames": 1, "tokens": 1}},
        {"predicted_allocated_bytes": 1},
    ],
    ids=["no peak", "no reserved", "no batch", "an empty batch", "a batch in words", "predicted before"],
)
def test_what_was_not_measured_or_is_predicted_already_is_left_alone(changed: dict[str, Any]) -> None:
    assert unpredicted_trainings([training(**changed)]) == ()


def test_a_cpus_training_has_no_prediction() -> None:
    assert unpredicted_trainings([replace(cell(), metrics=training().metrics)]) == ()


def test_equal_questions_are_asked_once_and_others_again() -> None:
    asked = []

    def ask(_cell: Cell, batch: TrainingBatch) -> dict[str, int]:
        asked.append(batch.utterances)
        return TOLD

    other = training(largest_batch={**LARGEST, "utterances": 8})
    assert len(list(predicted([training(), training(), other], ask, pytest.fail))) == 3
    assert asked == [4, 8]


def test_what_cannot_be_predicted_is_said_and_nothing_is_stored() -> None:
    def ask(_cell: Cell, _batch: TrainingBatch) -> dict[str, int]:
        raise InputError("mine is no built-in variant")

    said: list[str] = []
    assert list(predicted([training(), training()], ask, said.append)) == []
    assert said == [f"no prediction for {GPU_CELL}: mine is no built-in variant"] * 2


def test_the_error_is_a_share_of_what_was_measured() -> None:
    metrics = {"peak_allocated_bytes": 200, "predicted_allocated_bytes": 190, "peak_reserved_bytes": 0}
    assert error_of(metrics, "peak_allocated_bytes") == pytest.approx(-0.05)
    assert error_of(metrics, "peak_reserved_bytes") is None
    assert error_of({"peak_allocated_bytes": 200}, "peak_allocated_bytes") is None


@pytest.fixture
def world(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> World:
    # What measures a model takes a minute and is tested apart; here it is who asks for it, and where the answer goes.
    monkeypatch.setattr("harness.commands.predictions.cell_runner", lambda _options: "a runner")
    return make_world(tmp_path / "clone", tmp_path / "cache", capsys, monkeypatch)


def test_report_adds_what_is_predicted_and_tells_the_error(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[MeasureRequest, int]] = []

    def predicted_for(question: MeasureRequest, utterances: int, _room: object) -> dict[str, int]:
        asked.append((question, utterances))
        return TOLD

    monkeypatch.setattr("harness.commands.predictions.predicted_for", predicted_for)
    folder = write(gpu_run(0, training()), world.folder / "runs" / "gpu")
    said = world.call("report", str(folder), "--predict")
    assert said.status == 0
    assert "predictions added: 1" in said.err
    ((question, utterances),) = asked
    assert (question.frames, question.characters, utterances) == (120, 33, 4)
    assert (str(question.depth), str(question.precision), question.release.label) == ("full", "bf16", "1.4.16")
    (outcome,) = load_run(folder).outcomes
    assert outcome.metrics == {**training().metrics, **TOLD}
    markdown = (folder / "compatibility.md").read_text("utf-8")
    assert "Predicted without a GPU: allocated 9,000 MiB (-10.0% of what was measured)" in markdown
    assert "predictions added: 0" in world.call("report", str(folder), "--predict").err
    assert len(asked) == 1
