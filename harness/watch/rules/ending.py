"""How a training ended, and what is known of that moment."""

from __future__ import annotations

from collections.abc import Iterator

from harness.core.cells import Severity
from harness.text.units import memory as size
from harness.watch.findings import WatchFinding
from harness.watch.records import Ended, PostMortem
from harness.watch.rules.loss import overflow
from harness.watch.state import RankState, TrainingState

OUT_OF_MEMORY = ("OutOfMemoryError", "CUDA out of memory", "DefaultCPUAllocator: can't allocate", "MemoryError")
ENDED_BY_PERSON = ("KeyboardInterrupt",)


def about_ending(state: TrainingState, ended: bool) -> Iterator[WatchFinding]:
    """All rules of this module."""
    for rank in state.ranks.values():
        if rank.ended is not None and rank.ended.how == "exception":
            yield from _exception(rank)
        elif rank.ended is not None and rank.ended.how == "crash" and rank.training is not None:
            yield _crash(rank, rank.ended)
        elif ended and rank.training is not None and rank.ended is None:
            yield WatchFinding(
                severity=Severity.BROKEN,
                rule="killed",
                message=f"the process of rank {rank.rank} ended without a word after step {rank.steps}: it was killed",
                step=rank.steps,
                rank=rank.rank,
                evidence=tuple(_memory_at_end(rank)),
                remedy="look in the kernel's log for `Out of memory: Killed process` (`dmesg`), and at the "
                "limits of the job or container",
            )
    if ended and not state.training_ranks:
        yield from _nothing_trained(state)


def _crash(rank: RankState, ended: Ended) -> WatchFinding:
    # The main thread is the last one; in each the innermost frame is the first.
    starts = [at for at, line in enumerate(ended.traceback) if "(most recent call first)" in line]
    frames = [line.strip() for line in ended.traceback[starts[-1] if starts else 0 :] if line.startswith("  File ")]
    return WatchFinding(
        severity=Severity.BROKEN,
        rule="crashed",
        message=f"native code ended the process of rank {rank.rank} {_when(rank)}: {ended.exception}",
        step=rank.steps,
        rank=rank.rank,
        evidence=tuple(frames[:3]),
        remedy="the library that did it says why in the output, in the lines before (gloo and NCCL, CUDA, a C++ "
        "exception); where ranks communicate, the cause may be in another rank",
    )


def _exception(rank: RankState) -> Iterator[WatchFinding]:
    ended = rank.ended
    if ended is None or any(name in ended.exception for name in ENDED_BY_PERSON):
        return
    if _is_overflow(ended):
        yield overflow(rank.steps, rank.rank, ended.traceback[-3:])
        return
    memory = any(word in ended.exception for word in OUT_OF_MEMORY)
    yield WatchFinding(
        severity=Severity.BROKEN,
        rule="out-of-memory" if memory else "ended-by-exception",
        message=f"the training ended {_when(rank)} for want of memory"
        if memory
        else f"the training ended {_when(rank)} by an exception: {ended.exception.splitlines()[0][:200]}",
        step=ended.step,
        rank=rank.rank,
        evidence=(*_post_mortem(ended.post_mortem), *_last_lines(ended)),
        remedy=_what_fits(rank) if memory else "",
    )


def _last_lines(ended: Ended) -> list[str]:
    """Of the traceback, without the marks below a line of code."""
    return [line for line in ended.traceback if line.strip(" ^~")][-3:]


def _is_overflow(ended: Ended) -> bool:
    """Whether `math.exp` of the averaged loss ended the trainer, where it prints the perplexity."""
    return "OverflowError: math range error" in ended.exception and any("math.exp" in line for line in ended.traceback)


def _when(rank: RankState) -> str:
    return f"after step {rank.steps}" if rank.steps else "before its first step"


def _post_mortem(post_mortem: PostMortem | None) -> Iterator[str]:
    if post_mortem is None:
        return
    lengths = [utterance.frames for utterance in post_mortem.batch if utterance.frames is not None]
    if lengths and post_mortem.padded_frames:
        padding = 1 - sum(lengths) / post_mortem.padded_frames
        longest = max(post_mortem.batch, key=lambda utterance: utterance.frames or 0)
        yield (
            f"{post_mortem.phase}: a batch of {len(post_mortem.batch)} utterances, the longest {longest.frames} frames "
            f"({longest.key}), {padding:.0%} padding"
        )
    else:
        yield f"in the phase: {post_mortem.phase}"
    parts = {
        "weights": post_mortem.weights,
        "gradients": post_mortem.gradients,
        "optimizer state": post_mortem.optimizer_state,
        "activations and the rest": post_mortem.other,
    }
    known = [f"{name} {size(value)}" for name, value in parts.items() if value is not None]
    if known:
        yield f"memory: {', '.join(known)}"
    if post_mortem.reserved is not None and post_mortem.allocated is not None:
        yield (
            f"reserved and not used: {size(post_mortem.reserved - post_mortem.allocated)} of "
            f"{size(post_mortem.reserved)}"
        )
    if post_mortem.wanted is not None:
        yield f"the allocation that was refused: {size(post_mortem.wanted)}"


def _what_fits(rank: RankState) -> str:
    """The largest batch that did fit, as an upper bound for the next try."""
    fitted = max(
        (forward.utterances * forward.frames for step in rank.recent for forward in step.forwards),
        default=0,
    )
    post_mortem = rank.ended.post_mortem if rank.ended else None
    refused = post_mortem.padded_frames if post_mortem else None
    if fitted and refused and fitted < refused:
        return (
            f"the largest batch that fitted had {fitted} padded frames, this one {refused}: lower "
            f"`++dataset_conf.batch_size` to {fitted / refused:.0%} of it, or cut long utterances "
            "(`++dataset_conf.max_source_length`)"
        )
    return "lower `++dataset_conf.batch_size`; `funasr-harness preflight --gpu` says what fits"


def _memory_at_end(rank: RankState) -> Iterator[str]:
    last = rank.recent[-1].memory if rank.recent else None
    if last is not None and last.resident is not None:
        yield f"resident memory at its last step: {size(last.resident)}"


def _nothing_trained(state: TrainingState) -> Iterator[WatchFinding]:
    failed = any(rank.ended is not None and rank.ended.how == "exception" for rank in state.ranks.values())
    if failed:
        return
    if not state.ranks:
        yield WatchFinding(
            severity=Severity.MINOR,
            rule="nothing-observed",
            message="no process of the command has imported a trainer of FunASR's",
            remedy="is it the command that trains? Python started with -I, -E or -S, and containers that the command "
            "starts, cannot be observed",
        )
        return
    yield WatchFinding(
        severity=Severity.BROKEN,
        rule="no-step-taken",
        message="a trainer was started and took no training pass: nothing was trained",
        remedy="look at the end of its output: is the data set empty, or every row dropped?",
    )
