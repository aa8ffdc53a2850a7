"""Is a training that was stopped and resumed the one that was never stopped?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from harness.rules.questions import RuleAnswer, RuleQuestion, fails, figures, holds, mapping, not_asked, sequence, some

LOSS_TOLERANCE = 1e-6
"""Relative; eight rounding units of fp32. A forgotten optimizer or a step of the schedule shows at 1e-3 and above."""
NOISE_FACTOR = 10.0
RATE_TOLERANCE = 1e-6
"""Relative: a schedule is a formula of the step, and one step more or less of it is a percent."""


def questions(metrics: Mapping[str, Any]) -> list[RuleQuestion]:
    """On stopping between epochs, within one, and twice within one."""
    whole, recipe = mapping(metrics, "whole"), mapping(metrics, "recipe")
    bound = _loss_bound(whole, metrics.get("again"))
    return [
        *_between_epochs(whole, mapping(metrics, "resumed"), bound),
        _within(metrics, "within", whole, "resumes_within_epoch"),
        _within(metrics, "once", recipe, "resumes_within_sorted_epoch"),
        _within(metrics, "twice", recipe, "resumes_twice_within_epoch"),
    ]


def _between_epochs(whole: Mapping[str, Any], run: Mapping[str, Any], bound: float) -> list[RuleQuestion]:
    names = ("resumes_at_epoch", "resumes_weights", "resumes_optimizer", "resumes_schedule", "resumes_losses")
    left = run.get("left")
    if not isinstance(left, Mapping):
        return [not_asked(name, "the run that should be gone on with did not come so far") for name in names]
    done = int(left.get("forwards", 0))
    due, went = sequence(whole, "batches")[done:], sequence(run, "batches")
    if run.get("failure"):
        text = f"resumed between epochs, the trainer raised {run['failure'].get('reason')}"
        return [fails(names[0], text), *(not_asked(name, "it did not resume") for name in names[1:])]
    at_epoch = _same_batches(names[0], whole, went, due, done)
    schedule = _same_figures(names[3], "learning rate", whole, run, done, RATE_TOLERANCE)
    if at_epoch.status is RuleAnswer.HOLDS:
        losses = _same_figures(names[4], "loss", whole, run, done, bound)
    else:
        losses = not_asked(names[4], "it did not go on where it was stopped")
    return [
        at_epoch,
        _same_tensors(names[1], run.get("weights_differ"), "weights of the model after resuming"),
        _moments(names[2], run),
        schedule,
        losses,
    ]


def _same_batches(
    name: str, whole: Mapping[str, Any], went: Sequence[Any], due: Sequence[Any], done: int
) -> RuleQuestion:
    numbers = {batch: number for number, batch in reversed(list(enumerate(sequence(whole, "batches"), 1)))}
    went_on, expected = ([numbers.get(batch) for batch in batches] for batches in (went, due))
    example = {"trained_before": done, "went_on_with": went_on, "due": expected}
    if list(went) == list(due) and went:
        return holds(name, f"it went on with batch {expected[0]}", example)
    shown = ", ".join("another" if number is None else str(number) for number in went_on) or "none"
    text = f"stopped after batch {done}, it went on with {shown}; due were {', '.join(map(str, expected))}"
    return fails(name, text, example)


def _within(metrics: Mapping[str, Any], key: str, whole: Mapping[str, Any], name: str) -> RuleQuestion:
    run = metrics.get(key)
    if not isinstance(run, Mapping) or not isinstance(run.get("left"), Mapping):
        return not_asked(name, "nothing was saved within an epoch")
    if run.get("failure"):
        return fails(name, f"resumed within an epoch, the trainer raised {run['failure'].get('reason')}")
    before = int(run["left"].get("forwards", 0))
    if key == "twice":
        once = metrics.get("once") or {}
        before += int((once.get("left") or {}).get("forwards", 0))
        if not _in_place(once, sequence(whole, "batches"), before - 1):
            return not_asked(name, "it did not even resume once")
    went = sequence(run, "batches")
    return _same_batches(name, whole, went, sequence(whole, "batches")[before : before + max(1, len(went))], before)


def _in_place(run: Mapping[str, Any], batches: Sequence[Any], before: int) -> bool:
    went = sequence(run, "batches")
    return bool(went) and list(went) == list(batches[before : before + len(went)])


def _same_figures(
    name: str, what: str, whole: Mapping[str, Any], run: Mapping[str, Any], done: int, bound: float
) -> RuleQuestion:
    key = {"loss": "losses", "learning rate": "learning_rates"}[what]
    due, went = figures(whole, key)[done:], figures(run, key)
    pairs = list(zip(due, went, strict=False))
    if not pairs:
        return fails(name, f"no {what} was seen after resuming")
    if what == "learning rate" and due == figures(whole, key)[: len(due)]:
        return not_asked(name, "the schedule has the same rates from the start, so that one begun again looks alike")
    worst = max(_apart(one, other) for one, other in pairs)
    example = {"due": due[:5], "seen": went[:5], "largest_relative_difference": worst, "allowed": bound}
    last = run.get("last_differs")
    if worst <= bound and not (what == "loss" and bound <= LOSS_TOLERANCE and last):
        text = f"every {what} is that of the uninterrupted run"
        return holds(name, text, example)
    if worst <= bound:
        text = f"the losses are those of the uninterrupted run, but it ends with other weights: {some(last)}"
        return fails(name, text, {**example, "tensors": last})
    step = next(number for number, pair in enumerate(pairs, 1) if not _apart(*pair) <= bound)
    one, other = pairs[step - 1]
    text = f"in step {step} after resuming the {what} is {other:.7g}; uninterrupted it is {one:.7g}"
    return fails(name, text, example)


def _moments(name: str, run: Mapping[str, Any]) -> RuleQuestion:
    if run.get("moments_kept") == 0:
        return not_asked(name, "the optimizer remembers nothing of its steps, so that nothing of it could be lost")
    what = "optimizer's state before its first step after resuming"
    return _same_tensors(name, run.get("moments_differ"), what)


def _same_tensors(name: str, differ: Any, what: str) -> RuleQuestion:
    if not isinstance(differ, Sequence):
        return fails(name, f"the {what} was never seen")
    if not differ:
        return holds(name, f"the {what}: as it was at the stop, to the last bit")
    text = f"the {what}: not as it was at the stop in {some(differ)}"
    return fails(name, text, {"tensors": list(differ)})


def _loss_bound(whole: Mapping[str, Any], again: Any) -> float:
    if not isinstance(again, Mapping):
        return LOSS_TOLERANCE
    pairs = zip(figures(whole, "losses"), figures(again, "losses"), strict=False)
    noise = max((_apart(one, other) for one, other in pairs), default=0.0)
    return max(LOSS_TOLERANCE, NOISE_FACTOR * noise)


def _apart(one: float, other: float) -> float:
    """The relative difference; infinite where either is no number."""
    if not (math.isfinite(one) and math.isfinite(other)):
        return math.inf
    return abs(one - other) / max(abs(one), abs(other), 1e-30)
