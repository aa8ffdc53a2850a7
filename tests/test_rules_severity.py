"""How grave a fault is: a rule with an entry for every name that a check can fail with."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from parsed import judge_checkpoint, judge_decode, judge_training
from report_factory import cell, outcome
from training_scene import metrics

from harness.core.cells import Check, Failure, Severity, Status
from harness.rules import severity
from harness.rules.severity import derived, gravest, of_data
from harness.rules.trainer_invariants import INVARIANTS
from harness.run.store import load_run
from harness.worker.checks.properties import PROPERTIES as ASKED_PROPERTIES

ROOT = Path(__file__).parent.parent
CHECKS = ROOT / "harness" / "worker" / "checks"


def failed(check: str, signature: str, status: Status = Status.FAILED, **fields: object) -> Severity:
    failure = Failure(type="E", message="m", signature=signature) if signature else None
    part = signature.partition("@")[2] if "/" not in signature else ""
    return derived(outcome(cell("1.4.16", check), status, "r", failure=failure, **fields), part)


def literals(module: Path, functions: frozenset[str], position: int = 0) -> Iterator[str]:
    """String literals, and beginnings of f-strings, that calls of these functions get as an argument."""
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        name = node.func.attr if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else ""
        name = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else name
        if not isinstance(node, ast.Call) or name not in functions or len(node.args) <= position:
            continue
        argument = node.args[position]
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
            yield argument.value


def test_every_condition_of_a_training_has_a_severity() -> None:
    verdict = judge_training(metrics())
    assert verdict.learning is not None
    names = {"steps", "losses", "parameters", "convergence", *verdict.learning.reasons, *INVARIANTS}
    assert names - severity.TRAINING.keys() == set()


def test_every_property_has_a_severity() -> None:
    assert {one.name for one in ASKED_PROPERTIES} == set(severity.PROPERTIES)


def test_every_question_about_what_was_saved_has_a_severity() -> None:
    assert {question.name for question in judge_checkpoint({})} - severity.CHECKPOINT.keys() == set()
    checks = load_run(ROOT / "reports" / "later_checks").outcomes
    asked = {
        entry["name"] for one in checks if one.cell.check is Check.CHECKPOINT for entry in one.evidence["questions"]
    }
    assert asked == set(severity.CHECKPOINT)


def test_every_condition_of_a_decode_has_a_severity() -> None:
    assert set(judge_decode({}).unmet) == set(severity.DECODE)


def test_every_finding_of_the_contract_has_a_severity() -> None:
    modules = [CHECKS / "construct.py", CHECKS / "loss_contract.py"]
    kinds = {kind for module in modules for kind in literals(module, frozenset({"failed"}))}
    source = "".join(module.read_text(encoding="utf-8") for module in modules)
    kinds |= set(re.findall(r'"((?:No|Loss|Projection|Unregistered|Frozen|Shared)[A-Za-z]*)"', source)) - {"Loss"}
    assert len(kinds) > 10
    assert kinds - severity.CONTRACT.keys() == set()


def test_every_question_about_the_data_has_a_severity() -> None:
    checks = load_run(ROOT / "reports" / "later_checks").outcomes
    asked = {e["name"] for one in checks if one.cell.check is Check.DATA for e in one.evidence.get("questions", ())}
    functions = frozenset({"holds", "fails", "listed", "not_tested"})
    for module in sorted((CHECKS / "data").glob("*.py")):
        asked |= set(literals(module, functions))
    assert len(asked) > 60
    assert [name for name in asked if name not in severity.DATA_BROKEN and of_data(name) is Severity.BROKEN] == []
    assert asked >= severity.DATA_BROKEN
    assert set(severity.DATA_FAMILIES) == {name.partition("_")[0] for name in asked - severity.DATA_BROKEN}


@pytest.mark.parametrize("check", ["import", "construct", "loss_contract", "finetune@train", "decode@train"])
@pytest.mark.parametrize("status", [Status.CRASHED, Status.TIMED_OUT, Status.OUT_OF_MEMORY])
def test_what_does_not_end_is_broken(check: str, status: Status) -> None:
    assert failed(check, "", status) is Severity.BROKEN


@pytest.mark.parametrize(
    ("check", "signature", "expected"),
    [
        ("construct", "AttributeError@funasr/models/transformer/model.py:__init__", Severity.BROKEN),
        ("loss_contract", "LossWidth@criterion_att", Severity.BROKEN),
        ("loss_contract", "LossNotTheSum@model", Severity.WRONG),
        ("properties", "PropertyFails@classes_fit", Severity.BROKEN),
        ("properties", "PropertyFails@tokens_see_no_future", Severity.WRONG),
        ("properties", "PropertyFails@evaluation_draws_nothing", Severity.MINOR),
        ("data", "DataDiffers@text_plain", Severity.BROKEN),
        ("data", "DataDiffers@text_mark_first", Severity.WRONG),
        ("data", "KeyError@funasr/datasets/audio_datasets/index_ds.py:__init__", Severity.BROKEN),
        ("finetune@train", "NotTrained@accuracy", Severity.BROKEN),
        ("finetune@train", "NotTrained@losses", Severity.BROKEN),
        ("finetune@train", "NotTrained@schedule", Severity.WRONG),
        ("finetune@train", "NotTrained@statistics", Severity.MINOR),
        ("finetune@train", "TypeError@funasr/bin/train.py:main", Severity.BROKEN),
        ("checkpoint@train", "CheckpointBroken@saved_whole", Severity.BROKEN),
        ("checkpoint@train", "CheckpointBroken@resumes_schedule", Severity.WRONG),
        ("decode@train", "NotDecoded@error_rate", Severity.BROKEN),
        ("decode@train", "WeightsDiffer@folder", Severity.BROKEN),
    ],
)
def test_a_new_finding_gets_its_severity_by_name(check: str, signature: str, expected: Severity) -> None:
    assert failed(check, signature) is expected


@pytest.mark.parametrize("check", ["construct", "properties", "data", "finetune@train", "checkpoint@train"])
def test_what_no_rule_knows_is_taken_for_broken(check: str) -> None:
    assert failed(check, "Something@nobody_thought_of") is Severity.BROKEN


def test_fewer_steps_are_wrong_and_none_is_broken() -> None:
    signature = "NotTrained@steps"
    assert failed("finetune@train", signature, metrics={"steps": 12}) is Severity.WRONG
    assert failed("finetune@train", signature, metrics={"steps": 0}) is Severity.BROKEN
    assert failed("finetune@train", signature) is Severity.BROKEN
    # What the verdict says of the steps counts before the metrics.
    for steps, expected in ((0, Severity.BROKEN), (12, Severity.WRONG), (None, Severity.BROKEN)):
        verdict = {"training": {"steps": steps}}
        assert failed("finetune@train", signature, evidence=verdict) is expected
        for counted in (0, 12):
            assert failed("finetune@train", signature, evidence=verdict, metrics={"steps": counted}) is expected
    assert failed("finetune@train", "NotTrained@losses", metrics={"steps": 12}) is Severity.BROKEN


def test_the_gravest_of_several_counts() -> None:
    assert gravest([Severity.MINOR, Severity.BROKEN, Severity.WRONG]) is Severity.BROKEN
    assert gravest([Severity.MINOR, Severity.WRONG]) is Severity.WRONG
    assert gravest([]) is None
