"""The best accuracy without hearing: of a model that knows each token's place and the utterance's length.

A model may learn how many frames an utterance has, how many tokens, and at which place a token stands; all of it
without hearing a word. Knowing these, the best prediction is the token that is commonest at this place among the
utterances of this many frames and tokens. Places at which it cannot be wrong (the end of sentence; an utterance that is
alone with its length) say nothing about hearing and are left out.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.core.evidence.training import Targets
from harness.rules.unigram import Row

Length = tuple[int | None, int]
"""Stacked frames and tokens."""


@dataclass(frozen=True, kw_only=True)
class PlacesRight:
    """The first pass over some steps, at the places where only hearing helps."""

    right: int
    places: int
    deaf: float
    """The share that the best prediction without hearing gets right there; 0 where there are no such places."""

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
    """The target tokens of each forward pass, and which of them the first pass got right."""

    rows: tuple[Row, ...]
    lengths: tuple[Length, ...]
    """Of each row."""
    steps: tuple[tuple[Shown, ...], ...]

    @classmethod
    def of(cls, recorded: Targets | None) -> TargetsWithPlaces | None:
        """From what was recorded; None where that was before places were recorded, or is incomplete."""
        if recorded is None or recorded.right is None or recorded.frames is None:
            return None
        rows, frames = recorded.rows, recorded.frames
        if not rows or len(frames) != len(rows) or len(recorded.steps) != len(recorded.right):
            return None
        steps = tuple(tuple(_shown(*pair)) for pair in zip(recorded.steps, recorded.right, strict=True))
        complete = all(
            0 <= shown.row < len(rows) and len(shown.right) == len(rows[shown.row]) for step in steps for shown in step
        )
        if not complete or not steps or not all(steps):
            return None
        lengths = tuple((frame_count, len(row)) for frame_count, row in zip(frames, rows, strict=True))
        return cls(rows=rows, lengths=lengths, steps=steps)

    def right_in(self, steps: range) -> PlacesRight:
        """What was right over these steps, and the share that is right without hearing, from the whole training."""
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
        return {
            length: tuple(max(counter.values()) / counter.total() for counter in places)
            for length, places in tokens.items()
        }


def _shown(batches: Sequence[Sequence[int]], right: Sequence[Sequence[str] | None]) -> Iterator[Shown]:
    """The utterances of one step's forward passes; none where what was right is not known of each."""
    if len(batches) != len(right):
        return
    utterances: list[Shown] = []
    for rows, hits in zip(batches, right, strict=True):
        if not rows or hits is None or len(rows) != len(hits) or any(set(text) - {"0", "1"} for text in hits):
            return
        utterances += [Shown(row=row, right=text) for row, text in zip(rows, hits, strict=True)]
    yield from utterances
