"""What fine-tuning took of memory and of time: by part, by phase, and over the steps.

Figures of a GPU stand only where one was measured. On a CPU what is counted is shown (weights, gradients, optimizer
state), and the resident memory of the process under its own name; it says nothing of a GPU's.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from harness.core.cells import Cell, Check, Device, Outcome, Status
from harness.core.numbers import any_number, any_numbers
from harness.core.versions import Order
from harness.performance.prediction.prediction_error import MEASURED, error_of
from harness.report.learning import Named
from harness.report.memory_chart import ChartBand, Timeline
from harness.rules.verdicts import JudgedOutcome
from harness.text import units

NOT_ON_A_GPU = "not measured on a GPU"
PARTS = {
    "weights": "weights",
    "gradients": "gradients",
    "optimizer_state": "optimizer state",
    "activations": "activations",
    "workspace_and_fragmentation": "workspace and fragmentation",
    "context": "context",
}
"""In the order of the report, with their names for people."""
COUNTED = ("weights", "optimizer_state", "gradients")
"""What is in memory when a step ends; these are known without a GPU too."""
PHASES = ("data", "forward", "backward", "optimizer", "harness", "other")


@dataclass(frozen=True, kw_only=True)
class PhaseTime:
    """One phase of a training step."""

    name: str
    seconds: float | None
    """The median over the steps after the warm-up; None where it could not be seen."""
    share: float | None
    """Of the sum over the phases."""


@dataclass(frozen=True, kw_only=True)
class Shortage:
    """How a training ran out of memory; None where the error did not say."""

    requested: float | None
    free: float | None
    capacity: float | None
    allocated: float | None
    reserved: float | None
    phase: str
    largest_phase: str
    step: int

    @property
    def sentence(self) -> str:
        """All of it, and what to do."""
        where = f"{self.phase}, step {self.step + 1}" if self.step or self.phase in PHASES else self.phase
        parts = [f"Memory ran out ({where})"]
        if self.requested is not None:
            parts.append(f"{units.memory(self.requested)} more were requested")
        if self.allocated is not None:
            parts.append(f"{units.memory(self.allocated)} allocated and {units.memory(self.reserved)} reserved")
        if self.capacity is not None:
            parts.append(f"the device has {units.memory(self.capacity)}, of which {units.memory(self.free)} free")
        if self.largest_phase:
            parts.append(f"most was allocated in this phase so far: {self.largest_phase}")
        return "; ".join(parts) + ". Use a smaller batch; funasr-harness estimate says which one fits."


@dataclass(frozen=True, kw_only=True)
class CellMemory:
    """One training; None where a figure could not be had."""

    id: str
    release: str
    status: Status
    on_gpu: bool
    allocated: float | None
    """Peaks, in bytes."""
    reserved: float | None
    used: float | None
    resident: float | None
    """Of the process, on the host's side."""
    parts: tuple[Named, ...]
    peak: str
    """Where the peak lies: `backward, step 5`."""
    step_seconds: float | None
    """The sum of the phases' medians."""
    phases: tuple[PhaseTime, ...]
    warm_up: int
    """How many steps the times leave out."""
    audio_seconds_per_second: float | None
    busy: float | None
    """Mean utilisation of the GPU, from 0 to 1."""
    busy_samples: int
    busy_told: str
    """Why there is none, where there is none."""
    shortage: Shortage | None
    notes: tuple[str, ...]
    """What limits the trust in these figures."""
    timeline: Timeline | None


@dataclass(frozen=True, kw_only=True)
class MemoryGroup:
    """The trainings of one model at one shape by one entry point, oldest release first."""

    title: str
    anchor: str
    on_gpu: bool
    cells: tuple[CellMemory, ...]

    @property
    def drawn(self) -> tuple[CellMemory, ...]:
        """Those with a picture: each on a GPU; on a CPU the newest, for their courses say little apart."""
        with_timeline = [cell for cell in self.cells if cell.timeline]
        return tuple(with_timeline if self.on_gpu else with_timeline[-1:])


def memory_groups(judged: Iterable[JudgedOutcome], order: Order) -> tuple[MemoryGroup, ...]:
    """Every fine-tune whose memory or time by phase is known."""
    groups: dict[tuple[str, ...], list[Outcome]] = defaultdict(list)
    for item in judged:
        if is_measured(item.outcome):
            groups[_key(item.outcome.cell)].append(item.outcome)
    age = {label: number for number, label in enumerate(order.labels)}
    return tuple(
        MemoryGroup(
            title=" · ".join(key),
            anchor=f"memory-{number}",
            on_gpu=groups[key][0].cell.device is Device.CUDA,
            cells=tuple(
                cell_memory(outcome) for outcome in sorted(groups[key], key=lambda outcome: age[outcome.cell.release])
            ),
        )
        for number, key in enumerate(sorted(groups), 1)
    )


def is_measured(outcome: Outcome) -> bool:
    """Whether there is anything to tell."""
    metrics = outcome.metrics
    figures = (metrics.get("phase_seconds"), metrics.get("out_of_memory"), metrics.get("peak_allocated_bytes"))
    return outcome.cell.check is Check.FINETUNE and any(figure is not None for figure in figures)


def cell_memory(outcome: Outcome) -> CellMemory:
    """Read the metrics as they came; whatever is not of the expected kind counts as not had."""
    metrics, cell = outcome.metrics, outcome.cell
    warm_up = int(any_number(metrics.get("warmup_steps")) or 0)
    phases = _phases(_mapping(metrics.get("phase_seconds")), warm_up)
    busy = _mapping(metrics.get("utilisation"))
    known = [phase.seconds for phase in phases if phase.seconds is not None]
    parts = _mapping(metrics.get("memory_parts"))
    return CellMemory(
        id=cell.id,
        release=cell.release,
        status=outcome.status,
        on_gpu=cell.device is Device.CUDA,
        allocated=any_number(metrics.get("peak_allocated_bytes")),
        reserved=any_number(metrics.get("peak_reserved_bytes")),
        used=any_number(metrics.get("peak_used_bytes")),
        resident=any_number(metrics.get("peak_resident_bytes")),
        parts=tuple(Named(name=words, value=any_number(parts.get(name))) for name, words in PARTS.items()),
        peak=_peak(_mapping(metrics.get("memory_peak"))),
        step_seconds=sum(known) if known else None,
        phases=phases,
        warm_up=warm_up,
        audio_seconds_per_second=any_number(metrics.get("audio_seconds_per_second")),
        busy=any_number(busy.get("mean")),
        busy_samples=int(any_number(busy.get("samples")) or 0),
        busy_told=str(busy.get("told") or NOT_ON_A_GPU),
        shortage=_shortage(metrics.get("out_of_memory")),
        notes=(
            *_notes(_mapping(metrics.get("device")), used=metrics.get("peak_used_bytes")),
            *_predicted(metrics),
        ),
        timeline=_timeline(metrics, parts, on_gpu=cell.device is Device.CUDA),
    )


def _key(cell: Cell) -> tuple[str, ...]:
    place = f"{cell.depth or ''} {cell.device}-{cell.precision}".strip()
    return (str(cell.variant), str(cell.dimensions), place, f"{cell.check}@{cell.entry}")


def _phases(seconds: Mapping[str, object], warm_up: int) -> tuple[PhaseTime, ...]:
    medians: dict[str, float | None] = {}
    for name in PHASES:
        known = units.finite(any_numbers(seconds.get(name))[warm_up:])
        medians[name] = statistics.median(known) if known else None
    total = sum(median for median in medians.values() if median is not None)
    return tuple(
        PhaseTime(name=name, seconds=median, share=median / total if median is not None and total else None)
        for name, median in medians.items()
    )


def _peak(peak: Mapping[str, object]) -> str:
    step = any_number(peak.get("step"))
    return "" if step is None else f"{peak.get('phase')}, step {int(step) + 1}"


def _notes(device: Mapping[str, object], *, used: object) -> Iterator[str]:
    start = _mapping(device.get("at_start"))
    if device.get("clean_at_start") is False:
        others = int(any_number(start.get("other_processes")) or 0)
        in_use = units.memory(any_number(start.get("used_bytes")))
        yield (
            f"The device was not clean when the training began (other processes on it: {others}; in use: {in_use}): "
            "these figures are not the training's alone."
        )
    if device and device.get("clean_at_start") is None:
        yield "Whether another process used the device is not known."
    if device and used is None:
        yield f"How much the process used of the device is not known: {device.get('used_told') or 'nobody says why'}."
    if device.get("kind") == "MIG":
        yield "The device is a partition of a GPU (MIG)."


def _predicted(metrics: Mapping[str, object]) -> Iterator[str]:
    errors = []
    for name in MEASURED:
        error, predicted = error_of(metrics, name), any_number(metrics.get(name.replace("peak", "predicted")))
        if error is not None:
            word = name.removeprefix("peak_").removesuffix("_bytes")
            errors.append(f"{word} {units.memory(predicted)} ({error:+.1%} of what was measured)")
    if errors:
        yield f"Predicted without a GPU: {', '.join(errors)}."


def _shortage(value: object) -> Shortage | None:
    if not isinstance(value, Mapping):
        return None
    return Shortage(
        requested=any_number(value.get("requested_bytes")),
        free=any_number(value.get("free_bytes")),
        capacity=any_number(value.get("capacity_bytes")),
        allocated=any_number(value.get("allocated_bytes")),
        reserved=any_number(value.get("reserved_bytes")),
        phase=str(value.get("phase") or "unknown"),
        largest_phase=str(value.get("largest_phase") or ""),
        step=int(any_number(value.get("step")) or 0),
    )


def _timeline(metrics: Mapping[str, object], parts: Mapping[str, object], *, on_gpu: bool) -> Timeline | None:
    series = any_numbers(metrics.get("held_bytes"))
    if not units.finite(series):
        return None
    if not on_gpu:
        return Timeline(what="resident memory of the process", held=series)
    sizes = [(name, any_number(parts.get(name))) for name in COUNTED]
    return Timeline(
        what="GPU memory held by tensors",
        held=series,
        peak=any_numbers(metrics.get("peak_allocated_by_step")),
        bands=tuple(ChartBand(kind=name, name=PARTS[name], size=size) for name, size in sizes if size is not None),
    )


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}
