"""Which places of a row to ask next, so that every boundary between neighbours is found or it is known what was not.

The places are releases from oldest to newest, or commits. The search goes by rounds:

1. the ends: the outermost places that can be judged;
2. a grid: in every stretch between two judged places that agree, so many places that no stretch is longer than an
   n-th of the row, n being the whole part of log2(n places) plus one;
3. between two judged neighbours that differ, the place nearest their middle, until nothing lies between them.

A place that cannot be judged is passed over for the one nearest to it. With one boundary in a row of n places the
third step asks at most about log2(n) - log2(log2(n)) more, so that all of it stays under 2 log2(n) + 6 for each
boundary, repetitions included. What it cannot exclude is a stretch of other answers that lies wholly between two
places of the grid that agree; `unseen` says which places were not asked. `exhaustive` asks them all.
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
    """Two neighbouring judged places with different answers, and what lies between them unjudged."""

    before: int
    after: int
    passed_over: tuple[int, ...]
    """Places between that cannot be judged."""


def next_round(count: int, answers: Answers, *, exhaustive: bool = False) -> tuple[int, ...]:
    """The places to ask now, in order; none when the search is at its end.

    Args:
        count: How many places there are, numbered from 0.
        answers: What is known of them.
        exhaustive: Ask every place.
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
    found = []
    for left, right in pairwise(judged):
        between = [place for place in range(left + 1, right) if place not in answers]
        if between:
            found.append((between[0], between[-1]))
    return tuple(found)


def bound(count: int, boundaries: int) -> int:
    """How many cells may be run at most: 2 log2(count) + 6 for each boundary, and as for one where there is none."""
    return max(1, boundaries) * math.floor(2 * math.log2(max(count, 2)) + 6)


def stride(count: int) -> int:
    """The longest way from a place of the grid to the next."""
    parts = math.floor(math.log2(max(count, 2))) + 1
    return max(1, math.ceil((count - 1) / parts))


def _judged(answers: Answers) -> list[int]:
    return sorted(place for place, answer in answers.items() if answer is not None)


def ends(count: int, answers: Answers) -> tuple[int, ...]:
    """From either side, the first place that may yet turn out to be judged; none when both ends are known."""
    wanted = []
    for row in (range(count), range(count - 1, -1, -1)):
        for place in row:
            if place not in answers:
                wanted.append(place)
                break
            if answers[place] is not None:
                break
    return tuple(dict.fromkeys(wanted))


def _grid(count: int, answers: Answers) -> tuple[int, ...]:
    longest = stride(count)
    judged = _judged(answers)
    wanted: list[int] = []
    for left, right in pairwise(judged):
        parts = math.ceil((right - left) / longest)
        for part in range(1, parts):
            place = _nearest(left + part * (right - left) / parts, (left, right), answers)
            if place is not None:
                wanted.append(place)
    return tuple(dict.fromkeys(wanted))


def _middles(answers: Answers) -> tuple[int, ...]:
    middles = (_nearest((gap.before + gap.after) / 2, (gap.before, gap.after), answers) for gap in gaps(answers))
    return tuple(place for place in middles if place is not None)


def _nearest(wanted: float, between: tuple[int, int], answers: Answers) -> int | None:
    """The place nearest to the wanted one that was not asked, strictly between two others."""
    left, right = between
    free = [place for place in range(left + 1, right) if place not in answers]
    return min(free, key=lambda place: (abs(place - wanted), place), default=None)
