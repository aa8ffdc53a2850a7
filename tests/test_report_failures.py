"""One group is one thing that is wrong, with the releases, shapes and messages in which it shows."""

from __future__ import annotations

from dataclasses import replace

from report_factory import ISSUE, ISSUES, RELEASES, SHAPES, blocked, cell, judged, loss_failure, outcome

from harness.core.cells import Severity, Status, Verdict
from harness.core.versions import Order, in_words
from harness.report.failures import group_failures
from harness.rules.known_issues import KnownIssues

ORDER = Order.of(RELEASES, ())
SIZES = {"v8404-h320": (320, 8404), "v8501-h320": (320, 8501), "v8404-h512": (512, 8404), "v8501-h512": (512, 8501)}


def the_bug(releases=RELEASES[6:12], line=64):
    return [
        outcome(
            cell(release, "loss_contract", shape=shape), Status.FAILED, failure=loss_failure(*SIZES[shape], line=line)
        )
        for release in releases
        for shape in SHAPES
    ]


def groups_of(outcomes, issues=ISSUES):
    return group_failures(judged(outcomes, issues), ORDER)


def test_the_same_failure_in_many_cells_is_one_group():
    (group,) = groups_of(the_bug())
    assert (group.cells, group.verdict, group.issue) == (24, Verdict.KNOWN, ISSUE)
    assert in_words(group.releases) == "1.0.6 – 1.0.11 (6 releases)"
    assert [message.text for message in group.messages] == [
        "x.size(2) == self.size: 320 against 8404",
        "x.size(2) == self.size: 320 against 8501",
        "x.size(2) == self.size: 512 against 8404",
        "x.size(2) == self.size: 512 against 8501",
    ]
    (place,) = group.places
    assert (place.check_name, place.variant, len(place.shapes)) == ("loss_contract", "paraformer_streaming", 4)
    assert group.example.startswith("1.0.11/")


def test_line_numbers_that_move_between_releases_become_a_range():
    (group,) = groups_of(the_bug(RELEASES[6:8], line=64) + the_bug(RELEASES[8:10], line=71))
    assert group.lines[-1].place == "funasr/losses/label_smoothing_loss.py:64–71"
    assert group.lines[-1].code == "assert x.size(2) == self.size"
    assert group.other_tracebacks == 0


def test_a_known_failure_and_the_same_one_in_another_release_are_two_groups():
    first, second = groups_of(the_bug(RELEASES[6:13]))
    assert (first.verdict, first.issue, first.explained) == (Verdict.REGRESSION, None, False)
    assert in_words(first.releases) == RELEASES[12]
    assert (second.verdict, second.explained) == (Verdict.KNOWN, True)


def test_a_listed_failure_without_a_cause_counts_as_not_explained():
    unexplained = KnownIssues(issues=(replace(ISSUE, cause="not yet explained"),))
    (group,) = groups_of(the_bug(), unexplained)
    assert group.verdict is Verdict.KNOWN
    assert not group.explained


def test_a_failure_without_an_exception_goes_by_its_status():
    (group,) = groups_of([outcome(cell("1.0.0", "finetune@train"), Status.TIMED_OUT, "Ended after 300 s.")])
    assert group.signature == "timed_out@finetune"
    assert [message.text for message in group.messages] == ["Ended after 300 s."]


def test_blocked_cells_are_counted_with_what_blocks_them():
    broken = the_bug(RELEASES[6:7])
    above = blocked(cell(RELEASES[6], "finetune@train"), cell(RELEASES[6], "loss_contract"))
    (group,) = groups_of([*broken, above])
    assert (group.cells, group.blocked_cells) == (4, 1)


def test_passed_blocked_and_skipped_cells_are_no_failures():
    at = cell("1.0.0", "construct")
    assert groups_of([outcome(at), outcome(cell("1.0.0", "loss_contract"), Status.SKIPPED)]) == ()


def test_shapes_with_other_releases_have_a_line_of_their_own():
    (group,) = groups_of([*the_bug(RELEASES[6:9]), *the_bug(RELEASES[9:10])[:1]])
    assert [(place.shapes, in_words(place.spans)) for place in group.places] == [
        (("v8404-h320",), "1.0.6 – 1.0.9 (4 releases)"),
        (("v8404-h512", "v8501-h320", "v8501-h512"), "1.0.6 – 1.0.8 (3 releases)"),
    ]


def test_a_finding_makes_a_group_of_its_own_whether_its_cell_passed_or_failed():
    found = {"code": "registered-twice", "message": "Two modules register it."}
    passed = outcome(cell("1.4.0", "construct"), evidence={"findings": [found]})
    failed = outcome(
        cell("1.4.0", "loss_contract"),
        Status.FAILED,
        failure=loss_failure(320, 8404),
        evidence={"findings": [found]},
    )
    first, second = groups_of([passed, failed])
    assert {first.signature, second.signature} == {"Finding@registered-twice", failed.failure.signature}
    besides = next(group for group in (first, second) if group.signature.startswith("Finding"))
    assert (besides.cells, besides.verdict, besides.severity) == (2, Verdict.REGRESSION, Severity.WRONG)
    assert [message.text for message in besides.messages] == ["Two modules register it."]
    for item in judged([passed, failed]):
        assert besides.holds(item)


def test_what_is_graver_comes_first_among_what_is_known():
    listed = replace(ISSUE, id="minor", severity=Severity.MINOR, releases=tuple(RELEASES[20:30]))
    issues = KnownIssues(issues=(listed, ISSUE))
    groups = groups_of([*the_bug(RELEASES[20:30]), *the_bug(RELEASES[6:8])], issues)
    assert [group.severity for group in groups] == [Severity.BROKEN, Severity.MINOR]
    assert groups[1].cells > groups[0].cells
