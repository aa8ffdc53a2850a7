"""FunASR's own trainer beside the prediction of its memory, on the CPU."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.config.matrix import Matrix, VariantSource, load_matrix
from harness.core.cells import Cell, Check, Depth, Device, Dimensions, Entry, Outcome, Precision, Status
from harness.environments.environment import probe, scrubbed_environment
from harness.performance.prediction.measure import MeasureContext, MeasureRequest
from harness.performance.prediction.predictor import Predictor
from harness.releases import default_cache, load_lock, resolve
from harness.run import Settings, build_plan, execute
from harness.run.prepare import prepare
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


def hold(variant: str, shape: Dimensions, batches: Sequence[int], release: str = "latest") -> list[Held]:
    """Train reduced models with batches of these sizes; predict each from a batch of two and of three utterances."""
    cache = default_cache()
    stack = probe(cache=cache)
    (found,) = resolve(release, load_lock(ROOT / "matrices" / "releases.lock.toml"))
    measured = [_train(variant, shape, size, found, stack, cache) for size in batches]
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
    predictor = Predictor.of(question, MeasureContext(stack=stack, cache=cache, threads=1, say=print))
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


def _train(variant: str, shape: Dimensions, size: int, release: Any, stack: Any, cache: Path) -> dict[str, Any]:
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
    workspace = Path(tempfile.mkdtemp(prefix="fh-")).resolve()
    try:
        prepared = prepare(_matrix(cell, release, size), [cell], stack, cache=cache, workspace=workspace)
        settings = Settings(
            workspace=workspace / "tree",
            jobs=1,
            memory_bytes=8 << 30,
            timeout_seconds={Check.FINETUNE: 900.0},
            preload=("numpy", "torch"),
            sys_path=tuple(str(path) for path in stack.extra_paths),
        )
        plan = build_plan(
            [cell],
            settings,
            release_for=prepared.release_for,
            request_for=lambda asked: {**prepared.request_for(asked), "check": "trained_peak"},
        )
        outcomes: list[Outcome] = []
        environment = scrubbed_environment(stack, workspace / "env", cache=cache)
        execute(plan, outcomes.append, python=stack.python, env=environment)
    finally:
        shutil.rmtree(workspace, ignore_errors=True)
    assert outcomes[0].status is Status.PASSED, outcomes[0].reason
    return dict(outcomes[0].evidence)


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
