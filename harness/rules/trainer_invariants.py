"""What a trainer must keep and may silently break. Names and sources: docs/checks.md#trainer-invariants.

A promise that could not be looked at counts as not asked, and is named so: a release whose log has another form, or a
matrix that does not ask for the small extra trainings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from statistics import median
from typing import Any

from harness.core.evidence import USER_ROWS
from harness.core.numbers import count, mapping, number, numbers, sequence, whole
from harness.rules.memory_growth import growth_reasons
from harness.rules.recipe import warmup_rate
from harness.rules.unigram import UnigramTargets
from harness.rules.user_rows import rows_reasons

RATE_TOLERANCE = 1e-6
"""Relative. The schedule is computed in double precision on both sides; the first step off by one is at least 1 %."""

CLIP_TOLERANCE = 1e-3
"""Relative. Norms over some 10**7 float32 gradients agree to 1e-6; torch's clipping adds 1e-6 to the norm."""

LOSS_TOLERANCE = 1e-5
"""Relative: the statistic `loss` is a copy of the loss, through half precision at most on a GPU."""

ACCURACY_TOLERANCE = 1e-5
"""Right tokens over all tokens, both whole numbers, the quotient in float32."""

PRINTED = 0.5e-3
"""Half of the last of the three decimals that the trainers print."""

GRADIENT_TOLERANCE = 1e-4
"""Relative, of the difference between two gradients that are equal but for the order of float32 sums."""

_MOST_OPTIONAL = 10
"""Utterances of which all subsets are tried; a training has five."""

OTHER_ROWS = "accumulating other rows"
"""The training of two processes that are to see different rows, as `harness/worker/checks/ranks.py` calls it."""

IDLE_SECONDS = 0.2
"""Of a step from its forward pass to the optimizer's, as the median over the steps: on a CPU it has nothing to wait
for, and sound trainings were seen to wait some thousandths."""

WEIGHTS_TOLERANCE = 1e-5
"""Relative, of all weights together after a few steps from the same start: ranks add in another order, no more."""

NOISES = 4.0
"""How many times what two equal trainings of one process differ by, on a GPU, may lie between one process and two."""

Reasons = tuple[str, ...]
Judged = Reasons | None
"""Empty where the promise is kept; None where it was not asked."""


@dataclass(frozen=True, kw_only=True)
class InvariantsVerdict:
    """Which promises were kept."""

    reasons: Mapping[str, Reasons]
    """By promise, of those that were asked; empty where it was kept."""
    not_asked: tuple[str, ...]


def judge_invariants(metrics: Mapping[str, Any]) -> InvariantsVerdict:
    """Hold the metrics of a `finetune` cell against every promise; it never raises."""
    told = mapping(metrics.get("promises"))
    judged = {name: about(metrics, told) for name, about in PROMISES.items()}
    return InvariantsVerdict(
        reasons={name: found for name, found in judged.items() if found is not None},
        not_asked=tuple(name for name, found in judged.items() if found is None),
    )


def _epochs(metrics: Mapping[str, Any], told: Mapping[str, object]) -> Judged:
    expected = count(metrics.get("epochs_expected"))
    if expected is None:
        return None
    seen = count(metrics.get("epochs"))
    settings = mapping(mapping(metrics.get("config_in_force")).get("train_conf"))
    if number(settings.get("early_stopping_patience")) and seen is not None and seen < expected:
        return None
    if told.get("epochs_numbered") is False and "validate_interval" in settings:
        # Counted by the trainer's validations, of which some are within an epoch.
        return None
    return () if seen == expected else (f"The trainer ran {seen} of {expected} epochs.",)


def _schedule(metrics: Mapping[str, Any], told: Mapping[str, object]) -> Judged:
    base, warmup = number(told.get("learning_rate")), number(told.get("warmup_steps"))
    rates = whole(numbers(metrics.get("learning_rates")))
    if base is None or warmup is None or warmup < 1 or rates is None:
        return None
    for step, rate in enumerate(rates, 1):
        expected = warmup_rate(base, warmup, step)
        if abs(rate - expected) > RATE_TOLERANCE * expected:
            ahead = next((n for n in range(1, 4 * len(rates)) if _near(rate, warmup_rate(base, warmup, n))), None)
            seen = f" (the schedule has it at step {ahead})" if ahead and ahead != step else ""
            return (f"Step {step} was taken at a learning rate of {rate:.4g}{seen}; its schedule says {expected:.4g}.",)
    return ()


def _moving(metrics: Mapping[str, Any], told: Mapping[str, object]) -> Judged:
    """Apart from `schedule`: one that is a step ahead is known of many releases, one that stands still is not."""
    rates = whole(numbers(metrics.get("learning_rates")))
    if rates is None or len(rates) < 3 or number(told.get("warmup_steps")) is None:
        return None
    still = [step for step, (before, rate) in enumerate(pairwise(rates), 2) if rate == before]
    if not still:
        return ()
    return (
        f"Step {still[0]} and {len(still) - 1} more were taken at the learning rate of the step before; "
        "its schedule moves at each.",
    )


def _idling(_metrics: Mapping[str, Any], told: Mapping[str, object]) -> Judged:
    idle, running = numbers(told.get("idle_seconds")), numbers(told.get("running_seconds"))
    pairs = [(a, b) for a, b in zip(idle, running, strict=False) if a is not None and b is not None]
    if not pairs:
        return None
    waits, runs = median(a for a, _ in pairs), median(b for _, b in pairs)
    if waits <= IDLE_SECONDS or waits <= runs:
        return ()
    return (f"Each step waits for nothing that it needs: {waits:.2g} s idle, and {runs:.2g} s at work (medians).",)


def _near(rate: float, expected: float) -> bool:
    return abs(rate - expected) <= RATE_TOLERANCE * expected


def _clipping(_metrics: Mapping[str, Any], told: Mapping[str, object]) -> Judged:
    clip = number(told.get("gradient_clip"))
    measured = [mapping(one) for one in sequence(told.get("norms_before_steps"))]
    known = [one for one in measured if number(one.get("norm")) is not None]
    if clip is None or clip <= 0 or not any(_reaches(one, clip) for one in known):
        return None
    for one in known:
        norm, found = number(one.get("norm")) or 0.0, number(one.get("found_by_clipping"))
        step = (count(one.get("step")) or 0) + 1
        if found is None and norm > clip * (1 + CLIP_TOLERANCE):
            return (
                f"Step {step} was taken with a gradient of norm {norm:.4g}, clipped at nothing; {clip:g} is asked.",
            )
        if found is not None and abs(norm - min(found, clip)) > CLIP_TOLERANCE * min(found, clip):
            return (
                f"Step {step} was taken with a gradient of norm {norm:.4g}, where clipping {found:.4g} at {clip:g} "
                f"leaves {min(found, clip):.4g}.",
            )
    return ()


def _reaches(measured: Mapping[str, object], clip: float) -> bool:
    """Whether clipping had something to do: gradients below the bound are the same with and without it."""
    sizes = (number(measured.get("norm")), number(measured.get("found_by_clipping")))
    return any(size is not None and size > clip for size in sizes)


def _configuration(_metrics: Mapping[str, Any], told: Mapping[str, object]) -> Judged:
    if not told.get("configuration_source"):
        return None
    others = [mapping(one) for one in sequence(told.get("configuration"))]
    return tuple(
        f"`{one.get('key')}` is {one.get('asked')!r} by command line and model folder, and the trainer works with "
        f"{one.get('in_force')!r}."
        for one in others[:5]
    )


def _frozen(metrics: Mapping[str, Any], _told: Mapping[str, object]) -> Judged:
    config = mapping(metrics.get("config_in_force"))
    if not count(config.get("frozen")):
        return None
    moved = [str(name) for name in sequence(config.get("frozen_but_moved"))]
    more = f" and {len(moved) - 3} more" if len(moved) > 3 else ""
    return (f"{', '.join(moved[:3])}{more} moved, and the configuration freezes them.",) if moved else ()


def _start(metrics: Mapping[str, Any], told: Mapping[str, object]) -> Judged:
    sentence = "did not start from the checkpoint that the model folder names."
    found = _named("not_from_checkpoint", sentence, metrics, told)
    missing = told.get("start_missing")
    return (f"{missing}: {found[0]}",) if found and missing else found


def _named(key: str, sentence: str, _metrics: Mapping[str, Any], told: Mapping[str, object]) -> Judged:
    """Parameters that are named under a key, where there should be none."""
    if key not in told or not count(told.get("trainable_parameters")):
        return None
    names = [str(name) for name in sequence(told.get(key))]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return (f"{', '.join(names[:3])}{more} {sentence}",) if names else ()


def _clearing(_metrics: Mapping[str, Any], told: Mapping[str, object]) -> Judged:
    if "steps_begun_with_gradients" not in told:
        return None
    steps = [step for value in sequence(told["steps_begun_with_gradients"]) if (step := count(value)) is not None]
    if not steps:
        return ()
    return (f"Step {steps[0] + 1} and {len(steps) - 1} more began with gradients of the step before.",)


def _statistics(metrics: Mapping[str, Any], told: Mapping[str, object]) -> Judged:
    reasons = []
    apart = number(told.get("loss_difference"))
    if apart is not None and apart > LOSS_TOLERANCE:
        reasons.append(f"The statistic `loss` is not the loss that was returned: up to {apart:.2%} apart.")
    stated = numbers(mapping(metrics.get("stats")).get("acc"))
    counted = numbers(metrics.get("accuracy_recomputed"))
    pairs = [(a, b) for a, b in zip(stated, counted, strict=False) if a is not None and b is not None]
    worst = max(pairs, key=lambda pair: abs(pair[0] - pair[1]), default=None)
    if worst is not None and abs(worst[0] - worst[1]) > ACCURACY_TOLERANCE:
        reasons.append(f"The statistic `acc` says {worst[0]:.4g} where the first pass got {worst[1]:.4g} right.")
    return tuple(reasons) if apart is not None or pairs else None


def _batches(metrics: Mapping[str, Any], told: Mapping[str, object]) -> Judged:
    """Each epoch is to hold every row as often as it is listed.

    Rows are told apart by their tokens; a user's rows, of which two may have the same, by their line.
    """
    if USER_ROWS in metrics:
        return rows_reasons(metrics)
    listed = sorted(size for value in sequence(told.get("listed")) if (size := count(value)))
    optional = [size for value in sequence(told.get("listed_optional")) if (size := count(value))]
    least = count(metrics.get("steps_expected_least"))
    targets = UnigramTargets.of(metrics.get("targets"))
    sizes = [count(value) or 0 for value in sequence(metrics.get("steps_of_epochs"))]
    expected, epochs = count(metrics.get("steps_expected")), count(metrics.get("epochs_expected"))
    if metrics.get("epochs_end_within_steps"):
        return None
    if not listed or targets is None or sum(sizes) != len(targets.steps) or not expected or not epochs:
        return None
    begin = 0
    for epoch, size in enumerate(sizes, 1):
        rows = Counter(row for step in targets.steps[begin : begin + size] for batch in step for row in batch)
        begin += size
        # An epoch that is cut short is a matter of steps.
        complete = (expected if least is None else least) <= size * epochs <= expected
        if complete and not _is_listed(sorted(rows.values()), listed, optional):
            seen = f"{len(rows)} utterances {min(rows.values())} to {max(rows.values())} times"
            return (f"Epoch {epoch} brought {seen}; {len(listed)} are listed {listed[0]} to {listed[-1]} times.",)
    return ()


def _is_listed(seen: Sequence[int], listed: Sequence[int], optional: Sequence[int]) -> bool:
    """Whether these are the utterances that have to arrive, with any of those that a limit may leave out."""
    choices: set[tuple[int, ...]] = {()}
    for size in optional[:_MOST_OPTIONAL]:
        choices |= {(*choice, size) for choice in choices}
    return any(list(seen) == sorted((*listed, *choice)) for choice in choices)


def _log(metrics: Mapping[str, Any], told: Mapping[str, object]) -> Judged:
    lines, steps = count(told.get("log_lines")), count(metrics.get("steps"))
    config = mapping(metrics.get("config_in_force"))
    if not lines or steps is None or mapping(config.get("train_conf")).get("log_interval", 1) != 1:
        return None
    # A line for each batch. The last batches of an accumulation that was not completed belong to no step.
    batches, gathered = count(told.get("forwards")) or steps, count(config.get("accum_grad")) or 1
    if gathered > 1 and lines == steps:
        # One line for each step, of one of its batches: which, is not known.
        return None
    if not batches <= lines < batches + gathered:
        took = f"{steps} steps" if gathered == 1 else f"{steps} steps of {gathered} batches"
        return (f"The trainer told of {lines} {'steps' if gathered == 1 else 'batches'} and took {took}.",)
    for name, value in mapping(told.get("log_differences")).items():
        apart = number(value)
        largest = max((abs(one) for one in _logged(metrics, name) if one is not None), default=0.0)
        if apart is None or apart > PRINTED + LOSS_TOLERANCE * largest:
            return (f"What the trainer told of `{name}` is up to {value} from what the model gave it.",)
    return ()


def _logged(metrics: Mapping[str, Any], name: str) -> Sequence[float | None]:
    stats = mapping(metrics.get("stats"))
    return numbers(stats[name] if name in stats else metrics.get("losses"))


def _memory(metrics: Mapping[str, Any], told: Mapping[str, object]) -> Judged:
    return growth_reasons(metrics, number(told.get("trainable_bytes")))


def _accumulation(metrics: Mapping[str, Any], _told: Mapping[str, object]) -> Judged:
    found = mapping(metrics.get("accumulation"))
    if not found:
        return None
    times = found.get("batches")
    if found.get("failure"):
        return (f"Accumulating over {times} batches ends in {found['failure']}.",)
    apart = number(found.get("relative_difference"))
    if apart is not None and apart <= GRADIENT_TOLERANCE:
        return ()
    return (
        f"The gradient accumulated over {times} batches is not the mean of theirs: "
        f"norm {_told_as(found.get('norm_accumulated'))} against "
        f"{_told_as(found.get('norm_of_mean', found.get('norm_at_once')))}, "
        f"relative difference {_told_as(apart)}.",
    )


def _ranks(metrics: Mapping[str, Any], _told: Mapping[str, object]) -> Judged:
    found = mapping(metrics.get("ranks"))
    if not found or "not asked" in found:
        return None
    reasons = []
    for name, run in found.items():
        seen = mapping(run)
        if seen.get("failure"):
            reasons.append(f"Training with two processes ({name}) ends in {seen['failure']}.")
            continue
        for key, sentence in (
            ("between_ranks", "the two processes end with different weights"),
            ("from_single", "the weights are not those of a single process"),
            ("gradients_from_single", "the gradients are not those of a single process"),
        ):
            apart, allowed = number(seen.get(key)), WEIGHTS_TOLERANCE
            if key == "from_single":
                allowed = max(allowed, NOISES * (number(seen.get("noise")) or 0.0))
            if key == "gradients_from_single":
                allowed = max(GRADIENT_TOLERANCE, NOISES * (number(seen.get("gradient_noise")) or 0.0))
            if key == "between_ranks" and name == OTHER_ROWS and seen.get("rows_differ") is False:
                # The same rows give the same weights whether processes exchange gradients or not.
                continue
            if key in seen and (apart is None or apart > allowed):
                reasons.append(f"With two processes ({name}) {sentence}: relative difference {_told_as(apart)}.")
        losses = mapping(seen.get("losses"))
        if losses:
            reasons += [f"With two processes ({name}) {sentence}" for sentence in _other_losses(losses)]
    return tuple(reasons)


def _other_losses(losses: Mapping[str, object]) -> Iterator[str]:
    """Of the training in which every process has the same rows: what each step's loss is beside one process's."""
    single, again = whole(numbers(losses.get("single"))), whole(numbers(losses.get("again")))
    for rank, told in enumerate(sequence(losses.get("ranks"))):
        mine = whole(numbers(told))
        if not single or not mine or len(mine) != len(single):
            yield f"rank {rank} has not the losses of a single process: there are {_many(mine)} for {_many(single)}."
            continue
        allowed = [LOSS_TOLERANCE * abs(one) for one in single]
        if again and len(again) == len(single):
            # What two equal trainings of one process differ by on this device.
            noise = NOISES * max(abs(one - other) for one, other in zip(single, again, strict=True))
            allowed = [max(one, noise) for one in allowed]
        for step, (one, other) in enumerate(zip(single, mine, strict=True)):
            if abs(one - other) > allowed[step]:
                yield f"rank {rank} has a loss of {other:.6g} at step {step + 1}, a single process {one:.6g}."
                break


def _many(losses: Sequence[float] | None) -> str:
    return f"{len(losses)} losses" if losses else "no losses"


def _told_as(value: object) -> str:
    known = number(value)
    return "unknown" if known is None else f"{known:.4g}"


PROMISES: Mapping[str, Callable[[Mapping[str, Any], Mapping[str, object]], Judged]] = {
    "start": _start,
    "epochs": _epochs,
    "batches": _batches,
    "schedule": _schedule,
    "moving": _moving,
    "clipping": _clipping,
    "gradients": partial(_named, "without_gradient", "never received a gradient."),
    "optimizer": partial(_named, "not_in_optimizer", "can be trained and are not the optimizer's."),
    "clearing": _clearing,
    "statistics": _statistics,
    "log": _log,
    "memory": _memory,
    "idling": _idling,
    "accumulation": _accumulation,
    "ranks": _ranks,
    "configuration": _configuration,
    "frozen": _frozen,
}
