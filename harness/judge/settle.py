"""An outcome whose check ended well is held against its rung's rule, and fails when that is not met."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from types import MappingProxyType

from harness.cells import Check, Failure, Outcome, Status
from harness.judge.checkpoint import settle_checkpoint
from harness.judge.decode import settle_decode
from harness.judge.training import judge_training
from harness.judge.user_rows import settle_user_rows
from harness.judge.yours import attribute

TRAINING = "training"
"""The key in the evidence of a `finetune` cell that holds the verdict's figures."""


def settle(outcome: Outcome) -> Outcome:
    """The outcome with its rung's verdict in it; one that did not end well, or whose rung has no rule, as it is.

    Where a user's file has no row to train on there is nothing else to judge.
    """
    by_file = settle_user_rows(outcome)
    if by_file is not outcome:
        return by_file
    rule = _RULES.get(outcome.cell.check)
    return attribute(rule(outcome) if rule and outcome.status is Status.PASSED else outcome)


def settle_training(outcome: Outcome) -> Outcome:
    """The outcome of a `finetune` cell with the training verdict in it."""
    verdict = judge_training(outcome.metrics)
    evidence = {**outcome.evidence, TRAINING: asdict(verdict)}
    if verdict.passed:
        return replace(outcome, evidence=evidence)
    reason = "; ".join(verdict.reasons)
    failure = Failure(type="NotTrained", message=reason, signature="NotTrained@" + "+".join(verdict.unmet))
    return replace(outcome, status=Status.FAILED, reason=reason, failure=failure, evidence=evidence)


_RULES: Mapping[Check, Callable[[Outcome], Outcome]] = MappingProxyType(
    {Check.FINETUNE: settle_training, Check.CHECKPOINT: settle_checkpoint, Check.DECODE: settle_decode}
)
