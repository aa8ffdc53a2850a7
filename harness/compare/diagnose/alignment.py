"""Which call of one pass answers to which of another: in order, by name, within the same surroundings."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from harness.compare.diagnose.traces import TracedPass


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """Two passes side by side; calls are told by their places."""

    pairs: tuple[tuple[int, int], ...]
    """In the order in which they began."""
    missing: tuple[int, ...]
    """Calls of the other pass that this one lacks."""
    extra: tuple[int, ...]
    """Calls of this pass that the other lacks."""

    def other_of(self, place: int) -> int | None:
        """The other pass's call that answers to this one's."""
        return next((theirs for mine, theirs in self.pairs if mine == place), None)


def align(one: TracedPass, other: TracedPass) -> Alignment:
    """Match the calls of `one` with those of `other`: first the model, then what each module's call holds."""
    pairs: list[tuple[int, int]] = []
    _within(one, other, (None, None), pairs)
    pairs.sort()
    mine, theirs = {pair[0] for pair in pairs}, {pair[1] for pair in pairs}
    return Alignment(
        pairs=tuple(pairs),
        missing=tuple(place for place in range(len(other.calls)) if place not in theirs),
        extra=tuple(place for place in range(len(one.calls)) if place not in mine),
    )


def _within(
    one: TracedPass, other: TracedPass, inside: tuple[int | None, int | None], pairs: list[tuple[int, int]]
) -> None:
    waiting = [inside]
    while waiting:
        mine, theirs = waiting.pop()
        ours, others = one.held.get(mine, ()), other.held.get(theirs, ())
        matched = _matched([_key(one, place) for place in ours], [_key(other, place) for place in others])
        found = [(ours[first], others[second]) for first, second in matched]
        pairs.extend(found)
        waiting.extend(pair for pair in found if one.calls[pair[0]].kind == "module")


def _key(one: TracedPass, place: int) -> tuple[str, str]:
    call = one.calls[place]
    return (call.kind, call.name)


def _matched(ours: Sequence[tuple[str, str]], others: Sequence[tuple[str, str]]) -> list[tuple[int, int]]:
    matcher = difflib.SequenceMatcher(a=ours, b=others, autojunk=False)
    return [
        (block.a + offset, block.b + offset) for block in matcher.get_matching_blocks() for offset in range(block.size)
    ]
