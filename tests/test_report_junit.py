"""What a CI shows: a regression is a failure, a fault an error, what is known is skipped."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_factory import ISSUE, RELEASES, blocked, cell, judged, loss_failure, outcome
from strategies import outcomes as any_outcomes

from harness.core.cells import Severity, Status
from harness.report.junit import render_junit
from harness.rules.known_issues import KnownIssues
from harness.run.repeat_commands import Repeating

FAILING = loss_failure(320, 8404)


REPEAT = Repeating(arguments=("m.toml",), selection=(), folder=None)


def read(outcomes):
    return ElementTree.fromstring(render_junit(judged(outcomes), title="a title", repeat=REPEAT))


def kinds(root):
    return [[child.tag for child in case if child.tag != "properties"] for case in root.iter("testcase")]


def properties(root):
    return [(one.get("name"), one.get("value")) for one in root.iter("property")]


@pytest.mark.parametrize(
    ("found", "kind"),
    [
        (outcome(cell("1.4.0", "loss_contract")), []),
        (outcome(cell("1.4.0", "loss_contract"), Status.FAILED, failure=FAILING), ["failure"]),
        (outcome(cell(RELEASES[6], "loss_contract"), Status.FAILED, failure=FAILING), ["skipped"]),
        (outcome(cell(RELEASES[6], "loss_contract")), ["failure"]),
        (outcome(cell("1.4.0", "loss_contract"), Status.ERRORED), ["error"]),
        (
            outcome(
                cell("1.4.0", "loss_contract"), Status.FAILED, failure=FAILING, evidence={"yours": {"reason": "Yours."}}
            ),
            ["error"],
        ),
        (outcome(cell("1.4.0", "loss_contract"), Status.SKIPPED), ["skipped"]),
    ],
)
def test_each_verdict_has_its_element(found, kind):
    assert kinds(read([found])) == [kind]


def test_what_is_blocked_is_skipped_with_its_reason():
    failing = outcome(cell("1.4.0", "construct"), Status.FAILED, failure=FAILING)
    root = read([failing, blocked(cell("1.4.0", "loss_contract"), failing.cell)])
    assert kinds(root) == [["failure"], ["skipped"]]
    assert "depends on 1.4.0/" in root.find(".//skipped").get("message")
    assert (root.get("tests"), root.get("failures"), root.get("skipped")) == ("2", "1", "1")


def test_a_failure_has_its_traceback_and_how_to_repeat_it():
    at = cell("1.4.0", "loss_contract")
    failure = read([outcome(at, Status.FAILED, failure=FAILING)]).find(".//failure")
    assert failure.get("type") == FAILING.signature
    assert f"funasr-harness show {at.id}" in failure.text
    assert "label_smoothing_loss.py:64 in forward: assert x.size(2) == self.size" in failure.text


def test_a_case_says_how_grave_each_thing_is_that_is_wrong_with_it():
    found = {"code": "registered-twice", "message": "Two modules register it."}
    failing = outcome(
        cell(RELEASES[6], "loss_contract"), Status.FAILED, failure=FAILING, evidence={"findings": [found]}
    )
    root = read([failing, outcome(cell("1.4.0", "construct"))])
    assert properties(root) == [
        (FAILING.signature, f"broken: {ISSUE.title}"),
        ("Finding@registered-twice", "wrong: Two modules register it."),
        ("severity", "broken"),
    ]
    assert root.find(".//failure").get("message").startswith("broken: ")


def test_a_cell_that_passed_with_a_finding_passes_where_that_is_listed_and_fails_where_it_is_not():
    found = {"code": "registered-twice", "message": "Two modules register it."}
    listed = replace(ISSUE, signatures=("Finding@registered-twice",), severity=Severity.MINOR)
    passed = outcome(cell(RELEASES[6], "loss_contract"), evidence={"findings": [found]})
    known = ElementTree.fromstring(
        render_junit(judged([passed], KnownIssues(issues=(listed,))), title="t", repeat=REPEAT)
    )
    assert kinds(known) == [[]]
    assert properties(known)[-1] == ("severity", "minor")
    unknown = read([replace(passed, cell=cell("1.4.0", "loss_contract"))])
    assert kinds(unknown) == [["failure"]]
    assert unknown.find(".//failure").get("type") == "Finding@registered-twice"


@settings(max_examples=40)
@given(st.lists(any_outcomes, unique_by=lambda outcome: outcome.cell.id, max_size=4))
def test_any_run_is_sound_xml_with_one_case_a_cell(outcomes):
    assert len(list(read(outcomes).iter("testcase"))) == len(outcomes)
