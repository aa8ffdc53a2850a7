"""A numeric change planted in a sound release: both are trained, and the module and function are named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from drift_scene import divergence_of, tuned_to

from harness.compare.diagnose import TracedRunner
from harness.compare.drift.causes import DriftKind, cause_of
from harness.compare.drift.recordings import TrainingStage
from harness.compare.drift.tracing import record
from harness.config.matrix import load_matrix
from harness.core.cells import Release
from harness.environments.environment import probe
from harness.releases import default_cache, resolve
from harness.rules.apply import apply_rules
from harness.run.prepare import no_stored_examples
from harness.run.runner import CellRunner, RunnerSettings
from harness.variants.catalogue import available

# Two trainings of one step; on a busy machine they take a while.
pytestmark = [pytest.mark.release, pytest.mark.timeout(1200)]

SOUND = "1.4.16"
FILE = "models/paraformer/cif_predictor.py"
OLD = "alphas = torch.nn.functional.relu(alphas * self.smooth_factor - self.noise_threshold)"
MATRIX = """
schema = 1
name = "drift"
description = "A sound release and a copy whose predictor computes otherwise in the last digit."

[axes]
release = ["{sound}", "{copy}"]
variant = ["paraformer"]
vocab_size = [8404]
hidden_size = [64]
depth = ["reduced"]
check = ["finetune@train_ds"]
device = ["cpu"]

[finetune]
seeds = 1
"""


def test_a_numeric_change_is_named_with_its_module_and_its_statement(
    tmp_path: Path, locked: tuple[Release, ...], layout: Callable[[str], Path]
) -> None:
    pytest.importorskip("torch", reason="runs releases: install the `stack` extra")
    copy = tmp_path / "copy"
    shutil.copytree(layout(SOUND) / "funasr", copy / "funasr", copy_function=shutil.copyfile)
    before, held, after = (copy / "funasr" / FILE).read_text("utf-8").partition("class CifPredictorV2(")
    assert held
    assert OLD in after
    after = after.replace(OLD, OLD.replace("self.smooth_factor", "(self.smooth_factor + 1e-6)"), 1)
    (copy / "funasr" / FILE).write_text(before + held + after, "utf-8")
    (tmp_path / "matrix.toml").write_text(MATRIX.format(sound=SOUND, copy=copy), encoding="utf-8")
    matrix = load_matrix(
        tmp_path / "matrix.toml", resolve=partial(resolve, locked=locked), variants=available(), gpu_present=False
    )
    planted = next(release for release in matrix.releases if release.path)
    cells = {cell.release: cell for cell in matrix.cells}
    # The losses are made up: what is asked here is where the two part, not at which step.
    sides = [tuned_to(label, losses) for label, losses in ((SOUND, (9.0, 8.0)), (planted.label, (8.9, 8.0)))]
    mine, other = (replace(side, cell=cells[side.cell.release]) for side in sides)
    divergence = divergence_of(mine, other)
    # One step, because they part in the first: fewer than a matrix may ask for, which is to be judged as well.
    brief = replace(matrix, finetune=replace(matrix.finetune, steps=1, utterances=4, distinct=4))
    settings = RunnerSettings(
        environment=probe(cache=default_cache()),
        cache=default_cache(),
        rule=apply_rules,
        counterexamples=no_stored_examples,
        jobs=1,
    )
    recording = record(TracedRunner.of(CellRunner(settings=settings), brief, matrix.releases), divergence)
    assert (recording.stage, recording.at) == (TrainingStage.MODEL, 1)
    assert recording.first is not None
    assert recording.first.name == "predictor"
    assert [change.function for change in recording.changes] == ["CifPredictorV2.forward"]
    cause = cause_of(divergence, recording)
    assert cause.kind is DriftKind.MODEL
    (change,) = cause.changes
    assert "1e-06" in change.newer[0] or "1e-6" in change.newer[0]
    assert not recording.repeated
