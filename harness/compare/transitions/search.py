"""Which releases or commits to measure next, so that the search finds every transition or says what it left out.

The places are releases, oldest first, or commits. The search goes by rounds:

1. the ends: the outermost places that can be judged;
2. a grid: between two judged places with the same answer, enough places that no segment is longer than an n-th of the
   row, where n is the whole part of log2(n places) plus one;
3. bisection: between two judged neighbours with different answers, the place nearest their middle, until none is left.

Where a place cannot be judged, the nearest one that can takes its turn. With one transition among n places, step 3
measures about log2(n) - log2(log2(n)) more, so that the whole search stays under 2 log2(n) + 6 per transition,
repetitions included. It cannot exclude a segment of other answers that is entirely between two places of the grid with
the same answer; `unseen` says which places were not measured. `exhaustive` measures them all.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from itertools import pairwise

Answers = Mapping[int, Hashable | None]
"""By place: what was answered, or None where the place cannot be judged."""


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Two neighbouring judged places with different answers, and the places between them that cannot be judged."""

    before: int
    after: int
    passed_over: tuple[int, ...]
    """Places between that cannot be judged."""


def next_round(count: int, answers: Answers, *, exhaustive: bool = False) -> tuple[int, ...]:
    """The places to measure now, in order; none when the search is complete.

    Args:
        count: How many places there are, numbered from 0.
        answers: What is known of them.
        exhaustive: Measure every place.
    """
    if exhaustive:
        return tuple(place for place in range(count) if place not in answers)
    return ends(count, answers) or _grid(count, answers) or _middles(answers)


def gaps(answers: Answers) -> tuple[Gap, ...]:
    """Where neighbours differ, as far as is known; oldest first."""
    judged = _judged(answers)
    return tuple(
        Gap(before=left, after=right, passed_over=tuple(p for p in range(left + 1, right) if p in answers))
        for left, right in pairwise(judged)
        if answers[left] != answers[right]
    )


def unseen(answers: Answers) -> tuple[tuple[int, int], ...]:
    """First and last of each stretch of places that were not asked, between two judged places that agree."""
    judged = _judged(answers)
    spans = []
    for left, right in pairwise(judged):
        between = [place for place in range(left + 1, right) if place not in answers]
        if between:
            spans.append((between[0], between[-1]))
    return tuple(spans)


def bound(count: int, transitions: int) -> int:
    """How many cells may be run at most: 2 log2(count) + 6 for each transition, and as for one where there is none."""
    return max(1, transitions) * math.floor(2 * math.log2(max(count, 2)) + 6)


def stride(count: int) -> int:
    """The longest way from a place of the grid to the next."""
    parts = math.floor(math.log2(max(count, 2))) + 1
    return max(1, math.ceil((count - 1) / parts))


def _judged(answers: Answers) -> list[int]:
    return sorted(place for place, answer in answers.items() if answer is not None)


def ends(count: int, answers: Answers) -> tuple[int, ...]:
    """From either side, the first place that may yet turn out to be judged; none when both ends are known."""
    places = []
    for row in (range(count), range(count - 1, -1, -1)):
        for place in row:
            if place not in answers:
                places.append(place)
                break
            if answers[place] is not None:
                break
    return tuple(dict.fromkeys(places))


def _grid(count: int, answers: Answers) -> tuple[int, ...]:
    longest = stride(count)
    judged = _judged(answers)
    places: list[int] = []
    for left, right in pairwise(judged):
        parts = math.ceil((right - left) / longest)
        for part in range(1, parts):
            place = _nearest(left + part * (right - left) / parts, (left, right), answers)
            if place is not None:
                places.append(place)
    return tuple(dict.fromkeys(places))


def _middles(answers: Answers) -> tuple[int, ...]:
    middles = (_nearest((gap.before + gap.after) / 2, (gap.before, gap.after), answers) for gap in gaps(answers))
    return tuple(place for place in middles if place is not None)


def _nearest(target: float, between: tuple[int, int], answers: Answers) -> int | None:
    """The place nearest to the wanted one that was not asked, strictly between two others."""
    left, right = between
    free = [place for place in range(left + 1, right) if place not in answers]
    return min(free, key=lambda place: (abs(place - target), place), default=None)
