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
    mine: Trace, theirs: Trace, *, number: int = 0, kinds: Collection[DivergenceKind] = VALUES | SHAPES
) -> Divergence | None:
    """The first module at which two recordings differ in pass `number`; None where they do not, or lack the pass."""
    in_modules = (
        candidate
        for candidate in divergences(mine, theirs, number=number)
        if candidate.is_module and candidate.kind in kinds
    )
    return next(in_modules, None)


def divergences(my_trace: Trace, their_trace: Trace, *, number: int = 0) -> tuple[Divergence, ...]:
    """All differences of the passes with this number, in the order of time; gradients last, from the loss backwards.

    Values are compared where both were recorded whole, else forms alone.
    """
    mine, theirs = my_trace.numbered(number), their_trace.numbered(number)
    if mine is None or theirs is None:
        return ()
    until_backward = [*_weights(my_trace, mine, theirs), *_calls(mine, theirs, align(mine, theirs))]
    until_backward.sort(key=lambda candidate: candidate.moment)
    return (*until_backward, *_gradients(mine, theirs))


def _weights(my_trace: Trace, mine: TracedPass, theirs: TracedPass) -> Iterator[Divergence]:
    if not (mine.whole and theirs.whole):
        return
    order = [module.name for module in my_trace.modules]
    for place, name in enumerate(name for name in order if name in mine.weights and name in theirs.weights):
        if mine.weights[name] != theirs.weights[name]:
            yield Divergence(kind=DivergenceKind.WEIGHTS, name=name, number=mine.number, moment=(-1.0, 0, place))


def _calls(mine: TracedPass, theirs: TracedPass, aligned: Alignment) -> Iterator[Divergence]:
    pairs = dict(aligned.pairs)
    for my_place, other_place in aligned.pairs:
        yield from _pair(mine, theirs, (my_place, other_place))
    last = max(pairs.values(), default=-1)
    ended = {their_index for my_index, their_index in aligned.pairs if mine.calls[my_index].ended}
    for place in aligned.missing:
        passed = place < last if mine.raised is None else _passed(theirs, place, last, ended)
        kind = DivergenceKind.NOT_CALLED if passed else DivergenceKind.NOT_REACHED
        call = theirs.calls[place]
        yield Divergence(
            kind=kind, name=call.name, number=mine.number, moment=(place, 0, 0), other=call, other_place=place
        )
    for place in aligned.extra:
        before = max((their_index for my_index, their_index in aligned.pairs if my_index < place), default=-1)
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
    my_call, their_call = mine.calls[places[0]], theirs.calls[places[1]]
    with_values = mine.whole and theirs.whole
    begins: Moment = (places[1], 0, 0)
    ends: Moment = (theirs.last_within(places[1]), 1, -places[1])

    def divergence(kind: DivergenceKind, moment: Moment, detail: str) -> Divergence:
        return Divergence(
            kind=kind,
            name=my_call.name,
            number=mine.number,
            moment=moment,
            mine=my_call,
            other=their_call,
            my_place=places[0],
            other_place=places[1],
            detail=detail,
        )

    if with_values and my_call.drawn != their_call.drawn:
        yield divergence(DivergenceKind.RNG_STATE, (places[1], 0, -2), "other random numbers were drawn before")
    if moved := moved_arguments(my_call, their_call):
        yield divergence(DivergenceKind.BINDING, (places[1], 0, -1), moved[0].text)
    for kind, detail in _inputs(my_call, their_call, with_values=with_values):
        yield divergence(kind, begins, detail)
    if my_call.raised and not their_call.raised:
        yield divergence(DivergenceKind.RAISED, ends, my_call.raised)
    elif my_call.output is not None and their_call.output is not None:
        if my_call.output.form != their_call.output.form:
            yield divergence(DivergenceKind.OUTPUT_SHAPE, ends, f"{my_call.output} instead of {their_call.output}")
        elif with_values and my_call.output.content != their_call.output.content:
            yield divergence(DivergenceKind.OUTPUT_VALUE, ends, _difference(my_call.output, their_call.output))


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


def moved_arguments(mine: Call, theirs: Call) -> tuple[Moved, ...]:
    """Positional arguments of a module's call that land in another parameter, in order."""
    by_place = {argument.place: argument for argument in theirs.arguments if argument.place}
    return tuple(
        Moved(place=argument.place, mine=argument, other=by_place[argument.place])
        for argument in mine.arguments
        if argument.place and argument.place in by_place and by_place[argument.place].parameter != argument.parameter
    )


_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")


def ordinal(number: int) -> str:
    """`fifth`."""
    return _ORDINALS[number - 1] if number <= len(_ORDINALS) else f"{number}th"


def _inputs(my_call: Call, their_call: Call, *, with_values: bool) -> Iterator[tuple[DivergenceKind, str]]:
    """At most one difference of form and one of value, of arguments that are bound to the same parameter."""
    # A rebound argument is reported once, and not again as a difference of each parameter that it touches.
    rebound = {
        name for moved in moved_arguments(my_call, their_call) for name in (moved.mine.parameter, moved.other.parameter)
    }
    shared = [
        (argument, counterpart)
        for argument in my_call.arguments
        if argument.parameter not in rebound and (counterpart := their_call.argument(argument.parameter)) is not None
    ]
    for mine, theirs in shared:
        if mine.value.form != theirs.value.form:
            yield DivergenceKind.INPUT_SHAPE, f"{mine.parameter}: {mine.value} instead of {theirs.value}"
            return
    for mine, theirs in shared:
        if with_values and mine.value.content != theirs.value.content:
            yield DivergenceKind.INPUT_VALUE, f"{mine.parameter}: {_difference(mine.value, theirs.value)}"
            return


def _difference(my_value: Value, their_value: Value) -> str:
    """How two values of one form differ."""
    for mine, theirs in zip(_leaves(my_value), _leaves(their_value), strict=False):
        if mine.content == theirs.content:
            continue
        if mine.kind == "tensor":
            figures = [(value.data.get("mean"), value.data.get("largest")) for value in (mine, theirs)]
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
        my_gradient, their_gradient = mine.gradients[name], theirs.gradients[name]
        if (my_gradient and my_gradient["digest"]) == (their_gradient and their_gradient["digest"]):
            continue
        norms = [
            "no gradient" if gradient is None else f"a gradient of norm {gradient['norm']:.6g}"
            for gradient in (my_gradient, their_gradient)
        ]
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
        return next((their_index for my_index, their_index in self.pairs if my_index == place), None)


def align(my_pass: TracedPass, their_pass: TracedPass) -> Alignment:
    """Match the calls of both passes: first the model, then the calls within each module's call."""
    pairs: list[tuple[int, int]] = []
    _within(my_pass, their_pass, (None, None), pairs)
    pairs.sort()
    mine, theirs = {pair[0] for pair in pairs}, {pair[1] for pair in pairs}
    return Alignment(
        pairs=tuple(pairs),
        missing=tuple(place for place in range(len(their_pass.calls)) if place not in theirs),
        extra=tuple(place for place in range(len(my_pass.calls)) if place not in mine),
    )


def _within(
    my_pass: TracedPass, their_pass: TracedPass, inside: tuple[int | None, int | None], pairs: list[tuple[int, int]]
) -> None:
    waiting = [inside]
    while waiting:
        my_parent, their_parent = waiting.pop()
        my_calls, their_calls = (
            my_pass.calls_by_owner.get(my_parent, ()),
            their_pass.calls_by_owner.get(their_parent, ()),
        )
        matched = _matched(
            [_key(my_pass, place) for place in my_calls], [_key(their_pass, place) for place in their_calls]
        )
        found_pairs = [(my_calls[first], their_calls[second]) for first, second in matched]
        pairs.extend(found_pairs)
        waiting.extend(pair for pair in found_pairs if my_pass.calls[pair[0]].kind == "module")


def _key(traced_pass: TracedPass, place: int) -> tuple[str, str]:
    call = traced_pass.calls[place]
    return (call.kind, call.name)


def _matched(my_keys: Sequence[tuple[str, str]], their_keys: Sequence[tuple[str, str]]) -> list[tuple[int, int]]:
    matcher = difflib.SequenceMatcher(a=my_keys, b=their_keys, autojunk=False)
    return [
        (block.a + offset, block.b + offset) for block in matcher.get_matching_blocks() for offset in range(block.size)
    ]
