"""A failure with a user's own variant or file, compared with the same check of the same release on stock input.

Stock input is the harness's own variant of the same model with its own speech. It is run where a cell of the user's
failed and nothing names the cause (`harness/commands/stock_input.py`).

| on stock input | the failure is |
| --- | --- |
| the check passes | the user's |
| it ends with the same signature, or shares a part of it | the release's |
| it ends in another way, or did not run | not decided |

What a training has to keep by the configuration in force in it (`harness/rules/trainer_invariants.py`), and a release
that is worse than an older one on the same input, are the release's whatever stock input shows.
Whether a model learned is no question that stock speech at the matrix's learning rate answers for a user's rows and
weights: unless the release does not teach the stock model either, those conditions are not observed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, replace

from harness.core.cells import Failure, Outcome, Status
from harness.core.evidence.common import StockOutcome
from harness.core.evidence.training import TrainingMetrics
from harness.rules.learning import CONDITIONS
from harness.rules.multi_part import CompoundSignature
from harness.rules.training import judge_training
from harness.rules.user_input import YOURS, names_setting

ON_STOCK_INPUT = "on_stock_input"
"""The key in a failed cell's evidence that says how the same check ends on stock input."""

TRAINING = "training"
"""The key in the evidence of a `finetune` cell that holds the verdict's figures."""

_FAILED = (Status.FAILED, Status.CRASHED, Status.TIMED_OUT, Status.OUT_OF_MEMORY)
_ANSWERED = (Status.PASSED, *_FAILED)
_LEARNING = frozenset(CONDITIONS)
_OF_INPUT = _LEARNING | {"losses", "parameters"}
"""Conditions of a training that its input may break; the others are computed from the configuration in force."""
_MOST_LISTED = 6


def awaits_stock_input(outcome: Outcome) -> bool:
    """Whether a failure may be the user's own doing, and only the same check on stock input can say."""
    common = outcome.common
    if outcome.status not in _FAILED or common.yours or not (common.own_settings or common.user_rows):
        return False
    control = outcome.training_evidence.control if outcome.training_evidence else None
    if _answer(outcome) or (control and outcome.failure and control.failure == outcome.failure.signature):
        return False
    parts = _parts(outcome)
    return parts is None or parts.kind != "NotTrained" or bool(parts.names & _OF_INPUT)


def is_undecided(outcome: Outcome) -> bool:
    """Whether stock input did not decide either: it ended in a way of its own."""
    stock = _answer(outcome)
    return bool(
        stock
        and outcome.status in _FAILED
        and not outcome.common.yours
        and stock.status != Status.PASSED
        and not _shared(outcome, stock)
        and not breaks_configuration(outcome)
    )


def breaks_configuration(outcome: Outcome) -> bool:
    """Whether a training broke what the configuration in force says."""
    parts = _parts(outcome)
    return parts is not None and parts.kind == "NotTrained" and not parts.names <= _OF_INPUT


def of_input(parts: Iterable[str]) -> bool:
    """Whether all of these parts of a training's finding are such as its input may cause."""
    return {part.partition("@")[2] or part for part in parts} <= _OF_INPUT


def attribute_by_stock_input(outcome: Outcome) -> Outcome:
    """The outcome, judged by how the same check ends on stock input; as it is where that is not known."""
    stock = _answer(outcome)
    if stock is None or outcome.status not in _FAILED or outcome.common.yours:
        return outcome
    parts = _parts(outcome)
    if parts and parts.kind == "NotTrained" and (learning := parts.names & _LEARNING - _shared(outcome, stock)):
        outcome = _learning_not_observed(outcome, learning, stock)
        if outcome.status is Status.PASSED:
            return outcome
    if stock.status != Status.PASSED or breaks_configuration(outcome):
        return outcome
    failure = outcome.failure
    words = f"{failure.type}: {failure.message}" if failure and parts is None else outcome.reason
    passes = f"the same check of stock input passes in this release ({stock.cell})"
    reason = f"{words.rstrip('. ')}; {passes}. What differs is yours: {_named(outcome)}{differences(outcome)}."
    return replace(outcome, evidence={**outcome.evidence, YOURS: {"reason": reason}})


def differences(outcome: Outcome) -> str:
    """What of a cell is the user's own, in words."""
    own, rows = outcome.common.own_settings, outcome.common.user_rows
    listed = []
    if own:
        paths = [f"`{path}`" for path in own.settings]
        more = f" and {len(paths) - _MOST_LISTED} more" if len(paths) > _MOST_LISTED else ""
        named = f" ({', '.join(paths[:_MOST_LISTED])}{more})" if paths else ""
        files = ", its tokens and its weights" if "/" in own.file else ""
        listed.append(f"the settings of {own.file}{named}{files}")
    if rows:
        listed.append(f"the rows of {rows.file}")
    return "; ".join(listed)


def _named(outcome: Outcome) -> str:
    """The setting of the user's that the exception names, if it names one."""
    own, failure = outcome.common.own_settings, outcome.failure
    if own is None or failure is None:
        return ""
    named = (f"`{path}: {value}`" for path, value in own.settings.items() if names_setting(failure, path, value))
    return next((f"{setting}, which the message names, among " for setting in named), "")


def _learning_not_observed(outcome: Outcome, names: frozenset[str], stock: StockOutcome) -> Outcome:
    """The outcome without what says that the model did not learn."""
    stock_learns = "learned" if stock.status == Status.PASSED else f"ended as {stock.status.replace('_', ' ')}"
    why = (
        f"it was trained with {differences(outcome)}; that the stock model {stock_learns} says nothing about how fast "
        "these are learned"
    )
    verdict = judge_training(outcome.training or TrainingMetrics(), dict.fromkeys(names, why))
    evidence = {**outcome.evidence, TRAINING: asdict(verdict)}
    if verdict.passed:
        return replace(outcome, status=Status.PASSED, reason="", failure=None, evidence=evidence)
    reason = "; ".join(verdict.reasons)
    failure = Failure(type="NotTrained", message=reason, signature="NotTrained@" + "+".join(verdict.unmet))
    return replace(outcome, reason=reason, failure=failure, evidence=evidence)


def _answer(outcome: Outcome) -> StockOutcome | None:
    stock = outcome.common.on_stock_input
    return stock if stock and stock.status in _ANSWERED else None


def _parts(outcome: Outcome) -> CompoundSignature | None:
    return CompoundSignature.of(outcome.failure.signature) if outcome.failure else None


def _shared(outcome: Outcome, stock: StockOutcome) -> frozenset[str]:
    """What both failures have: the parts of a finding, or the whole signature, or the status of what has none."""
    signature = outcome.failure.signature if outcome.failure else ""
    parts, stock_parts = _parts(outcome), CompoundSignature.of(stock.signature)
    if parts and stock_parts and parts.kind == stock_parts.kind:
        return parts.names & stock_parts.names
    same = signature == stock.signature and (bool(signature) or outcome.status == stock.status)
    return frozenset({signature}) if same else frozenset()
