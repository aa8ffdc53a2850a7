"""Runs whose times, memory and losses are made up, for the tests of baselines: none of them was ever measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from report_factory import outcome, run_of

from harness.core.cells import Outcome, Status
from harness.performance.baselines import Baseline
from harness.performance.baselines.accept import offer
from harness.run.outcome_lines import line_of
from harness.run.store import OUTCOMES, RUN, LoadedRun

CPU_CELL = "1.4.16/paraformer/v8404-h320/reduced/finetune@train_ds/cpu-fp32"
GPU_CELL = "1.4.16/paraformer/v8404-h320/full/finetune@train_ds/cuda-bf16"
GPU: Mapping[str, Any] = {"gpus": ("Imaginary GPU 80GB",), "driver": "550.54.15", "torch": "2.9.1+cu128"}
MIB = 1024**2
LOSSES = tuple(9.0 - 0.3 * step for step in range(25))


def metrics(*, seconds: float = 0.5, losses: Sequence[Any] = LOSSES, **changed: Any) -> dict[str, Any]:
    """Of a cell; the first steps take longer, as they do."""
    steps = len(losses)
    return {
        "losses": list(losses),
        "step_seconds": [9.0, 3.0, *[seconds] * (steps - 2)],
        "peak_resident_bytes": 900 * MIB,
        "peak_allocated_bytes": None,
        "peak_reserved_bytes": None,
        "peak_used_bytes": None,
        **changed,
    }


def cuda_metrics(*, allocated: int = 10_000 * MIB, **changed: Any) -> dict[str, Any]:
    """Of a cell on a GPU."""
    peaks = {"peak_allocated_bytes": allocated, "peak_reserved_bytes": allocated + 500 * MIB, "peak_used_bytes": None}
    return metrics(**{**peaks, **changed})


def cell(name: str = CPU_CELL, status: Status = Status.PASSED, **changed: Any) -> Outcome:
    """An outcome with such metrics."""
    told = cuda_metrics(**changed) if "/cuda-" in name else metrics(**changed)
    return outcome(name, status, metrics=told)


def run(number: int = 0, *outcomes: Outcome, **fields: Any) -> LoadedRun:
    """The run of that number; by default of the one cell, its step time a little different in each run."""
    mine = outcomes or (cell(seconds=0.5 * (1 + 0.01 * (number % 3 - 1))),)
    return run_of(mine, **{"matrix": "small", "started": f"2026-01-01T08:{number:02d}:00Z", **fields})


def gpu_run(number: int = 0, *outcomes: Outcome, **fields: Any) -> LoadedRun:
    """The same on a GPU."""
    mine = outcomes or (cell(GPU_CELL, seconds=0.5 * (1 + 0.01 * (number % 3 - 1))),)
    return run(number, *mine, **{**GPU, **fields})


def accepted(*runs: LoadedRun) -> Baseline:
    """The one baseline that these runs make."""
    (baseline,) = offer(runs, (), accepted="2026-01-02T00:00:00Z").baselines
    return baseline


def write(loaded: LoadedRun, folder: Path) -> Path:
    """The run as a folder on disk."""
    import json

    folder.mkdir(parents=True)
    (folder / OUTCOMES).write_bytes(b"".join(map(line_of, loaded.outcomes)))
    # A whole run: a report of one that lacks cells does not end well.
    whole = replace(loaded.provenance, cells=len(loaded.outcomes))
    (folder / RUN).write_text(json.dumps(whole.to_json()), encoding="utf-8")
    return folder
