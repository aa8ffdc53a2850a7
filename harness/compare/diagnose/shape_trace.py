"""The shape trace: the tensor shapes that each module of the model should return, and those that it returned."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from harness.compare.diagnose.divergence import DivergenceKind, align
from harness.compare.diagnose.evidence import Evidence
from harness.compare.diagnose.traces import Call, TracedPass, Value

_MOST_ROWS = 30
_DEEP = 2
"""Modules are shown down to this depth below the model; one that diverges is shown at any depth."""


@dataclass(frozen=True, kw_only=True)
class ShapeRow:
    """One call."""

    module: str
    class_name: str
    given: str
    """The shapes of its input tensors in the failing release."""
    expected: str
    """Its output in the passing release."""
    found: str
    """Its output in the failing release."""
    note: str
    first: bool = False
    """Whether it is the first that differs."""


def shape_trace(evidence: Evidence) -> tuple[ShapeRow, ...]:
    """The calls of the model's parts in the order of time, at most a screenful; empty where nothing was recorded."""
    if evidence.passes is None:
        return ()
    mine, other = evidence.passes
    aligned = align(mine, other)
    mates = {other_index: my_index for my_index, other_index in aligned.pairs}
    notes = _notes(evidence)
    first = evidence.first
    rows = []
    for place, call in enumerate(other.calls):
        if call.kind != "module" or not call.name:
            continue
        mate = mates.get(place)
        shown = _depth(other, place) <= _DEEP and call.name.count(".") < _DEEP
        is_first = first is not None and first.other_place == place
        if not (shown or is_first):
            continue
        rows.append(_row(call, mine.calls[mate] if mate is not None else None, notes.get(place, ""), first=is_first))
    rows += [_row(None, mine.calls[place], "extra call", first=False) for place in _extra(mine, aligned.extra)]
    return tuple(_cut(rows))


def _depth(traced_pass: TracedPass, place: int) -> int:
    return sum(1 for above in traced_pass.above(place) if traced_pass.calls[above].kind == "module")


def _extra(mine: TracedPass, extra: tuple[int, ...]) -> Iterator[int]:
    return (place for place in extra if mine.calls[place].kind == "module" and _depth(mine, place) <= _DEEP)


def _notes(evidence: Evidence) -> dict[int, str]:
    """By the other pass's place, the first note on a call."""
    words = {
        DivergenceKind.BINDING: "argument bound to another parameter",
        DivergenceKind.INPUT_SHAPE: "other input shape",
        DivergenceKind.OUTPUT_SHAPE: "other output shape",
        DivergenceKind.RAISED: "raises",
        DivergenceKind.INPUT_VALUE: "other input values",
        DivergenceKind.OUTPUT_VALUE: "other output values",
        DivergenceKind.NOT_CALLED: "never called",
        DivergenceKind.NOT_REACHED: "not reached",
    }
    notes: dict[int, str] = {}
    strong = (DivergenceKind.RAISED, DivergenceKind.BINDING, DivergenceKind.INPUT_SHAPE, DivergenceKind.OUTPUT_SHAPE)
    for kinds in (strong, tuple(words)):
        for divergence in evidence.divergences:
            if divergence.kind in kinds and divergence.other_place is not None:
                text = words.get(divergence.kind, "")
                if divergence.kind is DivergenceKind.NOT_CALLED and not evidence.never_called(divergence):
                    text = "not called here"
                detail = f" {divergence.detail}" if divergence.kind is DivergenceKind.RAISED else ""
                notes.setdefault(divergence.other_place, f"{text}{detail}")
    return notes


def _row(other: Call | None, mine: Call | None, note: str, *, first: bool) -> ShapeRow:
    call = other or mine
    return ShapeRow(
        module=call.name if call else "",
        class_name=call.class_name if call else "",
        given=_input_shapes(mine) if mine else "",
        expected=_put_out(other) if other else "—",
        found=_put_out(mine) if mine else "—",
        note=note,
        first=first,
    )


def _input_shapes(call: Call) -> str:
    shapes = [str(list(tensor.shape or ())) for argument in call.arguments for tensor in argument.value.tensors()]
    return ", ".join(shapes[:2]) + (" …" if len(shapes) > 2 else "")


def _put_out(call: Call) -> str:
    if call.raised:
        return call.raised
    if call.output is None:
        return "—"
    return _shape(call.output)


def _shape(value: Value) -> str:
    tensors = list(value.tensors())
    if not tensors:
        return str(value)
    return str(list(tensors[0].shape or ()))


def _cut(rows: list[ShapeRow]) -> list[ShapeRow]:
    if len(rows) <= _MOST_ROWS:
        return rows
    noted = [place for place, row in enumerate(rows) if row.note or row.first]
    around = {near for place in noted for near in (place - 1, place, place + 1)}
    shown = [row for place, row in enumerate(rows) if place in around or row.module.count(".") == 0]
    return shown[:_MOST_ROWS]
