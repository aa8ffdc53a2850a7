"""Questions about batches by token and by length, and about what several ranks get."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.worker.checks.data.answers import AnswerStatus, DataAnswer, fails, listed, not_asked
from harness.worker.checks.data.arrivals import Expected, LoaderPass
from harness.worker.checks.data.epochs import BATCH, filled_up, owners, problem_of, resumed, worst
from harness.worker.checks.data.scene import DataCheckContext

ABOVE = 260
"""Frames of 10 ms in a batch: some two to seven of the plain utterances, which have 33 to 119."""
BELOW = 20
"""Less than any of them has: each should come alone."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to ask for batches of a size in frames."""

    name: str
    confs: Sequence[Mapping[str, Any]]
    """Settings that should come to the same."""
    absent: str = ""
    """Why this release cannot be asked; empty where it can."""


def ways(scene: DataCheckContext) -> list[Way]:
    """All ways, those too that this release does not know."""
    feeding = scene.feeding
    types: Sequence[str] = ("token", "length") if feeding.token_batches else ("length",)
    no_sort = "" if feeding.sorted_batches else "the samplers of this release know no sort_size"
    no_espnet = "" if feeding.espnet_batches else "this release has no EspnetStyleBatchSampler"
    espnet = {"batch_sampler": "EspnetStyleBatchSampler"}
    return [
        Way(name="frames", confs=[{"batch_type": kind} for kind in types]),
        Way(name="sorted", confs=[{"batch_type": "token", "sort_size": 1024}], absent=no_sort),
        Way(name="espnet", confs=[{"batch_type": "token", **espnet}], absent=no_espnet),
    ]


def ask(scene: DataCheckContext) -> Iterator[DataAnswer]:
    """All questions about ranks and about batches of a size in frames."""
    expected = scene.expected(scene.plain)
    yield _ranked("ranks", expected, _ranks(scene, batch_size=BATCH), BATCH)
    below = []
    for way in ways(scene):
        names = (f"batches_{way.name}", f"ranks_{way.name}", f"start_step_{way.name}")
        if way.absent:
            yield from (not_asked(name, way.absent) for name in names)
            continue
        confs = [{**conf, "max_token_length": 2048} for conf in way.confs]
        above = [_sized(names[0], expected, scene.go(scene.plain, batch_size=ABOVE, **conf), ABOVE) for conf in confs]
        yield worst(above)
        for conf in confs:
            answer = _sized("batches_below", expected, scene.go(scene.plain, batch_size=BELOW, **conf), BELOW)
            below.append(replace(answer, example={**answer.example, "asked": _said({**conf, "batch_size": BELOW})}))
        yield _ranked(names[1], expected, _ranks(scene, batch_size=ABOVE, **confs[0]), ABOVE)
        yield resumed(names[2], scene, expected, batch_size=ABOVE, **confs[0])
    yield worst(below)


def _sized(name: str, expected: Expected, found: LoaderPass, size: int) -> DataAnswer:
    problem = problem_of(name, expected, [found])
    if problem is not None:
        return problem
    for batch in owners(expected, found):
        frames = max(one.source_len for one in batch) * len(batch)
        if len(batch) > 1 and frames > size:
            longest = max(batch, key=lambda one: one.source_len)
            message = (
                f"a batch of {len(batch)} utterances takes {frames} frames with its padding; {size} were asked for"
            )
            return fails(name, message, utterance=longest.key, file=f"source_len {longest.source_len}")
    answer = filled_up(name, expected, [found], spare=0)
    if answer.standing is AnswerStatus.HOLDS and found.said_length != len(found.batches):
        return listed(name, f"len(loader) is {found.said_length}, {len(found.batches)} batches come")
    return answer


def _ranks(scene: DataCheckContext, **conf: Any) -> list[list[LoaderPass]]:
    return [scene.ranks(world, scene.plain, **conf) for world in (2, 3)]


def _ranked(name: str, expected: Expected, worlds: Sequence[list[LoaderPass]], size: int) -> DataAnswer:
    return worst([_of_world(name, expected, ranks, size) for ranks in worlds])


def _of_world(name: str, expected: Expected, ranks: list[LoaderPass], size: int) -> DataAnswer:
    problem = problem_of(name, expected, ranks)
    counts = [len(found.batches) for found in ranks]
    said = ", ".join(map(str, counts))
    if problem is None and len(set(counts)) > 1:
        problem = fails(
            name, f"{len(ranks)} ranks get {said} batches: those with more wait, or their last ones are lost"
        )
    if problem is not None:
        message = f"with {len(ranks)} ranks: {problem.message}"
        return fails(name, message, **{**problem.example, "batches of the ranks": said})
    # At most one batch for every rank is made up to come out even; by example a batch has no more than its size.
    spare = len(ranks) * (size if size == BATCH else len(expected.utterances))
    return filled_up(name, expected, ranks, spare=spare)


def _said(conf: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in conf.items())
