"""The constant prediction's loss, held against its own definition; tests/test_unigram_in_torch.py asks torch."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parsed import criterion_of, targets_of

from harness.core.evidence.parsing import EvidenceMismatch
from harness.rules.unigram import Criterion, Unigram, UnigramTargets, step_losses

ROWS = [(3, 4, 5, 2), (6, 3, 2), (7, 8, 9, 10, 11, 2)]


def of(rows: list[tuple[int, ...]], **changed: Any) -> tuple[Criterion, Unigram]:
    criterion = Criterion(**{"classes": 23, "smoothing": 0.1, "normalize_length": True, **changed})
    return criterion, Unigram.of(criterion, Counter(token for row in rows for token in row))


def test_without_smoothing_it_is_the_entropy_of_the_corpus() -> None:
    _, unigram = of([(1, 1, 2)], smoothing=0.0)
    assert unigram.loss([(1, 1, 2)]) == pytest.approx(-(2 / 3) * math.log(2 / 3) - (1 / 3) * math.log(1 / 3))


def test_by_hand_of_two_tokens_in_a_vocabulary_of_three() -> None:
    # s = 0.2: a target gives 0.8 to its own and 0.1 to each other; the mean over (0, 1) is q = (0.45, 0.45, 0.1).
    _, unigram = of([(0, 1)], classes=3, smoothing=0.2)
    expected = 0.8 * math.log(0.8 / 0.45) + 0.1 * math.log(0.1 / 0.45) + 0.1 * math.log(0.1 / 0.1)
    assert unigram.loss([(0,)]) == pytest.approx(expected)


def test_summed_over_utterances_it_counts_their_tokens() -> None:
    _, by_length = of(ROWS)
    _, by_row = of(ROWS, normalize_length=False)
    assert by_row.loss(ROWS) == pytest.approx(by_length.loss(ROWS) * 13 / 3)


def test_a_corpus_of_one_token_costs_nothing() -> None:
    assert of([(4, 4, 4)])[1].loss([(4, 4)]) == pytest.approx(0.0, abs=1e-12)


def test_its_accuracy_is_the_share_of_the_commonest_token() -> None:
    assert of(ROWS)[1].accuracy == 3 / 13


@given(
    st.lists(st.lists(st.integers(0, 11), min_size=1, max_size=6).map(tuple), min_size=1, max_size=6),
    st.floats(0.0, 0.9),
    st.lists(st.floats(0.01, 1.0), min_size=12, max_size=12),
)
def test_no_other_constant_prediction_costs_less(rows: list[Any], smoothing: float, weights: list[float]) -> None:
    criterion, best = of(rows, classes=12, smoothing=smoothing)
    total = sum(weights)
    other = Unigram(
        criterion=criterion,
        logarithms={token: math.log(weight / total) for token, weight in enumerate(weights)},
        other=0.0,
        accuracy=0.0,
    )
    assert best.loss(rows) <= other.loss(rows) + 1e-9


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"rows": [], "steps": []},
        {"rows": [[1]], "steps": [[]]},
        {"rows": [[1]], "steps": [[[1]]]},
        {"rows": [[1]], "steps": [[[-1]]]},
        {"rows": [[]], "steps": [[[0]]]},
        {"rows": [[1, -2]], "steps": [[[0]]]},
        {"rows": [[1]], "steps": [[[]]]},
    ],
)
def test_what_are_no_targets_is_none(data: object) -> None:
    assert targets_of(data) is None


@pytest.mark.parametrize(
    "data",
    [{"classes": 1, "smoothing": 0.1}, {"classes": 5, "smoothing": "nan"}, {"classes": 5, "smoothing": 1}],
)
def test_what_is_no_criterion_is_none(data: object) -> None:
    assert criterion_of(data) is None


def test_of_nothing_there_are_neither_targets_nor_criterion() -> None:
    assert UnigramTargets.of(None) is None
    assert Criterion.of(None) is None


@pytest.mark.parametrize("row", [["1"], [1, "2"], [math.nan], 3])
def test_tokens_are_whole_numbers(row: object) -> None:
    with pytest.raises(EvidenceMismatch, match=r"targets.rows\[0\]"):
        targets_of({"rows": [row], "steps": [[[0]]]})


def test_a_step_of_several_forward_passes_has_their_mean() -> None:
    targets = targets_of({"rows": [list(row) for row in ROWS], "steps": [[[0], [1]], [[2]]]})
    assert targets is not None
    _, unigram = of(ROWS)
    one, other = unigram.loss([ROWS[0]]), unigram.loss([ROWS[1]])
    assert step_losses(unigram, targets) == pytest.approx(((one + other) / 2, unigram.loss([ROWS[2]])))
    assert (targets.tokens(0), targets.tokens(1)) == (7, 6)
