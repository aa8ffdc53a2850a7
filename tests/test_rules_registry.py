"""A check that ran on another class than a full import leaves has measured something else."""

from __future__ import annotations

from typing import Any

import pytest

from harness.core.cells import Cell, Failure, Outcome, Status, Verdict
from harness.rules.known_issues import KnownIssues
from harness.rules.release_contents import apply_registry_rule
from harness.rules.verdicts import judge

KEY = "decoder_classes/ParaformerSANMDecoder"
FIRST, SECOND = (f"funasr.models.{name}.decoder:ParaformerSANMDecoder" for name in ("paraformer", "e_paraformer"))


def imported(release: str = "1.2.2", winners: Any = None, status: Status = Status.PASSED) -> Outcome:
    evidence = {"registry": {"registrations": [], "winners": {KEY: SECOND} if winners is None else winners}}
    cell = Cell.parse(f"{release}/-/-/-/import/cpu-fp32")
    return Outcome(cell=cell, status=status, reason="" if status is Status.PASSED else "planted", evidence=evidence)


def built(used: str, release: str = "1.2.2", status: Status = Status.PASSED) -> Outcome:
    failed = Failure(type="NoGradient", message="planted", signature="NoGradient@decoder")
    return Outcome(
        cell=Cell.parse(f"{release}/paraformer/v8404-h320/reduced/loss_contract/cpu-fp32"),
        status=status,
        reason="" if status is Status.PASSED else "planted",
        failure=failed if status is Status.FAILED else None,
        evidence={"classes": {KEY: used, "model_classes/Paraformer": "funasr.models.paraformer.model:Paraformer"}},
    )


@pytest.mark.parametrize("status", [Status.PASSED, Status.FAILED])
def test_another_class_than_the_full_imports_is_the_harnesss_fault_whatever_came_out(status: Status) -> None:
    one, other = judge([imported(), built(FIRST, status=status)], KnownIssues())
    assert one.verdict is Verdict.AS_EXPECTED
    assert (other.outcome.status, other.verdict, other.outcome.failure) == (Status.ERRORED, Verdict.FAULT, None)
    assert other.outcome.reason == (
        f"the check ran on another class than `import funasr` leaves: {KEY} is {SECOND} there, and was {FIRST} here"
    )


@pytest.mark.parametrize(
    ("outcomes", "status"),
    [
        ([imported(), built(SECOND)], Status.PASSED),
        ([imported(), built(SECOND, status=Status.FAILED)], Status.FAILED),
        # Nothing is on record to hold it against.
        ([built(FIRST)], Status.PASSED),
        ([imported("1.0.18"), built(FIRST)], Status.PASSED),
        ([imported(status=Status.FAILED), built(FIRST)], Status.PASSED),
        ([imported(winners={}), built(FIRST)], Status.PASSED),
        # Blocked or skipped, it measured nothing.
        ([imported(), built(FIRST, status=Status.SKIPPED)], Status.SKIPPED),
    ],
)
def test_the_full_imports_class_or_nothing_to_compare_is_as_it_was(outcomes: list[Outcome], status: Status) -> None:
    assert apply_registry_rule(outcomes) == tuple(outcomes)
    assert apply_registry_rule(outcomes)[-1].status is status


def test_an_outcome_without_classes_is_as_it_was() -> None:
    old = Outcome(cell=built(FIRST).cell, status=Status.PASSED, reason="")
    assert apply_registry_rule([imported(), old])[1] is old
