"""What a GPU takes besides tensors, learned from trainings there whose memory was measured and predicted.

The prediction knows every tensor and the allocator's rules. What it misses of `allocated`, in
trainings small and large alike, is what libraries allocate for themselves; what NVML counts of the process beyond the
allocator's `reserved` is the context.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median

from harness.core.cells import Device, Outcome
from harness.core.numbers import mapping, number
from harness.performance.baselines.keys import Key, key_of
from harness.performance.baselines.metrics import comparable
from harness.performance.prediction.calibration import Calibration
from harness.run.store import LoadedRun

LEAST_CELLS = 3
"""Different ones: repeats of one cell miss by the same, whether that is a constant or grows with the model."""


@dataclass(frozen=True, kw_only=True)
class CalibrationSample:
    """What the trainings of one key say, in bytes."""

    cells: set[str] = field(default_factory=set)
    """Those of which both are known."""
    contexts: list[float] = field(default_factory=list)
    missed: list[float] = field(default_factory=list)
    """Measured less predicted of `allocated`; below 0 where too much was predicted."""

    def add(self, outcome: Outcome) -> None:
        """Take in one training; one that lacks a figure, or did not have the device to itself, is left out."""
        metrics = outcome.metrics
        context = number(mapping(metrics.get("memory_parts")).get("context"))
        clean = mapping(metrics.get("device")).get("clean_at_start") is not False
        measured, predicted = (number(metrics.get(f"{name}_allocated_bytes")) for name in ("peak", "predicted"))
        if context is None or not clean or measured is None or predicted is None:
            return
        self.cells.add(outcome.cell.id)
        self.contexts.append(context)
        self.missed.append(measured - predicted)


def calibrations(runs: Sequence[LoadedRun]) -> tuple[Calibration, ...]:
    """One for each GPU, driver, torch and precision of which the runs have enough trainings; none for a CPU."""
    samples: dict[Key, CalibrationSample] = defaultdict(CalibrationSample)
    for run in runs:
        for outcome in run.outcomes:
            if outcome.cell.device is Device.CUDA and comparable(outcome):
                key = key_of(outcome, run.provenance)
                if isinstance(key, Key):
                    samples[key].add(outcome)
    return tuple(_calibration(key, sample, runs) for key, sample in samples.items() if len(sample.cells) >= LEAST_CELLS)


def _calibration(key: Key, sample: CalibrationSample, runs: Iterable[LoadedRun]) -> Calibration:
    return Calibration(
        key=key.name,
        context_bytes=round(median(sample.contexts)),
        # A workspace takes no less than nothing: where too much was predicted, the workspace is zero.
        workspace_bytes=max(0, round(median(sample.missed))),
        origin={
            "gpu": key.hardware,
            "driver": key.driver,
            "torch": key.torch,
            "precision": key.precision,
            "runs": [run.provenance.started for run in runs],
            "trainings": len(sample.missed),
            "context_bytes": [round(min(sample.contexts)), round(max(sample.contexts))],
            "workspace_bytes": [round(min(sample.missed)), round(max(sample.missed))],
        },
    )
