"""Data tests of whole epochs: each utterance once, number of steps, a new order in each epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from harness.core.evidence.questions import AnswerStatus, Question
from harness.worker.checks.data.answers import Expected, LoaderPass, RowCounts, fails, holds, listed, not_tested
from harness.worker.checks.data.context import DataCheckContext, ReleaseRaised
from harness.worker.checks.data.inputs import MadeUtterance
from harness.worker.checks.data.loader_capture import LoaderCapture

BATCH = 4
EPOCHS = (0, 1, 2)


def check_epochs(context: DataCheckContext) -> Iterator[Question]:
    """Test whole epochs in batches by number of examples."""
    twelve, all_plain = context.plain[:12], context.plain
    try:
        feed = context.capture_loaders(twelve, batch_size=BATCH, shuffle=True)
        shuffled = [context.iterate(feed, epoch=epoch) for epoch in EPOCHS]
        in_order = [context.run_epoch(twelve, epoch=epoch, batch_size=BATCH, shuffle=False) for epoch in EPOCHS[:2]]
    except ReleaseRaised as raised:
        yield fails("once", f"building the loaders raises {raised}")
        return
    expected = context.expected(twelve)
    yield _once(expected, [*shuffled, *in_order])
    remainder = context.run_epoch(all_plain, batch_size=BATCH)
    yield padded_epoch("remainder", context.expected(all_plain), [remainder], spare=BATCH - 1)
    few = context.run_epoch(all_plain[:3], batch_size=8)
    yield padded_epoch("fewer_than_a_batch", context.expected(all_plain[:3]), [few], spare=5)
    yield _steps([(len(twelve), loader_pass) for loader_pass in (*shuffled, *in_order)] + [(len(all_plain), remainder)])
    yield _order(context, expected, shuffled, in_order)
    yield _validation(context, feed)
    yield resumed("start_step", context, expected, batch_size=BATCH)
    yield from _slices(context)


def _once(expected: Expected, passes: Sequence[LoaderPass]) -> Question:
    for loader_pass in passes:
        problem = problem_of("once", expected, [loader_pass])
        if problem is None:
            tally = RowCounts.of(expected, loader_pass.batches)
            if tally.repeated:
                key, count = next(iter(tally.repeated.items()))
                problem = fails("once", f"{key} arrives {count} times in one epoch", utterance=key)
            elif max(map(len, loader_pass.batches)) > BATCH:
                problem = fails(
                    "once", f"a batch of {max(map(len, loader_pass.batches))} instead of the configured {BATCH}"
                )
        if problem is not None:
            return problem
    return holds("once")


def problem_of(name: str, expected: Expected, passes: Sequence[LoaderPass]) -> Question | None:
    """What is wrong with an epoch of one or several ranks, except for repetitions; None if nothing is."""
    for loader_pass in passes:
        if loader_pass.failure is not None:
            return fails(
                name, f"it raises {loader_pass.failure['type']}: {loader_pass.failure['message'] or 'no message'}"
            )
    tally = RowCounts.of(expected, [batch for loader_pass in passes for batch in loader_pass.batches])
    if tally.empty:
        return fails(
            name, f"{tally.empty} of {sum(len(loader_pass.batches) for loader_pass in passes)} batches are empty"
        )
    if tally.wrong:
        return fails(name, tally.wrong[0], arrived=tally.wrong[0])
    if tally.lost:
        missing, count = tally.lost[0], len(expected.utterances)
        message = f"{len(tally.lost)} of {count} utterances never arrive in an epoch, {missing.key} among them"
        return fails(name, message, utterance=missing.key, file=expected.describe(missing), arrived="nothing")
    return None


def padded_epoch(name: str, expected: Expected, passes: Sequence[LoaderPass], *, spare: int) -> Question:
    """No row may be lost; up to `spare` rows may be repeated to fill the last batch."""
    problem = problem_of(name, expected, passes)
    if problem is not None:
        return problem
    tally = RowCounts.of(expected, [batch for loader_pass in passes for batch in loader_pass.batches])
    rows = sum(len(loader_pass.rows) for loader_pass in passes)
    if tally.spare > spare:
        return fails(name, f"{tally.spare} of {rows} rows are repetitions; {spare} would fill the last batch")
    if tally.repeated:
        key, count = next(iter(tally.repeated.items()))
        message = f"{tally.spare} of {rows} rows are repetitions that fill the last batch"
        return listed(name, message, utterance=key, arrived=f"{count} times in one epoch")
    return holds(name)


def _steps(passes: Sequence[tuple[int, LoaderPass]]) -> Question:
    for utterances, loader_pass in passes:
        expected_steps = math.ceil(utterances / BATCH)
        if loader_pass.failure is None and not (
            loader_pass.reported_length == len(loader_pass.batches) == expected_steps
        ):
            message = (
                f"{utterances} utterances in batches of {BATCH} make {expected_steps} steps; "
                f"len(loader) is {loader_pass.reported_length}, {len(loader_pass.batches)} batches arrive"
            )
            return fails("steps", message)
    return holds("steps")


def _order(
    context: DataCheckContext, expected: Expected, shuffled: Sequence[LoaderPass], in_order: Sequence[LoaderPass]
) -> Question:
    orders = [_composition(expected, loader_pass) for loader_pass in shuffled]
    if any(first == second for first, second in pairwise(orders)):
        return fails("shuffle", "with shuffle on, two consecutive epochs have the same batches")
    if _composition(expected, in_order[0]) != _composition(expected, in_order[1]):
        return fails("shuffle", "with shuffle off, two epochs have different batches")
    if not context.dataset_options.loaders_in_main:
        again = context.run_epoch(expected.utterances, epoch=EPOCHS[0], batch_size=BATCH, shuffle=True)
        if _composition(expected, again) != orders[0]:
            return fails("shuffle", "the same epoch, built again, has different batches")
    return holds("shuffle")


def _composition(expected: Expected, loader_pass: LoaderPass) -> list[list[str]]:
    owners = [[expected.owner(row)[0] for row in batch] for batch in loader_pass.batches]
    return [[owner.key if owner else "?" for owner in batch] for batch in owners]


def _validation(context: DataCheckContext, feed: LoaderCapture) -> Question:
    loader_pass = context.iterate(feed, part="valid", epoch=1)
    return padded_epoch("validation", context.expected(context.valid), [loader_pass], spare=BATCH - 1)


def resumed(name: str, context: DataCheckContext, expected: Expected, **conf: Any) -> Question:
    """A loader that starts at a step should skip the batches before it, as the trainer's `resume` needs."""
    if not context.dataset_options.start_step:
        return not_tested(name, "the loaders of this release cannot start within an epoch")
    try:
        feed = context.capture_loaders(expected.utterances, **conf)
    except ReleaseRaised as raised:
        return fails(name, f"building the loaders raises {raised}")
    complete_pass, resumed_pass = (context.iterate(feed, epoch=EPOCHS[0], start_step=step) for step in (0, 2))
    for loader_pass in (complete_pass, resumed_pass):
        if loader_pass.failure is not None:
            return fails(name, f"it raises {loader_pass.failure['type']}: {loader_pass.failure['message']}")
    expected_batches, came = _composition(expected, complete_pass)[2:], _composition(expected, resumed_pass)
    if came != expected_batches:
        message = (
            f"of {len(complete_pass.batches)} batches {len(expected_batches)} are left after 2 steps; "
            f"{len(came)} arrive when resumed"
        )
        return fails(name, message, utterance=came[0][0] if came and came[0] else "", arrived="once more")
    return holds(name)


def _slices(context: DataCheckContext) -> Iterator[Question]:
    if not context.dataset_options.list_files:
        yield not_tested("list_file", "this release reads no list of jsonl files")
        yield not_tested("slices_of_one_file", "this release reads no slices")
        return
    parts = [context.rows(context.plain[begin : begin + 4]) for begin in (0, 4, 8)]
    list_file = context.here / "train.list"
    list_file.write_text("".join(f"{part}\n" for part in parts), encoding="utf-8")
    expected = context.expected(context.plain[:12])
    yield _sliced("list_file", context, str(list_file), expected)
    answer = _sliced("slices_of_one_file", context, context.rows(context.plain[:12]), expected)
    if answer.status is AnswerStatus.FAILS and answer.message.endswith("times in one epoch"):
        # The manual requires a list file. With a single jsonl file, each slice contains the whole file.
        answer = listed(answer.name, f"{answer.message}: one jsonl file is not sliced", **(answer.example or {}))
    yield answer


def _sliced(name: str, context: DataCheckContext, train: str, expected: Expected) -> Question:
    conf: dict[str, Any] = {"batch_size": BATCH, "data_split_num": 2}
    try:
        feed = context.capture_loaders(train, **conf)
    except ReleaseRaised as raised:
        return fails(name, f"it raises {raised}")
    passes = [context.iterate(feed, epoch=1, data_split_i=number) for number in (0, 1)]
    problem = problem_of(name, expected, passes)
    if problem is not None:
        return problem
    tally = RowCounts.of(expected, [batch for loader_pass in passes for batch in loader_pass.batches])
    if tally.repeated:
        key, count = next(iter(tally.repeated.items()))
        return fails(name, f"{key} arrives {count} times in one epoch", utterance=key)
    return holds(name)


def worst(answers: Sequence[Question]) -> Question:
    """The most serious of several answers to one test; the first of equal ones."""
    gravity = (AnswerStatus.FAILS, AnswerStatus.LISTED, AnswerStatus.HOLDS, AnswerStatus.NOT_TESTED)
    return min(answers, key=lambda answer: gravity.index(answer.status))


def owners(expected: Expected, loader_pass: LoaderPass) -> list[list[MadeUtterance]]:
    """The utterances of each batch."""
    return [[owner for row in batch if (owner := expected.owner(row)[0]) is not None] for batch in loader_pass.batches]
