"""Forecasts of a watched training: when it ends, and what fills before that."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from statistics import median

from harness.performance.prediction.cards import GpuCard
from harness.text.units import duration, memory
from harness.watch.coming_batch import ComingBatch, forecast_of
from harness.watch.forecast import Forecast
from harness.watch.records import TrainingStarted
from harness.watch.rules.resources import steps_until_full
from harness.watch.rules.settings import WatchSettings, planned_steps
from harness.watch.state import RankState, TrainingState

LEAST_STEPS = 5
RECENT_STEPS = 200


def forecasts(
    state: TrainingState,
    *,
    coming: ComingBatch | None = None,
    card: GpuCard | None = None,
    now: float | None = None,
) -> list[Forecast]:
    """What can be said by now, of the first rank and of each card.

    Args:
        coming: The largest batch that the sampler can make.
        card: The card that the training is to fit besides, as `--card` names it.
    """
    current_time = time.time() if now is None else now
    ranks = [rank for rank in state.training_ranks if rank.training is not None]
    if not ranks or ranks[0].training is None:
        return []
    if any(rank.ended is not None for rank in ranks):
        return list(_named_card(ranks, card)) if card is not None else []
    first, training = ranks[0], ranks[0].training
    all_forecasts = [*_time(first, training, current_time), *_disk(first)]
    for rank in ranks:
        all_forecasts.extend(_card(rank, state))
    largest = forecast_of(coming, ranks) if coming is not None else None
    all_forecasts.extend([largest] if largest is not None else [])
    if card is not None:
        all_forecasts.extend(_named_card(ranks, card))
    return all_forecasts


def seconds_per_step(rank: RankState) -> float | None:
    """The median over the last steps, from the end of one to the end of the next: validation and saving count apart."""
    ends = [step.at for step in list(rank.recent)[-RECENT_STEPS:]]
    if len(ends) < LEAST_STEPS:
        return None
    return median(later - before for before, later in pairwise(ends))


def between_epochs(rank: RankState) -> float:
    """Seconds of an epoch that no step takes, such as its validation and its checkpoints: what was seen so far."""
    seconds = sum(validation.seconds for validation in rank.validations) + sum(saved.seconds for saved in rank.saved)
    return seconds / len(rank.epochs) if rank.epochs else 0.0


def _time(rank: RankState, training: TrainingStarted, now: float) -> Iterator[Forecast]:
    step_seconds, planned, settings = seconds_per_step(rank), planned_steps(training), WatchSettings.of(training)
    if step_seconds is None or not planned or training.batches is None or settings.max_epoch is None:
        return
    by_epoch = training.batches // settings.accum_grad
    origin = f"{step_seconds:.3g} s a step, the median of the last {min(len(rank.recent), RECENT_STEPS)}"
    if by_epoch:
        left = by_epoch - (rank.steps % by_epoch or by_epoch)
        yield Forecast(label="this epoch", value=f"ends at {_clock(now + left * step_seconds)}", detail=origin)
    steps = max(0, planned - rank.steps)
    epochs = steps // by_epoch if by_epoch else 0
    seconds = steps * step_seconds + (epochs + 1) * between_epochs(rank)
    yield Forecast(
        label="the training",
        value=f"{duration(seconds)} left, ends at {_clock(now + seconds)}",
        detail=f"{rank.steps} of {planned} steps",
    )


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M")


def _disk(rank: RankState) -> Iterator[Forecast]:
    if not rank.saved or rank.training is None:
        return
    try:
        free = shutil.disk_usage(Path(rank.training.output_dir)).free
    except OSError:
        return
    largest = max(saved.bytes for saved in rank.saved[-5:])
    if largest:
        yield Forecast(
            label="the disk",
            value=f"takes {free // largest} more checkpoints",
            detail=f"{memory(free)} free, {memory(largest)} each; the trainer may delete older ones",
        )


def _card(rank: RankState, state: TrainingState) -> Iterator[Forecast]:
    if rank.training is None or not rank.training.device.startswith("cuda"):
        return
    _, _, index = rank.training.device.partition(":")
    samples = state.cards.get(int(index) if index.isdecimal() else 0)
    if not samples:
        return
    steps = steps_until_full(list(rank.recent), samples[-1].total)
    if steps is not None:
        yield Forecast(
            label=f"the card of rank {rank.rank}",
            value=f"is full in about {steps:,.0f} steps",
            detail="at the growth of what torch has reserved",
        )


def _named_card(ranks: Sequence[RankState], card: GpuCard) -> Iterator[Forecast]:
    """Whether what torch has reserved so far, in the fullest rank, would fit another card."""
    peaks = [rank.recent[-1].memory.peak_reserved for rank in ranks if rank.recent]
    known = [peak for peak in peaks if peak is not None]
    if not known:
        yield Forecast(label=f"a card of {card.name}", value="not measured on a GPU: this training runs on the CPU")
        return
    peak, free = max(known), card.size - card.margin
    yield Forecast(
        label=f"a card of {card.name}",
        value=f"{'would hold' if peak <= free else 'would not hold'} what was reserved so far: {memory(peak)}",
        detail=f"{memory(card.margin)} of it are left for what torch does not count",
    )
