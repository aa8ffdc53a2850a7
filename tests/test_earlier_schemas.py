"""Outcomes that an earlier harness wrote read as those of the present one."""

from __future__ import annotations

from typing import Any

import pytest

from harness.core.cells import Depth, Outcome
from harness.core.earlier_schemas import SCHEMA, upgraded

PLACE = "1.4.16/paraformer/v8404-h320"


def first(check: str, **changed: Any) -> dict[str, Any]:
    """A record of schema 1."""
    cell = {"release": "1.4.16", "variant": "paraformer", "vocab_size": 8404, "hidden_size": 320, "scale": "slim"}
    cell |= {"check": check, "entry": None, "device": "cpu", "precision": "fp32"}
    plain: dict[str, Any] = {"status": "passed", "reason": "", "failure": None, "metrics": {}, "evidence": {}}
    plain |= {"adaptations": ["wav-by-soundfile"], "seconds": 1.0, "started": "2026-11-22T22:19:23Z"}
    return {"schema": 1, "id": f"{PLACE}/slim/{check}/cpu-fp32", "cell": cell, **plain, **changed}


def second(check: str, **changed: Any) -> dict[str, Any]:
    """A record of schema 2."""
    data = first(check, **changed)
    cell = {key: value for key, value in data.pop("cell").items() if key != "scale"}
    place = {"id": f"{PLACE}/reduced/{check}/cpu-fp32", "cell": {**cell, "depth": "reduced"}}
    return {**data, "schema": 2, **place, "shims": data.pop("adaptations")}


def third(check: str, **changed: Any) -> dict[str, Any]:
    """A record of schema 3."""
    return {**second(check, **changed), "schema": 3}


@pytest.mark.parametrize("record", [first, second])
def test_a_blocked_cell_names_its_dependency_by_its_present_id(record: Any) -> None:
    depth = "slim" if record is first else "reduced"
    above = f"{PLACE}/{depth}/construct/cpu-fp32"
    data = record(
        "loss_contract",
        status="blocked",
        reason=f"stands on {above}, which failed",
        evidence={"blocked_by": above},
    )
    outcome = Outcome.from_json(data)
    present = f"{PLACE}/reduced/construct/cpu-fp32"
    assert (outcome.cell.depth, outcome.common.blocked_by) == (Depth.REDUCED, present)
    assert outcome.reason == f"depends on {present}, which failed"
    assert outcome.shims == ("wav-by-soundfile",)
    assert upgraded(data)["cell"] == outcome.to_json()["cell"]


@pytest.mark.parametrize("record", [first, second])
def test_what_a_loss_received_is_said_in_the_present_words(record: Any) -> None:
    said = "criterion_att was built for 8404 classes and {} tensors 320 wide"
    failure = {"type": "AssertionError", "message": said.format("was handed"), "signature": "AssertionError@x.py:f"}
    outcome = Outcome.from_json(
        record("loss_contract", status="failed", reason=said.format("was handed"), failure=failure)
    )
    assert outcome.failure is not None
    assert outcome.reason == outcome.failure.message == said.format("received")


@pytest.mark.parametrize("record", [first, second])
def test_a_training_keeps_its_figures_under_the_present_names(record: Any) -> None:
    data = record(
        "finetune",
        metrics={"steps": 12, "promises": {"listed": [3]}},
        evidence={
            "dialect": ["max_epoch"],
            "pace": {
                "reference": "x",
                "seeds": 3,
                "difference": 0.1,
                "bound": None,
                "spread": None,
                "degrees_of_freedom": 4,
                "same": False,
            },
            "training": {"passed": True, "promises": {"not_asked": ["ranks"]}},
        },
    )
    present = upgraded({**data, "id": data["id"].replace("finetune", "finetune@train")})
    outcome = Outcome.from_json({**present, "cell": {**present["cell"], "entry": "train"}})
    assert outcome.training is not None
    assert outcome.training.invariants.listed == (3,)
    evidence = outcome.training_evidence
    assert evidence is not None
    assert evidence.trainer_options == ("max_epoch",)
    assert evidence.training is not None
    assert evidence.training.invariants is not None
    assert evidence.training.invariants.not_observed == ("ranks",)
    assert evidence.convergence is not None
    assert evidence.convergence.difference == 0.1


def test_a_release_s_own_words_stay_as_they_are() -> None:
    said = "KeyError in funasr/x.py:f: the promises dialect stands on what was handed over"
    outcome = Outcome.from_json(second("construct", status="failed", reason=said))
    assert outcome.reason == said


def test_what_a_loaded_tensor_equals_was_called_is() -> None:
    data = first("checkpoint", metrics={"loading": {"model.pt": {"is": "trained"}, "broken": 3}})
    assert upgraded(data)["metrics"] == {"loading": {"model.pt": {"equals": "trained"}, "broken": 3}}


@pytest.mark.parametrize("record", [first, second, third])
def test_what_was_not_tested_was_called_not_asked(record: Any) -> None:
    questions = [{"name": "once", "status": "not_asked", "message": "a reader that is not_asked, as it said"}]
    data = upgraded(
        record("data", metrics={"questions": 3, "questions_not_asked": 1}, evidence={"questions": questions})
    )
    assert data["schema"] == SCHEMA
    assert data["metrics"] == {"questions": 3, "questions_not_tested": 1}
    assert data["evidence"]["questions"] == [{**questions[0], "status": "not_tested"}]


def test_ranks_that_were_not_measured_were_not_asked() -> None:
    ranks = {"not asked": "2 processes need as many GPUs"}
    assert upgraded(third("finetune", metrics={"ranks": ranks}))["metrics"]["ranks"] == {
        "not_measured": ranks["not asked"]
    }


def test_a_present_record_is_left_as_it_is() -> None:
    data = {**second("construct"), "schema": SCHEMA}
    assert upgraded(data) is data
