"""What a prediction that never listens can reach: the same distribution over the tokens at every place.

The best such prediction under label smoothing is the mean of all smoothed targets, for a mean of Kullback-Leibler
divergences from them is smallest there: q(k) = (1 - s) u(k) + s / (V - 1) (1 - u(k)), with u the share of token k among
all targets, s the smoothing and V the size of the vocabulary. Its loss on a batch is what FunASR's
`LabelSmoothingLoss` (funasr/losses/label_smoothing_loss.py: `KLDivLoss` against 1 - s on the target and s / (V - 1) on
each other class, over the tokens or over the utterances) gives to log q in place of the model's scores.
The entropy of the smoothed target is taken off in that loss, so its lowest value is 0.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from harness.core.numbers import count, mapping, number, sequence

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
    def of(cls, data: object) -> Self | None:
        """Read what was seen inside; None where that is no such loss."""
        told = mapping(data)
        classes, smoothing = count(told.get("classes")), number(told.get("smoothing"))
        if classes is None or classes < 2 or smoothing is None or not 0.0 <= smoothing < 1.0:
            return None
        return cls(classes=classes, smoothing=smoothing, normalize_length=bool(told.get("normalize_length")))


@dataclass(frozen=True, kw_only=True)
class UnigramTargets:
    """The utterances of each optimizer step's forward passes."""

    steps: tuple[tuple[tuple[Row, ...], ...], ...]

    @classmethod
    def of(cls, data: object) -> Self | None:
        """Read `rows` and the numbers of the rows in `steps`; None where they do not make targets."""
        told = mapping(data)
        rows = [_row(row) for row in sequence(told.get("rows"))]
        steps = []
        for step in sequence(told.get("steps")):
            batches = []
            for batch in sequence(step):
                chosen = [_chosen(rows, index) for index in sequence(batch)]
                known = tuple(row for row in chosen if row)
                if not known or len(known) != len(chosen):
                    return None
                batches.append(known)
            if not batches:
                return None
            steps.append(tuple(batches))
        return cls(steps=tuple(steps)) if steps else None

    def tokens(self, step: int) -> int:
        """How many tokens the step's forward passes were to say."""
        return sum(len(row) for batch in self.steps[step] for row in batch)

    def counts(self) -> Counter[int]:
        """How often each token was to be said in the whole training."""
        return Counter(token for step in self.steps for batch in step for row in batch for token in row)


@dataclass(frozen=True, kw_only=True)
class Unigram:
    """The constant prediction that is best for all targets together."""

    criterion: Criterion
    logarithms: Mapping[int, float]
    """ln q of the tokens that occur."""
    other: float
    """ln q of each token that does not; 0 where there is no smoothing and nothing asks for it."""
    accuracy: float
    """The share of the commonest token: what saying it always gets right."""

    @classmethod
    def of(cls, criterion: Criterion, counts: Mapping[int, int]) -> Self:
        """From how often each token occurs; at least one does."""
        total = sum(counts.values())
        confidence, rest = 1.0 - criterion.smoothing, _rest(criterion)
        shares = {token: times / total for token, times in counts.items()}
        return cls(
            criterion=criterion,
            logarithms={token: math.log(confidence * u + rest * (1.0 - u)) for token, u in shares.items()},
            other=math.log(rest) if rest else 0.0,
            accuracy=max(shares.values()),
        )

    def loss(self, batch: Sequence[Row]) -> float:
        """What the constant prediction costs on one batch, in nats as the criterion counts them."""
        criterion = self.criterion
        confidence, rest = 1.0 - criterion.smoothing, _rest(criterion)
        everything = math.fsum(self.logarithms.values()) + (criterion.classes - len(self.logarithms)) * self.other
        entropy = confidence * math.log(confidence) + (criterion.smoothing * math.log(rest) if rest else 0.0)
        tokens = [token for row in batch for token in row]
        known = (self.logarithms.get(token, self.other) for token in tokens)
        summed = math.fsum(entropy - confidence * one - rest * (everything - one) for one in known)
        return summed / (len(tokens) if criterion.normalize_length else len(batch))


def step_losses(unigram: Unigram, targets: UnigramTargets) -> tuple[float, ...]:
    """The constant prediction's loss at each step: the mean over the step's forward passes."""
    return tuple(_mean(unigram.loss(batch) for batch in step) for step in targets.steps)


def _rest(criterion: Criterion) -> float:
    return criterion.smoothing / (criterion.classes - 1)


def _mean(values: Iterable[float]) -> float:
    known = list(values)
    return math.fsum(known) / len(known)


def _row(value: object) -> Row | None:
    ids = tuple(count(token) for token in sequence(value))
    known = tuple(token for token in ids if token is not None)
    return known if known and len(known) == len(ids) else None


def _chosen(rows: Sequence[Row | None], index: object) -> Row | None:
    place = count(index)
    return rows[place] if place is not None and place < len(rows) else None
