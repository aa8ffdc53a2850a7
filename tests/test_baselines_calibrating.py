"""A GPU's context and workspaces, learned from trainings whose figures are made up: none of them was ever measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from baseline_scene import CPU_CELL, GPU_CELL, MIB, cell, gpu_run, run, write
from cli_scene import World, make_world

from harness.core.cells import Dimensions, Outcome, Status
from harness.performance.prediction.calibrate import calibrations
from harness.performance.prediction.calibration import read_calibration
from harness.run.store import LoadedRun

KEY = "imaginary-gpu-80gb_driver-550_torch-2.9.1+cu128_bf16"


SHAPES = ("v8404-h320", "v8404-h512", "v8501-h320", "v8501-h512")


def training(context: float | None = 500 * MIB, missed: int = 32 * MIB, **changed: Any) -> Outcome:
    """A training of which so much less was predicted than measured."""
    told = {
        "memory_parts": {"context": context},
        "device": {"clean_at_start": True},
        "predicted_allocated_bytes": 10_000 * MIB - missed,
    }
    return cell(GPU_CELL, **{**told, **changed})


def runs(*trainings: Outcome) -> list[LoadedRun]:
    """One training a run, each of another shape where they are of one cell."""
    return [gpu_run(number, shaped(one, SHAPES[number])) for number, one in enumerate(trainings)]


def shaped(one: Outcome, shape: str) -> Outcome:
    return replace(one, cell=replace(one.cell, dimensions=Dimensions.parse(shape)))


def test_repeats_of_one_cell_tell_nothing_of_a_constant() -> None:
    same = [gpu_run(number, training()) for number in range(5)]
    assert calibrations(same) == ()
    other = [gpu_run(9, shaped(training(), shape)) for shape in SHAPES[1:3]]
    (found,) = calibrations([*same, *other])
    assert found.origin["trainings"] == 7


def test_the_medians_of_all_trainings_are_taken_and_their_spread_is_reported() -> None:
    trainings = [training(context, missed) for context, missed in ((500, 30), (510, 33), (900, 400))]
    (found,) = calibrations(runs(*trainings))
    assert (found.key, found.context_bytes, found.workspace_bytes) == (KEY, 510, 33)
    assert found.origin["context_bytes"] == [500, 900]
    assert found.origin["workspace_bytes"] == [30, 400]
    assert found.origin["trainings"] == 3
    assert (found.origin["gpu"], found.origin["driver"]) == ("Imaginary GPU 80GB", "550")
    assert len(found.origin["runs"]) == 3


def test_what_was_predicted_too_large_is_no_workspace() -> None:
    (found,) = calibrations(runs(*[training(missed=-5)] * 3))
    assert found.workspace_bytes == 0
    assert found.origin["workspace_bytes"] == [-5, -5]


@pytest.mark.parametrize(
    "third",
    [
        training(context=None),
        training(context=True),
        training(predicted_allocated_bytes=None),
        training(memory_parts=None),
        training(device={"clean_at_start": False}),
        cell(GPU_CELL, Status.FAILED),
        cell(CPU_CELL),
    ],
    ids=["no context", "no number", "no prediction", "no parts", "others on the device", "failed", "a CPU"],
)
def test_too_few_trainings_tell_nothing(third: Outcome) -> None:
    assert calibrations(runs(training(), training(), third)) == ()
    assert len(calibrations(runs(training(), training(), third, training()))) == 1


def test_a_cpu_has_none() -> None:
    assert calibrations([run(number) for number in range(4)]) == ()


@pytest.fixture
def world(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> World:
    return make_world(tmp_path / "clone", tmp_path / "cache", capsys, monkeypatch)


def test_accepting_shows_it_and_writes_what_estimate_reads(world: World) -> None:
    made = runs(training(500 * MIB, 30 * MIB), training(510 * MIB, 33 * MIB), training(520 * MIB, -2 * MIB))
    names = [str(write(one, world.folder / "runs" / f"{number}")) for number, one in enumerate(made)]
    folder = world.folder / "reports" / "baselines"
    said = world.call("baseline", "accept", *names)
    line = (
        f"estimate --gpu {KEY}: context 510 MiB (500 MiB to 520 MiB), "
        "workspaces 30 MiB (-2 MiB to 33 MiB missed by the predictions), of 3 trainings"
    )
    assert line in said.out
    assert not folder.exists()
    said = world.call("baseline", "accept", *names, "--yes")
    assert f"written: reports/baselines/{KEY}/calibration.json" in said.err
    found = read_calibration(folder, KEY)
    assert (found.context_bytes, found.workspace_bytes) == (510 * MIB, 30 * MIB)
    assert world.call("baseline", "show").status == 0, "the folder of a calibration is no baseline"
