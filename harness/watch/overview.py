"""The figures of a watched training at this moment, as terminal, page and report show them.

All of them are as recorded. Only times are means, over the last `RECENT_STEPS` steps of a rank.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from harness.core.cells import Severity
from harness.core.numbers import mapping, number
from harness.watch.findings import WatchFinding
from harness.watch.records import CardSample, Memory, TrainingForward, TrainingStarted, TrainingStep
from harness.watch.rules.settings import WatchSettings
from harness.watch.state import ATTENTION_LOSS, BETWEEN, Curve, RankState, TrainingState, mean

RECENT_STEPS = 50
PHASES = ("data", "forward", "backward", "optimizer", "other", "observers")
_LONGEST_STEP = 1e7
"""Seconds."""
PHASE_NAMES: Mapping[str, str] = {"data": "waiting"}
"""What is shown where the record's name does not say it."""


@dataclass(frozen=True, kw_only=True)
class RankOverview:
    """One process that trains."""

    rank: int
    pid: int | None
    device: str
    step: int
    memory: Memory
    by_nvml: int | None
    """Bytes of its GPU that NVML counts for the process; None where NVML does not say."""
    seconds: float | None
    """Of a step, without validation and saving."""
    phases: Mapping[str, float]
    """Seconds of a step, by phase."""
    end: str
    """How it ended; empty while it runs."""


@dataclass(frozen=True, kw_only=True)
class CardOverview:
    """One GPU, by NVML's last sample."""

    index: int
    name: str
    total: int
    used: int
    ours: int
    """Bytes of the processes that train."""
    others: int
    """Bytes of other processes, and what NVML gives to none."""
    utilisation: int | None


@dataclass(frozen=True, kw_only=True)
class Overview:
    """A training in figures: those of the first rank where nothing else is said."""

    title: str
    """Model, trainer, optimizer, device."""
    started: float | None
    """`time.time()` of the first forward pass."""
    latest: float | None
    """Of the last step."""
    step: int
    epoch: int | None
    epochs: int | None
    """`max_epoch` in force."""
    loss: float | None
    attention_loss: float | None
    baseline: float | None
    """Of the attention loss, in its unit."""
    accuracy: tuple[str, float] | None
    """Its name among the model's statistics, and the value."""
    learning_rates: tuple[float, ...]
    gradient_norm: float | None
    clipped_at: float | None
    skipped: int
    """Steps that were left out for gradients that are not finite."""
    frames_per_second: float | None
    """Stacked frames of speech, without padding, of all ranks."""
    speech_per_second: float | None
    """Seconds of speech by second, of all ranks."""
    ranks: tuple[RankOverview, ...]
    cards: tuple[CardOverview, ...]

    @property
    def seconds(self) -> float | None:
        """Of a step of the first rank."""
        return self.ranks[0].seconds if self.ranks else None

    @property
    def phases(self) -> Mapping[str, float]:
        """Seconds of a step of the first rank, by phase."""
        return self.ranks[0].phases if self.ranks else {}


def overview(state: TrainingState) -> Overview:
    """The figures of now."""
    ranks = state.training_ranks
    first = ranks[0] if ranks else None
    training = first.training if first else None
    steps = recent(first)
    last = steps[-1] if steps else None
    forwards = last.forwards if last else ()
    frames = [_frames_per_second(rank) for rank in ranks]
    speech = zip(frames, (speech_per_frame(rank.training) for rank in ranks), strict=True)
    return Overview(
        title=title(training, len(ranks)),
        started=training.at if training else None,
        latest=last.at if last else None,
        step=first.steps if first else 0,
        epoch=last.epoch if last else None,
        epochs=WatchSettings.of(training).max_epoch if training else None,
        loss=mean([forward.loss for forward in forwards]),
        attention_loss=mean([forward.stats.get(ATTENTION_LOSS) for forward in forwards]),
        baseline=baseline(last, training) if last else None,
        accuracy=_accuracy(first, forwards),
        learning_rates=last.learning_rates if last else (),
        gradient_norm=last.gradient_norm if last else None,
        clipped_at=last.clipped_at if last else None,
        skipped=first.skipped if first else 0,
        frames_per_second=_of_all(frames),
        speech_per_second=_of_all(
            [rate * seconds_per_frame if rate and seconds_per_frame else None for rate, seconds_per_frame in speech]
        ),
        ranks=tuple(_rank(other_rank, state) for other_rank in ranks),
        cards=tuple(_card(samples[-1], state) for _, samples in sorted(state.cards.items()) if samples),
    )


def title(training: TrainingStarted | None, ranks: int) -> str:
    """What is trained, by what, on what."""
    if training is None:
        return ""
    optimizer = " + ".join(filter(None, (training.optimizer, training.scheduler)))
    entry = training.entry.rpartition("/")[2].removesuffix(".py")
    words = [training.model, entry, optimizer, training.wrapped, training.device]
    return ", ".join([*filter(None, words), *([f"{ranks} ranks"] if ranks > 1 else [])])


def recent(rank: RankState | None) -> Sequence[TrainingStep]:
    """The last steps of a rank."""
    if rank is None:
        return ()
    return tuple(islice(rank.recent, max(0, len(rank.recent) - RECENT_STEPS), None))


def phases_of(step: TrainingStep) -> dict[str, float]:
    """Seconds of a step by phase, without validation and saving; a clock that jumped is left out."""
    known = {name: seconds for name, seconds in step.seconds.items() if name not in BETWEEN}
    return {name: seconds for name, seconds in known.items() if 0 <= seconds < _LONGEST_STEP}


def step_seconds(step: TrainingStep) -> float:
    """What a step took, without validation and saving."""
    return sum(phases_of(step).values())


def baseline(step: TrainingStep, training: TrainingStarted | None) -> float | None:
    """The unigram baseline in the unit of the step's attention loss; None without such a loss.

    A model whose loss is divided by the number of utterances has the baseline times its tokens per utterance.
    """
    if step.unigram is None or mean([forward.stats.get(ATTENTION_LOSS) for forward in step.forwards]) is None:
        return None
    if training is None or training.normalize_length is not False:
        return step.unigram
    lengths = mean(
        [
            forward.tokens_used / forward.utterances
            for forward in step.forwards
            if forward.tokens_used and forward.utterances
        ]
    )
    return step.unigram * lengths if lengths is not None else None


def baseline_curve(rank: RankState) -> Curve:
    """The unigram baseline over the steps, in the unit of the attention loss; empty where they cannot be compared."""
    if ATTENTION_LOSS not in rank.curves:
        return Curve()
    if rank.training is None or rank.training.normalize_length is not False:
        return rank.curves.get("unigram", Curve())
    # The ratio of the two is in units that agree.
    losses = dict(zip(rank.curves[ATTENTION_LOSS].steps, rank.curves[ATTENTION_LOSS].values, strict=True))
    curve = Curve()
    for step, ratio in zip(rank.ratios.steps, rank.ratios.values, strict=True):
        if math.isfinite(ratio) and ratio > 0 and step in losses:
            curve.add(step, losses[step] / ratio)
    return curve


def accuracy_name(rank: RankState) -> str | None:
    """The statistic that is an accuracy: `acc`, else the first whose name begins so."""
    names = sorted(name for name in rank.curves if name.startswith("acc"))
    return "acc" if "acc" in names else next(iter(names), None)


def severities(findings: Sequence[WatchFinding]) -> Mapping[Severity, int]:
    """The number of findings of each severity, the gravest first."""
    counts = Counter(finding.severity for finding in findings)
    return {severity: counts[severity] for severity in Severity if counts[severity]}


def _accuracy(rank: RankState | None, forwards: Sequence[TrainingForward]) -> tuple[str, float] | None:
    name = accuracy_name(rank) if rank else None
    value = mean([forward.stats.get(name) for forward in forwards]) if name else None
    return (name, value) if name and value is not None else None


def _rank(rank: RankState, state: TrainingState) -> RankOverview:
    steps = recent(rank)
    pid = rank.process.pid if rank.process else None
    spent = [phases_of(step) for step in steps]
    known = {name for phases in spent for name in phases}
    names = [*(name for name in PHASES if name in known), *sorted(known.difference(PHASES))]
    by_nvml = [samples[-1].by_process.get(str(pid)) for samples in state.cards.values() if samples]
    return RankOverview(
        rank=rank.rank,
        pid=pid,
        device=rank.training.device if rank.training else "",
        step=rank.steps,
        memory=steps[-1].memory if steps else Memory(resident=None),
        by_nvml=next((size for size in by_nvml if size is not None), None),
        seconds=mean([step_seconds(step) for step in steps]),
        phases={name: sum(phases.get(name, 0.0) for phases in spent) / len(spent) for name in names},
        end=rank.ended.how if rank.ended else "",
    )


def _card(sample: CardSample, state: TrainingState) -> CardOverview:
    pids = {str(rank.process.pid) for rank in state.ranks.values() if rank.process}
    used_by_training = sum(size for pid, size in sample.by_process.items() if pid in pids)
    return CardOverview(
        index=sample.index,
        name=sample.name,
        total=sample.total,
        used=sample.used,
        ours=used_by_training,
        others=max(0, sample.used - used_by_training),
        utilisation=sample.utilisation,
    )


def _frames_per_second(rank: RankState) -> float | None:
    steps = recent(rank)
    frames = [forward.frames_used for step in steps for forward in step.forwards]
    seconds = sum(map(step_seconds, steps))
    known = [count for count in frames if count is not None]
    return sum(known) / seconds if known and len(known) == len(frames) and seconds > 0 else None


def speech_per_frame(training: TrainingStarted | None) -> float | None:
    """Seconds of speech in a stacked frame, by the settings of FunASR's `WavFrontend`; None with another one.

    Its defaults: a frame each 10 ms, and none stacked (funasr/frontends/wav_frontend.py).
    """
    frontend_conf = mapping(training.in_force.get("frontend_conf")) if training else {}
    if not {"frame_shift", "lfr_n"} & set(frontend_conf):
        return None
    shift, stacked = number(frontend_conf.get("frame_shift", 10)), number(frontend_conf.get("lfr_n", 1))
    return shift * stacked / 1000 if shift and stacked else None


def _of_all(rates: Sequence[float | None]) -> float | None:
    """The sum; None where a rank's is not known."""
    known = [rate for rate in rates if rate is not None]
    return sum(known) if known and len(known) == len(rates) else None
