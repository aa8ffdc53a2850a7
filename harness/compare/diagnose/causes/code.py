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
        my_call, their_call = mine.mine, other.other
        if not _same_inputs(my_call, their_call) or my_call.output is None or their_call.output is None:
            continue
        other_form = my_call.output.form != their_call.output.form
        with_values = evidence.passes is not None and all(recorded_pass.whole for recorded_pass in evidence.passes)
        if not other_form and (not with_values or my_call.output.content == their_call.output.content):
            continue
        kinds = SHAPES if other_form else SHAPES | VALUES
        earlier = [
            candidate
            for candidate in evidence.divergences
            if candidate.is_module and candidate.kind in kinds and candidate.moment < other.moment
        ]
        if earlier or my_call.caller is None or their_call.caller is None:
            continue
        change = evidence.change_of(my_call.caller.file, my_call.caller.function)
        if change is None or not _stands_for(change, my_call.name, their_call.name):
            continue
        if evidence.failure is not None and not (other_form and _leads_to_the_failure(evidence)):
            continue
        equal = (
            with_values
            and _contents(my_call)[: len(their_call.arguments)] == _contents(their_call)[: len(my_call.arguments)]
        )
        inputs = "equal inputs" if equal else "inputs of the same shapes"
        result_text = (
            f"{my_call.output} instead of {their_call.output}" if other_form else f"other values: {my_call.output}"
        )
        sentence = (
            f"`{my_call.caller.function}` ({my_call.caller}) calls `{my_call.name}` ({my_call.place}) where "
            f"{evidence.other.label}"
            f" calls `{their_call.name}` ({their_call.place}); from {inputs} it gives {result_text}{_end(evidence)}."
        )
        return Cause(rule="replaced_call", sentence=sentence)
    return None


def _replacements(evidence: Evidence) -> Iterator[tuple[Divergence, Divergence]]:
    """Functions that only one recording calls, from the same function, in the order of time."""
    extra = [
        candidate
        for candidate in evidence.divergences
        if candidate.kind is DivergenceKind.EXTRA_CALL and not candidate.is_module
    ]
    missing = [
        candidate
        for candidate in evidence.divergences
        if candidate.kind in (DivergenceKind.NOT_CALLED, DivergenceKind.NOT_REACHED) and not candidate.is_module
    ]
    for extra_call in extra:
        for missing_call in missing:
            my_caller, their_caller = (
                extra_call.mine and extra_call.mine.caller,
                missing_call.other and missing_call.other.caller,
            )
            if (
                my_caller
                and their_caller
                and (my_caller.file, my_caller.function) == (their_caller.file, their_caller.function)
            ):
                yield extra_call, missing_call


def _stands_for(change: FunctionChange, my_name: str, their_name: str) -> bool:
    """Whether statements that call `my_name` are where the other release has statements that call `their_name`."""
    my_call, their_call = (f"{name.rpartition('.')[2]}(" for name in (my_name, their_name))
    return any(
        any(my_call in line.text for line in edit.mine) and any(their_call in line.text for line in edit.other)
        for edit in change.edits
    )


def _leads_to_the_failure(evidence: Evidence) -> bool:
    """Whether the failure is one of shapes, or of what is called: else a divergence in shape may be another matter.

    It is where what raised was given another shape, or raised first of all; without an exception, where the finding
    names a module that parts in shape.
    """
    raised = [candidate for candidate in evidence.divergences if candidate.kind is DivergenceKind.RAISED]
    shapes = [candidate for candidate in evidence.divergences if candidate.kind in SHAPES]
    if raised:
        inner = min(raised, key=lambda candidate: candidate.moment)
        shape_of_inner = any(candidate.my_place == inner.my_place for candidate in shapes)
        return shape_of_inner or all(inner.moment < candidate.moment for candidate in shapes if _counts(candidate))
    failure = evidence.failure
    failure_text = f"{failure.signature} {failure.message}" if failure else ""
    return any(candidate.name and candidate.name in failure_text for candidate in shapes if candidate.is_module)


def _contents(call: Call) -> list[object]:
    return [argument.value.content for argument in call.arguments]


def _same_inputs(first: Call, second: Call) -> bool:
    first_forms = [argument.value.form for argument in first.arguments][: len(second.arguments)]
    second_forms = [argument.value.form for argument in second.arguments][: len(first.arguments)]
    return bool(first_forms) and first_forms == second_forms


def _end(evidence: Evidence) -> str:
    if clause := consequence(evidence):
        return clause
    failure = evidence.failure
    return f"; it ends in {failure.signature.replace('@', ' in ')}" if failure and failure.frames else ""


def changed_where_it_parts(evidence: Evidence) -> Cause | None:
    """The function in which the first difference arises is not the same in both releases.

    That which differs first in time differs by its own code: all that it was given, and all that it called before, is
    equal. A failure is explained by a divergence in shape that leads to it; where nothing fails, values count too.
    """
    origin = arises_in(evidence)
    if origin is None:
        return None
    first, change = origin
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
    first = next(
        (candidate for candidate in evidence.divergences if _counts(candidate) and candidate.kind in structural), None
    )
    if first is None:
        first = next(
            (candidate for candidate in evidence.divergences if _counts(candidate) and candidate.kind in VALUES), None
        )
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
    changed = [candidate for candidate in evidence.changes if _could_matter(candidate)]
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
