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
    whole, recipe = metrics.whole or TrainerRun(), metrics.recipe or TrainerRun()
    return [
        *_between_epochs(whole, metrics.resumed or TrainerRun(), _loss_bound(whole, metrics.again)),
        _within("resumes_within_epoch", metrics.within, whole),
        _within("resumes_within_sorted_epoch", metrics.once, recipe),
        _within("resumes_twice_within_epoch", metrics.twice, recipe, after=metrics.once or TrainerRun()),
    ]


def _between_epochs(whole: TrainerRun, run: TrainerRun, bound: float) -> list[Question]:
    names = ("resumes_at_epoch", "resumes_weights", "resumes_optimizer", "resumes_schedule", "resumes_losses")
    if run.left is None:
        return [not_tested(name, "the run to resume did not get that far") for name in names]
    done = run.left.forwards
    due, went = whole.batches[done:], run.batches
    if run.failure:
        text = f"resumed between epochs, the trainer raised {run.failure.reason}"
        return [fails(names[0], text), *(not_tested(name, "it did not resume") for name in names[1:])]
    at_epoch = _same_batches(names[0], whole, went, due, done)
    schedule = _same_figures(names[3], "learning rate", whole, run, done, RATE_TOLERANCE)
    if at_epoch.status is AnswerStatus.HOLDS:
        losses = _same_figures(names[4], "loss", whole, run, done, bound)
    else:
        losses = not_tested(names[4], "it did not continue where it was stopped")
    return [
        at_epoch,
        _same_tensors(names[1], run.weights_differ, "weights of the model after resuming"),
        _moments(names[2], run),
        schedule,
        losses,
    ]


def _same_batches(name: str, whole: TrainerRun, went: Sequence[str], due: Sequence[str], done: int) -> Question:
    numbers = {batch: number for number, batch in reversed(list(enumerate(whole.batches, 1)))}
    went_on, expected = ([numbers.get(batch) for batch in batches] for batches in (went, due))
    example = {"trained_before": done, "went_on_with": went_on, "due": expected}
    if list(went) == list(due) and went:
        return holds(name, f"it went on with batch {done + 1}", example)
    shown = ", ".join("another" if number is None else str(number) for number in went_on) or "none"
    text = f"stopped after batch {done}, it went on with {shown}; due were {', '.join(map(str, expected))}"
    return fails(name, text, example)


def _within(name: str, run: TrainerRun | None, whole: TrainerRun, after: TrainerRun | None = None) -> Question:
    """About a run that was resumed within an epoch; `after` is the first resumed run, where this is the second."""
    if run is None or run.left is None:
        return not_tested(name, "nothing was saved within an epoch")
    if run.failure:
        return fails(name, f"resumed within an epoch, the trainer raised {run.failure.reason}")
    begun = after.left.forwards if after and after.left else 0
    if after is not None and not _in_place(after, whole.batches, begun):
        return not_tested(name, "it did not even resume once")
    before = begun + run.left.forwards
    return _same_batches(name, whole, run.batches, whole.batches[before : before + max(1, len(run.batches))], before)


def _in_place(run: TrainerRun, batches: Sequence[str], before: int) -> bool:
    return bool(run.batches) and run.batches == tuple(batches[before : before + len(run.batches)])


def _same_figures(name: str, what: str, whole: TrainerRun, run: TrainerRun, done: int, bound: float) -> Question:
    every, went = (_figures(one.losses if what == "loss" else one.learning_rates) for one in (whole, run))
    due = every[done:]
    pairs = list(zip(due, went, strict=False))
    if not pairs:
        return fails(name, f"no {what} was seen after resuming")
    if what == "learning rate" and due == every[: len(due)]:
        return not_tested(name, "the schedule has the same rates from the start, so that one begun again looks alike")
    worst = max(_apart(one, other) for one, other in pairs)
    example = {"due": due[:5], "seen": went[:5], "largest_relative_difference": worst, "allowed": bound}
    last = run.last_differs
    if worst <= bound and not (what == "loss" and bound <= LOSS_TOLERANCE and last):
        text = f"every {what} is that of the uninterrupted run"
        return holds(name, text, example)
    if worst <= bound:
        text = f"the losses are those of the uninterrupted run, but it ends with other weights: {some(last or ())}"
        return fails(name, text, {**example, "tensors": last and list(last)})
    step = next(number for number, pair in enumerate(pairs, 1) if not _apart(*pair) <= bound)
    one, other = pairs[step - 1]
    text = f"in step {step} after resuming the {what} is {other:.7g}; uninterrupted it is {one:.7g}"
    return fails(name, text, example)


def _moments(name: str, run: TrainerRun) -> Question:
    if run.moments_kept == 0:
        return not_tested(name, "the optimizer remembers nothing of its steps, so that nothing of it could be lost")
    return _same_tensors(name, run.moments_differ, "optimizer's state before its first step after resuming")


def _same_tensors(name: str, differ: Sequence[str] | None, what: str) -> Question:
    if differ is None:
        return fails(name, f"the {what} was never seen")
    if not differ:
        return holds(name, f"the {what}: as it was at the stop, to the last bit")
    text = f"the {what}: not as it was at the stop in {some(differ)}"
    return fails(name, text, {"tensors": list(differ)})


def _figures(values: Sequence[float | None]) -> list[float]:
    """The numbers of a list; NaN for what is not finite."""
    return [value if value is not None and math.isfinite(value) else math.nan for value in values]


def _loss_bound(whole: TrainerRun, again: TrainerRun | None) -> float:
    if again is None:
        return LOSS_TOLERANCE
    pairs = zip(_figures(whole.losses), _figures(again.losses), strict=False)
    noise = max((_apart(one, other) for one, other in pairs), default=0.0)
    return max(LOSS_TOLERANCE, NOISE_FACTOR * noise)


def _apart(one: float, other: float) -> float:
    """The relative difference; infinite where either is no number."""
    if not (math.isfinite(one) and math.isfinite(other)):
        return math.inf
    return abs(one - other) / max(abs(one), abs(other), 1e-30)
