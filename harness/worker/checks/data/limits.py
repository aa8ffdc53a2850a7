"""Data tests of rows that are left out: long utterances, configured limits, and rows of the user's own file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from harness.core.evidence.questions import Question
from harness.worker.checks.data.answers import Expected, LoaderPass, RowCounts, fails, holds, listed, not_tested
from harness.worker.checks.data.context import CapturedLogs, DataCheckContext, ReleaseRaised
from harness.worker.checks.data.inputs import MadeUtterance
from harness.worker.trainer.received_rows import lines_of, rows_of

PUBLISHED = 2048
"""`max_token_length` of the published configs: 20.48 seconds, in frames of 10 ms."""
RAISED = 8000


def check_limits(context: DataCheckContext) -> Iterator[Question]:
    """Test which rows are left out."""
    short = context.plain[:3]
    within = context.utterance("seconds15", "听说他很爱看书", 15.0)
    long = context.utterance("seconds21", "今天天气很好", 21.0)
    # Up to 1.0.17 the last batch, with the longest utterance, never arrives; that is another test's subject.
    longest = context.utterance("seconds21_5", "我们一起去", 21.4)
    utterances = [*short, within, long, longest]
    expected = context.expected(utterances)
    conf: dict[str, Any] = {"batch_size": 1, "shuffle": False}
    published = context.run_epoch(utterances, **conf, max_token_length=PUBLISHED)
    raised = context.run_epoch(utterances, **conf, max_token_length=RAISED)
    yield _long("long_within_limit", raised if context.dataset_options.loaders_in_main else published, expected, within)
    yield _long("long", published, expected, long)
    yield _long("long_allowed", raised, expected, long)
    if context.dataset_options.row_limits:
        every = context.run_epoch(utterances, **conf, max_token_length=RAISED, max_source_length=RAISED)
        yield _long("long_allowed_twice", every, expected, long)
    else:
        yield not_tested("long_allowed_twice", "this release has no max_source_length")
    yield _limit(context, "limit_max_token_length", context.plain[:6], context.plain[8:], max_token_length=75)
    for name, kept, left_out, limit in (
        ("limit_max_source_length", context.plain[:6], context.plain[8:], {"max_source_length": 75}),
        ("limit_min_source_length", context.plain[8:], context.plain[:6], {"min_source_length": 75}),
        *_limits_of_texts(context),
    ):
        if context.dataset_options.row_limits:
            yield _limit(context, name, kept, left_out, **limit)
        else:
            yield not_tested(name, "this release has no such limit")


def _limits_of_texts(
    context: DataCheckContext,
) -> list[tuple[str, Sequence[MadeUtterance], Sequence[MadeUtterance], dict[str, int]]]:
    few = [one for one in context.plain if len(one.text) <= 4]
    many = [one for one in context.plain if len(one.text) >= 6]
    return [
        ("limit_max_target_length", few, many, {"max_target_length": 5}),
        ("limit_min_target_length", many, few, {"min_target_length": 5}),
    ]


def _long(name: str, found: LoaderPass, expected: Expected, long: MadeUtterance) -> Question:
    if found.failure is not None:
        return fails(name, f"it raises {found.failure['type']}: {found.failure['message']}", utterance=long.key)
    tally = RowCounts.of(expected, found.batches)
    if tally.wrong:
        return fails(name, tally.wrong[0])
    if long not in tally.lost:
        return holds(name)
    stated = f"source_len {long.source_len}"
    message = f"{long.key} never arrives, without a message"
    if _admitted(found, [long]):
        return listed(name, f"{long.key} never arrives; the release reports it", utterance=long.key, file=stated)
    return fails(name, message, utterance=long.key, file=stated, arrived="nothing")


def _limit(
    context: DataCheckContext, name: str, kept: Sequence[MadeUtterance], left_out: Sequence[MadeUtterance], **limit: int
) -> Question:
    """Exactly the rows beyond the limit should be left out, in every epoch."""
    expected = context.expected([*kept, *left_out])
    stated = ", ".join(f"{setting} = {value}" for setting, value in limit.items())
    admitted = False
    for epoch in (0, 1):
        found = context.run_epoch([*kept, *left_out], epoch=epoch, batch_size=1, **limit)
        if found.failure is not None:
            return fails(name, f"with {stated} it raises {found.failure['type']}: {found.failure['message']}")
        tally = RowCounts.of(expected, found.batches)
        beyond = [one for one in left_out if tally.counts.get(one.key)]
        missed = [one for one in kept if not tally.counts.get(one.key)]
        # Up to 1.0.17 the last batch never arrives, whatever it contains: the test `once` covers that.
        if beyond or len(missed) > context.dataset_options.loaders_in_main:
            message = (
                f"with {stated}, {len(beyond)} of {len(left_out)} utterances beyond the limit arrive, "
                f"and {len(missed)} of {len(kept)} within it do not"
            )
            one = (beyond or missed)[0]
            described = f"source_len {one.source_len}, target_len {len(one.text)}"
            return fails(name, message, utterance=one.key, file=described, arrived="it" if beyond else "nothing")
        admitted = admitted or _admitted(found, left_out)
    if admitted:
        return holds(name, "the release reports what it leaves out")
    return listed(name, f"with {stated}, {len(left_out)} utterances are left out as configured, without a message")


def _admitted(found: LoaderPass, left_out: Sequence[MadeUtterance]) -> bool:
    return CapturedLogs(lines=found.lines).mentions([name for one in left_out for name in (one.key, one.source)])


NAME = "own_rows"


def check_own_rows(context: DataCheckContext) -> Iterator[Question]:
    """Test which rows of the user's file an epoch contains; no test for the harness's own speech."""
    if context.user_file is not None:
        yield _rows(context, context.user_file)


def _rows(context: DataCheckContext, user_file: dict[str, Any]) -> Question:
    name, count = user_file["name"], len(rows_of(user_file["path"]))
    try:
        loader = context.run_release(
            context.capture_loaders(user_file["path"], batch_size=1, buffer_size=1, shuffle=False).build
        ).train
        drawn = context.run_release(lambda: [number for batch in loader.batch_sampler for number in batch])
    except ReleaseRaised as raised:
        if user_file["left_out_count"] == count:
            return listed(NAME, f"reading {name} raises {raised}", file=_reason(user_file))
        return fails(NAME, f"reading {name} raises {raised}")
    kept = lines_of(getattr(loader.dataset.index_ds, "contents", None), user_file["path"], range(1, count + 1))
    if kept is None:
        return not_tested(NAME, "the release's index keeps the rows in another form")
    came = {kept[number] for number in drawn}
    gone = [line for line in range(1, count + 1) if line not in came]
    excused = [one["line"] for one in user_file["left_out"]]
    # Up to 1.0.17 the last batch never arrives, whatever it contains: the test `once` covers that.
    unexplained = [line for line in gone if line not in excused] if len(excused) == user_file["left_out_count"] else []
    allowed = user_file["left_out_count"] + context.dataset_options.loaders_in_main
    if len(gone) > allowed or len(unexplained) > context.dataset_options.loaders_in_main:
        lines = ", ".join(map(str, (unexplained or gone)[:5]))
        message = f"{len(gone)} of {count} rows of {name} never arrive; the limits in force leave out "
        return fails(NAME, f"{message}{user_file['left_out_count']}", utterance=f"line {lines}", arrived="nothing")
    if len(gone) > user_file["left_out_count"]:
        message = f"{count - len(gone)} of {count} rows of {name} arrive; the last batch of an epoch never arrives"
        return listed(NAME, message, utterance=f"line {gone[-1]}", arrived="nothing")
    if user_file["left_out_count"]:
        message = f"{user_file['left_out_count']} of {count} rows of {name} are left out by the limits in force"
        return listed(NAME, message, file=_reason(user_file), arrived="nothing")
    return holds(NAME, f"all {count} rows of {name} arrive")


def _reason(user_file: dict[str, Any]) -> str:
    first = user_file["left_out"][0]
    return f"line {first['line']}: {first['reason']}"
