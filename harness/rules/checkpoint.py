"""Does what was saved do what it is for? One question for each promise, answered from what was seen.

A question holds, fails, is listed, or was not asked. It fails where a training that was interrupted is not the one that
was not, where a file is not what its name says, and where something goes wrong without a word. What a release refuses,
or says aloud before it goes on, is listed: its user knows. What a release does not offer is not asked.

Runs are compared on the same machine. On a CPU equal weights and an equal batch give an equal loss, because every
forward pass is seeded from its batch (`harness.worker.trainer.training_trace`); `LOSS_TOLERANCE` allows for
rounding only.
Where the device does not repeat itself, the uninterrupted run is made twice, and `NOISE_FACTOR` times the largest
difference of the two is allowed instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from harness.core.cells import Failure, Outcome, Status
from harness.rules import checkpoint_loading, checkpoint_resuming, checkpoint_saving
from harness.rules.questions import RuleAnswer, RuleQuestion

QUESTIONS = "questions"
"""The key in the evidence of a `checkpoint` cell that holds them, answered."""


def judge_checkpoint(metrics: Mapping[str, Any]) -> tuple[RuleQuestion, ...]:
    """Every question of the check, answered from the metrics of a `checkpoint` cell; it never raises."""
    return (
        *checkpoint_resuming.questions(metrics),
        *checkpoint_saving.questions(metrics),
        *checkpoint_loading.questions(metrics),
    )


def apply_checkpoint_rule(outcome: Outcome) -> Outcome:
    """The outcome with every question answered in it; it fails when one of them does."""
    questions = judge_checkpoint(outcome.metrics)
    evidence = {**outcome.evidence, QUESTIONS: [asdict(question) for question in questions]}
    failing = [question for question in questions if question.status is RuleAnswer.FAILS]
    if not failing:
        return replace(outcome, evidence=evidence)
    reason = "; ".join(f"{question.name}: {question.message}" for question in failing)
    signature = "CheckpointBroken@" + "+".join(question.name for question in failing)
    failure = Failure(type="CheckpointBroken", message=reason, signature=signature)
    return replace(outcome, status=Status.FAILED, reason=reason, failure=failure, evidence=evidence)
