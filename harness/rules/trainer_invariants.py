"""What a trainer must keep and may silently break. Names and sources: docs/checks.md#trainer-invariants.

An invariant that could not be observed is reported as not observed: in a release whose log has another form, or with a
matrix that does not configure the small extra trainings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from statistics import median

from harness.core.evidence.training import (
    Absent,
    Figure,
    InvariantObservations,
    RankLosses,
    RanksTraining,
    TrainingMetrics,
)
from harness.core.evidence.verdicts import InvariantsVerdict
from harness.core.numbers import complete_values, count, mapping, number, numbers
from harness.rules.memory_growth import growth_reasons
from harness.rules.recipe import warmup_rate
from harness.rules.unigram import UnigramTargets
from harness.rules.user_input import rows_reasons
from harness.text.plain import some

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
"""On a GPU two equal trainings differ; one process and two may differ by so many times that."""

Reasons = tuple[str, ...]
Judged = Reasons | None
"""Empty where the invariant holds; None where it could not be observed."""


def judge_invariants(metrics: TrainingMetrics) -> InvariantsVerdict:
    """Check every invariant on the metrics of a `finetune` cell."""
    judged = {name: about(metrics) for name, about in INVARIANTS.items()}
    return InvariantsVerdict(
        reasons={name: reasons for name, reasons in judged.items() if reasons is not None},
        not_observed=tuple(name for name, reasons in judged.items() if reasons is None),
    )


def _train_conf(metrics: TrainingMetrics) -> Mapping[str, object]:
    return mapping(metrics.config_in_force.train_conf) if metrics.config_in_force else {}


def _epochs(metrics: TrainingMetrics) -> Judged:
    observed, expected = metrics.epochs, metrics.epochs_expected
    if expected is None:
        return None
    settings = _train_conf(metrics)
    if number(settings.get("early_stopping_patience")) and observed is not None and observed < expected:
        return None
    if metrics.invariants.epochs_numbered is False and "validate_interval" in settings:
        # Counted by the trainer's validations, of which some are within an epoch.
        return None
    ran = "an unknown number" if observed is None else observed
    return () if observed == expected else (f"The trainer ran {ran} of {expected} epochs.",)


def _schedule(metrics: TrainingMetrics) -> Judged:
    base, warmup = number(metrics.invariants.learning_rate), number(metrics.invariants.warmup_steps)
    rates = complete_values(numbers(metrics.learning_rates))
    if base is None or warmup is None or warmup < 1 or rates is None:
        return None
    for step, rate in enumerate(rates, 1):
        expected = warmup_rate(base, warmup, step)
        if not _near(rate, expected):
            ahead = next((n for n in range(1, 4 * len(rates)) if _near(rate, warmup_rate(base, warmup, n))), None)
            position = f" (the schedule has it at step {ahead})" if ahead and ahead != step else ""
            return (
                f"Step {step} was taken at a learning rate of {rate:.4g}{position}; its schedule says {expected:.4g}.",
            )
    return ()


def _moving(metrics: TrainingMetrics) -> Judged:
    """Separate from `schedule`: one that is a step ahead is known of many releases, one that does not move is not."""
    rates = complete_values(numbers(metrics.learning_rates))
    if rates is None or len(rates) < 3 or number(metrics.invariants.warmup_steps) is None:
        return None
    still = [step for step, (before, rate) in enumerate(pairwise(rates), 2) if rate == before]
    if not still:
        return ()
    return (
        f"Step {still[0]} and {len(still) - 1} more were taken at the learning rate of the step before; "
        "its schedule moves at each.",
    )


def _idling(metrics: TrainingMetrics) -> Judged:
    idle, running = numbers(metrics.invariants.idle_seconds), numbers(metrics.invariants.running_seconds)
    pairs = [(a, b) for a, b in zip(idle, running, strict=False) if a is not None and b is not None]
    if not pairs:
        return None
    waits, runs = median(a for a, _ in pairs), median(b for _, b in pairs)
    if waits <= IDLE_SECONDS or waits <= runs:
        return ()
    return (f"Each step waits for nothing that it needs: {waits:.2g} s idle, and {runs:.2g} s at work (medians).",)


def _near(rate: float, expected: float) -> bool:
    return abs(rate - expected) <= RATE_TOLERANCE * expected


def _clipping(metrics: TrainingMetrics) -> Judged:
    clip = number(metrics.invariants.gradient_clip)
    norms = [
        (step.step + 1, norm, number(step.found_by_clipping))
        for step in metrics.invariants.norms_before_steps
        if (norm := number(step.norm)) is not None
    ]
    # Gradients below the bound are the same with and without clipping.
    if clip is None or clip <= 0 or not any(max(norm, measured or 0.0) > clip for _, norm, measured in norms):
        return None
    for step, norm, measured in norms:
        left = clip if measured is None else min(measured, clip)
        if measured is None and norm > left * (1 + CLIP_TOLERANCE):
            return (
                f"Step {step} was taken with a gradient of norm {norm:.4g}, without clipping; {clip:g} is configured.",
            )
        if measured is not None and abs(norm - left) > CLIP_TOLERANCE * left:
            return (
                f"Step {step} was taken with a gradient of norm {norm:.4g}, where clipping {measured:.4g} at {clip:g} "
                f"leaves {left:.4g}.",
            )
    return ()


def _configuration(metrics: TrainingMetrics) -> Judged:
    if not metrics.invariants.configuration_source:
        return None
    return tuple(
        f"`{setting.key}` is {setting.asked!r} by command line and model folder, and the trainer works with "
        f"{setting.in_force!r}."
        for setting in metrics.invariants.configuration[:5]
    )


def _frozen(metrics: TrainingMetrics) -> Judged:
    config = metrics.config_in_force
    if config is None or not config.frozen:
        return None
    moved = config.frozen_but_moved
    return (f"{some(moved)} moved, and the configuration freezes them.",) if moved else ()


def _start(metrics: TrainingMetrics) -> Judged:
    reasons = _named(_not_from_checkpoint, "did not start from the checkpoint that the model folder names.", metrics)
    missing = metrics.invariants.start_missing
    return (f"{missing}: {reasons[0]}",) if reasons and missing else reasons


def _named(
    which: Callable[[InvariantObservations], Sequence[str] | None], text: str, metrics: TrainingMetrics
) -> Judged:
    """Parameters that were recorded where there should be none."""
    names = which(metrics.invariants)
    if names is None or not metrics.invariants.trainable_parameters:
        return None
    return (f"{some(names)} {text}",) if names else ()


def _not_from_checkpoint(observations: InvariantObservations) -> Sequence[str] | None:
    return observations.not_from_checkpoint


def _without_gradient(observations: InvariantObservations) -> Sequence[str] | None:
    return observations.without_gradient


def _not_in_optimizer(observations: InvariantObservations) -> Sequence[str] | None:
    return observations.not_in_optimizer


def _clearing(metrics: TrainingMetrics) -> Judged:
    steps = metrics.invariants.steps_begun_with_gradients
    if steps is None:
        return None
    if not steps:
        return ()
    return (f"Step {steps[0] + 1} and {len(steps) - 1} more began with gradients of the step before.",)


def _statistics(metrics: TrainingMetrics) -> Judged:
    reasons = []
    difference = number(metrics.invariants.loss_difference)
    if difference is not None and difference > LOSS_TOLERANCE:
        reasons.append(f"The statistic `loss` is not the loss that was returned: up to {difference:.2%} apart.")
    logged, counted = numbers(metrics.stats.get("acc")), numbers(metrics.accuracy_recomputed)
    pairs = [(a, b) for a, b in zip(logged, counted, strict=False) if a is not None and b is not None]
    worst = max(pairs, key=lambda pair: abs(pair[0] - pair[1]), default=None)
    if worst is not None and abs(worst[0] - worst[1]) > ACCURACY_TOLERANCE:
        reasons.append(f"The statistic `acc` says {worst[0]:.4g} where the first pass got {worst[1]:.4g} right.")
    return tuple(reasons) if difference is not None or pairs else None


def _batches(metrics: TrainingMetrics) -> Judged:
    """Each epoch must contain every row as often as it is listed.

    Rows are identified by their tokens; a user's rows, of which two may have the same, by their line.
    """
    if metrics.user_rows is not None:
        return rows_reasons(metrics)
    listed, optional = sorted(metrics.invariants.listed), metrics.invariants.listed_optional
    least, expected, epochs = metrics.steps_expected_least, metrics.steps_expected, metrics.epochs_expected
    targets, sizes = UnigramTargets.of(metrics.targets), metrics.steps_of_epochs
    if metrics.epochs_end_within_steps:
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
            counts = f"{len(rows)} utterances {min(rows.values())} to {max(rows.values())} times"
            return (f"Epoch {epoch} brought {counts}; {len(listed)} are listed {listed[0]} to {listed[-1]} times.",)
    return ()


def _is_listed(arrivals: Sequence[int], listed: Sequence[int], optional: Sequence[int]) -> bool:
    """Whether these are the utterances that have to arrive, with any of those that a limit may leave out."""
    choices: set[tuple[int, ...]] = {()}
    for size in optional[:_MOST_OPTIONAL]:
        choices |= {(*choice, size) for choice in choices}
    return any(list(arrivals) == sorted((*listed, *choice)) for choice in choices)


def _log(metrics: TrainingMetrics) -> Judged:
    observations, steps, config = metrics.invariants, metrics.steps, metrics.config_in_force
    lines = observations.log_lines
    if not lines or steps is None or _train_conf(metrics).get("log_interval", 1) != 1:
        return None
    # A line for each batch. The last batches of an accumulation that was not completed belong to no step.
    batches, gathered = observations.forwards or steps, count(config.accum_grad if config else None) or 1
    if gathered > 1 and lines == steps:
        # One line for each step, of one of its batches: which, is not known.
        return None
    if not batches <= lines < batches + gathered:
        took = f"{steps} steps" if gathered == 1 else f"{steps} steps of {gathered} batches"
        return (f"The trainer logged {lines} {'steps' if gathered == 1 else 'batches'} and took {took}.",)
    for name, value in observations.log_differences.items():
        difference = number(value)
        largest = max((abs(value) for value in _logged(metrics, name) if value is not None), default=0.0)
        if difference is None or difference > PRINTED + LOSS_TOLERANCE * largest:
            return (f"What the trainer logged of `{name}` is up to {value} from what the model gave it.",)
    return ()


def _logged(metrics: TrainingMetrics, name: str) -> Sequence[float | None]:
    return numbers(metrics.stats.get(name, metrics.losses))


def _accumulation(metrics: TrainingMetrics) -> Judged:
    accumulation = metrics.accumulation
    if accumulation is None:
        return None
    times = accumulation.batches
    if accumulation.failure:
        return (f"Accumulating over {times} batches ends in {accumulation.failure}.",)
    difference = number(accumulation.relative_difference)
    if difference is not None and difference <= GRADIENT_TOLERANCE:
        return ()
    expected = accumulation.norm_at_once if accumulation.norm_of_mean is None else accumulation.norm_of_mean
    return (
        f"The gradient accumulated over {times} batches is not the mean of theirs: "
        f"norm {_four_digits(accumulation.norm_accumulated)} against {_four_digits(expected)}, "
        f"relative difference {_four_digits(difference)}.",
    )


def _ranks(metrics: TrainingMetrics) -> Judged:
    trainings = {name: run for name, run in metrics.ranks.items() if isinstance(run, RanksTraining)}
    if not trainings or len(trainings) < len(metrics.ranks):
        return None
    return tuple(reason for name, run in trainings.items() for reason in _about_ranks(name, run))


def _about_ranks(name: str, run: RanksTraining) -> Iterator[str]:
    """What is wrong with one training of two processes."""
    if run.failure:
        yield f"Training with two processes ({name}) ends in {run.failure}."
        return
    # The same rows give the same weights whether processes exchange gradients or not.
    between = Absent.ABSENT if name == OTHER_ROWS and run.rows_differ is False else run.between_ranks
    compared: tuple[tuple[Figure, float, str], ...] = (
        (between, WEIGHTS_TOLERANCE, "the two processes end with different weights"),
        (
            run.from_single,
            max(WEIGHTS_TOLERANCE, NOISES * (number(run.noise) or 0.0)),
            "the weights are not those of a single process",
        ),
        (
            run.gradients_from_single,
            max(GRADIENT_TOLERANCE, NOISES * (number(run.gradient_noise) or 0.0)),
            "the gradients are not those of a single process",
        ),
    )
    for figure, allowed, sentence in compared:
        difference = number(figure)
        if figure is not Absent.ABSENT and (difference is None or difference > allowed):
            yield f"With two processes ({name}) {sentence}: relative difference {_four_digits(difference)}."
    if run.losses:
        for sentence in _other_losses(run.losses):
            yield f"With two processes ({name}) {sentence}"


def _other_losses(losses: RankLosses) -> Iterator[str]:
    """Where every process has the same rows: ranks whose losses are not those of a single process."""
    single, again = complete_values(numbers(losses.single)), complete_values(numbers(losses.again))
    for rank, recorded in enumerate(losses.ranks):
        of_rank = complete_values(numbers(recorded))
        if not single or not of_rank or len(of_rank) != len(single):
            yield f"rank {rank} has not the losses of a single process: there are {_many(of_rank)} for {_many(single)}."
            continue
        allowed = [LOSS_TOLERANCE * abs(loss) for loss in single]
        if again and len(again) == len(single):
            # What two equal trainings of one process differ by on this device.
            noise = NOISES * max(abs(first - second) for first, second in zip(single, again, strict=True))
            allowed = [max(bound, noise) for bound in allowed]
        for step, (expected, actual) in enumerate(zip(single, of_rank, strict=True)):
            if abs(expected - actual) > allowed[step]:
                yield f"rank {rank} has a loss of {actual:.6g} at step {step + 1}, a single process {expected:.6g}."
                break


def _many(losses: Sequence[float] | None) -> str:
    return f"{len(losses)} losses" if losses else "no losses"


def _four_digits(value: object) -> str:
    known = number(value)
    return "unknown" if known is None else f"{known:.4g}"


INVARIANTS: Mapping[str, Callable[[TrainingMetrics], Judged]] = {
    "start": _start,
    "epochs": _epochs,
    "batches": _batches,
    "schedule": _schedule,
    "moving": _moving,
    "clipping": _clipping,
    "gradients": partial(_named, _without_gradient, "never received a gradient."),
    "optimizer": partial(_named, _not_in_optimizer, "can be trained and are not the optimizer's."),
    "clearing": _clearing,
    "statistics": _statistics,
    "log": _log,
    "memory": growth_reasons,
    "idling": _idling,
    "accumulation": _accumulation,
    "ranks": _ranks,
    "configuration": _configuration,
    "frozen": _frozen,
}
