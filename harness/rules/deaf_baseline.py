"""The best that a model without ears can do: what is right when length and place are known and nothing is heard.

A model may learn how many frames an utterance has, how many tokens, and at which place a token stands; all of it
without hearing a word. Knowing these, the best prediction is the token that is commonest at this place among the
utterances of this many frames and tokens. Places at which it cannot be wrong (the end of sentence; an utterance that is
alone with its length) say nothing about hearing and are left out.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from harness.core.numbers import count, mapping, sequence
from harness.rules.unigram import Row

Length = tuple[int | None, int]
"""Stacked frames and tokens."""


@dataclass(frozen=True, kw_only=True)
class PlacesRight:
    """The first pass over some steps, at the places where only hearing helps."""

    right: int
    places: int
    deaf: float
    """The share that the best prediction without ears gets right there; 0 where there are no such places."""

    @property
    def share(self) -> float:
        """Of the places, those that were right."""
        return self.right / self.places if self.places else 0.0


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One utterance in one forward pass."""

    row: int
    """Its number in `TargetsWithPlaces.rows`."""
    right: str
    """For each token, whether the first pass put it first: `"0110"`."""


@dataclass(frozen=True, kw_only=True)
class TargetsWithPlaces:
    """What each forward pass was to say, token by token, and which of it was right."""

    rows: tuple[Row, ...]
    lengths: tuple[Length, ...]
    """Of each row."""
    steps: tuple[tuple[Shown, ...], ...]

    @classmethod
    def of(cls, data: object) -> TargetsWithPlaces | None:
        """Read what was seen inside; None where it was recorded before places were, or is not whole."""
        told = mapping(data)
        rows = [tuple(count(token) for token in sequence(row)) for row in sequence(told.get("rows"))]
        known = tuple(tuple(token for token in row if token is not None) for row in rows)
        frames = [count(one) for one in sequence(told.get("frames"))]
        if not known or len(frames) != len(known) or any(len(a) != len(b) for a, b in zip(rows, known, strict=True)):
            return None
        steps = tuple(tuple(_shown(step, right)) for step, right in _paired(told.get("steps"), told.get("right")))
        whole = all(
            shown.row < len(known) and len(shown.right) == len(known[shown.row]) for step in steps for shown in step
        )
        if not whole or not steps or not all(steps):
            return None
        lengths = tuple((one, len(row)) for one, row in zip(frames, known, strict=True))
        return cls(rows=known, lengths=lengths, steps=steps)

    def right_in(self, steps: range) -> PlacesRight:
        """What was right over these steps, beside what needs no hearing; the prediction knows the whole training."""
        best = self._best()
        right = places = 0
        deaf = 0.0
        for step in steps:
            for shown in self.steps[step]:
                for place, hit in enumerate(shown.right):
                    share = best[self.lengths[shown.row]][place]
                    if share < 1.0:
                        right, places, deaf = right + int(hit), places + 1, deaf + share
        return PlacesRight(right=right, places=places, deaf=deaf / places if places else 0.0)

    def _best(self) -> Mapping[Length, tuple[float, ...]]:
        """By length, for each place, the share of the commonest token."""
        times = Counter(shown.row for step in self.steps for shown in step)
        tokens: dict[Length, list[Counter[int]]] = defaultdict(list)
        for row, shown in times.items():
            length = self.lengths[row]
            tokens[length] = tokens[length] or [Counter() for _ in range(length[1])]
            for place, token in enumerate(self.rows[row]):
                tokens[length][place][token] += shown
        return {length: tuple(max(one.values()) / one.total() for one in places) for length, places in tokens.items()}


def _paired(steps: object, right: object) -> Iterator[tuple[Any, Any]]:
    all_steps, all_right = sequence(steps), sequence(right)
    if len(all_steps) == len(all_right):
        yield from zip(all_steps, all_right, strict=True)


def _shown(step: object, right: object) -> Iterator[Shown]:
    """The utterances of one step's forward passes; none where what was right is not known of each."""
    found = []
    for numbers, hits in _paired(step, right):
        rows, texts = [count(one) for one in sequence(numbers)], [str(one) for one in sequence(hits)]
        if not rows or len(rows) != len(texts) or any(set(text) - {"0", "1"} for text in texts):
            return
        found += [(row, text) for row, text in zip(rows, texts, strict=True)]
    for row, text in found:
        if row is None:
            return
        yield Shown(row=row, right=text)
