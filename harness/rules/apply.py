"""Applies its check's rule to an outcome that passed, which fails where the rule is not met."""

from __future__ import annotations

from dataclasses import asdict, replace

from harness.core.cells import Failure, Outcome, Status
from harness.core.checks import named_object
from harness.core.evidence.training import TrainingMetrics
from harness.rules.stock_input import TRAINING, attribute_by_stock_input
from harness.rules.training import judge_training
from harness.rules.user_input import apply_user_rows, attribute


def apply_rules(outcome: Outcome) -> Outcome:
    """The outcome with its check's verdict; one that did not pass, or whose check has no rule, stays as it is.

    Where a user's file has no row to train on, no rule is applied.
    """
    by_file = apply_user_rows(outcome)
    if by_file is not outcome:
        return by_file
    rule = outcome.cell.check.facts.rule
    if rule and outcome.status is Status.PASSED:
        outcome = named_object("harness.rules", rule)(outcome)
    return attribute_by_stock_input(attribute(outcome))


def apply_training_rule(outcome: Outcome) -> Outcome:
    """The outcome of a `finetune` cell with the training verdict in it."""
    verdict = judge_training(outcome.training or TrainingMetrics())
    evidence = {**outcome.evidence, TRAINING: asdict(verdict)}
    if verdict.passed:
        return replace(outcome, evidence=evidence)
    reason = "; ".join(verdict.reasons)
    failure = Failure(type="NotTrained", message=reason, signature="NotTrained@" + "+".join(verdict.unmet))
    return replace(outcome, status=Status.FAILED, reason=reason, failure=failure, evidence=evidence)
