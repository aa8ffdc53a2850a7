"""FunASR's own trainer beside the prediction of its memory, on the CPU."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.commands.common import cell_runner
from harness.config.matrix import Matrix, VariantSource, load_matrix
from harness.core.cells import Cell, Check, Depth, Device, Dimensions, Entry, Precision, Release, Status
from harness.core.temporary import temporary_folder
from harness.performance.prediction.measure import MeasureContext, MeasureRequest
from harness.performance.prediction.predictor import Predictor
from harness.releases import load_lock, resolve
from harness.run.prepare import Prepared, lay_out_releases
from harness.run.runner import CellRunner
from harness.variants.catalogue import available, load_variant

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True, kw_only=True)
class Held:
    """A prediction and what it was held against, in bytes of live tensors."""

    variant: str
    shape: Dimensions
    utterances: int
    frames: int
    tokens: int
    measured: int
    predicted: int

    @property
    def off(self) -> float:
        """By how much the prediction is too high, as a share of what was measured."""
        return self.predicted / self.measured - 1


class PeakRequests(Prepared):
    """Has the trainer's peak measured in place of `finetune`."""

    def request_for(self, cell: Cell) -> dict[str, Any]:
        """The request of `finetune`, for another function."""
        return {**super().request_for(cell), "check": "trained_peak"}


def hold(variant: str, shape: Dimensions, batches: Sequence[int], release: str = "latest") -> list[Held]:
    """Train reduced models with batches of these sizes; predict each from a batch of two and of three utterances."""
    runner = cell_runner(argparse.Namespace(cache=None))
    # What is measured is no fine-tune that a rule could judge.
    runner = replace(runner, settings=replace(runner.settings, rule=lambda outcome: outcome))
    (found,) = resolve(release, load_lock(ROOT / "matrices" / "releases.lock.toml"))
    measured = [_train(variant, shape, size, found, runner) for size in batches]
    architecture = load_variant(variant)
    question = MeasureRequest(
        release=found,
        variant=architecture,
        dimensions=shape,
        depth=Depth.REDUCED,
        precision=Precision.FP32,
        frames=round(measured[0]["frames"] * architecture.frame_seconds / 0.06),
        characters=measured[0]["tokens"],
    )
    predictor = Predictor.of(question, MeasureContext(runner=runner, threads=1))
    return [
        Held(
            variant=variant,
            shape=shape,
            utterances=one["utterances"],
            frames=one["frames"],
            tokens=one["tokens"],
            measured=one["peak_bytes"],
            predicted=predictor.at(one["utterances"]).requested,
        )
        for one in measured
    ]


def _train(variant: str, shape: Dimensions, size: int, release: Release, runner: CellRunner) -> dict[str, Any]:
    cell = Cell(
        release=release.label,
        variant=variant,
        dimensions=shape,
        depth=Depth.REDUCED,
        check=Check.FINETUNE,
        entry=Entry.TRAIN_DS,
        device=Device.CPU,
        precision=Precision.FP32,
    )
    with temporary_folder() as workspace:
        prepared = runner.prepare(_matrix(cell, release, size), [cell], workspace)
        lay_out_releases(prepared, [cell])
        outcome = runner.run_requests(PeakRequests(**vars(prepared)), [cell], workspace)[cell]
    assert outcome.status is Status.PASSED, outcome.reason
    return dict(outcome.evidence)


def _matrix(cell: Cell, release: Any, size: int) -> Matrix:
    """One utterance over and over, so that all of a batch are of one length."""
    matrix = load_matrix(
        ROOT / "matrices" / "atlas.toml",
        resolve=lambda spec: resolve(spec, load_lock(ROOT / "matrices" / "releases.lock.toml")),
        variants=available(),
        gpu_present=False,
    )
    assert cell.variant is not None
    settings = replace(matrix.finetune, utterances=4 * size, distinct=1, batch_size=size, steps=8, seeds=1)
    return replace(
        matrix,
        cells=(cell,),
        releases=(release,),
        variants=(VariantSource(name=cell.variant),),
        finetune=settings,
    )
