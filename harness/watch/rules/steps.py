"""The trainer's steps against the configuration in force: schedule, clipping, accumulation, epochs, rows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

from harness.core.cells import Severity
from harness.rules.recipe import warmup_rate
from harness.watch.findings import WatchFinding
from harness.watch.records import EpochEnded, TrainingStarted, TrainingStep
from harness.watch.rules.settings import WatchSettings, planned_steps
from harness.watch.state import RankState, TrainingState

ENOUGH_STEPS = 6
SCHEDULE_SLACK = 2
"""Steps by which a schedule may be ahead or behind: several releases step it once more in an epoch, which the known
issues list; what is learned hardly changes."""
CLIP_TOLERANCE = 1e-6
SKIPPED_SHARE = 0.1
LEAST_SKIPPED = 5
LOST_SHARE = 0.05
"""Of the rows: up to so many may fall to batches that are not full."""


def about_steps(state: TrainingState, ended: bool) -> Iterator[WatchFinding]:
    """All rules of this module."""
    for rank in state.training_ranks:
        if rank.training is None:
            continue
        settings = WatchSettings.of(rank.training)
        yield from _schedule(rank, settings)
        yield from _warm_up(rank, rank.training, settings)
        yield from _clipping(rank, settings)
        yield from _accumulation(rank, settings)
        yield from _skipped(rank)
        yield from _no_batches(rank, rank.training)
        if ended:
            yield from _epochs(rank, rank.training, settings)
    yield from _rows(state)


def _schedule(rank: RankState, settings: WatchSettings) -> Iterator[WatchFinding]:
    base, warmup = settings.learning_rate, settings.warmup_steps
    resumed = rank.training is not None and rank.training.first_epoch
    if settings.scheduler != "warmuplr" or base is None or warmup is None or warmup < 1 or resumed:
        return
    steps_taken = 0
    for step in rank.first:
        if step.skipped:
            continue
        steps_taken += 1
        if not step.learning_rates or len(set(step.learning_rates)) > 1:
            return
        ahead = SCHEDULE_SLACK + step.epoch * SCHEDULE_SLACK + (step.step - steps_taken)
        near = [
            warmup_rate(base, warmup, scheduled_step)
            for scheduled_step in range(max(1, steps_taken - SCHEDULE_SLACK), steps_taken + ahead + 1)
        ]
        rate = step.learning_rates[0]
        if not min(near) * (1 - 1e-6) <= rate <= max(near) * (1 + 1e-6):
            yield WatchFinding(
                severity=Severity.WRONG,
                rule="schedule-not-kept",
                message=f"a step was taken at a learning rate of {rate:.4g}, and the schedule in force says "
                f"{warmup_rate(base, warmup, steps_taken):.4g}",
                step=step.step,
                rank=rank.rank,
                evidence=(f"warmuplr, lr {base:g}, warmup_steps {warmup:g}, optimizer step {steps_taken}",),
                remedy="look which of lr, scheduler and warmup_steps the trainer took: the configuration in force is "
                "in the report",
            )
            return


def _warm_up(rank: RankState, training: TrainingStarted, settings: WatchSettings) -> Iterator[WatchFinding]:
    planned, warmup = planned_steps(training), settings.warmup_steps
    if settings.scheduler != "warmuplr" or planned is None or warmup is None or warmup <= planned or not rank.steps:
        return
    reached = warmup_rate(settings.learning_rate or 0.0, warmup, max(1, planned))
    yield WatchFinding(
        severity=Severity.MINOR,
        rule="warm-up-not-over",
        message=f"the warm-up of {warmup:g} steps is longer than the training of {planned}: the learning rate reaches "
        f"{reached:.3g} of {settings.learning_rate or 0.0:.3g}",
        evidence=(f"{training.batches} batches an epoch, max_epoch {settings.max_epoch}",),
        remedy=f"++scheduler_conf.warmup_steps={max(1, planned // 10)}",
    )


def _clipping(rank: RankState, settings: WatchSettings) -> Iterator[WatchFinding]:
    bound, steps_taken = settings.grad_clip, [step for step in rank.first if not step.skipped]
    if bound is None or bound <= 0 or len(steps_taken) < ENOUGH_STEPS:
        return
    bounds_seen = {step.clipped_at for step in steps_taken}
    if bounds_seen == {None}:
        if rank.training is not None and rank.training.wrapped == "DeepSpeedEngine":
            return
        yield WatchFinding(
            severity=Severity.WRONG,
            rule="not-clipped",
            message=f"the gradients are not clipped, and `grad_clip: {bound:g}` is in force",
            step=steps_taken[-1].step,
            rank=rank.rank,
            evidence=(f"{len(steps_taken)} steps without a call of clip_grad_norm_",),
            remedy="take a release whose trainer clips; see the release's known issues",
        )
        return
    other = next(
        (step for step in steps_taken if step.clipped_at is not None and _differ(step.clipped_at, bound)), None
    )
    if other is not None:
        yield WatchFinding(
            severity=Severity.WRONG,
            rule="clipped-otherwise",
            message=f"the gradients are clipped at {other.clipped_at:g}, and `grad_clip: {bound:g}` is in force",
            step=other.step,
            rank=rank.rank,
            remedy="look at the configuration in force in the report",
        )


def _differ(first: float, second: float) -> bool:
    return not math.isclose(first, second, rel_tol=CLIP_TOLERANCE)


def _accumulation(rank: RankState, settings: WatchSettings) -> Iterator[WatchFinding]:
    steps_taken = [step for step in rank.recent if not step.skipped]
    # DeepSpeed's own configuration says how many batches it accumulates.
    if len(steps_taken) < ENOUGH_STEPS or (rank.training is not None and rank.training.wrapped == "DeepSpeedEngine"):
        return
    passes, times = Counter(len(step.forwards) for step in steps_taken).most_common(1)[0]
    if passes == settings.accum_grad or times <= len(steps_taken) / 2:
        return
    yield WatchFinding(
        severity=Severity.WRONG,
        rule="accumulates-otherwise",
        message=f"an optimizer step has the gradients of {passes} batches, and `accum_grad: {settings.accum_grad}` is "
        "in force",
        step=steps_taken[-1].step,
        rank=rank.rank,
        evidence=(f"{times} of the last {len(steps_taken)} steps",),
        remedy="look at the configuration in force in the report",
    )


def _skipped(rank: RankState) -> Iterator[WatchFinding]:
    if rank.skipped < LEAST_SKIPPED or rank.skipped <= SKIPPED_SHARE * rank.steps:
        return
    left_out = [step for step in rank.recent if step.skipped]
    last = list(rank.recent)[-LEAST_SKIPPED:]
    none_taken = all(step.skipped for step in last)
    scales = f"scale of the gradient scaler: {left_out[-1].scale:g}" if _scale(left_out) else ""
    yield WatchFinding(
        severity=Severity.BROKEN if none_taken else Severity.WRONG,
        rule="steps-skipped",
        message=f"{rank.skipped} of {rank.steps} steps were left out for gradients that are not finite"
        + (", all of the last ones too: nothing is learned any more" if none_taken else ""),
        step=left_out[-1].step if left_out else rank.steps,
        rank=rank.rank,
        evidence=tuple(filter(None, (scales,))),
        remedy="train in bf16 or float32 (`++train_conf.use_fp16=false`), or lower the learning rate",
    )


def _scale(steps: list[TrainingStep]) -> bool:
    return bool(steps) and steps[-1].scale is not None


def _no_batches(rank: RankState, training: TrainingStarted) -> Iterator[WatchFinding]:
    accumulated = WatchSettings.of(training).accum_grad
    if training.batches is not None and training.batches < accumulated:
        yield WatchFinding(
            severity=Severity.BROKEN,
            rule="epoch-without-step",
            message=f"an epoch has {training.batches} batches and `accum_grad` is {accumulated}: no epoch takes a step",
            rank=rank.rank,
            remedy="lower accum_grad or the batch size, or train on more rows",
        )


def _epochs(rank: RankState, training: TrainingStarted, settings: WatchSettings) -> Iterator[WatchFinding]:
    ended = rank.ended
    if ended is None or ended.how != "finished" or settings.max_epoch is None or not rank.epochs:
        return
    trained = len({epoch_end.epoch for epoch_end in rank.epochs})
    planned = settings.max_epoch - training.first_epoch
    if trained < planned and not settings.patience:
        yield WatchFinding(
            severity=Severity.WRONG,
            rule="epochs-missing",
            message=f"the training ended after {trained} of {planned} epochs, without an error",
            step=rank.steps,
            rank=rank.rank,
            remedy="look at the last lines of its output",
        )
    elif trained > planned:
        yield WatchFinding(
            severity=Severity.MINOR,
            rule="epochs-too-many",
            message=f"the trainer ran {trained} epochs, and max_epoch allows {planned}",
            step=rank.steps,
            rank=rank.rank,
        )


def _whole_epochs(rank: RankState) -> list[EpochEnded]:
    """Those that the trainer went through to their end: an exception or a signal cuts the last one off."""
    cut = rank.ended is not None and rank.ended.how != "finished"
    return (
        rank.epochs[:-1]
        if cut and rank.epochs and rank.ended and rank.ended.step == rank.epochs[-1].step
        else rank.epochs
    )


def _rows(state: TrainingState) -> Iterator[WatchFinding]:
    """Rows that no rank trained on in a whole epoch."""
    ranks = state.training_ranks
    if not ranks or ranks[0].training is None or ranks[0].training.rows is None:
        return
    rows = ranks[0].training.rows
    first = [
        next((epoch_end for epoch_end in _whole_epochs(rank) if epoch_end.distinct is not None), None) for rank in ranks
    ]
    if len(ranks) < (ranks[0].process.world_size if ranks[0].process else 1):
        return
    counts = [epoch_end.distinct for epoch_end in first if epoch_end is not None and epoch_end.distinct is not None]
    if len(counts) < len(ranks):
        return
    arrived = sum(counts)
    if rows - arrived <= LOST_SHARE * rows:
        return
    yield WatchFinding(
        severity=Severity.WRONG,
        rule="rows-not-trained",
        message=f"{arrived} of {rows} rows were trained on in an epoch: the others never arrived",
        evidence=tuple(f"rank {rank.rank}: {count} rows" for rank, count in zip(ranks, counts, strict=True)),
        remedy="run `funasr-harness preflight` with your jsonl: it names the rows and the limit that drops them",
    )
