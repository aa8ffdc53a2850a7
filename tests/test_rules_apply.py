"""An outcome that ended well is held against its check's rule; any other stays as it is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from training_scene import invariants, metrics, seed_training

from harness.core.cells import Cell, Outcome, Status
from harness.rules.apply import TRAINING, apply_rules

NAME = "1.4.16/paraformer/v8404-h320/reduced/{}/cpu-fp32"


def outcome(check: str = "finetune@train", status: Status = Status.PASSED, **changed: object) -> Outcome:
    told = {"metrics": metrics(), "evidence": {"of": "the check"}, **changed}
    return Outcome(cell=Cell.parse(NAME.format(check)), status=status, reason="", **told)  # type: ignore[arg-type]


def test_a_training_that_keeps_the_rule_passes_with_its_figures() -> None:
    given = outcome()
    settled = apply_rules(given)
    assert settled.status is Status.PASSED
    assert settled.evidence["of"] == "the check"
    assert settled.evidence[TRAINING]["unmet"] == ()
    assert replace(settled, evidence=given.evidence) == given


def test_a_training_that_does_not_fails_with_all_its_reasons() -> None:
    deaf = seed_training(accuracies=(0.8,) * 6)
    settled = apply_rules(outcome(metrics=metrics([deaf], observed=invariants(without_gradient=["encoder.weight"]))))
    assert settled.status is Status.FAILED
    assert settled.failure is not None
    assert (settled.failure.type, settled.failure.signature) == ("NotTrained", "NotTrained@accuracy+gradients")
    first, second = settled.reason.split("; ")
    assert first.startswith("Seed 0: 80.0% of the tokens were right in the last epoch")
    assert second == "encoder.weight never received a gradient."
    assert settled.failure.message == settled.reason
    assert settled.evidence["of"] == "the check"


@pytest.mark.parametrize("check", ["checkpoint@train", "decode@train"])
def test_an_empty_answer_of_the_later_checks_is_no_pass(check: str) -> None:
    assert apply_rules(outcome(check, metrics={}, evidence={})).status is not Status.PASSED


@pytest.mark.parametrize(
    ("check", "status"),
    [
        ("finetune@train", Status.FAILED),
        ("finetune@train", Status.SKIPPED),
        ("finetune@train", Status.BLOCKED),
        ("decode@train", Status.ERRORED),
        ("loss_contract", Status.PASSED),
        ("loss_contract", Status.FAILED),
    ],
)
def test_what_did_not_end_well_or_has_no_rule_stays_as_it_is(check: str, status: Status) -> None:
    given = outcome(check, status, metrics={})
    assert apply_rules(given) is given
