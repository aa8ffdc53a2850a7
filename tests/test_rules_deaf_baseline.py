"""What is right without hearing: by length and place."""

from __future__ import annotations

import pytest
from parsed import targets_with_places

from harness.core.evidence.parsing import EvidenceMismatch
from harness.rules.deaf_baseline import PlacesRight, TargetsWithPlaces

END = 2


def targets(rows: list[list[int]], frames: list[int], shown: list[tuple[int, str]]) -> TargetsWithPlaces:
    """One step for each utterance that is shown."""
    read = targets_with_places(
        {
            "rows": rows,
            "frames": frames,
            "steps": [[[row]] for row, _ in shown],
            "right": [[[right]] for _, right in shown],
        }
    )
    assert read is not None
    return read


def test_a_latin_square_leaves_one_in_as_many_as_there_are_words() -> None:
    rows = [[5, 6, 7, END], [6, 7, 5, END], [7, 5, 6, END]]
    found = targets(rows, [30] * 3, [(row, "1001") for row in range(3)]).right_in(range(3))
    assert found == PlacesRight(right=3, places=9, deaf=pytest.approx(1 / 3))


def test_an_utterance_that_is_alone_with_its_length_tells_nothing() -> None:
    found = targets([[5, 6], [7, 8], [9, 4]], [30, 30, 31], [(0, "11"), (1, "00"), (2, "11")]).right_in(range(3))
    assert (found.right, found.places, found.deaf) == (2, 4, 0.5)
    alone = targets([[5, 6], [7, 8]], [30, 31], [(0, "11"), (1, "11")]).right_in(range(2))
    assert alone == PlacesRight(right=0, places=0, deaf=0.0)
    assert alone.share == 0.0


def test_a_token_that_several_utterances_have_at_one_place_counts_with_all_of_them() -> None:
    rows = [[5, 1], [5, 3], [6, 1]]
    found = targets(rows, [30] * 3, [(0, "11"), (1, "10"), (2, "01")]).right_in(range(3))
    # At either place two of three have the same token.
    assert (found.right, found.places, found.deaf, found.share) == (4, 6, pytest.approx(2 / 3), pytest.approx(2 / 3))


def test_all_forward_passes_of_a_step_count() -> None:
    read = targets_with_places(
        {
            "rows": [[5], [7]],
            "frames": [30, 30],
            "steps": [[[0, 1], [1]], [[0]]],
            "right": [[["1", "0"], ["1"]], [["1"]]],
        }
    )
    assert read is not None
    first = read.right_in(range(1))
    assert (first.right, first.places, first.deaf) == (2, 3, 0.5)


def test_what_is_listed_more_often_is_the_better_guess() -> None:
    found = targets([[5], [7]], [30, 30], [(0, "1"), (0, "1"), (0, "1"), (1, "0")]).right_in(range(4))
    assert (found.right, found.places, found.deaf) == (3, 4, 0.75)


def test_the_guess_knows_the_whole_training_and_is_scored_over_some_steps() -> None:
    found = targets([[5], [7]], [30, 30], [(0, "0"), (1, "1"), (0, "1")]).right_in(range(2, 3))
    assert (found.right, found.places, found.deaf) == (1, 1, pytest.approx(2 / 3))


@pytest.mark.parametrize(
    "changed",
    [
        {"frames": [30]},
        {"frames": None},
        {"right": None},
        {"right": [[["1"]], [["11"]]]},
        {"right": [[["1x"]], [["11"]]]},
        {"right": [[None], [["11"]]]},
        {"right": [[["11", "11"]], [["10"]]]},
        {"right": [[["11"], ["11"]], [["10"]]]},
        {"right": [[["1"]], [["10"]]]},
        {"steps": [[[0]], [[-1]]]},
        {"steps": [[[0]], [[]]], "right": [[["11"]], [[]]]},
        {"steps": [[[0]], []], "right": [[["11"]], []]},
        {"steps": [[[0]], [[7]]]},
        {"steps": [[[0]]]},
        {"steps": [], "right": []},
        {"rows": []},
    ],
)
def test_a_record_that_is_not_whole_is_none(changed: dict[str, object]) -> None:
    whole = {"rows": [[5, 6], [7, 8]], "frames": [3, 3], "steps": [[[0]], [[1]]], "right": [[["11"]], [["10"]]]}
    assert targets_with_places(whole) is not None
    assert targets_with_places({**whole, **changed}) is None


def test_a_token_that_is_none_is_a_mismatch() -> None:
    with pytest.raises(EvidenceMismatch, match=r"targets.rows\[0\]\[1\]: expected a whole number"):
        targets_with_places({"rows": [[5, None], [7, 8]]})
