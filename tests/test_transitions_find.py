"""The search itself: ends twice, what is on record, what cannot be judged, and answers that change."""

from __future__ import annotations

from transitions_scene import BAD, GOOD, OTHER, oracle, row_of

from harness.compare.transitions.cached_outcomes import Observation
from harness.compare.transitions.commit_notes import CommitNote, add_commits, load_commits
from harness.compare.transitions.find import Found, find
from harness.compare.transitions.format import render_search
from harness.compare.transitions.storing import search_json


def borders(found: Found) -> list[tuple[str, str]]:
    return [(one.before.place.label, one.after.place.label) for one in found.transitions]


def text(found: Found) -> str:
    return "\n".join(render_search(found))


def test_both_ends_and_both_sides_of_a_transition_are_run_twice() -> None:
    ask = oracle(BAD, BAD, GOOD, GOOD, GOOD)
    found = find(row_of(5), ask, known={})
    assert borders(found) == [("1.0.1", "1.0.2")]
    assert ask.asked[:4] == [0, 4, 0, 4]
    assert [ask.asked.count(place) for place in (0, 1, 2, 4)] == [2, 2, 2, 2]
    assert found.cells_run == len(ask.asked)


def test_a_failure_that_comes_goes_and_comes_back_has_all_its_transitions() -> None:
    found = find(row_of(6), oracle(GOOD, BAD, GOOD, GOOD, OTHER, GOOD), known={}, exhaustive=True)
    assert borders(found) == [
        ("1.0.0", "1.0.1"),
        ("1.0.1", "1.0.2"),
        ("1.0.3", "1.0.4"),
        ("1.0.4", "1.0.5"),
    ]


def test_an_end_that_changes_its_answer_stops_the_search_and_what_was_seen_is_reported() -> None:
    ask = oracle(BAD, BAD, GOOD, (GOOD, BAD))
    found = find(row_of(4), ask, known={})
    assert found.stopped
    assert found.transitions == ()
    assert ask.asked == [0, 3, 0, 3]
    said = text(found)
    assert "The search stopped" in said
    assert "1.0.3" in said
    assert "run now (no time): passed" in said
    assert f"run now (no time): {BAD}" in said


def test_a_side_of_a_transition_that_changes_its_answer_is_reported() -> None:
    found = find(row_of(4), oracle(BAD, (BAD, GOOD), GOOD, GOOD), known={})
    assert not found.stopped
    assert found.inconsistent == (1,)
    assert "but other results in repeats" in text(found)
    assert "inconsistent (different results in repeats): 1.0.1" in text(found)


def test_a_release_that_cannot_be_judged_is_skipped_and_said_so() -> None:
    found = find(row_of(5), oracle(BAD, BAD, None, GOOD, GOOD), known={})
    (transition,) = found.transitions
    assert [(place.label, reason) for place, reason in transition.passed_over] == [("1.0.2", "it does not install")]
    assert "skipped 1.0.2: it does not install" in text(found)
    assert found.cells_run == 8


def test_where_nothing_can_be_judged_the_reasons_are_reported() -> None:
    found = find(row_of(3), oracle(None, None, None), known={})
    assert "no release could be judged" in text(found)
    assert text(found).count("it does not install") == 3


def test_what_is_cached_is_not_run_again_but_for_the_ends() -> None:
    known = {n: Observation(answer=one, origin="reports/atlas") for n, one in enumerate((BAD, BAD, GOOD, GOOD))}
    ask = oracle(BAD, BAD, GOOD, GOOD)
    found = find(row_of(4), ask, known=known)
    assert sorted(ask.asked) == [0, 3]
    assert (found.cells_run, found.cells_cached) == (2, 4)
    assert "cached in reports/atlas" in text(found)
    assert "there is no other transition" in text(found)


def test_an_end_that_contradicts_what_is_cached_stops_the_search_and_names_the_record() -> None:
    known = {0: Observation(answer=GOOD, origin="runs/old", started="2026-01-01T00:00:00Z")}
    found = find(row_of(3), oracle(BAD, BAD, GOOD), known=known)
    assert found.stopped
    assert "cached in runs/old (2026-01-01T00:00:00Z): passed" in text(found)


def test_without_anything_to_ask_only_what_is_cached_is_searched() -> None:
    known = {0: Observation(answer=BAD, origin="runs/old"), 2: Observation(answer=GOOD, origin="runs/old")}
    found = find(row_of(4), None, known=known)
    assert borders(found) == [("1.0.0", "1.0.2")]
    assert found.cells_run == 0


def test_segments_that_were_not_measured_are_named() -> None:
    count = 40
    found = find(row_of(count), oracle(*[GOOD] * count), known={})
    said = text(found)
    assert "no transition: passed in all" in said
    assert "is possible; --exhaustive measures them all" in said


def test_what_is_stored_names_each_transition_with_statuses_and_signatures() -> None:
    found = find(row_of(4), oracle(BAD, BAD, GOOD, GOOD), known={})
    data = search_json(found, [], "2026-01-01T00:00:00Z")
    (transition,) = data["transitions"]
    assert transition["before"] == {"release": "1.0.1", "status": "failed", "signature": BAD.signature, "below": ""}
    assert transition["after"]["status"] == "passed"
    assert data["cell"] == "paraformer/v8404-h320/reduced/loss_contract/cpu-fp32"
    assert data["seen"]["1.0.0"][0]["answer"]["status"] == "failed"


def test_commits_are_kept_beside_a_run_and_replaced_when_asked_again(tmp_path) -> None:
    note = CommitNote(
        asked="a", before="1.0.1", after="1.0.2", commit="1" * 40, author="A", date="2024-01-01", subject="s",
        files=("funasr/x.py",), among=0,
    )  # fmt: skip
    other = CommitNote(**{**vars(note), "before": "1.0.2", "after": "1.0.3"})
    add_commits(tmp_path, [note, other])
    add_commits(tmp_path, [CommitNote(**{**vars(note), "subject": "t"})])
    assert {one.subject for one in load_commits(tmp_path)} == {"s", "t"}
    assert len(load_commits(tmp_path)) == 2
    assert load_commits(tmp_path / "none") == ()
