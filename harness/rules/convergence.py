"""Does a release learn as fast as the release before it? Asked of the outcomes of one run, seeds paired.

Two releases that compute the same give the same losses from the same seed, to the last digit on a CPU. Where their
curves differ, the difference is compared with the spread of trainings with different seeds, for a change that only
draws other random numbers moves a curve as another seed does:

- the figure of a training is the mean of its attention losses over all steps, in units of the constant prediction's;
- the spread is the standard deviation of that figure over the seeds of a release, pooled over all distinct sets of
  curves of the same variant, shape, scale, device and precision in the run (releases with equal curves count once);
- a release is slower or suspiciously faster than its reference when their means over the shared seeds differ by more
  than t(1 - alpha / (2 m), degrees of freedom) * spread * sqrt(2 / n), Student's t for n seeds, with Bonferroni's m
  comparisons of distinct curves. `PACE_ALPHA` bounds the chance that a run of sound releases sees any such difference,
  as long as seeds scatter normally.

The reference is the newest release of the run that is older, passed, and went through the same entry point; the oldest
has none. One seed has no spread, so it is not compared: the verdict never rests on a single seed.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace

from harness.core.cells import Failure, Outcome, Status
from harness.core.evidence.training import SeedTraining
from harness.core.evidence.verdicts import Convergence
from harness.core.numbers import complete_values, mean, numbers
from harness.core.versions import release_key
from harness.rules.unigram import Criterion, Unigram, UnigramTargets, step_losses

PACE_ALPHA = 0.01
"""The chance that a run accuses any release whose seeds merely scatter."""

CONVERGENCE = "convergence"
"""The key in the evidence of a `finetune` cell that holds the comparison."""

Place = tuple[object, ...]
"""Variant, shape, scale, device, precision, how many of a user's rows."""
Figures = Mapping[int, float]
"""Mean loss over the constant prediction's, by seed."""


def apply_convergence(outcomes: Sequence[Outcome]) -> tuple[Outcome, ...]:
    """The outcomes with each comparison in its evidence; one that is beyond the bound has failed."""
    comparisons = convergence(outcomes)
    return tuple(_settle(outcome, comparisons.get(outcome.cell.id)) for outcome in outcomes)


def convergence(outcomes: Iterable[Outcome]) -> dict[str, Convergence]:
    """The comparison of each `finetune` cell that has a reference, by its id."""
    places: dict[Place, list[tuple[Outcome, Figures]]] = defaultdict(list)
    for outcome in outcomes:
        figures = _figures(outcome)
        if len(figures) >= 2:
            cell = outcome.cell
            # Releases that train on other rows of a user's file cannot be compared.
            received = outcome.training.user_rows if outcome.training else None
            rows = received.expected if received else None
            places[cell.variant, cell.dimensions, cell.depth, cell.device, cell.precision, rows].append(
                (outcome, figures)
            )
    return {name: comparison for members in places.values() for name, comparison in _compare(members).items()}


def _settle(outcome: Outcome, comparison: Convergence | None) -> Outcome:
    if comparison is None:
        return outcome
    evidence = {**outcome.evidence, CONVERGENCE: asdict(comparison)}
    if comparison.within_noise:
        return replace(outcome, evidence=evidence)
    speed = "slower" if comparison.difference > 0 else "faster"
    reason = (
        f"It learns {speed} than {comparison.reference.partition('/')[0]}: over {comparison.seeds} seeds its loss "
        f"differs by {comparison.difference:+.3f} of the constant prediction's, where their "
        f"scatter allows {comparison.bound:.3f}."
    )
    failure = Failure(type="NotTrained", message=reason, signature="NotTrained@convergence")
    return replace(outcome, status=Status.FAILED, reason=reason, failure=failure, evidence=evidence)


def _compare(members: Sequence[tuple[Outcome, Figures]]) -> dict[str, Convergence]:
    pairs = []
    ordered = sorted(members, key=lambda member: release_key(member[0].cell.release))
    for number, (outcome, figures) in enumerate(ordered):
        if outcome.status is not Status.PASSED:
            continue
        earlier = [
            member
            for member in ordered[:number]
            if member[0].cell.entry == outcome.cell.entry
            and member[0].cell.release != outcome.cell.release
            and member[0].status is Status.PASSED
        ]
        if earlier:
            pairs.append((outcome, figures, earlier[-1]))
    distinct = {tuple(sorted(figures.items())) for _, figures in members}
    spread, freedom = _spread(distinct)
    compared = {
        frozenset((tuple(sorted(figures.items())), tuple(sorted(other.items()))))
        for _, figures, (_, other) in pairs
        if figures != other
    }
    return {
        outcome.cell.id: _difference(figures, reference, (spread, freedom), comparisons=max(len(compared), 1))
        for outcome, figures, reference in pairs
    }


def _difference(
    figures: Figures, reference: tuple[Outcome, Figures], noise: tuple[float | None, int], *, comparisons: int
) -> Convergence:
    spread, freedom = noise
    shared = sorted(figures.keys() & reference[1].keys())
    differences = [figures[seed] - reference[1][seed] for seed in shared]
    same = bool(shared) and not any(differences)
    bound = None
    if spread is not None and freedom > 0 and len(shared) >= 2 and not same:
        from scipy.stats import t

        quantile = float(t.ppf(1 - PACE_ALPHA / (2 * comparisons), freedom))
        bound = quantile * spread * math.sqrt(2 / len(shared))
    return Convergence(
        reference=reference[0].cell.id,
        seeds=len(shared),
        difference=mean(differences) if differences else 0.0,
        bound=bound,
        spread=spread,
        degrees_of_freedom=freedom,
        same=same,
    )


def _spread(curves: Iterable[tuple[tuple[int, float], ...]]) -> tuple[float | None, int]:
    """The pooled standard deviation over seeds, and its degrees of freedom."""
    squares, freedom = 0.0, 0
    for curve in curves:
        values = [value for _, value in curve]
        centre = mean(values)
        squares += math.fsum((value - centre) ** 2 for value in values)
        freedom += len(values) - 1
    return (math.sqrt(squares / freedom), freedom) if freedom else (None, 0)


def _figures(outcome: Outcome) -> Figures:
    """Each seed's figure; a training without one is left out."""
    trainings = outcome.training.trainings if outcome.training else ()
    figures = {training.seed: training_figure(training) for training in trainings}
    return {seed: value for seed, value in figures.items() if seed is not None and value is not None}


def training_figure(training: SeedTraining) -> float | None:
    """The mean over steps of the attention loss relative to the unigram baseline's; None where it is not known."""
    criterion, targets = Criterion.of(training.criterion), UnigramTargets.of(training.targets)
    losses = complete_values(numbers(training.stats.get("loss_att")))
    if criterion is None or targets is None or losses is None or len(losses) != len(targets.steps):
        return None
    constant = step_losses(Unigram.of(criterion, targets.counts()), targets)
    if any(loss <= 0.0 for loss in constant):
        return None
    return mean([loss / baseline for loss, baseline in zip(losses, constant, strict=True)])
