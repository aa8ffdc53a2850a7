"""The rules, applied to metrics and evidence as JSON has them: parsed into records first, as in a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from harness.core.evidence.checkpoint import CheckpointMetrics
from harness.core.evidence.decode import DecodeMetrics
from harness.core.evidence.parsing import EvidenceMismatch, parse
from harness.core.evidence.questions import Question
from harness.core.evidence.training import LossCriterion, SeedTraining, Targets, TrainingMetrics
from harness.core.evidence.verdicts import (
    DecodeVerdict,
    HearingVerdict,
    InvariantsVerdict,
    LearningVerdict,
    TrainingVerdict,
)
from harness.rules import checkpoint, convergence, decode, hearing, learning, recipe, trainer_invariants, training
from harness.rules.deaf_baseline import TargetsWithPlaces
from harness.rules.unigram import Criterion, UnigramTargets

Values = Mapping[str, Any]
Given = TypeVar("Given")
Verdict = TypeVar("Verdict")


def judged(judge: Callable[[Given], Verdict], values: Given) -> tuple[Verdict | None, str]:
    """The verdict, or None and the mismatch that the values are; any other exception is a fault."""
    try:
        return judge(values), ""
    except EvidenceMismatch as mismatch:
        return None, str(mismatch)


def training_metrics(values: Values) -> TrainingMetrics:
    return parse(TrainingMetrics, values, place="metrics", strict=True)


def seed_record(values: Values) -> SeedTraining:
    return parse(SeedTraining, values, place="training", strict=True)


def judge_training(values: Values) -> TrainingVerdict:
    return training.judge_training(training_metrics(values))


def judge_invariants(values: Values) -> InvariantsVerdict:
    return trainer_invariants.judge_invariants(training_metrics(values))


def judge_learning(values: Sequence[Values]) -> LearningVerdict:
    return learning.judge_learning([seed_record(one) for one in values])


def judge_hearing(scores: object, seed: int | None = 0) -> HearingVerdict:
    return hearing.judge_hearing(seed_record({"seed": seed, "hearing": scores}))


def training_figure(values: Values) -> float | None:
    return convergence.training_figure(seed_record(values))


def departure(values: Values) -> str:
    return recipe.training_departure(training_metrics(values))


def judge_decode(values: Values) -> DecodeVerdict:
    return decode.judge_decode(parse(DecodeMetrics, values, place="metrics", strict=True))


def judge_checkpoint(values: Values) -> tuple[Question, ...]:
    return checkpoint.judge_checkpoint(parse(CheckpointMetrics, values, place="metrics", strict=True))


def criterion_of(values: object) -> Criterion | None:
    return Criterion.of(parse(LossCriterion, values, place="criterion", strict=True))


def targets_of(values: object) -> UnigramTargets | None:
    return UnigramTargets.of(parse(Targets, values, place="targets", strict=True))


def targets_with_places(values: object) -> TargetsWithPlaces | None:
    return TargetsWithPlaces.of(parse(Targets, values, place="targets", strict=True))
