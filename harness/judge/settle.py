"""A `finetune` outcome whose trainer ended well is held against the training rule, and fails when it is not met."""

from __future__ import annotations

from dataclasses import asdict, replace

from harness.cells import Check, Failure, Outcome, Status
from harness.judge.training import judge_training

TRAINING = "training"
"""The key in the evidence of a `finetune` cell that holds the verdict's figures."""


def settle(outcome: Outcome) -> Outcome:
    """The outcome with the training verdict in it; any other outcome as it is."""
    if outcome.cell.check is not Check.FINETUNE or outcome.status is not Status.PASSED:
        return outcome
    verdict = judge_training(outcome.metrics)
    evidence = {**outcome.evidence, TRAINING: asdict(verdict)}
    if verdict.passed:
        return replace(outcome, evidence=evidence)
    reason = "; ".join(verdict.reasons)
    failure = Failure(type="NotTrained", message=reason, signature="NotTrained@" + "+".join(verdict.unmet))
    return replace(outcome, status=Status.FAILED, reason=reason, failure=failure, evidence=evidence)
