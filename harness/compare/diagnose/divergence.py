"""Where two recordings part: the first module that differs in shape, in value, or in not being called at all.

What happens in a pass is put in the order of time: a call begins with its arguments, then comes what it calls, then it
ends with its result. A module that gives something else because one within it does therefore comes after that one.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from harness.compare.diagnose.traces import Argument, Call, Trace, TracedPass, Value


class DivergenceKind(StrEnum):
    """In what two calls differ."""

    WEIGHTS = "weights"
    """The parameters that the pass began with."""
    RNG_STATE = "draws"
    """The state of the random generator when the call began."""
    BINDING = "binding"
    """An argument is bound to another parameter."""
    INPUT_SHAPE = "input_shape"
    INPUT_VALUE = "input_value"
    NOT_CALLED = "not_called"
    """It is called in the other and not in this one, though this one came past the place."""
    NOT_REACHED = "not_reached"
    """It is called in the other; this one broke off before."""
    EXTRA_CALL = "called_besides"
    """It is called in this one and not in the other."""
    RAISED = "raised"
    OUTPUT_SHAPE = "output_shape"
    OUTPUT_VALUE = "output_value"
    GRADIENT = "gradient"


SHAPES = frozenset(
    {DivergenceKind.INPUT_SHAPE, DivergenceKind.OUTPUT_SHAPE, DivergenceKind.NOT_CALLED, DivergenceKind.EXTRA_CALL}
)
"""What can make a loss not fit."""
VALUES = frozenset(
    {DivergenceKind.WEIGHTS, DivergenceKind.INPUT_VALUE, DivergenceKind.OUTPUT_VALUE, DivergenceKind.GRADIENT}
)

Moment = tuple[float, int, int]
"""Orders what happens in a pass, by the places of the other pass's calls."""


@dataclass(frozen=True, kw_only=True)
class Divergence:
    """One difference between two passes."""

    kind: DivergenceKind
    name: str
    """Of the module, empty for the model itself; of a function with its class."""
    number: int
    """Of the pass."""
    moment: Moment
    mine: Call | None = None
    """The call in the first recording; None where there is none."""
    other: Call | None = None
    my_place: int | None = None
    other_place: int | None = None
    detail: str = ""
    """What differs, in words."""

    @property
    def call(self) -> Call | None:
        """The call, in whichever recording has it."""
        return self.mine or self.other

    @property
    def is_module(self) -> bool:
        """Whether it is about a module, and not about a function."""
        return self.call is None or self.call.kind == "module"

    @property
    def label(self) -> str:
        """How it is called in texts."""
        return self.call.label if self.call else self.name or "the model"


def first_divergence(
    one: Trace, other: Trace, *, number: int = 0, kinds: Collection[DivergenceKind] = VALUES | SHAPES
) -> Divergence | None:
    """The first module at which two recordings differ in pass `number`; None where they do not, or lack the pass."""
    found = (each for each in divergences(one, other, number=number) if each.is_module and each.kind in kinds)
    return next(found, None)


def divergences(one: Trace, other: Trace, *, number: int = 0) -> tuple[Divergence, ...]:
    """All differences of the passes with this number, in the order of time; gradients last, from the loss backwards.

    Values are compared where both were recorded whole, else forms alone.
    """
    mine, theirs = one.numbered(number), other.numbered(number)
    if mine is None or theirs is None:
        return ()
    found = [*_weights(one, mine, theirs), *_calls(mine, theirs, align(mine, theirs))]
    found.sort(key=lambda each: each.moment)
    return (*found, *_gradients(mine, theirs))


def _weights(one: Trace, mine: TracedPass, theirs: TracedPass) -> Iterator[Divergence]:
    if not (mine.whole and theirs.whole):
        return
    order = [module.name for module in one.modules]
    for place, name in enumerate(name for name in order if name in mine.weights and name in theirs.weights):
        if mine.weights[name] != theirs.weights[name]:
            yield Divergence(kind=DivergenceKind.WEIGHTS, name=name, number=mine.number, moment=(-1.0, 0, place))


def _calls(mine: TracedPass, theirs: TracedPass, aligned: Alignment) -> Iterator[Divergence]:
    pairs = dict(aligned.pairs)
    for my_place, other_place in aligned.pairs:
        yield from _pair(mine, theirs, (my_place, other_place))
    last = max(pairs.values(), default=-1)
    ended = {other for one, other in aligned.pairs if mine.calls[one].ended}
    for place in aligned.missing:
        passed = place < last if mine.raised is None else _passed(theirs, place, last, ended)
        kind = DivergenceKind.NOT_CALLED if passed else DivergenceKind.NOT_REACHED
        call = theirs.calls[place]
        yield Divergence(
            kind=kind, name=call.name, number=mine.number, moment=(place, 0, 0), other=call, other_place=place
        )
    for place in aligned.extra:
        before = max((other for one, other in aligned.pairs if one < place), default=-1)
        call = mine.calls[place]
        yield Divergence(
            kind=DivergenceKind.EXTRA_CALL,
            name=call.name,
            number=mine.number,
            moment=(before + 0.5, 0, place),
            mine=call,
            my_place=place,
        )


def _passed(theirs: TracedPass, place: int, last: int, ended: Collection[int]) -> bool:
    """Whether a pass that broke off came past this place: something later began, or what is around it ended."""
    return place < last or any(above in ended for above in theirs.above(place))


def _pair(mine: TracedPass, theirs: TracedPass, places: tuple[int, int]) -> Iterator[Divergence]:
    one, other = mine.calls[places[0]], theirs.calls[places[1]]
    whole = mine.whole and theirs.whole
    begins: Moment = (places[1], 0, 0)
    ends: Moment = (theirs.last_within(places[1]), 1, -places[1])

    def divergence(kind: DivergenceKind, moment: Moment, detail: str) -> Divergence:
        return Divergence(
            kind=kind,
            name=one.name,
            number=mine.number,
            moment=moment,
            mine=one,
            other=other,
            my_place=places[0],
            other_place=places[1],
            detail=detail,
        )

    if whole and one.drawn != other.drawn:
        yield divergence(DivergenceKind.RNG_STATE, (places[1], 0, -2), "other random numbers were drawn before")
    if moved := moved_arguments(one, other):
        yield divergence(DivergenceKind.BINDING, (places[1], 0, -1), moved[0].text)
    for kind, detail in _inputs(one, other, whole=whole):
        yield divergence(kind, begins, detail)
    if one.raised and not other.raised:
        yield divergence(DivergenceKind.RAISED, ends, one.raised)
    elif one.output is not None and other.output is not None:
        if one.output.form != other.output.form:
            yield divergence(DivergenceKind.OUTPUT_SHAPE, ends, f"{one.output} instead of {other.output}")
        elif whole and one.output.content != other.output.content:
            yield divergence(DivergenceKind.OUTPUT_VALUE, ends, _difference(one.output, other.output))


@dataclass(frozen=True, kw_only=True)
class Moved:
    """A positional argument that is bound to another parameter than in the other release."""

    place: int
    """Among the positional arguments, counted from 1."""
    mine: Argument
    other: Argument

    @property
    def text(self) -> str:
        """In words."""
        return f"{ordinal(self.place)} positional argument: was `{self.other.parameter}`, is `{self.mine.parameter}`"


def moved_arguments(one: Call, other: Call) -> tuple[Moved, ...]:
    """Positional arguments of a module's call that land in another parameter, in order."""
    by_place = {argument.place: argument for argument in other.arguments if argument.place}
    return tuple(
        Moved(place=argument.place, mine=argument, other=by_place[argument.place])
        for argument in one.arguments
        if argument.place and argument.place in by_place and by_place[argument.place].parameter != argument.parameter
    )


_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")


def ordinal(number: int) -> str:
    """`fifth`."""
    return _ORDINALS[number - 1] if number <= len(_ORDINALS) else f"{number}th"


def _inputs(one: Call, other: Call, *, whole: bool) -> Iterator[tuple[DivergenceKind, str]]:
    """At most one difference of form and one of value, of arguments that are bound to the same parameter."""
    # A rebound argument is reported once, and not again as a difference of each parameter that it touches.
    told = {name for each in moved_arguments(one, other) for name in (each.mine.parameter, each.other.parameter)}
    shared = [
        (argument, found)
        for argument in one.arguments
        if argument.parameter not in told and (found := other.argument(argument.parameter)) is not None
    ]
    for mine, theirs in shared:
        if mine.value.form != theirs.value.form:
            yield DivergenceKind.INPUT_SHAPE, f"{mine.parameter}: {mine.value} instead of {theirs.value}"
            return
    for mine, theirs in shared:
        if whole and mine.value.content != theirs.value.content:
            yield DivergenceKind.INPUT_VALUE, f"{mine.parameter}: {_difference(mine.value, theirs.value)}"
            return


def _difference(one: Value, other: Value) -> str:
    """How two values of one form differ."""
    for mine, theirs in zip(_leaves(one), _leaves(other), strict=False):
        if mine.content == theirs.content:
            continue
        if mine.kind == "tensor":
            figures = [(each.data.get("mean"), each.data.get("largest")) for each in (mine, theirs)]
            if all(isinstance(number, int | float) for pair in figures for number in pair):
                (my_mean, my_largest), (mean, largest) = figures
                return (
                    f"{mine} with mean {my_mean:.6g} and largest magnitude {my_largest:.6g}"
                    f" instead of {mean:.6g} and {largest:.6g}"
                )
            return f"{mine} of other values"
        return f"{mine} instead of {theirs}"
    return "other values"


def _leaves(value: Value) -> Iterator[Value]:
    inner: Sequence[Value] = (*value.items, *value.named.values())
    if not inner:
        yield value
    for item in inner:
        yield from _leaves(item)


def _gradients(mine: TracedPass, theirs: TracedPass) -> Iterator[Divergence]:
    """From the loss backwards: the module that was called last comes first."""
    last = {call.name: place for place, call in enumerate(theirs.calls) if call.kind == "module"}
    shared = [name for name in theirs.gradients if name in mine.gradients]
    for place, name in enumerate(sorted(shared, key=lambda name: -last.get(name, -1))):
        one, other = mine.gradients[name], theirs.gradients[name]
        if (one and one["digest"]) == (other and other["digest"]):
            continue
        norms = ["no gradient" if each is None else f"a gradient of norm {each['norm']:.6g}" for each in (one, other)]
        yield Divergence(
            kind=DivergenceKind.GRADIENT,
            name=name,
            number=mine.number,
            moment=(float("inf"), 0, place),
            detail=f"{norms[0]} instead of {norms[1]}",
        )


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """Two passes side by side; calls are matched by their places."""

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
