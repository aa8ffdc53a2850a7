"""The section about transitions: told from outcomes alone, each explained or said not to be."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from page_reader import Page
from report_factory import ISSUE, ISSUES, atlas, blocked, cell, judged, loss_failure, outcome, run_of

from harness.compare.transitions.commit_notes import CommitNote, add_commits
from harness.compare.transitions.recorded import RecordedTransitions, recorded_transitions
from harness.core.cells import Outcome, Status
from harness.core.versions import Order
from harness.report.html import render_html
from harness.report.markdown import render_markdown
from harness.report.summary import summarise
from harness.rules.known_issues import KnownIssues
from harness.rules.levels import Level

VERSIONS = tuple(f"1.0.{number}" for number in range(4, 14))


def contract(release: str) -> Outcome:
    at = cell(release, "loss_contract")
    failing = release in ISSUE.releases
    return outcome(at, Status.FAILED, failure=loss_failure(320, 8404)) if failing else outcome(at)


def found(outcomes: Iterable[Outcome], issues: KnownIssues = ISSUES, **others: object) -> RecordedTransitions:
    several = judged(outcomes, issues)
    order = Order.of({one.outcome.cell.release for one in several}, others.pop("published", ()))
    section = recorded_transitions(several, order, **others)
    assert section is not None
    return section


def test_each_interval_has_its_answer_and_each_transition_its_issue() -> None:
    section = found(map(contract, VERSIONS))
    (history,) = section.histories
    assert [str(one.answer.status) for one in history.intervals] == ["passed", "failed", "passed"]
    assert [one.level for one in history.intervals] == [Level.PASSED, Level.BROKEN, Level.PASSED]
    begins, ends = history.changes
    assert (begins.before, begins.after) == ("1.0.5", "1.0.6")
    assert begins.begins == (ISSUE,)
    assert ends.ends == (ISSUE,)
    assert section.unexplained == 0


def test_a_failure_that_no_issue_explains_is_not_yet_explained() -> None:
    section = found(map(contract, VERSIONS), KnownIssues())
    assert section.unexplained == 2
    assert [one.why for history in section.histories for one in history.intervals if not one.sound] == [
        "not yet explained"
    ]
    assert [change.sentence for change in section.histories[0].changes] == ["not yet explained"] * 2
    open_ended = replace(ISSUE, cause="Not yet explained.")
    assert found(map(contract, VERSIONS), KnownIssues(issues=(open_ended,))).unexplained == 2


def test_a_failure_that_comes_and_goes_has_all_its_transitions() -> None:
    failing = {"1.0.6", "1.0.9", "1.0.10"}
    outcomes = [
        outcome(cell(release, "construct"), Status.FAILED, failure=loss_failure(1, 2))
        if release in failing
        else outcome(cell(release, "construct"))
        for release in VERSIONS
    ]
    (history,) = found(outcomes).histories
    assert [(one.before, one.after) for one in history.changes] == [
        ("1.0.5", "1.0.6"),
        ("1.0.6", "1.0.7"),
        ("1.0.8", "1.0.9"),
        ("1.0.10", "1.0.11"),
    ]


def test_a_blocked_cell_changes_where_the_check_before_it_does() -> None:
    outcomes = []
    for release in VERSIONS:
        below = contract(release)
        above = cell(release, "finetune@train")
        outcomes += [below, outcome(above) if below.status is Status.PASSED else blocked(above, below.cell)]
    histories = {history.questions[0].split("/")[3]: history for history in found(outcomes).histories}
    above = histories["finetune@train"]
    assert above.intervals[1].answer.below == "loss_contract"
    assert above.intervals[1].issues == (ISSUE,)


def test_releases_that_were_not_asked_between_two_answers_are_named() -> None:
    asked = [contract(release) for release in ("1.0.4", "1.0.8", "1.0.13")]
    (history,) = found(asked, published=VERSIONS).histories
    assert history.changes[0].unmeasured == ("1.0.5", "1.0.6", "1.0.7")


def test_questions_with_the_same_history_are_reported_once_and_steady_ones_counted() -> None:
    section = found(atlas(tuple(f"1.0.{number}" for number in range(31))))
    names = [name for history in section.histories for name in history.questions]
    assert len(names) == len(set(names))
    assert len(section.histories) < len(names)
    assert section.steady > 0


def test_a_run_of_one_release_has_no_such_section() -> None:
    one = [contract("1.0.4")]
    assert recorded_transitions(judged(one), Order.of(["1.0.4"], ())) is None
    assert 'id="transitions"' not in render_markdown(summarise(run_of(one), judged(one)))


def test_the_commits_beside_a_run_are_reported_on_the_page_and_escaped(tmp_path) -> None:
    note = CommitNote(
        asked=cell("x", "loss_contract").id.partition("/")[2],
        before="1.0.5",
        after="1.0.6",
        commit="a1" * 20,
        author="<blink>An Author</blink>",
        date="2024-03-01T12:00:00+08:00",
        subject="a | subject",
        files=("funasr/models/model.py",),
        among=0,
    )
    add_commits(tmp_path, [note])
    outcomes = [contract(release) for release in VERSIONS]
    summary = summarise(replace(run_of(outcomes), folder=tmp_path), judged(outcomes))
    page = Page.of(render_html(summary))
    assert "transitions" in page.values("id")
    assert "Commit a1a1a1a1a1a1 by <blink>An Author</blink>, 2024-03-01: a | subject" in page.text
    assert "blink" not in page.tags
    said = render_markdown(summary)
    assert "a &#124; subject" in said
    assert "&#60;blink&#62;An Author" in said
