"""The unigram baseline: the loss of the best constant prediction, which ignores the speech.

The best such prediction under label smoothing is the mean of all smoothed targets, for a mean of Kullback-Leibler
divergences from them is smallest there: q(k) = (1 - s) u(k) + s / (V - 1) (1 - u(k)), with u the share of token k among
all targets, s the smoothing and V the size of the vocabulary. Its loss on a batch is what FunASR's
`LabelSmoothingLoss` (funasr/losses/label_smoothing_loss.py: `KLDivLoss` against 1 - s on the target and s / (V - 1) on
each other class, over the tokens or over the utterances) gives to log q in place of the model's scores.
The entropy of the smoothed target is subtracted in that loss, so its lowest value is 0.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from harness.core.evidence.training import LossCriterion, Targets
from harness.core.numbers import mean

Row = tuple[int, ...]
"""The token ids of one utterance, as they entered the loss."""


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """How the label-smoothing loss was built."""

    classes: int
    smoothing: float
    normalize_length: bool
    """Whether the sum is divided by the number of tokens; else by the number of utterances."""

    @classmethod
    def of(cls, recorded: LossCriterion | None) -> Self | None:
        """From what was recorded; None where that is no label-smoothing loss."""
        if recorded is None or recorded.classes < 2 or not 0.0 <= recorded.smoothing < 1.0:
            return None
        return cls(classes=recorded.classes, smoothing=recorded.smoothing, normalize_length=recorded.normalize_length)


@dataclass(frozen=True, kw_only=True)
class UnigramTargets:
    """The utterances of each optimizer step's forward passes."""

    steps: tuple[tuple[tuple[Row, ...], ...], ...]

    @classmethod
    def of(cls, recorded: Targets | None) -> Self | None:
        """From the recorded rows and their numbers in each step; None where a step, a batch or a row is empty."""
        if recorded is None:
            return None
        rows, steps = recorded.rows, recorded.steps
        numbers = [number for step in steps for batch in step for number in batch]
        if not steps or not all(steps) or not all(batch for step in steps for batch in step):
            return None
        if not all(0 <= number < len(rows) and _is_row(rows[number]) for number in set(numbers)):
            return None
        return cls(steps=tuple(tuple(tuple(rows[number] for number in batch) for batch in step) for step in steps))

    def tokens(self, step: int) -> int:
        """Target tokens of the step's forward passes."""
        return sum(len(row) for batch in self.steps[step] for row in batch)

    def counts(self) -> Counter[int]:
        """How often each token is a target in the whole training."""
        return Counter(token for step in self.steps for batch in step for row in batch for token in row)


@dataclass(frozen=True, kw_only=True)
class Unigram:
    """The constant prediction that is best for all targets together."""

    criterion: Criterion
    logarithms: Mapping[int, float]
    """ln q of the tokens that occur."""
    other: float
    """ln q of each token that does not; 0 without smoothing, where it is not used."""
    accuracy: float
    """The share of the commonest token: the accuracy of always predicting it."""

    @classmethod
    def of(cls, criterion: Criterion, counts: Mapping[int, int]) -> Self:
        """From how often each token occurs; at least one does."""
        total = sum(counts.values())
        confidence, other_share = 1.0 - criterion.smoothing, _share_of_others(criterion)
        shares = {token: times / total for token, times in counts.items()}
        return cls(
            criterion=criterion,
            logarithms={token: math.log(confidence * u + other_share * (1.0 - u)) for token, u in shares.items()},
            other=math.log(other_share) if other_share else 0.0,
            accuracy=max(shares.values()),
        )

    def loss(self, batch: Sequence[Row]) -> float:
        """The loss of the constant prediction on one batch, in nats, normalised as the criterion does."""
        criterion = self.criterion
        confidence, other_share = 1.0 - criterion.smoothing, _share_of_others(criterion)
        everything = math.fsum(self.logarithms.values()) + (criterion.classes - len(self.logarithms)) * self.other
        entropy = confidence * math.log(confidence) + (
            criterion.smoothing * math.log(other_share) if other_share else 0.0
        )
        tokens = [token for row in batch for token in row]
        known = (self.logarithms.get(token, self.other) for token in tokens)
        summed = math.fsum(
            entropy - confidence * logarithm - other_share * (everything - logarithm) for logarithm in known
        )
        return summed / (len(tokens) if criterion.normalize_length else len(batch))


def step_losses(unigram: Unigram, targets: UnigramTargets) -> tuple[float, ...]:
    """The constant prediction's loss at each step: the mean over the step's forward passes."""
    return tuple(mean([unigram.loss(batch) for batch in step]) for step in targets.steps)


def _share_of_others(criterion: Criterion) -> float:
    return criterion.smoothing / (criterion.classes - 1)


def _is_row(row: Row) -> bool:
    return bool(row) and min(row) >= 0
