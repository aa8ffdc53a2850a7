"""The report's records of what the trainers are fed; the runs are made up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from harness.core.cells import Cell, Outcome, Severity, Status
from harness.core.versions import Order
from harness.report.data import WORDS, data_questions

ORDER = Order(labels=("1.0.0", "1.0.1", "1.1.0", "1.2.0"))


def item(release: str, entry: str, *questions: tuple[str, str], check: str = "data", **more: Any) -> Any:
    evidence = {
        "questions": [
            {"name": name, "status": status, "message": f"{name} in {release}", "example": {"utterance": "one", **more}}
            for name, status in questions
        ]
    }
    cell = Cell.parse(f"{release}/paraformer/v8404-h320/reduced/{check}@{entry}/cpu-fp32")
    wrong = {name for name, status in questions if status == "fails"}
    return SimpleNamespace(
        outcome=Outcome(cell=cell, status=Status.PASSED, reason="", evidence=evidence if questions else {}),
        severity_of=lambda name: Severity.WRONG if name in wrong else None,
    )


def test_releases_of_which_the_same_is_true_are_reported_together() -> None:
    judged = [
        item("1.0.0", "train", ("once", "fails"), ("cmvn", "fails")),
        item("1.0.1", "train", ("once", "fails"), ("cmvn", "holds")),
        item("1.1.0", "train", ("once", "holds"), ("cmvn", "holds")),
        item("1.2.0", "train_ds", ("once", "holds"), ("cmvn", "not_tested"), file=""),
    ]
    cmvn, once = data_questions(judged, ORDER)
    assert (cmvn.name, once.name) == ("cmvn", "once")
    assert (once.words, once.anchor, once.standing) == (WORDS["once"], "data-once", "fails")
    assert [(use.standing, use.entry, [str(span) for span in use.spans]) for use in once.uses] == [
        ("fails", "train", ["1.0.0, 1.0.1"]),
        ("holds", "train", ["1.1.0"]),
        ("holds", "train_ds", ["1.2.0"]),
    ]
    assert [use.severity for use in once.uses] == [Severity.WRONG, None, None]
    assert once.uses[0].message == "once in 1.0.1"
    assert once.uses[0].cell.startswith("1.0.1/")
    assert [use.standing for use in cmvn.uses] == ["fails", "holds", "not_tested"]
    assert [(example.name, example.value) for example in cmvn.uses[2].example] == [("utterance", "one")]


def test_two_variants_of_a_release_are_one() -> None:
    judged = [item("1.0.0", "train", ("once", "fails")), item("1.0.0", "train", ("once", "fails"))]
    (question,) = data_questions(judged, ORDER)
    assert [use.spans[0].count for use in question.uses] == [1]


def test_an_outcome_without_questions_shows_nothing() -> None:
    assert data_questions([item("1.0.0", "train")], ORDER) == ()


def test_other_checks_are_not_compared() -> None:
    assert data_questions([item("1.0.0", "train", ("once", "fails"), check="finetune")], ORDER) == ()


def test_a_question_that_nobody_described_comes_last_under_its_own_name() -> None:
    judged = [item("1.0.0", "train", ("brand_new", "fails"), ("once", "fails"))]
    assert [question.words for question in data_questions(judged, ORDER)] == [WORDS["once"], "brand new"]
