"""Findings: what is read of an outcome's evidence, and what is made of entries that have another form."""

from __future__ import annotations

from typing import Any

import pytest
from report_factory import outcome

from harness.judge.findings import UNREADABLE, Finding, findings_of

CELL = "1.4.16/-/-/-/import/cpu-fp32"


def read(findings: Any) -> tuple[Finding, ...] | None:
    return findings_of(outcome(CELL, evidence={"findings": findings}))


def test_a_finding_is_read_with_its_place_and_detail() -> None:
    entry = {
        "code": "key-registered-twice",
        "message": "Two modules register ParaformerSANMDecoder.",
        "place": "funasr/models/e_paraformer/decoder.py",
        "detail": {"winner": "e_paraformer"},
    }
    (finding,) = read([entry]) or ()
    assert finding == Finding(**entry)
    assert finding.signature == "Finding@key-registered-twice"


def test_place_and_detail_may_be_missing() -> None:
    assert read([{"code": "a", "message": "m"}]) == (Finding(code="a", message="m"),)


def test_an_outcome_without_the_key_was_not_looked_at_and_an_empty_list_was() -> None:
    assert findings_of(outcome(CELL)) is None
    assert read([]) == ()


@pytest.mark.parametrize(
    "entry", [None, 3, "text", [], {}, {"code": "a"}, {"code": "A b", "message": "m"}, {"message": 1}]
)
def test_an_entry_of_another_form_is_a_finding_itself(entry: Any) -> None:
    sound = {"code": "a", "message": "m"}
    first, second = read([entry, sound]) or ()
    assert first.code == UNREADABLE
    assert second == Finding(code="a", message="m")


@pytest.mark.parametrize("findings", [None, 3, "text", {"code": "a", "message": "m"}])
def test_something_else_than_a_list_is_one_unreadable_finding(findings: Any) -> None:
    assert [finding.code for finding in read(findings) or ()] == [UNREADABLE]


def test_a_place_or_detail_of_another_kind_is_left_out() -> None:
    assert read([{"code": "a", "message": "m", "place": 3, "detail": []}]) == (Finding(code="a", message="m"),)
