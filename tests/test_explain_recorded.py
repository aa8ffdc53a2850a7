"""Every exception that the committed runs recorded, printed as Python prints it, is explained by its known issue."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from harness.core.cells import Failure, Outcome
from harness.explain.explain import explain_stream
from harness.explain.explanation import LogReport, Owner
from harness.explain.known import known_issues
from harness.explain.messages import message_rules
from harness.explain.release_index import load_index
from harness.rules.known_issues import KnownIssue
from harness.run.archive import OUTCOMES, read_outcomes
from harness.run.store import load_run

REPORTS = Path(__file__).parent.parent / "reports"
RUNS = ("architectures", "atlas", "later_checks", "ranks", "training")
ID = re.compile(rb'"id": "([^"]*)"')
NOT_RAISED = {
    "NotTrained",
    "DataDiffers",
    "PropertyFails",
    "CheckpointBroken",
    "Finding",
    "LossNotTheSum",
    "NoGradient",
}


@cache
def raised() -> tuple[Outcome, ...]:
    """One outcome for each signature and release."""
    found: dict[tuple[str, str], Outcome] = {}
    for run in RUNS:
        for outcome in load_run(REPORTS / run, with_frames(REPORTS / run).__contains__).outcomes:
            if outcome.failure and outcome.failure.frames:
                found.setdefault((outcome.failure.signature, outcome.cell.release), outcome)
    return tuple(found.values())


def with_frames(folder: Path) -> frozenset[str]:
    """Ids of the outcomes whose text has frames. These are 154 of 5,371, and this is needed to collect the tests."""
    lines = read_outcomes(folder / OUTCOMES).split(b"\n")
    return frozenset(one[1].decode() for line in lines if b'"frames": [{' in line and (one := ID.search(line)))


def printed(failure: Failure) -> str:
    """The traceback of a failure in somebody's environment."""
    folder = "/opt/env/lib/python3.10/site-packages"
    frames = "".join(
        f'  File "{folder}/{one.file}", line {one.line}, in {one.function}\n    {one.code}\n' for one in failure.frames
    )
    bare = failure.type == "AssertionError" and failure.message == failure.frames[-1].code
    return f"Traceback (most recent call last):\n{frames}{failure.type}{'' if bare else f': {failure.message}'}\n"


def explained(text: str, *, named: str | None = None) -> LogReport:
    return explain_stream(io.BytesIO(text.encode()), source="x", named=named, cache=Path("/nowhere"))


def issues_of(outcome: Outcome) -> Iterator[KnownIssue]:
    for issue in known_issues():
        if outcome.failure and outcome.failure.signature in issue.failing and issue.concerns(outcome.cell.release):
            yield issue


def test_the_committed_runs_have_many_exceptions() -> None:
    assert len(raised()) > 60
    assert len({one.failure.signature for one in raised() if one.failure}) == 9


@pytest.mark.parametrize("outcome", raised(), ids=lambda one: one.cell.id)
def test_a_recorded_exception_is_explained_by_its_known_issue(outcome: Outcome) -> None:
    assert outcome.failure is not None
    report = explained(printed(outcome.failure))
    (one,) = report.explanations
    assert one.rule in {issue.id for issue in issues_of(outcome)}
    assert (one.owner, one.explained) == (Owner.FUNASR, True)


@pytest.mark.parametrize("outcome", raised(), ids=lambda one: one.cell.id)
def test_the_release_is_among_those_that_its_frames_show(outcome: Outcome) -> None:
    assert outcome.failure is not None
    index = load_index()
    shown = index.all_bits
    for frame in outcome.failure.frames:
        if index.has(frame.file):
            shown &= index.showing(frame)
    assert index.bit(outcome.cell.release) & shown


@pytest.mark.parametrize("outcome", raised()[::8], ids=lambda one: one.cell.id)
def test_in_a_release_without_the_issue_it_is_not_claimed(outcome: Outcome) -> None:
    assert outcome.failure is not None
    (one,) = explained(printed(outcome.failure), named="1.4.16").explanations
    assert one.rule not in {issue.id for issue in issues_of(outcome)}


def test_every_exception_that_a_known_issue_lists_was_recorded_or_has_a_rule_of_its_text() -> None:
    recorded = {one.failure.signature for one in raised() if one.failure}
    by_text = {issue for rule in message_rules() for issue in rule.issues}
    for issue in known_issues():
        for signature in issue.failing:
            if signature.partition("@")[0] not in NOT_RAISED:
                assert signature in recorded or issue.id in by_text, issue.id


def test_the_issues_that_rules_of_the_messages_name_exist() -> None:
    assert {issue for rule in message_rules() for issue in rule.issues} <= {issue.id for issue in known_issues()}


def test_every_rule_has_texts_or_an_issue_that_has_them() -> None:
    for rule in message_rules():
        assert (rule.title and rule.cause and rule.remedy) or rule.issues, rule.id
    assert len({rule.id for rule in message_rules()}) == len(message_rules())
