"""The state of a watched training: what is known of each rank by now, in bounded memory."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from harness.watch.records import (
    CardSample,
    Ended,
    EpochEnded,
    ObserverFailed,
    ProcessStarted,
    ReadBack,
    Record,
    Saved,
    Step,
    TrainingStarted,
    Validated,
)

RECENT = 2_000
"""Steps of a rank that are kept whole; older ones are kept as points of the curves."""
MOST_POINTS = 4_000


@dataclass
class Curve:
    """One figure over the steps, thinned evenly when it grows beyond `MOST_POINTS` points."""

    steps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    _every: int = 1
    _seen: int = 0

    def add(self, step: int, value: float) -> None:
        """Add a point; of a long curve only every n-th is kept."""
        if self._seen % self._every == 0:
            self.steps.append(step)
            self.values.append(value)
            if len(self.steps) > MOST_POINTS:
                self.steps, self.values, self._every = self.steps[::2], self.values[::2], self._every * 2
        self._seen += 1


@dataclass
class RankState:
    """One process that trains."""

    file: str
    process: ProcessStarted | None = None
    training: TrainingStarted | None = None
    steps: int = 0
    recent: deque[Step] = field(default_factory=lambda: deque(maxlen=RECENT))
    curves: dict[str, Curve] = field(default_factory=dict)
    """`loss`, `unigram`, `learning_rate`, `gradient_norm`, each statistic of the model, `seconds`, `resident`,
    `allocated`, `reserved`, `audio` (seconds of speech by second) where they can be had."""
    validations: list[Validated] = field(default_factory=list)
    saved: list[Saved] = field(default_factory=list)
    epochs: list[EpochEnded] = field(default_factory=list)
    read_back: ReadBack | None = None
    ended: Ended | None = None
    failures: list[ObserverFailed] = field(default_factory=list)

    @property
    def rank(self) -> int:
        """0 without torchrun, and where nothing is known yet."""
        return self.process.rank if self.process else 0

    def add(self, record: Record) -> None:
        """Take up a record."""
        match record:
            case ProcessStarted():
                self.process = record
            case TrainingStarted():
                self.training = record
            case Step():
                self._add_step(record)
            case Validated():
                self.validations.append(record)
            case Saved():
                self.saved.append(record)
            case EpochEnded():
                self.epochs.append(record)
            case ReadBack():
                self.read_back = record
            case Ended():
                self.ended = record
            case ObserverFailed():
                self.failures.append(record)

    def _add_step(self, step: Step) -> None:
        self.steps = step.step
        self.recent.append(step)
        for name, value in figures(step).items():
            self.curves.setdefault(name, Curve()).add(step.step, value)


def figures(step: Step) -> dict[str, float]:
    """The figures of a step by the curve that they belong to; a loss and a statistic are means of the passes."""
    found: dict[str, float | None] = {
        "loss": mean([one.loss for one in step.forwards]),
        "unigram": step.unigram,
        "learning_rate": max(step.learning_rates, default=None),
        "gradient_norm": step.gradient_norm,
        "seconds": sum(step.seconds.values()) or None,
        "resident": step.memory.resident,
        "allocated": step.memory.allocated,
        "reserved": step.memory.reserved,
    }
    for name in {name for one in step.forwards for name in one.stats}:
        found.setdefault(name, mean([one.stats.get(name) for one in step.forwards]))
    return {name: float(value) for name, value in found.items() if value is not None}


def mean(values: list[float | None]) -> float | None:
    """The mean of those that are known; None where none is."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


@dataclass
class TrainingState:
    """All processes of one watched command."""

    ranks: dict[str, RankState] = field(default_factory=dict)
    """By file."""
    cards: dict[int, list[CardSample]] = field(default_factory=dict)
    """The last samples of each GPU."""

    def add(self, file: str, record: Record) -> None:
        """Take up a record of a process's file."""
        if isinstance(record, CardSample):
            self.cards.setdefault(record.index, []).append(record)
            del self.cards[record.index][:-RECENT]
            return
        self.ranks.setdefault(file, RankState(file)).add(record)

    @property
    def training_ranks(self) -> list[RankState]:
        """The processes that train, by rank."""
        return sorted((one for one in self.ranks.values() if one.training), key=lambda one: one.rank)
