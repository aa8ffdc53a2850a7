"""The search over a row: what it asks, what it finds, and what it says that it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.compare.transitions import search


def walk(row: Sequence[str | None], *, exhaustive: bool = False) -> dict[int, str | None]:
    """Follow the search over a row whose answers are known; None cannot be judged."""
    answers: dict[int, str | None] = {}
    while wanted := search.next_round(len(row), answers, exhaustive=exhaustive):
        assert not set(wanted) & answers.keys()
        answers |= {place: row[place] for place in wanted}
    return answers


def borders(answers: dict[int, str | None]) -> list[tuple[int, int]]:
    return [(gap.before, gap.after) for gap in search.gaps(answers)]


def repeated(answers: dict[int, str | None]) -> int:
    """How many cells a search runs that repeats its ends and the sides of its transitions."""
    judged = sorted(place for place, answer in answers.items() if answer is not None)
    sides = {place for gap in search.gaps(answers) for place in (gap.before, gap.after)}
    return len(answers) + len(sides | {judged[0], judged[-1]})


@given(st.integers(2, 300).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n - 1))))
def test_one_transition_is_found_within_the_bound_wherever_it_lies(drawn: tuple[int, int]) -> None:
    count, border = drawn
    answers = walk(["bad"] * border + ["good"] * (count - border))
    assert borders(answers) == [(border - 1, border)]
    assert repeated(answers) <= search.bound(count, 1)


@given(st.integers(2, 300).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(1, n - 1), max_size=6))))
def test_whatever_is_found_stays_within_the_bound_and_is_true(drawn: tuple[int, set[int]]) -> None:
    count, changes = drawn
    row = [str(sum(change <= place for change in changes) % 3) for place in range(count)]
    answers = walk(row)
    assert repeated(answers) <= search.bound(count, len(borders(answers)))
    assert all(after - before == 1 and row[before] != row[after] for before, after in borders(answers))


@pytest.mark.parametrize("start", range(1, 71, 7))
def test_a_failure_that_comes_goes_and_comes_back_is_found_where_it_is_as_long_as_the_grid(start: int) -> None:
    width = search.stride(101)
    row = ["good"] * 101
    row[start : start + width] = ["bad"] * len(row[start : start + width])
    row[100] = "bad"
    found = borders(walk(row))
    assert (start - 1, start) in found
    assert found[-1] == (99, 100)


def test_an_island_between_two_places_of_the_grid_is_not_seen_and_the_search_says_so() -> None:
    row = ["good"] * 101
    row[3] = "bad"
    answers = walk(row)
    assert borders(answers) == []
    assert any(first <= 3 <= last for first, last in search.unseen(answers))


def test_asking_every_place_finds_an_island_of_one() -> None:
    row = ["good"] * 101
    row[3] = "bad"
    answers = walk(row, exhaustive=True)
    assert borders(answers) == [(2, 3), (3, 4)]
    assert search.unseen(answers) == ()


def test_two_ways_of_failing_are_two_answers() -> None:
    assert borders(walk(["one"] * 4 + ["other"] * 5 + ["good"] * 7)) == [(3, 4), (8, 9)]


@pytest.mark.parametrize("border", range(1, 16))
def test_a_place_that_cannot_be_judged_is_skipped(border: int) -> None:
    row: list[str | None] = ["bad"] * border + ["good"] * (16 - border)
    row[7] = row[8] = None
    answers = walk(row)
    (gap,) = search.gaps(answers)
    assert gap.passed_over == tuple(place for place in (7, 8) if gap.before < place < gap.after)
    assert gap.after - gap.before == 1 + len(gap.passed_over)


def test_ends_that_cannot_be_judged_give_way_to_their_neighbours() -> None:
    assert borders(walk([None, None, "bad", "good", None])) == [(2, 3)]


@pytest.mark.parametrize("row", [[None] * 5, [None], []])
def test_a_row_that_cannot_be_judged_has_no_transition(row: list[str | None]) -> None:
    assert borders(walk(row)) == []


@pytest.mark.parametrize("order", [sorted, lambda places: sorted(places, reverse=True)])
def test_what_is_known_is_not_asked_again(order: Callable[[Sequence[int]], list[int]]) -> None:
    row = ["bad"] * 12 + ["good"] * 20
    known: dict[int, str | None] = {place: row[place] for place in order(range(32))}
    assert search.next_round(32, known) == ()


def test_one_place_is_both_ends() -> None:
    assert walk(["good"]) == {0: "good"}
