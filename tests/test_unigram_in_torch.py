"""The constant prediction's loss in closed form is what torch makes of it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from forked import Forked

from harness.rules.unigram import Criterion, Unigram

ROWS = [(3, 4, 5, 2), (6, 3, 2), (7, 8, 9, 10, 11, 2)]


def by_torch(rows: list[list[int]], batch: list[list[int]], classes: int, smoothing: float, by_length: bool) -> float:
    """KLDivLoss of a smoothed target and ln q, q the mean of all smoothed targets, in double precision."""
    import torch

    def smoothed(tokens: list[int]) -> Any:
        spread = torch.full((len(tokens), classes), smoothing / (classes - 1), dtype=torch.float64)
        return spread.scatter_(1, torch.tensor(tokens).unsqueeze(1), 1.0 - smoothing)

    q = smoothed([token for row in rows for token in row]).mean(0)
    tokens = [token for row in batch for token in row]
    summed = torch.nn.KLDivLoss(reduction="none")(q.log().expand(len(tokens), -1), smoothed(tokens)).sum()
    return float(summed / (len(tokens) if by_length else len(batch)))


@pytest.mark.parametrize("by_length", [True, False])
@pytest.mark.parametrize(("classes", "smoothing"), [(23, 0.1), (8404, 0.1), (12, 0.5), (23, 0.001)])
def test_it_is_what_torch_makes_of_it(forked: Forked, classes: int, smoothing: float, by_length: bool) -> None:
    batch = [list(row) for row in ROWS[:2]]
    rows = [list(row) for row in ROWS]
    expected = forked(by_torch, rows=rows, batch=batch, classes=classes, smoothing=smoothing, by_length=by_length)
    criterion = Criterion(classes=classes, smoothing=smoothing, normalize_length=by_length)
    unigram = Unigram.of(criterion, Counter(token for row in ROWS for token in row))
    assert unigram.loss(ROWS[:2]) == pytest.approx(expected, rel=1e-9)
