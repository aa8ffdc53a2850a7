"""The state of a watched training: what is known of each rank by now, in bounded memory."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from harness.watch.records import (
    CardSample,
    Ended,
    EpochEnded,
    LoaderEnded,
    ObserverFailed,
    ProcessStarted,
    ReadBack,
    Record,
    Saved,
    TrainingStarted,
    TrainingStep,
    Validated,
)

RECENT = 2_000
"""Steps of a rank that are kept whole; older ones are kept as points of the curves."""
MOST_POINTS = 4_000
FIRST = 50
MOST_PEAKS = 20


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
    recent: deque[TrainingStep] = field(default_factory=lambda: deque(maxlen=RECENT))
    first: list[TrainingStep] = field(default_factory=list)
    """The first `FIRST` steps."""
    first_not_finite: TrainingStep | None = None
    """The first step with a loss or a gradient norm that is not finite."""
    skipped: int = 0
    """Steps that were left out."""
    ratios: Curve = field(default_factory=Curve)
    """The attention loss in units of the unigram baseline."""
    curves: dict[str, Curve] = field(default_factory=dict)
    """`loss`, `unigram`, `learning_rate`, `gradient_norm`, each statistic of the model, `seconds`, `resident`,
    `allocated`, `reserved`, `audio` (seconds of speech by second) where they can be had."""
    largest_padded: int = 0
    """Utterances × padded length, in stacked frames, of the largest batch so far."""
    peaks: list[tuple[float, float]] = field(default_factory=list)
    """Padded frames and peak bytes of the GPU, of each step that raised the peak: the last `MOST_PEAKS`."""
    validations: list[Validated] = field(default_factory=list)
    saved: list[Saved] = field(default_factory=list)
    epochs: list[EpochEnded] = field(default_factory=list)
    loader_ended: LoaderEnded | None = None
    """Of the epoch that this rank is in, where it has no further batch."""
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
            case TrainingStep():
                self._add_step(record)
            case Validated():
                self.validations.append(record)
            case Saved():
                self.saved.append(record)
            case EpochEnded():
                self.epochs.append(record)
            case LoaderEnded():
                self.loader_ended = record
            case ReadBack():
                self.read_back = record
            case Ended():
                self.ended = record
            case ObserverFailed():
                self.failures.append(record)

    def _add_step(self, step: TrainingStep) -> None:
        self.steps = step.step
        # What a further step follows was no end: the program caught the exception, or reads its data in parts.
        if self.ended is not None and step.step > self.ended.step:
            self.ended = None
        if self.loader_ended is not None and step.step > self.loader_ended.step:
            self.loader_ended = None
        self.recent.append(step)
        if len(self.first) < FIRST:
            self.first.append(step)
        self.skipped += step.skipped
        self._add_size(step)
        if self.first_not_finite is None and not is_finite(step):
            self.first_not_finite = step
        ratio = baseline_ratio(step, self.training)
        if ratio is not None:
            self.ratios.add(step.step, ratio)
        for name, value in figures(step).items():
            self.curves.setdefault(name, Curve()).add(step.step, value)

    def _add_size(self, step: TrainingStep) -> None:
        size = max((forward.utterances * forward.frames for forward in step.forwards), default=0)
        self.largest_padded = max(self.largest_padded, size)
        peak = step.memory.peak_allocated
        # The optimizer's state is allocated at the end of the first step.
        if step.step > 2 and peak is not None and peak > (self.peaks[-1][1] if self.peaks else 0):
            self.peaks = [*self.peaks, (float(size), float(peak))][-MOST_PEAKS:]


BETWEEN = frozenset({"validation", "checkpoint"})
"""Phases that are recorded with the step that comes after them, and are not part of its time."""


def seconds_of(step: TrainingStep) -> float:
    """The time of a step, without validation and saving."""
    return sum(value for phase, value in step.seconds.items() if phase not in BETWEEN)


def figures(step: TrainingStep) -> dict[str, float]:
    """The figures of a step by the curve that they belong to; a loss and a statistic are means of the passes."""
    values: dict[str, float | None] = {
        "loss": mean([forward.loss for forward in step.forwards]),
        "unigram": step.unigram,
        "learning_rate": max(step.learning_rates, default=None),
        "gradient_norm": step.gradient_norm,
        "seconds": seconds_of(step) or None,
        "resident": step.memory.resident,
        "allocated": step.memory.allocated,
        "reserved": step.memory.reserved,
    }
    for name in {name for forward in step.forwards for name in forward.stats}:
        values.setdefault(name, mean([forward.stats.get(name) for forward in step.forwards]))
    return {name: float(value) for name, value in values.items() if value is not None}


def is_finite(step: TrainingStep) -> bool:
    """Whether the losses of a step and its gradient norm are finite, as far as they are known."""
    known = [forward.loss for forward in step.forwards] + [step.gradient_norm]
    return all(value is None or math.isfinite(value) for value in known)


ATTENTION_LOSS = "loss_att"
"""The statistic that is a mean over target tokens, so that it can be compared with the unigram baseline. A CTC loss, or
the sum of several losses, cannot."""


def losses_per_token(step: TrainingStep, training: TrainingStarted | None) -> Iterator[float]:
    """The attention loss of each pass, in nats a token."""
    for forward in step.forwards:
        loss = forward.stats.get(ATTENTION_LOSS)
        if loss is None:
            continue
        if training is not None and training.normalize_length is False:
            # The loss is divided by the number of utterances.
            if not forward.tokens_used:
                continue
            loss *= forward.utterances / forward.tokens_used
        yield loss


def baseline_ratio(step: TrainingStep, training: TrainingStarted | None) -> float | None:
    """The attention loss of a step divided by the unigram baseline; None where either is unknown."""
    loss = mean(list(losses_per_token(step, training)))
    return loss / step.unigram if loss is not None and step.unigram else None


def mean(values: Sequence[float | None]) -> float | None:
    """The mean of those that are known; None where none is."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


@dataclass
class TrainingState:
    """All processes of one watched command."""

    ranks: dict[str, RankState] = field(default_factory=dict)
    """By file."""
    now: float = 0.0
    """`time.time()` when the records were read last; 0 for a training that has ended."""
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
        """The processes that train, by rank; of a command that trains several times those of the last training."""
        last = self.trainings()[-1]
        return sorted((rank for rank in last.ranks.values() if rank.training), key=lambda rank: rank.rank)

    def trainings(self) -> list[TrainingState]:
        """Each training of the command for itself, in their order: the processes that were started together.

        Those of one torchrun have one parent. A script may train several times, each time in a process of its own.
        """
        ranks_by_training: dict[object, dict[str, RankState]] = {}
        for file, rank in self.ranks.items():
            process = rank.process
            together: object = file
            if process is not None and process.world_size > 1:
                together = (process.host, process.parent, process.world_size)
            ranks_by_training.setdefault(together, {})[file] = rank
        if len(ranks_by_training) < 2:
            return [self]
        ordered = sorted(ranks_by_training.values(), key=lambda ranks: min(_began(rank) for rank in ranks.values()))
        # Of processes that only imported a trainer nothing can be shown while others train.
        ordered.sort(key=lambda ranks: any(rank.training is not None for rank in ranks.values()))
        return [TrainingState(ranks=ranks, now=self.now, cards=self.cards) for ranks in ordered]

    @property
    def has_ended(self) -> bool:
        """Whether all of its processes said so."""
        return bool(self.ranks) and all(rank.ended is not None for rank in self.ranks.values())


def _began(rank: RankState) -> float:
    return rank.process.at if rank.process else 0.0
