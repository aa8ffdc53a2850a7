"""Time, memory and disk: starved by its data, growing without end, a disk that fills."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.core.cells import Severity
from harness.rules.memory_growth import GPU_GROWTH_BYTES, GROWTH_ALPHA, growth, growth_allowed
from harness.text.units import memory as size
from harness.watch.findings import WatchFinding
from harness.watch.records import TrainingStep
from harness.watch.state import RankState, TrainingState, seconds_of

ENOUGH_STEPS = 30
STARVED_SHARE = 0.3
LEAST_STARVED = 0.02
"""Seconds a step."""
GROWTH_STEPS = 60
"""Steps after which memory is tested first; the first ones grow for other reasons."""
MOST_TESTED = 200
"""Steps that are tested for a leak: the test compares all pairs."""
BYTES_OF_PARAMETER = 4


def about_resources(state: TrainingState, ended: bool) -> Iterator[WatchFinding]:
    """All rules of this module."""
    for rank in state.training_ranks:
        yield from _starved(rank)
        yield from _leak(rank)
        if not ended:
            yield from _disk(rank)


def _starved(rank: RankState) -> Iterator[WatchFinding]:
    steps = list(rank.recent)[-200:][1:]
    if len(steps) < ENOUGH_STEPS:
        return
    waited, total = sum(s.seconds.get("data", 0.0) for s in steps), sum(seconds_of(s) for s in steps)
    if not total or waited < STARVED_SHARE * total or waited < LEAST_STARVED * len(steps):
        return
    yield WatchFinding(
        severity=Severity.MINOR,
        rule="starved-by-data",
        message=f"{waited / total:.0%} of the time is spent waiting for the next batch",
        step=steps[-1].step,
        rank=rank.rank,
        evidence=(
            f"steps {steps[0].step} to {steps[-1].step}: {waited / len(steps):.3g} s a step of "
            f"{total / len(steps):.3g} s",
        ),
        remedy="++dataset_conf.num_workers=4 (or more), and keep the recordings on a local disk, at 16 kHz",
    )


def _leak(rank: RankState) -> Iterator[WatchFinding]:
    if rank.steps < 2 * GROWTH_STEPS:
        return
    steps = list(rank.recent)
    if steps and steps[0].step <= GROWTH_STEPS:
        steps = steps[GROWTH_STEPS:]
    steps = steps[:: max(1, len(steps) // MOST_TESTED)]
    if len(steps) < GROWTH_STEPS // 2:
        return
    steps_between = (steps[-1].step - steps[0].step) / (len(steps) - 1)
    on_gpu = steps[-1].memory.allocated is not None
    trainable = sum(group.trainable for group in rank.training.groups) if rank.training else 0
    bound = GPU_GROWTH_BYTES if on_gpu else growth_allowed(trainable * BYTES_OF_PARAMETER)
    series = [step.memory.allocated if on_gpu else step.memory.resident for step in steps]
    if any(size_of_step is None for size_of_step in series):
        return
    memory_growth = growth([float(size_of_step or 0) for size_of_step in series])
    slope = memory_growth.slope / steps_between
    if slope <= bound or memory_growth.lasting / steps_between <= bound / 2 or memory_growth.p > GROWTH_ALPHA:
        return
    yield WatchFinding(
        severity=Severity.WRONG,
        rule="memory-grows",
        message=f"memory grows by {size(slope)} a step and does not stop: a long training ends for want of memory",
        step=steps[-1].step,
        rank=rank.rank,
        evidence=(
            f"{'allocated on the GPU' if on_gpu else 'resident memory'}: {size(series[0] or 0)} at step "
            f"{steps[0].step}, {size(series[-1] or 0)} at step {steps[-1].step}",
        ),
        remedy="see the release's known issues; until then train in parts, resuming from the checkpoint",
    )


def _disk(rank: RankState) -> Iterator[WatchFinding]:
    saved, output = _last_checkpoints(rank), rank.training.output_dir if rank.training else ""
    if not saved or not output:
        return
    try:
        free = shutil.disk_usage(Path(output)).free
    except OSError:
        return
    largest = max(checkpoint_bytes for checkpoint_bytes in saved)
    if free >= 2 * largest:
        return
    yield WatchFinding(
        severity=Severity.BROKEN if free < largest else Severity.WRONG,
        rule="disk-full",
        message=f"the disk has {size(free)} left, and a checkpoint takes {size(largest)}: "
        + ("the next one ends the training" if free < largest else "it takes one more"),
        step=rank.steps,
        rank=rank.rank,
        remedy="free space, or lower `++train_conf.keep_nbest_models`",
    )


def _last_checkpoints(rank: RankState) -> Sequence[int]:
    return [saved.bytes for saved in rank.saved[-5:]]


def steps_until_full(steps: Sequence[TrainingStep], card: int) -> float | None:
    """Steps until what torch has reserved fills a card at its growth so far; None where it does not grow."""
    known = [(step.step, step.memory.reserved) for step in steps if step.memory.reserved is not None]
    if len(known) < ENOUGH_STEPS:
        return None
    known = known[len(known) // 2 :]
    known = known[:: max(1, len(known) // MOST_TESTED)]
    reserved_growth = growth([float(reserved or 0) for _, reserved in known])
    steps_between = (known[-1][0] - known[0][0]) / (len(known) - 1)
    if reserved_growth.slope <= 0 or reserved_growth.lasting <= 0 or reserved_growth.p > GROWTH_ALPHA:
        return None
    return max(0.0, (card - (known[-1][1] or 0)) / (reserved_growth.slope / steps_between))
