"""Cards by their size, and the search for the batch that fits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.errors import InputError
from harness.performance.prediction.cards import GpuCard, largest


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("24GB", 24 * 10**9),
        ("24GiB", 24 * 2**30),
        ("40 gb", 40 * 10**9),
        ("80GB", 80 * 10**9),
        ("81559MiB", 81559 << 20),
    ],
)
def test_a_card_is_read_as_it_is_written(text: str, size: int) -> None:
    assert GpuCard.parse(text).size == size


@pytest.mark.parametrize("text", ["", "24", "GB", "0GB", "-24GB", "1KB", "9999999GB", "24 parsecs", "nanGB", "5MB"])
def test_what_is_no_card_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(InputError, match="--fit 24GB"):
        GpuCard.parse(text)


@given(st.integers(0, 3000), st.integers(1, 5000))
def test_the_largest_batch_is_found_from_any_guess(limit: int, guess: int) -> None:
    assert largest(lambda utterances: utterances <= limit, guess) == limit


def test_a_good_guess_needs_few_trials() -> None:
    tried: list[int] = []

    def fits(utterances: int) -> bool:
        tried.append(utterances)
        return utterances <= 1000

    assert largest(fits, 999) == 1000
    assert len(tried) <= 5
