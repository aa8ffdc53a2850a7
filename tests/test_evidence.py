"""What cells record has its declared form, in every committed run; what has not is that cell's outcome."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.cells import Cell, Check, Outcome, Status
from harness.core.evidence.checkpoint import CheckpointMetrics
from harness.core.evidence.common import CellEvidence, Finding
from harness.core.evidence.parsing import EvidenceMismatch, parse
from harness.core.evidence.questions import AnswerStatus
from harness.core.evidence.training import Absent, TrainingMetrics
from harness.run.archive import read_outcomes
from harness.run.outcome_lines import line_of, read_lines
from tests.strategies import json_values

REPORTS = Path(__file__).parent.parent / "reports"
CELL = Cell.parse("1.4.0/paraformer/v8404-h320/reduced/finetune@train/cpu-fp32")


def outcome(**others: Any) -> Outcome:
    return Outcome(cell=CELL, status=Status.PASSED, reason="", **others)


def metrics(**values: Any) -> TrainingMetrics:
    return parse(TrainingMetrics, values, place="metrics")


@pytest.mark.parametrize("run", sorted(path.parent.name for path in REPORTS.rglob("outcomes.jsonl*")))
def test_every_key_of_a_committed_run_is_declared(run: str) -> None:
    for line in read_outcomes(REPORTS / run / "outcomes.jsonl").splitlines():
        one = Outcome.from_json(json.loads(line))
        for kind, data, place in zip(of(one.cell.check), (one.metrics, one.evidence), PLACES, strict=True):
            parse(kind, data, place=f"{one.cell.id} {place}", strict=True)


PLACES = ("metrics", "evidence")


def of(check: Check) -> tuple[type, type]:
    return check.facts.metrics, check.facts.evidence


def test_each_check_has_records_of_its_own() -> None:
    assert len({kind for check in Check for kind in of(check)}) == 2 * len(Check)
    assert all(issubclass(check.facts.evidence, CellEvidence) for check in Check)


def records(kind: type) -> Iterator[type]:
    """A record and all those in its fields."""
    yield kind
    for field in dataclasses.fields(kind):
        for other in vars(__import__(kind.__module__, fromlist=["_"])).values():
            if dataclasses.is_dataclass(other) and other.__name__ in str(field.type) and other is not kind:
                yield from records(other)


def test_records_are_frozen_and_take_keywords_only() -> None:
    for kind in {one for check in Check for top in of(check) for one in records(top)}:
        assert kind.__dataclass_params__.frozen, kind
        assert all(field.kw_only for field in dataclasses.fields(kind)), kind


def test_a_key_that_nobody_declared_is_refused_where_it_matters_and_ignored_elsewhere() -> None:
    with pytest.raises(EvidenceMismatch, match="no record declares lossses"):
        parse(TrainingMetrics, {"lossses": [1.0]}, place="metrics", strict=True)
    assert metrics(lossses=[1.0]) == TrainingMetrics()


def test_the_words_for_what_json_cannot_say_are_numbers() -> None:
    first, second, third, missing = metrics(losses=["nan", "inf", "-inf", None]).losses
    assert first is not None
    assert math.isnan(first)
    assert (second, third, missing) == (math.inf, -math.inf, None)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"losses": [1.0, "1.0"]}, "metrics.losses[1]: expected a number, found '1.0'"),
        ({"losses": "nan"}, "metrics.losses: expected a list, found 'nan'"),
        ({"losses": [True]}, "metrics.losses[0]: expected a number, found True"),
        ({"steps": 3.0}, "metrics.steps: expected a whole number, found 3.0"),
        ({"steps": True}, "metrics.steps: expected a whole number, found True"),
        ({"groups": [None]}, "metrics.groups[0]: expected a text, found None"),
        ({"criterion": []}, "metrics.criterion: expected an object, found []"),
        ({"criterion": {"classes": 9}}, "metrics.criterion.smoothing: a key is missing"),
        ({"stats": {"acc": [0.5, "x"]}}, "metrics.stats['acc'][1]: expected a number, found 'x'"),
        ({"losses": [10**400]}, "metrics.losses[0]: int too large to convert to float"),
        ({"epochs_end_within_steps": 1}, "metrics.epochs_end_within_steps: expected true or false, found 1"),
    ],
)
def test_a_mismatch_names_the_key_and_what_was_expected(values: dict[str, Any], told: str) -> None:
    with pytest.raises(EvidenceMismatch) as raised:
        metrics(**values)
    assert str(raised.value) == told


def test_of_many_mismatches_the_first_are_named() -> None:
    with pytest.raises(EvidenceMismatch, match=r"losses\[0\].*losses\[1\].*losses\[2\].*; and 2 more$"):
        metrics(losses=["a", "b", "c", "d", "e"])


def test_a_figure_that_was_not_asked_for_is_another_than_one_that_could_not_be_computed() -> None:
    one, two = (metrics(ranks={"same rows": values}).ranks["same rows"] for values in ({}, {"between_ranks": None}))
    assert not isinstance(one, str)
    assert not isinstance(two, str)
    assert (one.between_ranks, two.between_ranks) == (Absent.ABSENT, None)


@given(st.dictionaries(st.sampled_from([field.name for field in dataclasses.fields(TrainingMetrics)]), json_values))
def test_no_value_in_a_result_raises_anything_else(values: dict[str, Any]) -> None:
    one = outcome(metrics=values).as_declared()
    assert one.status is Status.PASSED or (one.status is Status.ERRORED and one.reason.startswith("its result is"))
    assert one.training is not None


def test_a_record_is_parsed_once_and_anew_for_other_metrics() -> None:
    one = outcome(metrics={"steps": 3})
    assert one.training is one.training
    assert dataclasses.replace(one, metrics={"steps": 4}).training == TrainingMetrics(steps=4)
    assert one.metrics_as(CheckpointMetrics) is None


def test_a_line_with_a_malformed_result_is_that_cells_outcome_alone(tmp_path: Path) -> None:
    file = tmp_path / "outcomes.jsonl"
    sound = dataclasses.replace(outcome(metrics={"steps": 3}), cell=dataclasses.replace(CELL, release="1.3.0"))
    file.write_bytes(line_of(sound) + line_of(outcome(metrics={"steps": "3"})))
    first, second = read_lines(file).outcomes
    assert first == sound
    assert second.status is Status.ERRORED
    assert second.reason == "its result is malformed: metrics.steps: expected a whole number, found '3'"


@pytest.mark.parametrize("code", ["", "Two Words", "UPPER", "a--b"])
def test_a_finding_has_a_code_in_kebab_case(code: str) -> None:
    with pytest.raises(EvidenceMismatch, match="expected a code in kebab-case"):
        parse(CellEvidence, {"findings": [{"code": code, "message": "m"}]}, place="evidence")
    assert Finding(code="a-b.c", message="m").signature == "Finding@a-b.c"


def test_an_unknown_answer_is_a_mismatch() -> None:
    kind = Check.DATA.facts.evidence
    with pytest.raises(
        EvidenceMismatch, match=r"questions\[0\].status: expected one of holds, fails, listed, not_tested"
    ):
        parse(kind, {"questions": [{"name": "rows", "status": "maybe"}]}, place="evidence")
    found = parse(kind, {"questions": [{"name": "rows", "status": "fails", "message": "lost"}]}, place="evidence")
    assert found.questions[0].status is AnswerStatus.FAILS


def test_a_text_of_an_enumeration_becomes_its_member_and_another_is_refused() -> None:
    for kind, text in ((Status, "passed"), (AnswerStatus, str(next(iter(AnswerStatus))))):
        found = parse(tuple[kind, ...], [text], place="kept", strict=True)  # type: ignore[valid-type]
        assert type(found[0]) is kind
        with pytest.raises(EvidenceMismatch, match="expected one of"):
            parse(tuple[kind, ...], ["nonsense"], place="kept", strict=True)  # type: ignore[valid-type]
