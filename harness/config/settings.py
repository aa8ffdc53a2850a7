"""What a matrix says besides its cells: the limits of a cell, and the settings of a release's trainer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any

from harness.config.axes import GPU
from harness.config.toml_tables import Table
from harness.core.checks import Check, named_object

LEAST_MEMORY_BYTES = 256 * 1024**2
"""An interpreter with torch needs more than this, so a smaller limit is a slip of the unit."""

DEFAULT_TIMEOUT_SECONDS: Mapping[Check, float] = MappingProxyType(
    {check: check.facts.timeout_seconds for check in Check}
)

MINIMUM_STEPS = 12
"""Fewer optimizer steps show that a trainer starts, not that it trains."""

MINIMUM_EPOCHS = 3
"""Below three points there is no trend."""


@dataclass(frozen=True, kw_only=True)
class CellLimits:
    """What one cell may use before it is ended."""

    timeout_seconds: Mapping[Check, float] = field(default_factory=lambda: DEFAULT_TIMEOUT_SECONDS)
    """Wall-clock time; every check has one."""
    memory_bytes: int = 6 * 1024**3
    """Of the cell's process."""


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings:
    """Settings of a release's trainer."""

    steps: int = 49
    """Optimizer steps; whole epochs."""
    batch_size: int = 4
    """Utterances."""
    learning_rate: float = 0.002
    seed: int = 0
    """Of the first training; the next ones have the numbers after it."""
    seeds: int = 3
    """Trainings of a cell. One has no spread: then nothing is said of it, and nothing compared with other releases."""
    utterances: int = 28
    """How many rows make up an epoch."""
    distinct: int = 28
    """Of how many utterances the rows are made, over and over: for a Paraformer's `finetune` four sentences and 24
    orders of the built-in words (`harness/corpus/word_orders.py`)."""
    warmup_steps: int = 8
    """After so many steps the learning rate has risen to its height; upstream's 30000 would train nothing here."""
    accumulate: int = 2
    """Batches whose gradients are accumulated in a small training of its own; 1 leaves it out."""
    processes: int = 1
    """Processes of two small trainings of their own, by gloo on a CPU and by NCCL on as many GPUs; 1 leaves them out,
    because they take half a minute."""

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch, the last one perhaps smaller."""
        return -(-self.utterances // self.batch_size)

    @property
    def epochs(self) -> int:
        """How often each utterance is seen."""
        return -(-self.steps // self.steps_per_epoch)

    def problems(self) -> tuple[str, ...]:
        """Why such a training could never be judged; empty when it can."""
        problems = []
        if self.steps < MINIMUM_STEPS:
            problems.append(f"{self.steps} optimizer steps; the rules need at least {MINIMUM_STEPS}")
        if self.distinct > self.utterances:
            problems.append(f"{self.utterances} rows cannot hold {self.distinct} utterances")
        if self.steps % self.steps_per_epoch:
            problems.append(
                f"{self.steps} steps end within an epoch of {self.steps_per_epoch} "
                f"({self.utterances} utterances in batches of {self.batch_size}); take a multiple of it"
            )
        if self.epochs < MINIMUM_EPOCHS:
            problems.append(
                f"{self.steps} steps in epochs of {self.steps_per_epoch} make {self.epochs}; "
                f"the rules need at least {MINIMUM_EPOCHS} epochs"
            )
        return tuple(problems)


@dataclass(frozen=True, kw_only=True)
class PropertiesSettings:
    """How many examples are drawn in search of a counter-example; on every machine the same ones."""

    examples: int = 300
    """Drawn examples of a cell, over all properties together."""
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class DecodeSettings:
    """The training after which a model has to know its utterances."""

    steps: int = 200
    """Optimizer steps, all in one epoch."""
    utterances: int = 4
    """How many of the corpus are to be known, the shortest of it."""
    batch_size: int = 2
    learning_rate: float = 0.001
    error_rate: float = 0.5
    """The highest character error rate with which the utterances count as known: docs/checks.md#decode."""


@dataclass(frozen=True, kw_only=True)
class CheckpointSettings:
    """The training that is stopped and resumed, between its epochs and within one."""

    epochs: int = 2
    utterances: int = 6
    """The shortest of the corpus; with the batch size, three batches an epoch, so that it can be stopped twice."""
    batch_size: int = 2
    learning_rate: float = 0.001
    warmup_steps: int = 4
    """The learning rate is another in each step, so that a lost step of the schedule shows."""


NO_SECONDS = (
    "no longer a setting, because a clock made a slow machine search less: every property draws its number of examples;"
    " set examples, and limit the time with [limits] timeout_seconds = { properties = 900 }"
)
"""The error for a matrix that was written when the search had a processor time of its own."""

CheckSettings = PropertiesSettings | DecodeSettings | CheckpointSettings
CHECK_SETTINGS: Mapping[Check, CheckSettings] = MappingProxyType(
    {check: named_object("harness.config", check.facts.settings)() for check in Check if check.facts.settings}
)
"""The checks that have a table of their own in a matrix, with their defaults."""


def read_check_settings(table: Table, default: CheckSettings) -> CheckSettings:
    """The table named like the check; what it leaves out has its default."""
    legal = [field.name for field in fields(default)]
    if isinstance(default, PropertiesSettings) and table.has("seconds"):
        table.problems.add(table.at("seconds"), NO_SECONDS)
        legal.append("seconds")
    table.only(legal)
    values: dict[str, Any] = {}
    for setting in fields(default):
        known = getattr(default, setting.name)
        if isinstance(known, int):
            least = 0 if setting.name == "seed" else 1
            value: float | None = table.integer(setting.name, default=known, least=least)
        else:
            value = table.positive(setting.name, default=known)
        values[setting.name] = known if value is None else value
    return replace(default, **values)


def read_limits(table: Table) -> CellLimits:
    """The table `[limits]`; what it leaves out has its default."""
    table.only(["timeout_seconds", "memory_bytes"])
    memory = table.integer("memory_bytes", default=CellLimits.memory_bytes, least=LEAST_MEMORY_BYTES)
    raw_times = table.values.get("timeout_seconds", {})
    seconds = dict(DEFAULT_TIMEOUT_SECONDS)
    if isinstance(raw_times, dict):
        times = Table(values=raw_times, place=table.at("timeout_seconds"), problems=table.problems)
        times.only([str(check) for check in Check])
        for check, default in DEFAULT_TIMEOUT_SECONDS.items():
            seconds[check] = times.positive(check, default=default) or default
    else:
        table.problems.add(table.at("timeout_seconds"), "expected a table such as { finetune = 300 }")
    return CellLimits(timeout_seconds=MappingProxyType(seconds), memory_bytes=memory or CellLimits.memory_bytes)


def read_finetune(table: Table, *, gpu_present: bool = False) -> FinetuneSettings:
    """The table `[finetune]`; what it leaves out has its default.

    Where there is a GPU, what the table `[finetune.gpu]` says goes before it; both are looked at everywhere.
    """
    names = [field.name for field in fields(FinetuneSettings)]
    table.only([*names, GPU])
    settings = _training(table, FinetuneSettings())
    gpu_values = table.values.get(GPU, {})
    if not isinstance(gpu_values, dict):
        table.problems.add(table.at(GPU), "expected a table such as [finetune.gpu]")
        return settings
    gpu_table = Table(values=gpu_values, place=table.at(GPU), problems=table.problems)
    gpu_table.only(names)
    on_gpu = _training(gpu_table, settings) if gpu_values else settings
    return on_gpu if gpu_present else settings


def _training(table: Table, default: FinetuneSettings) -> FinetuneSettings:
    seed = table.integer("seed", default=default.seed, least=0)
    utterances = table.integer("utterances", default=default.utterances, least=1) or default.utterances
    distinct = min(default.distinct, utterances)
    settings = FinetuneSettings(
        steps=table.integer("steps", default=default.steps, least=1) or default.steps,
        batch_size=table.integer("batch_size", default=default.batch_size, least=1) or default.batch_size,
        learning_rate=table.positive("learning_rate", default=default.learning_rate) or default.learning_rate,
        seed=default.seed if seed is None else seed,
        seeds=table.integer("seeds", default=default.seeds, least=1) or default.seeds,
        distinct=table.integer("distinct", default=distinct, least=1) or distinct,
        accumulate=table.integer("accumulate", default=default.accumulate, least=1) or default.accumulate,
        processes=table.integer("processes", default=default.processes, least=1) or default.processes,
        utterances=utterances,
        warmup_steps=table.integer("warmup_steps", default=default.warmup_steps, least=1) or default.warmup_steps,
    )
    for problem in settings.problems():
        table.problems.add(table.at("steps"), problem)
    return settings
