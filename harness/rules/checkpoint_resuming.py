"""Is a training that was stopped and resumed the one that was never stopped?"""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.core.evidence.checkpoint import CheckpointMetrics, TrainerRun
from harness.core.evidence.questions import AnswerStatus, Question, fails, holds, not_tested
from harness.text.plain import some

LOSS_TOLERANCE = 1e-6
"""Relative; eight rounding units of fp32. A forgotten optimizer or a step of the schedule shows at 1e-3 and above."""
NOISE_FACTOR = 10.0
RATE_TOLERANCE = 1e-6
"""Relative: a schedule is a formula of the step, and one step more or less of it is a percent."""


def questions(metrics: CheckpointMetrics) -> list[Question]:
    """About stopping between epochs, within one, and twice within one."""
    uninterrupted, recipe = metrics.whole or TrainerRun(), metrics.recipe or TrainerRun()
    return [
        *_between_epochs(uninterrupted, metrics.resumed or TrainerRun(), _loss_bound(uninterrupted, metrics.again)),
        _within("resumes_within_epoch", metrics.within, uninterrupted),
        _within("resumes_within_sorted_epoch", metrics.once, recipe),
        _within("resumes_twice_within_epoch", metrics.twice, recipe, after=metrics.once or TrainerRun()),
    ]


def _between_epochs(uninterrupted: TrainerRun, run: TrainerRun, bound: float) -> list[Question]:
    names = ("resumes_at_epoch", "resumes_weights", "resumes_optimizer", "resumes_schedule", "resumes_losses")
    if run.left is None:
        return [not_tested(name, "the run to resume did not get that far") for name in names]
    trained_before = run.left.forwards
    due, went = uninterrupted.batches[trained_before:], run.batches
    if run.failure:
        text = f"resumed between epochs, the trainer raised {run.failure.reason}"
        return [fails(names[0], text), *(not_tested(name, "it did not resume") for name in names[1:])]
    at_epoch = _same_batches(names[0], uninterrupted, went, due, trained_before)
    schedule = _same_figures(names[3], "learning rate", uninterrupted, run, trained_before, RATE_TOLERANCE)
    if at_epoch.status is AnswerStatus.HOLDS:
        losses = _same_figures(names[4], "loss", uninterrupted, run, trained_before, bound)
    else:
        losses = not_tested(names[4], "it did not continue where it was stopped")
    return [
        at_epoch,
        _same_tensors(names[1], run.weights_differ, "weights of the model after resuming"),
        _moments(names[2], run),
        schedule,
        losses,
    ]


def _same_batches(
    name: str, uninterrupted: TrainerRun, went: Sequence[str], due: Sequence[str], trained_before: int
) -> Question:
    numbers = {batch: number for number, batch in reversed(list(enumerate(uninterrupted.batches, 1)))}
    went_on, expected = ([numbers.get(batch) for batch in batches] for batches in (went, due))
    example = {"trained_before": trained_before, "went_on_with": went_on, "due": expected}
    if list(went) == list(due) and went:
        return holds(name, f"it went on with batch {trained_before + 1}", example)
    shown = ", ".join("another" if number is None else str(number) for number in went_on) or "none"
    text = f"stopped after batch {trained_before}, it went on with {shown}; due were {', '.join(map(str, expected))}"
    return fails(name, text, example)


def _within(name: str, run: TrainerRun | None, uninterrupted: TrainerRun, after: TrainerRun | None = None) -> Question:
    """About a run that was resumed within an epoch; `after` is the first resumed run, where this is the second."""
    if run is None or run.left is None:
        return not_tested(name, "nothing was saved within an epoch")
    if run.failure:
        return fails(name, f"resumed within an epoch, the trainer raised {run.failure.reason}")
    batches_before = after.left.forwards if after and after.left else 0
    if after is not None and not _in_place(after, uninterrupted.batches, batches_before):
        return not_tested(name, "it did not even resume once")
    before = batches_before + run.left.forwards
    return _same_batches(
        name, uninterrupted, run.batches, uninterrupted.batches[before : before + max(1, len(run.batches))], before
    )


def _in_place(run: TrainerRun, batches: Sequence[str], before: int) -> bool:
    return bool(run.batches) and run.batches == tuple(batches[before : before + len(run.batches)])


def _same_figures(
    name: str, quantity: str, uninterrupted: TrainerRun, run: TrainerRun, trained_before: int, bound: float
) -> Question:
    all_values, went = (
        _figures(training.losses if quantity == "loss" else training.learning_rates)
        for training in (uninterrupted, run)
    )
    due = all_values[trained_before:]
    pairs = list(zip(due, went, strict=False))
    if not pairs:
        return fails(name, f"no {quantity} was seen after resuming")
    if quantity == "learning rate" and due == all_values[: len(due)]:
        return not_tested(name, "the schedule has the same rates from the start, so that one begun again looks alike")
    worst = max(_relative_difference(expected, resumed) for expected, resumed in pairs)
    example = {"due": due[:5], "seen": went[:5], "largest_relative_difference": worst, "allowed": bound}
    last = run.last_differs
    if worst <= bound and not (quantity == "loss" and bound <= LOSS_TOLERANCE and last):
        text = f"every {quantity} is that of the uninterrupted run"
        return holds(name, text, example)
    if worst <= bound:
        text = f"the losses are those of the uninterrupted run, but it ends with other weights: {some(last or ())}"
        return fails(name, text, {**example, "tensors": last and list(last)})
    step = next(number for number, pair in enumerate(pairs, 1) if not _relative_difference(*pair) <= bound)
    expected, resumed = pairs[step - 1]
    text = f"in step {step} after resuming the {quantity} is {resumed:.7g}; uninterrupted it is {expected:.7g}"
    return fails(name, text, example)


def _moments(name: str, run: TrainerRun) -> Question:
    if run.moments_kept == 0:
        return not_tested(name, "the optimizer remembers nothing of its steps, so that nothing of it could be lost")
    return _same_tensors(name, run.moments_differ, "optimizer's state before its first step after resuming")


def _same_tensors(name: str, differ: Sequence[str] | None, subject: str) -> Question:
    if differ is None:
        return fails(name, f"the {subject} was never seen")
    if not differ:
        return holds(name, f"the {subject}: as it was at the stop, to the last bit")
    text = f"the {subject}: not as it was at the stop in {some(differ)}"
    return fails(name, text, {"tensors": list(differ)})


def _figures(values: Sequence[float | None]) -> list[float]:
    """The numbers of a list; NaN for what is not finite."""
    return [value if value is not None and math.isfinite(value) else math.nan for value in values]


def _loss_bound(uninterrupted: TrainerRun, again: TrainerRun | None) -> float:
    if again is None:
        return LOSS_TOLERANCE
    pairs = zip(_figures(uninterrupted.losses), _figures(again.losses), strict=False)
    noise = max((_relative_difference(first, second) for first, second in pairs), default=0.0)
    return max(LOSS_TOLERANCE, NOISE_FACTOR * noise)


def _relative_difference(first: float, second: float) -> float:
    """The relative difference; infinite where either is no number."""
    if not (math.isfinite(first) and math.isfinite(second)):
        return math.inf
    return abs(first - second) / max(abs(first), abs(second), 1e-30)
