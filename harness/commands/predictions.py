"""What `run` and `report` do for a run on a GPU: store the prediction of `estimate` with what was measured."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from harness.commands.common import cell_runner
from harness.core.cells import Cell, Release
from harness.core.errors import InputError
from harness.performance.prediction.measure import MeasureContext, MeasureRequest
from harness.performance.prediction.prediction_error import TrainingBatch, predicted, unpredicted_trainings
from harness.performance.prediction.predictor import predicted_for
from harness.releases import load_lock, resolve
from harness.run.store import RunStore, load_run
from harness.text.terminal import say
from harness.variants.catalogue import available, load_variant

STACKED_FRAME_SECONDS = 0.06
"""What `MeasureRequest.frames` counts."""


def add_predictions(folder: Path, options: argparse.Namespace) -> int:
    """Predict the peaks of the GPU trainings of a run that have none yet; returns how many were added.

    What cannot be predicted is said and left out; nothing that was measured is touched.

    Raises:
        HarnessError: the run cannot be read or written, or this machine cannot measure models.
    """
    if not unpredicted_trainings(load_run(folder).outcomes):
        return 0
    say("predicting the memory of the GPU's trainings, on the CPU …")
    context = MeasureContext(runner=cell_runner(options), threads=len(os.sched_getaffinity(0)))
    locked = load_lock(options.lock)

    def ask(cell: Cell, batch: TrainingBatch) -> dict[str, int]:
        return _predict(cell, batch, context, resolve(cell.release, locked)[0])

    with RunStore.open(folder) as store:
        count = 0
        for outcome in predicted(store.load(), ask, lambda lack: say(lack, style="yellow")):
            store.append(outcome)
            count += 1
    return count


def _predict(cell: Cell, batch: TrainingBatch, context: MeasureContext, release: Release) -> dict[str, int]:
    if cell.variant not in available() or cell.dimensions is None or cell.depth is None or cell.precision is None:
        raise InputError(f"{cell.variant} is no built-in variant")
    variant = load_variant(cell.variant)
    question = MeasureRequest(
        release=release,
        variant=variant,
        dimensions=cell.dimensions,
        depth=cell.depth,
        precision=cell.precision,
        frames=max(2, round(batch.frames * variant.frame_seconds / STACKED_FRAME_SECONDS)),
        characters=max(2, batch.tokens),
    )
    return predicted_for(question, batch.utterances, context)
