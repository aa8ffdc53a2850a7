"""Questions about what is left out: long utterances, and rows outside the limits that a config states."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from harness.worker.checks.data.answers import DataAnswer, fails, holds, listed, not_asked
from harness.worker.checks.data.arrivals import Expected, LoaderPass, RowCounts
from harness.worker.checks.data.listening import CapturedLogs
from harness.worker.checks.data.scene import DataCheckContext
from harness.worker.checks.data.speech import MadeUtterance

PUBLISHED = 2048
"""`max_token_length` of the published configs: 20.48 seconds, in frames of 10 ms."""
RAISED = 8000


def ask(scene: DataCheckContext) -> Iterator[DataAnswer]:
    """All questions about what is left out."""
    short = scene.plain[:3]
    within = scene.utterance("seconds15", "听说他很爱看书", 15.0)
    long = scene.utterance("seconds21", "今天天气很好", 21.0)
    # Releases up to 1.0.17 never yield the last batch, which the longest utterance is in: not what is asked here.
    longest = scene.utterance("seconds21_5", "我们一起去", 21.4)
    utterances = [*short, within, long, longest]
    expected = scene.expected(utterances)
    conf: dict[str, Any] = {"batch_size": 1, "shuffle": False}
    published = scene.go(utterances, **conf, max_token_length=PUBLISHED)
    raised = scene.go(utterances, **conf, max_token_length=RAISED)
    yield _long("long_within_limit", raised if scene.feeding.loaders_in_main else published, expected, within)
    yield _long("long", published, expected, long)
    yield _long("long_allowed", raised, expected, long)
    if scene.feeding.row_limits:
        every = scene.go(utterances, **conf, max_token_length=RAISED, max_source_length=RAISED)
        yield _long("long_allowed_twice", every, expected, long)
    else:
        yield not_asked("long_allowed_twice", "this release knows no max_source_length")
    yield _limit(scene, "limit_max_token_length", scene.plain[:6], scene.plain[8:], max_token_length=75)
    for name, kept, left_out, limit in (
        ("limit_max_source_length", scene.plain[:6], scene.plain[8:], {"max_source_length": 75}),
        ("limit_min_source_length", scene.plain[8:], scene.plain[:6], {"min_source_length": 75}),
        *_limits_of_texts(scene),
    ):
        if scene.feeding.row_limits:
            yield _limit(scene, name, kept, left_out, **limit)
        else:
            yield not_asked(name, "this release knows no such limit")


def _limits_of_texts(
    scene: DataCheckContext,
) -> list[tuple[str, Sequence[MadeUtterance], Sequence[MadeUtterance], dict[str, int]]]:
    few = [one for one in scene.plain if len(one.text) <= 4]
    many = [one for one in scene.plain if len(one.text) >= 6]
    return [
        ("limit_max_target_length", few, many, {"max_target_length": 5}),
        ("limit_min_target_length", many, few, {"min_target_length": 5}),
    ]


def _long(name: str, found: LoaderPass, expected: Expected, long: MadeUtterance) -> DataAnswer:
    if found.failure is not None:
        return fails(name, f"it raises {found.failure['type']}: {found.failure['message']}", utterance=long.key)
    tally = RowCounts.of(expected, found.batches)
    if tally.wrong:
        return fails(name, tally.wrong[0])
    if long not in tally.lost:
        return holds(name)
    said = f"source_len {long.source_len}"
    message = f"{long.key} never arrives, and nothing is said of it"
    if _admitted(found, [long]):
        return listed(name, f"{long.key} never arrives; the release says so", utterance=long.key, file=said)
    return fails(name, message, utterance=long.key, file=said, arrived="nothing")


def _limit(
    scene: DataCheckContext, name: str, kept: Sequence[MadeUtterance], left_out: Sequence[MadeUtterance], **limit: int
) -> DataAnswer:
    """Exactly what lies beyond the limit should be left out, in every epoch."""
    expected = scene.expected([*kept, *left_out])
    said = ", ".join(f"{setting} = {value}" for setting, value in limit.items())
    admitted = False
    for epoch in (0, 1):
        found = scene.go([*kept, *left_out], epoch=epoch, batch_size=1, **limit)
        if found.failure is not None:
            return fails(name, f"with {said} it raises {found.failure['type']}: {found.failure['message']}")
        tally = RowCounts.of(expected, found.batches)
        beyond = [one for one in left_out if tally.counts.get(one.key)]
        missed = [one for one in kept if not tally.counts.get(one.key)]
        # Releases up to 1.0.17 keep the last batch back, whatever is in it: `once` tells of that.
        if beyond or len(missed) > scene.feeding.loaders_in_main:
            message = (
                f"with {said}, {len(beyond)} of {len(left_out)} utterances beyond the limit arrive, "
                f"and {len(missed)} of {len(kept)} within it do not"
            )
            one = (beyond or missed)[0]
            described = f"source_len {one.source_len}, target_len {len(one.text)}"
            return fails(name, message, utterance=one.key, file=described, arrived="it" if beyond else "nothing")
        admitted = admitted or _admitted(found, left_out)
    if admitted:
        return holds(name, "what is left out is said")
    return listed(name, f"with {said}, {len(left_out)} utterances are left out as asked, without a word")


def _admitted(found: LoaderPass, left_out: Sequence[MadeUtterance]) -> bool:
    return CapturedLogs(lines=found.lines).admits([name for one in left_out for name in (one.key, one.source)])
