"""Several processes: do they take the same steps, from the same gradients, in the same time?"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from statistics import median

from harness.core.cells import Severity
from harness.core.numbers import mapping, number
from harness.watch.findings import WatchFinding
from harness.watch.records import EpochEnded, LoaderEnded, TrainingStep
from harness.watch.rules.settings import WatchSettings
from harness.watch.state import RankState, TrainingState, seconds_of

NORM_TOLERANCE = 1e-3
"""Relative. Each rank computes the norm of the same summed gradients, in float32."""
SEVERAL = 3
"""Steps in which gradients have to differ."""
WORK = ("data", "forward")
"""Phases in which a rank waits for no other one."""
SLOWER = 1.5
LEAST_WAIT = 0.05
"""Seconds a step."""
ENOUGH_STEPS = 20
LEAST_BEHIND = 60.0
"""Seconds that a rank may be in an epoch after another has ended it."""
_PASS = re.compile(r" in (?:forward|backward)(?:_step)?$")
"""A frame of a forward or backward pass, as `faulthandler` writes it."""
BEHIND_STEPS = 20
"""The same in steps, where these are slow."""
_EQUAL_BATCHES = (
    "filter the rows before the training and not in the sampler (`max_token_length`), so that each rank has the same "
    "number of batches"
)


def about_ranks(state: TrainingState, ended: bool) -> Iterator[WatchFinding]:
    """All rules of this module."""
    ranks = state.training_ranks
    if len(ranks) < 2:
        return
    yield from _batches(ranks)
    yield from _epochs(ranks)
    yield from _gradients(ranks)
    yield from _waiting(ranks)
    yield from _left_behind(ranks, state.now)
    if ended:
        yield from _broke_off_apart(ranks)
        yield from _broke_off_in_a_further_batch(ranks)
        yield from _steps(ranks)


def _batches(ranks: list[RankState]) -> Iterator[WatchFinding]:
    batches = {rank.rank: rank.training.batches for rank in ranks if rank.training and rank.training.batches}
    if len(set(batches.values())) < 2:
        return
    fewest = min(batches, key=lambda rank: batches[rank] or 0)
    yield WatchFinding(
        severity=Severity.BROKEN,
        rule="ranks-batches-differ",
        message="the ranks have different numbers of batches in an epoch: those with more wait for the others, until "
        "the time limit of the communication ends the training",
        rank=fewest,
        evidence=tuple(f"rank {rank}: {count} batches" for rank, count in sorted(batches.items())),
        remedy="take a sampler that gives each rank the same number (`++dataset_conf.batch_sampler=BatchSampler`)",
    )


def _epochs(ranks: list[RankState]) -> Iterator[WatchFinding]:
    """An epoch that all ranks have ended, and some of them after fewer batches than others."""
    ended = [
        {epoch_end.epoch: epoch_end for epoch_end in rank.epochs if not _cut_off(rank, epoch_end)} for rank in ranks
    ]
    for epoch in sorted(set.intersection(*map(set, ended))):
        batches = [ends_of_rank[epoch].batches for ends_of_rank in ended]
        if len(set(batches)) == 1:
            continue
        fewest = batches.index(min(batches))
        # Without a step, as where the last batches are too few to be accumulated, no rank waits for another.
        in_other_steps = len({ends_of_rank[epoch].step for ends_of_rank in ended}) > 1
        yield WatchFinding(
            severity=Severity.BROKEN if in_other_steps else Severity.MINOR,
            rule="ranks-batches-differ",
            message=f"rank {ranks[fewest].rank} had {min(batches)} batches in epoch {epoch}, and another rank "
            f"{max(batches)}: "
            + (
                "the last step of the others met none of its gradients, or those of another step"
                if in_other_steps
                else "the last ones of the others took part in no step"
            ),
            step=ended[fewest][epoch].step,
            rank=ranks[fewest].rank,
            evidence=tuple(
                f"rank {rank.rank}: {ends_of_rank[epoch].batches} batches, step {ends_of_rank[epoch].step} at the "
                "end of the epoch"
                for rank, ends_of_rank in zip(ranks, ended, strict=True)
            ),
            remedy=_EQUAL_BATCHES,
        )
        return


def _cut_off(rank: RankState, epoch: EpochEnded) -> bool:
    """Whether the epoch was written at the end of a process that broke off within it."""
    ended = rank.ended
    return ended is not None and ended.how != "finished" and ended.batches is not None and ended.epoch == epoch.epoch


def _left_behind(ranks: list[RankState], now: float) -> Iterator[WatchFinding]:
    """A rank that is within an epoch which another one ended long ago: it had a batch more, and waits in that step."""
    for other in ranks:
        last = _last_done(other)
        if last is None or not other.recent or other.ended is not None:
            continue
        for rank in ranks:
            through = _last_done(rank)
            if rank.ended is not None or rank is other or (through is not None and through.epoch >= last.epoch):
                continue
            seconds = now - max(last.at, rank.recent[-1].at if rank.recent else 0.0)
            if seconds > max(LEAST_BEHIND, BEHIND_STEPS * _step_seconds(other)):
                yield WatchFinding(
                    severity=Severity.BROKEN,
                    rule="ranks-batches-differ",
                    message=f"rank {other.rank} has ended an epoch after {last.batches} batches, and rank {rank.rank} "
                    f"waits within it since {seconds:.0f} s: it had more batches, and no other rank will join its step",
                    step=rank.steps,
                    rank=rank.rank,
                    remedy=_EQUAL_BATCHES,
                )
                return


def _last_done(rank: RankState) -> EpochEnded | LoaderEnded | None:
    """The last epoch of which a rank has no further batch; it may still wait for others before it validates."""
    ended = rank.epochs[-1] if rank.epochs else None
    loader = None if _reads_in_parts(rank) else rank.loader_ended
    return loader if loader is not None and (ended is None or loader.epoch > ended.epoch) else ended


def _broke_off_apart(ranks: list[RankState]) -> Iterator[WatchFinding]:
    """All ranks took the same number of steps and broke off, and only some of them had ended the epoch by then."""
    if len({rank.steps for rank in ranks}) > 1 or any(rank.ended and rank.ended.how == "finished" for rank in ranks):
        return
    last = {
        rank.rank: max((epoch_end.epoch for epoch_end in rank.epochs if not _cut_off(rank, epoch_end)), default=-1)
        for rank in ranks
    }
    if len(set(last.values())) < 2:
        return
    ahead, behind = max(last, key=last.__getitem__), min(last, key=last.__getitem__)
    yield WatchFinding(
        severity=Severity.BROKEN,
        rule="ranks-batches-differ",
        message=f"the training broke off when rank {ahead} had ended an epoch and rank {behind} was in a further step "
        "of it: the ranks have different numbers of batches",
        step=ranks[0].steps,
        rank=behind,
        remedy=_EQUAL_BATCHES,
    )


def _broke_off_in_a_further_batch(ranks: list[RankState]) -> Iterator[WatchFinding]:
    """One rank had no further batch in the epoch, and another one failed in one."""
    for rank in ranks:
        loader_ended = rank.loader_ended
        if loader_ended is None or _reads_in_parts(rank):
            continue
        for other in ranks:
            if other is not rank and _in_a_further_batch(other, loader_ended):
                yield WatchFinding(
                    severity=Severity.BROKEN,
                    rule="ranks-batches-differ",
                    message=f"the training broke off when rank {rank.rank} had no further batch in epoch "
                    f"{loader_ended.epoch} "
                    f"and rank {other.rank} was in one: the ranks have different numbers of batches",
                    step=other.steps,
                    rank=other.rank,
                    evidence=(f"rank {rank.rank}: {loader_ended.batches} batches",),
                    remedy=_EQUAL_BATCHES,
                )
                return


def _reads_in_parts(rank: RankState) -> bool:
    """Whether an epoch has several loaders (`data_split_num`): the end of one is not that of the epoch."""
    dataset_conf = mapping(rank.training.in_force.get("dataset_conf")) if rank.training else {}
    return (number(dataset_conf.get("data_split_num", 1)) or 0) != 1


def _in_a_further_batch(rank: RankState, loader_ended: LoaderEnded) -> bool:
    """Whether a rank broke off in a batch of the epoch beyond those that another one had in it."""
    ended = rank.ended
    if ended is None or ended.how == "finished" or ended.epoch != loader_ended.epoch:
        return False
    if ended.batches is not None:
        return ended.batches > loader_ended.batches
    # A crash or SIGTERM left a traceback only. All batches of the other rank have their steps here, too.
    alone = rank.training is not None and WatchSettings.of(rank.training).accum_grad == 1
    return alone and rank.steps >= loader_ended.step and any(_PASS.search(line) for line in ended.traceback)


def _step_seconds(rank: RankState) -> float:
    return median(seconds_of(step) for step in rank.recent)


def _gradients(ranks: list[RankState]) -> Iterator[WatchFinding]:
    """After the ranks' gradients are summed, their norm is the same in all of them."""
    if any(rank.training is None or rank.training.wrapped == "" for rank in ranks):
        yield WatchFinding(
            severity=Severity.BROKEN,
            rule="ranks-not-connected",
            message="several processes train, and their models are not wrapped for distributed training: each trains "
            "a model of its own",
            evidence=tuple(f"rank {rank.rank}: process {rank.process.pid}" for rank in ranks if rank.process),
            remedy=_how_to_connect(ranks),
        )
        return
    first, norms = ranks[0], _norms(ranks[0])
    for other in ranks[1:]:
        different_steps = [
            step
            for step, norm in _norms(other).items()
            if step in norms and not math.isclose(norm, norms[step], rel_tol=NORM_TOLERANCE)
        ]
        if len(different_steps) >= SEVERAL:
            first_step = different_steps[0]
            yield WatchFinding(
                severity=Severity.BROKEN,
                rule="ranks-drift",
                message=f"ranks {first.rank} and {other.rank} take steps with different gradients: their models drift "
                "apart",
                step=first_step,
                rank=other.rank,
                evidence=(
                    f"step {first_step}: gradient norm {norms[first_step]:.6g} in rank {first.rank}, "
                    f"{_norms(other)[first_step]:.6g} in rank "
                    f"{other.rank}; {len(different_steps)} such steps",
                ),
                remedy="take a release that synchronises the gradients of the last batch that is accumulated; see its "
                "known issues",
            )


def _how_to_connect(ranks: list[RankState]) -> str:
    if any(rank.training and WatchSettings.of(rank.training).train_conf.get("use_fsdp") for rank in ranks):
        return "leave `use_fsdp` out: this trainer wrapped no model for it; DistributedDataParallel is its default"
    return "start them with torchrun, by the trainer that the release means for it (`train_ds`)"


def _norms(rank: RankState) -> dict[int, float]:
    return {
        step.step: step.gradient_norm
        for step in rank.recent
        if step.gradient_norm is not None and math.isfinite(step.gradient_norm)
    }


def _waiting(ranks: list[RankState]) -> Iterator[WatchFinding]:
    work = {rank.rank: _work(list(rank.recent)[-200:]) for rank in ranks if len(rank.recent) >= ENOUGH_STEPS}
    if len(work) < len(ranks):
        return
    slowest, fastest = max(work, key=work.__getitem__), min(work, key=work.__getitem__)
    if work[slowest] < SLOWER * work[fastest] or work[slowest] - work[fastest] < LEAST_WAIT:
        return
    yield WatchFinding(
        severity=Severity.MINOR,
        rule="rank-waits",
        message=f"the other ranks wait for rank {slowest} in each step",
        rank=slowest,
        evidence=tuple(f"rank {rank}: {seconds:.3g} s of data and forward pass" for rank, seconds in work.items()),
        remedy="look at its data loader, its disk and its GPU: does something else run there?",
    )


def _work(steps: list[TrainingStep]) -> float:
    return median(sum(step.seconds.get(phase, 0.0) for phase in WORK) for step in steps)


def _steps(ranks: list[RankState]) -> Iterator[WatchFinding]:
    counts = {rank.rank: rank.steps for rank in ranks}
    if len(set(counts.values())) < 2 or any(rank.ended is None or rank.ended.how != "finished" for rank in ranks):
        return
    yield WatchFinding(
        severity=Severity.WRONG,
        rule="ranks-steps-differ",
        message="the ranks ended after different numbers of steps",
        evidence=tuple(f"rank {rank}: {count} steps" for rank, count in sorted(counts.items())),
        remedy="see the release's known issues",
    )
