"""The search itself: cached results, the ends twice, then round by round what the search needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from harness.compare.transitions import search
from harness.compare.transitions.cached_outcomes import Observation
from harness.compare.transitions.cell_answer import CellAnswer
from harness.compare.transitions.search_space import Candidate, SearchSpace

Ask = Callable[[Sequence[int]], Mapping[int, Observation]]
"""Runs the cells of some places, each in its own process, and returns an observation of each."""


@dataclass(frozen=True, kw_only=True)
class TransitionSide:
    """One side of a transition."""

    place: Candidate
    answer: CellAnswer
    observations: tuple[Observation, ...]
    """One for each time that it was measured."""

    @property
    def inconsistent(self) -> bool:
        """Whether it gave different answers."""
        return len({observation.answer for observation in self.observations}) > 1


@dataclass(frozen=True, kw_only=True)
class Transition:
    """Two neighbours among the judged places with different answers."""

    before: TransitionSide
    after: TransitionSide
    passed_over: tuple[tuple[Candidate, str], ...]
    """Places between the two that cannot be judged, with the reason."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a search has seen."""

    row: SearchSpace
    seen: Mapping[int, tuple[Observation, ...]]
    """By place, the observations in the order of time; cached ones come first."""
    exhaustive: bool
    stopped: bool = False
    """Whether repeats of an end gave different answers, so that a search between them is impossible."""

    @property
    def answers(self) -> dict[int, CellAnswer | None]:
        """The first answer of each place."""
        return {number: observations[0].answer for number, observations in self.seen.items()}

    @property
    def transitions(self) -> tuple[Transition, ...]:
        """Every one that was found, oldest first; none where the search was stopped."""
        if self.stopped:
            return ()
        return tuple(
            Transition(
                before=self._side(gap.before),
                after=self._side(gap.after),
                passed_over=tuple((self.row.places[n], self.seen[n][0].reason) for n in gap.passed_over),
            )
            for gap in search.gaps(self.answers)
        )

    @property
    def inconsistent(self) -> tuple[int, ...]:
        """Places that gave different answers."""
        return tuple(n for n in sorted(self.seen) if len({observation.answer for observation in self.seen[n]}) > 1)

    @property
    def passed_over(self) -> tuple[int, ...]:
        """Places that cannot be judged."""
        return tuple(n for n in sorted(self.seen) if self.seen[n][0].answer is None)

    @property
    def cells_run(self) -> int:
        """How many cells were run for this search, repetitions included; what could not be installed ran nothing."""
        return sum(observation.ran for several in self.seen.values() for observation in several)

    @property
    def cells_cached(self) -> int:
        """How many answers were cached."""
        return sum(observation.cached for several in self.seen.values() for observation in several)

    @property
    def unseen(self) -> tuple[tuple[int, int], ...]:
        """First and last of each segment that was not measured."""
        return () if self.stopped else search.unseen(self.answers)

    def _side(self, number: int) -> TransitionSide:
        observations = self.seen[number]
        answer = observations[0].answer
        if answer is None:
            raise ValueError(f"place {number} was not judged")
        return TransitionSide(place=self.row.places[number], answer=answer, observations=observations)


def find(row: SearchSpace, ask: Ask | None, *, known: Mapping[int, Observation], exhaustive: bool = False) -> Found:
    """Search a row.

    Args:
        row: What is searched; at least one place.
        ask: Runs cells; None to search only what is on record.
        known: What is on record, by place.
        exhaustive: Ask every place.
    """
    walk = _Walk(row=row, ask=ask, seen={number: [observation] for number, observation in known.items()})
    count = len(row.places)
    if ask is None:
        return walk.result(exhaustive=exhaustive)
    while places := search.ends(count, walk.answers()):
        walk.look(places)
    judged = sorted(number for number, answer in walk.answers().items() if answer is not None)
    if not judged:
        return walk.result(exhaustive=exhaustive)
    walk.look(tuple(dict.fromkeys((judged[0], judged[-1]))))
    if walk.inconsistent():
        return walk.result(exhaustive=exhaustive, stopped=True)
    while places := search.next_round(count, walk.answers(), exhaustive=exhaustive):
        walk.look(places)
    sides = {number for gap in search.gaps(walk.answers()) for number in (gap.before, gap.after)}
    run_once = tuple(n for n in sorted(sides) if len(walk.seen[n]) == 1 and not walk.seen[n][0].cached)
    if run_once:
        walk.look(run_once)
    return walk.result(exhaustive=exhaustive)


@dataclass(frozen=True, kw_only=True)
class _Walk:
    row: SearchSpace
    ask: Ask | None
    seen: dict[int, list[Observation]]

    def look(self, places: Sequence[int]) -> None:
        """See some places once more."""
        assert self.ask is not None
        for number, observation in self.ask(places).items():
            self.seen.setdefault(number, []).append(observation)

    def answers(self) -> dict[int, CellAnswer | None]:
        return {number: observations[0].answer for number, observations in self.seen.items()}

    def inconsistent(self) -> bool:
        return any(len({observation.answer for observation in several}) > 1 for several in self.seen.values())

    def result(self, *, exhaustive: bool, stopped: bool = False) -> Found:
        observations = {number: tuple(self.seen[number]) for number in sorted(self.seen)}
        return Found(row=self.row, seen=observations, exhaustive=exhaustive, stopped=stopped)
