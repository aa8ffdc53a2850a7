"""Causes in the code that ran: another function in a function's place, and statements that changed where it parts."""

from __future__ import annotations

from collections.abc import Iterator

from harness.compare.diagnose.causes.cause import Cause, change_told, consequence, runs
from harness.compare.diagnose.changes import FunctionChange
from harness.compare.diagnose.divergence import SHAPES, VALUES, Divergence, DivergenceKind
from harness.compare.diagnose.evidence import Evidence
from harness.compare.diagnose.source import MODULE
from harness.compare.diagnose.traces import Call

_MOST_EDITS = 6
"""A function that changed in more places is reported as changed, and not as the cause."""


def replaced_call(evidence: Evidence) -> Cause | None:
    """At one place another function is called; from inputs of the same shapes it gives something else.

    Held where nothing parts in shape before it; where both recorded values, nothing in value either.
    """
    for mine, other in _replacements(evidence):
        if mine.mine is None or other.other is None or mine.mine.output is None or other.other.output is None:
            continue
        one, two = mine.mine, other.other
        if not _same_inputs(one, two) or one.output is None or two.output is None:
            continue
        other_form = one.output.form != two.output.form
        whole = evidence.passes is not None and all(each.whole for each in evidence.passes)
        if not other_form and (not whole or one.output.content == two.output.content):
            continue
        kinds = SHAPES if other_form else SHAPES | VALUES
        earlier = [
            each
            for each in evidence.divergences
            if each.is_module and each.kind in kinds and each.moment < other.moment
        ]
        if earlier or one.caller is None or two.caller is None:
            continue
        change = evidence.change_of(one.caller.file, one.caller.function)
        if change is None or not _stands_for(change, one.name, two.name):
            continue
        if evidence.failure is not None and not (other_form and _leads_to_the_failure(evidence)):
            continue
        equal = whole and _contents(one)[: len(two.arguments)] == _contents(two)[: len(one.arguments)]
        inputs = "equal inputs" if equal else "inputs of the same shapes"
        told = f"{one.output} instead of {two.output}" if other_form else f"other values: {one.output}"
        sentence = (
            f"`{one.caller.function}` ({one.caller}) calls `{one.name}` ({one.place}) where {evidence.other.label}"
            f" calls `{two.name}` ({two.place}); from {inputs} it gives {told}{_end(evidence)}."
        )
        return Cause(rule="replaced_call", sentence=sentence)
    return None


def _replacements(evidence: Evidence) -> Iterator[tuple[Divergence, Divergence]]:
    """Functions that only one recording calls, from the same function, in the order of time."""
    extra = [each for each in evidence.divergences if each.kind is DivergenceKind.EXTRA_CALL and not each.is_module]
    missing = [
        each
        for each in evidence.divergences
        if each.kind in (DivergenceKind.NOT_CALLED, DivergenceKind.NOT_REACHED) and not each.is_module
    ]
    for one in extra:
        for two in missing:
            here, there = one.mine and one.mine.caller, two.other and two.other.caller
            if here and there and (here.file, here.function) == (there.file, there.function):
                yield one, two


def _stands_for(change: FunctionChange, one: str, two: str) -> bool:
    """Whether statements that call `one` stand where the other release has such as call `two`."""
    mine, theirs = (f"{name.rpartition('.')[2]}(" for name in (one, two))
    return any(
        any(mine in line.text for line in edit.mine) and any(theirs in line.text for line in edit.other)
        for edit in change.edits
    )


def _leads_to_the_failure(evidence: Evidence) -> bool:
    """Whether the failure is one of shapes, or of what is called: else a divergence in shape may be another matter.

    It is where what raised was given another shape, or raised first of all; without an exception, where the finding
    names a module that parts in shape.
    """
    raised = [each for each in evidence.divergences if each.kind is DivergenceKind.RAISED]
    shapes = [each for each in evidence.divergences if each.kind in SHAPES]
    if raised:
        inner = min(raised, key=lambda each: each.moment)
        own = any(each.my_place == inner.my_place for each in shapes)
        return own or all(inner.moment < each.moment for each in shapes if _counts(each))
    failure = evidence.failure
    told = f"{failure.signature} {failure.message}" if failure else ""
    return any(each.name and each.name in told for each in shapes if each.is_module)


def _contents(call: Call) -> list[object]:
    return [argument.value.content for argument in call.arguments]


def _same_inputs(one: Call, other: Call) -> bool:
    mine = [argument.value.form for argument in one.arguments][: len(other.arguments)]
    theirs = [argument.value.form for argument in other.arguments][: len(one.arguments)]
    return bool(mine) and mine == theirs


def _end(evidence: Evidence) -> str:
    if told := consequence(evidence):
        return told
    failure = evidence.failure
    return f"; it ends in {failure.signature.replace('@', ' in ')}" if failure and failure.frames else ""


def changed_where_it_parts(evidence: Evidence) -> Cause | None:
    """The function in which the first difference arises is not the same in both releases.

    That which differs first in time differs by its own code: all that it was given, and all that it called before, is
    equal. A failure is explained by a divergence in shape that leads to it; where nothing fails, values count too.
    """
    found = arises_in(evidence)
    if found is None:
        return None
    first, change = found
    if evidence.failure is not None and not (first.kind not in VALUES and _leads_to_the_failure(evidence)):
        return None
    sentence = (
        f"{_happens(first, evidence)}: `{change.function}` ({change.file}:{change.line}) is not the same in"
        f" {evidence.other.label}, {change_told(change, evidence.other.label)}{_tail(first, evidence)}."
    )
    return Cause(rule="changed_code", sentence=sentence)


def arises_in(evidence: Evidence) -> tuple[Divergence, FunctionChange] | None:
    """The first difference, of shapes where there is one, and the function it arises in, if that changed a little."""
    structural = SHAPES | {DivergenceKind.RAISED}
    first = next((each for each in evidence.divergences if _counts(each) and each.kind in structural), None)
    if first is None:
        first = next((each for each in evidence.divergences if _counts(each) and each.kind in VALUES), None)
    place = _responsible(first) if first is not None else None
    change = evidence.change_of(*place) if place else None
    if first is None or change is None or change.is_whole or change.statements > _MOST_EDITS:
        return None
    return first, change


def _counts(divergence: Divergence) -> bool:
    """A function that is an extra call, or no more, is no difference by itself."""
    return divergence.is_module or divergence.kind not in (
        DivergenceKind.NOT_CALLED,
        DivergenceKind.EXTRA_CALL,
        DivergenceKind.NOT_REACHED,
    )


def _responsible(divergence: Divergence) -> tuple[str, str] | None:
    """The function whose code makes the difference: its own for a result, its caller's for what it is given."""
    call = divergence.call
    if call is None:
        return None
    if divergence.kind in (DivergenceKind.OUTPUT_SHAPE, DivergenceKind.OUTPUT_VALUE, DivergenceKind.RAISED):
        return call.file, call.function
    return (call.caller.file, call.caller.function) if call.caller else None


def _happens(divergence: Divergence, evidence: Evidence) -> str:
    if divergence.call is None:
        return "The two part"
    match divergence.kind:
        case DivergenceKind.NOT_CALLED:
            return f"`{divergence.label}`{evidence.widths(divergence.name)} is never called"
        case DivergenceKind.EXTRA_CALL:
            return f"`{divergence.label}` is an extra call"
        case DivergenceKind.RAISED:
            return f"{runs(divergence.call)} raises {divergence.detail}"
        case DivergenceKind.INPUT_SHAPE | DivergenceKind.INPUT_VALUE:
            return f"{runs(divergence.call)} is given {divergence.detail}"
        case _:
            return f"From equal inputs {runs(divergence.call)} gives {divergence.detail}"


def _tail(first: Divergence, evidence: Evidence) -> str:
    return "" if first.kind is DivergenceKind.RAISED else consequence(evidence)


def only_change(evidence: Evidence) -> Cause | None:
    """Of all functions that ran a single one changed: then it is that.

    Not held where nothing was recorded in one of the two: then what ran is not known.
    """
    if evidence.mine.trace is None or evidence.other.trace is None:
        return None
    changed = [each for each in evidence.changes if _could_matter(each)]
    if len(changed) != 1 or changed[0].is_whole or changed[0].statements > _MOST_EDITS:
        return None
    (change,) = changed
    count = len(evidence.mine.ran())
    sentence = (
        f"Of the {count} functions of the release that ran, only `{change.function}` ({change.file}:{change.line}) is"
        f" not the same in {evidence.other.label}: {change_told(change, evidence.other.label)}."
    )
    return Cause(rule="only_change", sentence=sentence)


def _could_matter(change: FunctionChange) -> bool:
    """An import alone changes nothing that the functions that ran would not show."""
    if change.function != MODULE:
        return True
    return any(
        not line.text.startswith(("import ", "from ")) for edit in change.edits for line in (*edit.mine, *edit.other)
    )
