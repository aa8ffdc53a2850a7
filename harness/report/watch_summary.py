"""What page, Markdown and terminal say of a watched training at its end, or by now: made once, formatted thrice."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from harness.core.cells import Severity
from harness.text import units
from harness.watch.findings import WatchFinding
from harness.watch.forecast import Forecast
from harness.watch.overview import PHASE_NAMES, PHASES, Overview, baseline_curve, overview, phases_of
from harness.watch.records import Ended, PostMortem, TrainingStarted
from harness.watch.state import ATTENTION_LOSS, Curve, RankState, TrainingState

ENDS = 20
"""Points whose mean is a curve's value at the start and at the end."""
_MOST_UTTERANCES = 40


@dataclass(frozen=True, kw_only=True)
class WatchFact:
    """A named figure or text."""

    name: str
    text: str


@dataclass(frozen=True, kw_only=True)
class EndOfRank:
    """How one process ended."""

    rank: int
    ended: Ended
    memory: tuple[WatchFact, ...]
    """What was allocated by part, at the exception."""
    padded: float | None
    """The share of the batch's frames that is padding."""
    batch: tuple[tuple[str, int | None, int | None], ...]
    """Key, frames and tokens of its utterances."""
    more: int
    """Utterances that are left out here."""


@dataclass(frozen=True, kw_only=True)
class WatchSummary:
    """A watched training."""

    now: Overview
    running: bool
    status: str
    """Whether it runs, or how it ended."""
    trained: str
    """How much was trained, in one sentence."""
    learned: str
    """What the losses say, in one sentence."""
    facts: tuple[WatchFact, ...]
    findings: Sequence[WatchFinding]
    """The gravest first."""
    groups: tuple[tuple[Severity, tuple[WatchFinding, ...]], ...]
    forecasts: Sequence[Forecast]
    ends: tuple[EndOfRank, ...]
    settings: tuple[WatchFact, ...]
    """The configuration in force, by dotted name."""
    observers: tuple[str, ...]
    """What was not recorded, and why."""


def summarise(
    state: TrainingState, findings: Sequence[WatchFinding], forecasts: Sequence[Forecast], *, running: bool
) -> WatchSummary:
    """Everything that is said of a training."""
    ranks, now = state.training_ranks, overview(state)
    first = ranks[0] if ranks else None
    training = first.training if first else None
    order = tuple(Severity)
    ordered = sorted(findings, key=lambda finding: order.index(finding.severity))
    return WatchSummary(
        now=now,
        running=running,
        status=_status(state, running),
        trained=_trained(first, now),
        learned=_learned(first),
        facts=tuple(_facts(first, training, now)),
        findings=ordered,
        groups=tuple(
            (severity, tuple(members)) for severity, members in groupby(ordered, key=lambda finding: finding.severity)
        ),
        forecasts=forecasts,
        ends=tuple(_end(rank, rank.ended) for rank in _processes(state) if rank.ended is not None),
        settings=tuple(_settings(training.in_force)) if training else (),
        observers=tuple(
            dict.fromkeys(
                f"{failure.observer}: {failure.error}" for rank in state.ranks.values() for failure in rank.failures
            )
        ),
    )


def _status(state: TrainingState, running: bool) -> str:
    ranks = _processes(state)
    if not ranks:
        return "no training step yet" if running else "no training was observed"
    ends = [rank.ended for rank in ranks]
    if not state.training_ranks:
        if running:
            return "no training step yet"
        exceptions = [end.exception for end in ends if end and end.exception]
        return "no training step was taken" + (f": {exceptions[0]}" if exceptions else "")
    if running and not all(ends):
        return "running"
    # What ended otherwise than by itself comes first.
    hows = sorted({end.how if end else "killed" for end in ends}, key=lambda ending: ending == "finished")
    exceptions = [end.exception for end in ends if end and end.exception]
    return ", ".join(hows) + (f": {exceptions[0]}" if exceptions else "")


def _processes(state: TrainingState) -> Sequence[RankState]:
    """Those that train; where none did, those that had begun to."""
    return state.training_ranks or sorted(state.ranks.values(), key=lambda rank: rank.rank)


def _trained(rank: RankState | None, now: Overview) -> str:
    if rank is None or rank.training is None:
        return ""
    training = rank.training
    amount = units.plural(now.step, "step")
    if rank.epochs:
        amount += f" and {units.plural(len(rank.epochs), 'whole epoch')}"
    if training.rows is not None:
        amount += f" of {units.plural(training.rows, 'row')}"
    if now.started is not None and now.latest is not None:
        amount += f" in {units.duration(now.latest - now.started)}"
    words = [amount, *([f"lately {units.duration(now.seconds)} a step"] if now.seconds else [])]
    trainable, everything = (sum(getattr(group, name) for group in training.groups) for name in _COUNTS)
    if everything:
        words.append(f"{trainable:,} of {everything:,} parameters trainable")
    return ", ".join(words)


_COUNTS = ("trainable", "parameters")


def _learned(rank: RankState | None) -> str:
    """Start and end of the loss, as means of the first and the last points that are finite."""
    if rank is None:
        return ""
    name = ATTENTION_LOSS if ATTENTION_LOSS in rank.curves else "loss"
    curve = rank.curves.get(name)
    known = units.finite(curve.values) if curve else ()
    if not known:
        return "no loss was a finite number" if curve else ""
    count = min(ENDS, max(1, len(known) // 2))
    begin, end = (sum(part) / len(part) for part in (known[:count], known[-count:]))
    lost = len(curve.values) - len(known) if curve else 0
    text = f"{name} {units.loss(begin)} at the start, {units.loss(end)} at the end"
    baseline = baseline_curve(rank)
    if baseline.values and math.isfinite(baseline.values[-1]):
        text += f"; the unigram baseline is {units.loss(baseline.values[-1])}"
    text += f" (means of the first and last {units.plural(count, 'recorded value')})"
    return text + (f"; not finite: {units.plural(lost, 'value')}" if lost else "")


def _facts(rank: RankState | None, training: TrainingStarted | None, now: Overview) -> Iterator[WatchFact]:
    if rank is None or training is None:
        return
    process = rank.process
    if now.started is not None and now.latest is not None:
        yield WatchFact(name="First step", text=_clock(now.started))
        yield WatchFact(name="Last step", text=_clock(now.latest))
    if now.epoch is not None:
        text = f"{now.epoch}/{now.epochs}, as the trainer counts" if now.epochs is not None else f"{now.epoch}"
        yield WatchFact(name="Epoch", text=text)
    yield WatchFact(name="Steps", text=f"{now.step:,}" + (f", {now.skipped:,} left out" if now.skipped else ""))
    if now.speech_per_second is not None:
        yield WatchFact(name="Speech a second", text=f"{units.rate(now.speech_per_second)} s")
    if now.accuracy:
        yield WatchFact(name=f"Last {now.accuracy[0]}", text=units.rate(now.accuracy[1]))
    yield WatchFact(name="Output of the training", text=training.output_dir)
    yield WatchFact(name="Starts from", text=training.initialised_from)
    if process is not None:
        funasr = process.funasr or "none"
        yield WatchFact(name="FunASR, torch, Python", text=f"{funasr}, {process.torch}, {process.python}")
        yield WatchFact(name="Folder", text=process.working_directory)


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _end(rank: RankState, ended: Ended) -> EndOfRank:
    post_mortem = ended.post_mortem
    batch = post_mortem.batch if post_mortem else ()
    used = sum(row.frames for row in batch if row.frames is not None)
    padded = post_mortem.padded_frames if post_mortem else None
    return EndOfRank(
        rank=rank.rank,
        ended=ended,
        memory=tuple(_parts(post_mortem)) if post_mortem else (),
        padded=1 - used / padded if padded and used and all(row.frames is not None for row in batch) else None,
        batch=tuple((row.key, row.frames, row.tokens) for row in batch[:_MOST_UTTERANCES]),
        more=max(0, len(batch) - _MOST_UTTERANCES),
    )


def _parts(post_mortem: PostMortem) -> Iterator[WatchFact]:
    unused = None
    if post_mortem.reserved is not None and post_mortem.allocated is not None:
        unused = post_mortem.reserved - post_mortem.allocated
    sizes = {
        "weights": post_mortem.weights,
        "gradients": post_mortem.gradients,
        "state of the optimizer": post_mortem.optimizer_state,
        "activations and the rest": post_mortem.other,
        "allocated": post_mortem.allocated,
        "reserved by torch and not used": unused,
        "most that was allocated": post_mortem.peak_allocated,
        "the card has": post_mortem.card,
        "the refused allocation": post_mortem.wanted,
    }
    for name, size in sizes.items():
        if size is not None:
            yield WatchFact(name=name, text=units.memory(size))


def _settings(settings: Mapping[str, object], prefix: str = "") -> Iterator[WatchFact]:
    for name, value in settings.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            yield from _settings(value, f"{path}.")
        elif value not in (None, {}, [], ""):
            yield WatchFact(name=path, text=str(value))


def phase_curves(rank: RankState) -> dict[str, Curve]:
    """Seconds of each phase of a step over the steps that are kept whole, by the name that is shown."""
    curves: dict[str, Curve] = {}
    for step in rank.recent:
        spent = phases_of(step)
        for name in (phase for phase in PHASES if phase in spent):
            curves.setdefault(PHASE_NAMES.get(name, name), Curve()).add(step.step, spent[name])
    return curves
