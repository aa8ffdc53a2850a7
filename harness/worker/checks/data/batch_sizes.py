"""Data tests of batches by token and by length, and of the rows that several ranks get."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.core.evidence.questions import AnswerStatus, Question
from harness.worker.checks.data.answers import Expected, LoaderPass, fails, listed, not_tested
from harness.worker.checks.data.context import DataCheckContext
from harness.worker.checks.data.epochs import BATCH, owners, padded_epoch, problem_of, resumed, worst

ABOVE = 260
"""Frames of 10 ms per batch: two to seven of the plain utterances, which have 33 to 119."""
BELOW = 20
"""Fewer frames than any utterance has: each should be a batch of its own."""


@dataclass(frozen=True, kw_only=True)
class BatchSizing:
    """A way to configure batches by a number of frames."""

    name: str
    confs: Sequence[Mapping[str, Any]]
    """Equivalent settings."""
    absent: str = ""
    """Why this release lacks it; empty if it does not."""


def batch_sizings(context: DataCheckContext) -> list[BatchSizing]:
    """All of them, including those that this release lacks."""
    dataset_options = context.dataset_options
    types: Sequence[str] = ("token", "length") if dataset_options.token_batches else ("length",)
    no_sort = "" if dataset_options.sorted_batches else "the samplers of this release have no sort_size"
    no_espnet = "" if dataset_options.espnet_batches else "this release has no EspnetStyleBatchSampler"
    espnet = {"batch_sampler": "EspnetStyleBatchSampler"}
    return [
        BatchSizing(name="frames", confs=[{"batch_type": kind} for kind in types]),
        BatchSizing(name="sorted", confs=[{"batch_type": "token", "sort_size": 1024}], absent=no_sort),
        BatchSizing(name="espnet", confs=[{"batch_type": "token", **espnet}], absent=no_espnet),
    ]


def check_batch_sizes(context: DataCheckContext) -> Iterator[Question]:
    """Test what ranks get, and batches by a number of frames."""
    expected = context.expected(context.plain)
    yield _ranked("ranks", expected, _ranks(context, batch_size=BATCH), BATCH)
    below = []
    for sizing in batch_sizings(context):
        names = (f"batches_{sizing.name}", f"ranks_{sizing.name}", f"start_step_{sizing.name}")
        if sizing.absent:
            yield from (not_tested(name, sizing.absent) for name in names)
            continue
        confs = [{**conf, "max_token_length": 2048} for conf in sizing.confs]
        above = [
            _sized(names[0], expected, context.run_epoch(context.plain, batch_size=ABOVE, **conf), ABOVE)
            for conf in confs
        ]
        yield worst(above)
        for conf in confs:
            answer = _sized(
                "batches_below", expected, context.run_epoch(context.plain, batch_size=BELOW, **conf), BELOW
            )
            below.append(
                replace(
                    answer,
                    example={**(answer.example or {}), "asked": _batching_in_words({**conf, "batch_size": BELOW})},
                )
            )
        yield _ranked(names[1], expected, _ranks(context, batch_size=ABOVE, **confs[0]), ABOVE)
        yield resumed(names[2], context, expected, batch_size=ABOVE, **confs[0])
    yield worst(below)


def _sized(name: str, expected: Expected, loader_pass: LoaderPass, size: int) -> Question:
    problem = problem_of(name, expected, [loader_pass])
    if problem is not None:
        return problem
    for batch in owners(expected, loader_pass):
        frames = max(utterance.source_len for utterance in batch) * len(batch)
        if len(batch) > 1 and frames > size:
            longest = max(batch, key=lambda utterance: utterance.source_len)
            message = (
                f"a batch of {len(batch)} utterances takes {frames} frames with its padding; {size} are configured"
            )
            return fails(name, message, utterance=longest.key, file=f"source_len {longest.source_len}")
    answer = padded_epoch(name, expected, [loader_pass], spare=0)
    if answer.status is AnswerStatus.HOLDS and loader_pass.reported_length != len(loader_pass.batches):
        return listed(name, f"len(loader) is {loader_pass.reported_length}, {len(loader_pass.batches)} batches arrive")
    return answer


def _ranks(context: DataCheckContext, **conf: Any) -> list[list[LoaderPass]]:
    return [context.ranks(world, context.plain, **conf) for world in (2, 3)]


def _ranked(name: str, expected: Expected, worlds: Sequence[list[LoaderPass]], size: int) -> Question:
    return worst([_of_world(name, expected, ranks, size) for ranks in worlds])


def _of_world(name: str, expected: Expected, ranks: list[LoaderPass], size: int) -> Question:
    problem = problem_of(name, expected, ranks)
    counts = [len(loader_pass.batches) for loader_pass in ranks]
    counted = ", ".join(map(str, counts))
    if problem is None and len(set(counts)) > 1:
        problem = fails(
            name, f"{len(ranks)} ranks get {counted} batches: ranks with more batches wait, or lose their last ones"
        )
    if problem is not None:
        message = f"with {len(ranks)} ranks: {problem.message}"
        return fails(name, message, **{**(problem.example or {}), "batches of the ranks": counted})
    # At most one batch per rank is padded with repetitions; batches by example have no more rows than their size.
    spare = len(ranks) * (size if size == BATCH else len(expected.utterances))
    return padded_epoch(name, expected, ranks, spare=spare)


def _batching_in_words(conf: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in conf.items())
