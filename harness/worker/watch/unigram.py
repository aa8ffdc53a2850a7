"""The loss of the best prediction that does not look at the speech, for the texts trained on so far.

The formula is that of `harness/rules/unigram.py`: with u the share of a token, s the smoothing and V the classes, the
best constant prediction is q = (1 - s) u + s / (V - 1) (1 - u), and its loss per token is the entropy of q less that
of a smoothed target. Without a label-smoothing loss it is the entropy of the tokens.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

_GROWTH = 1.01
"""The loss is recomputed once the number of tokens has grown by this factor: cheap in a long training."""


class UnigramBaseline:
    """Counts the tokens of all texts."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._classes = 0
        self._smoothing = 0.0
        self._computed: float | None = None
        self._computed_at = 0
        self.tokens = 0

    def configure(self, classes: int, smoothing: float) -> None:
        """The classes and the smoothing of the model's loss."""
        if classes >= 2 and 0.0 <= smoothing < 1.0:
            self._classes, self._smoothing = classes, smoothing

    def add(self, ids: list[int]) -> None:
        """Count tokens; negative ids are padding."""
        if ids and min(ids) < 0:
            ids = [token for token in ids if token >= 0]
        self._counts.update(ids)
        self.tokens += len(ids)

    def loss(self) -> float | None:
        """In nats per token; None before the first one. It may rest on up to 1 % fewer tokens than there are."""
        if self.tokens and (self._computed is None or self.tokens >= self._computed_at * _GROWTH):
            self._computed, self._computed_at = self._compute(), self.tokens
        return self._computed

    def _compute(self) -> float:
        other_share = self._smoothing / (self._classes - 1) if self._classes else 0.0
        confidence = 1.0 - self._smoothing
        slope = (confidence - other_share) / self.tokens
        loss = 0.0
        # Thousands of tokens have few different counts.
        for count, tokens in Counter(self._counts.values()).items():
            share = other_share + slope * count
            loss -= tokens * share * math.log(share)
        if other_share:
            loss -= (self._classes - len(self._counts)) * other_share * math.log(other_share)
            loss += confidence * math.log(confidence) + self._smoothing * math.log(other_share)
        return max(0.0, loss)


def criterion_of(network: Any) -> Any:
    """The attention decoder's label-smoothing loss; of several the one with that name; None without one."""
    losses = {}
    for name, module in network.named_modules():
        sized = "Loss" in type(module).__name__ and isinstance(getattr(module, "size", None), int)
        if sized and all(hasattr(module, attribute) for attribute in ("smoothing", "normalize_length")):
            losses[name] = module
    return losses.get("criterion_att", next(iter(losses.values()), None))
