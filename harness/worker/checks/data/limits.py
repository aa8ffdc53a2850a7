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
        both_raised = context.run_epoch(utterances, **conf, max_token_length=RAISED, max_source_length=RAISED)
        yield _long("long_allowed_twice", both_raised, expected, long)
    else:
        yield not_tested("long_allowed_twice", "this release has no max_source_length")
    yield _limit(context, "limit_max_token_length", context.plain[:6], context.plain[8:], max_token_length=75)
    for name, within_limit, left_out, limit in (
        ("limit_max_source_length", context.plain[:6], context.plain[8:], {"max_source_length": 75}),
        ("limit_min_source_length", context.plain[8:], context.plain[:6], {"min_source_length": 75}),
        *_limits_of_texts(context),
    ):
        if context.dataset_options.row_limits:
            yield _limit(context, name, within_limit, left_out, **limit)
        else:
            yield not_tested(name, "this release has no such limit")


def _limits_of_texts(
    context: DataCheckContext,
) -> list[tuple[str, Sequence[MadeUtterance], Sequence[MadeUtterance], dict[str, int]]]:
    few = [utterance for utterance in context.plain if len(utterance.text) <= 4]
    many = [utterance for utterance in context.plain if len(utterance.text) >= 6]
    return [
        ("limit_max_target_length", few, many, {"max_target_length": 5}),
        ("limit_min_target_length", many, few, {"min_target_length": 5}),
    ]


def _long(name: str, loader_pass: LoaderPass, expected: Expected, long: MadeUtterance) -> Question:
    if loader_pass.failure is not None:
        return fails(
            name, f"it raises {loader_pass.failure['type']}: {loader_pass.failure['message']}", utterance=long.key
        )
    tally = RowCounts.of(expected, loader_pass.batches)
    if tally.wrong:
        return fails(name, tally.wrong[0])
    if long not in tally.lost:
        return holds(name)
    length_in_file = f"source_len {long.source_len}"
    message = f"{long.key} never arrives, without a message"
    if _admitted(loader_pass, [long]):
        return listed(
            name, f"{long.key} never arrives; the release reports it", utterance=long.key, file=length_in_file
        )
    return fails(name, message, utterance=long.key, file=length_in_file, arrived="nothing")


def _limit(
    context: DataCheckContext,
    name: str,
    within_limit: Sequence[MadeUtterance],
    left_out: Sequence[MadeUtterance],
    **limit: int,
) -> Question:
    """Exactly the rows beyond the limit should be left out, in every epoch."""
    expected = context.expected([*within_limit, *left_out])
    settings_in_words = ", ".join(f"{setting} = {value}" for setting, value in limit.items())
    admitted = False
    for epoch in (0, 1):
        loader_pass = context.run_epoch([*within_limit, *left_out], epoch=epoch, batch_size=1, **limit)
        if loader_pass.failure is not None:
            return fails(
                name,
                f"with {settings_in_words} it raises {loader_pass.failure['type']}: {loader_pass.failure['message']}",
            )
        tally = RowCounts.of(expected, loader_pass.batches)
        beyond = [utterance for utterance in left_out if tally.counts.get(utterance.key)]
        missed = [utterance for utterance in within_limit if not tally.counts.get(utterance.key)]
        # Up to 1.0.17 the last batch never arrives, whatever it contains: the test `once` covers that.
        if beyond or len(missed) > context.dataset_options.loaders_in_main:
            message = (
                f"with {settings_in_words}, {len(beyond)} of {len(left_out)} utterances beyond the limit arrive, "
                f"and {len(missed)} of {len(within_limit)} within it do not"
            )
            example = (beyond or missed)[0]
            described = f"source_len {example.source_len}, target_len {len(example.text)}"
            return fails(name, message, utterance=example.key, file=described, arrived="it" if beyond else "nothing")
        admitted = admitted or _admitted(loader_pass, left_out)
    if admitted:
        return holds(name, "the release reports what it leaves out")
    return listed(
        name, f"with {settings_in_words}, {len(left_out)} utterances are left out as configured, without a message"
    )


def _admitted(loader_pass: LoaderPass, left_out: Sequence[MadeUtterance]) -> bool:
    return CapturedLogs(lines=loader_pass.lines).mentions(
        [name for utterance in left_out for name in (utterance.key, utterance.source)]
    )


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
    lines_of_rows = lines_of(getattr(loader.dataset.index_ds, "contents", None), user_file["path"], range(1, count + 1))
    if lines_of_rows is None:
        return not_tested(NAME, "the release's index keeps the rows in another form")
    came = {lines_of_rows[number] for number in drawn}
    missing = [line for line in range(1, count + 1) if line not in came]
    excused = [row["line"] for row in user_file["left_out"]]
    # Up to 1.0.17 the last batch never arrives, whatever it contains: the test `once` covers that.
    unexplained = (
        [line for line in missing if line not in excused] if len(excused) == user_file["left_out_count"] else []
    )
    allowed = user_file["left_out_count"] + context.dataset_options.loaders_in_main
    if len(missing) > allowed or len(unexplained) > context.dataset_options.loaders_in_main:
        lines = ", ".join(map(str, (unexplained or missing)[:5]))
        message = f"{len(missing)} of {count} rows of {name} never arrive; the limits in force leave out "
        return fails(NAME, f"{message}{user_file['left_out_count']}", utterance=f"line {lines}", arrived="nothing")
    if len(missing) > user_file["left_out_count"]:
        message = f"{count - len(missing)} of {count} rows of {name} arrive; the last batch of an epoch never arrives"
        return listed(NAME, message, utterance=f"line {missing[-1]}", arrived="nothing")
    if user_file["left_out_count"]:
        message = f"{user_file['left_out_count']} of {count} rows of {name} are left out by the limits in force"
        return listed(NAME, message, file=_reason(user_file), arrived="nothing")
    return holds(NAME, f"all {count} rows of {name} arrive")


def _reason(user_file: dict[str, Any]) -> str:
    first = user_file["left_out"][0]
    return f"line {first['line']}: {first['reason']}"
