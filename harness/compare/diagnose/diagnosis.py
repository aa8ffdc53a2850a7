"""A diagnosis as a record: what was compared, what differs, and the cause where the evidence supports one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

from harness.compare.diagnose.api import ApiChange
from harness.compare.diagnose.causes import find_cause
from harness.compare.diagnose.causes.cause import change_told, expression
from harness.compare.diagnose.causes.code import arises_in
from harness.compare.diagnose.changes import FunctionChange
from harness.compare.diagnose.divergence import Divergence, DivergenceKind, moved_arguments, ordinal
from harness.compare.diagnose.evidence import Evidence
from harness.compare.diagnose.shape_trace import ShapeRow, shape_trace
from harness.compare.diagnose.traces import Call
from harness.core.cells import Cell, Outcome, Status

SCHEMA = 1
"""Version of the form of diagnosis.json."""


@dataclass(frozen=True, kw_only=True)
class ReboundArgument:
    """An argument that is bound to another parameter than in the passing release."""

    call: str
    """The module that is called."""
    caller: str
    """File and line of the call."""
    given: str
    """The expression that is passed, or what it was."""
    place: int
    """Among the positional arguments, counted from 1."""
    was: str
    """The parameter in the passing release."""
    now: str
    value: str
    signature: str
    """The parameters of the function in the failing release, in order; and in the passing one."""
    other_signature: str

    @property
    def text(self) -> str:
        """`fifth positional argument: was chunk_mask, is return_hidden`."""
        return f"{ordinal(self.place)} positional argument: was `{self.was}`, is `{self.now}`"


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """The diagnosis of a cell."""

    cell: Cell
    against: str
    """The release that it was compared with; empty where none was."""
    why: str
    """Why that one."""
    status: Status
    reason: str
    against_status: Status | None = None
    against_reason: str = ""
    first: str = ""
    """The first module that differs, in a clause."""
    compared_pass: int | None = None
    """The forward pass that was compared, counted from 0."""
    shape_trace: tuple[ShapeRow, ...] = ()
    calls: tuple[ReboundArgument, ...] = ()
    changes: tuple[FunctionChange, ...] = ()
    """Those on the path of the failure first."""
    api: tuple[ApiChange, ...] = ()
    executed: int = 0
    """How many functions of the release ran."""
    rule: str = ""
    cause: str = ""
    """One sentence or two; empty where the evidence supports none."""
    advice: str = ""
    setting: str = ""
    known: tuple[str, ...] = ()
    """What is known where no cause is."""
    unknown: tuple[str, ...] = ()
    example: str = ""
    """Of a property, the counterexample that was found."""
    seconds: float = 0.0
    notices: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, object]:
        """As diagnosis.json holds it; the form is in docs/investigating.md#file-formats."""
        data = asdict(self)
        data["cell"] = self.cell.id
        data["calls"] = [{**asdict(rebound), "text": rebound.text} for rebound in self.calls]
        return {"schema": SCHEMA, **data}


def diagnose(evidence: Evidence, *, why: str, advice: str, example: str = "") -> Diagnosis:
    """Compare a failing cell with a passing one, and find the cause."""
    mine, other = evidence.mine.traced.outcome, evidence.other.traced.outcome
    cause = find_cause(evidence)
    ordered = tuple(sorted(evidence.changes, key=lambda change: not _on_the_path(evidence, change)))
    return Diagnosis(
        cell=mine.cell,
        against=other.cell.release,
        why=why,
        status=mine.status,
        reason=mine.reason,
        against_status=other.status,
        against_reason=other.reason,
        first=clause_of(evidence, evidence.first) if evidence.first else "",
        compared_pass=evidence.number if evidence.passes else None,
        shape_trace=shape_trace(evidence),
        calls=tuple(_rebound(evidence)),
        changes=ordered,
        api=evidence.api,
        executed=len(evidence.mine.ran()),
        rule=cause.rule if cause else "",
        cause=cause.sentence if cause else "",
        advice=advice,
        setting=cause.setting if cause else "",
        known=() if cause else tuple(_known(evidence)),
        unknown=() if cause else tuple(_unknown(evidence)),
        example=example,
    )


def clause_of(evidence: Evidence, divergence: Divergence) -> str:
    """A divergence in a clause."""
    name = f"`{divergence.label}`{evidence.widths(divergence.name)}"
    match divergence.kind:
        case DivergenceKind.NOT_CALLED if evidence.never_called(divergence):
            return f"{name} exists and was never called"
        case DivergenceKind.NOT_CALLED:
            return f"{name} is called once less"
        case DivergenceKind.EXTRA_CALL:
            return f"{name} is an extra call"
        case DivergenceKind.WEIGHTS:
            return f"{name} begins with other weights"
        case DivergenceKind.RAISED:
            return f"{name} raises {divergence.detail}"
        case DivergenceKind.INPUT_SHAPE | DivergenceKind.INPUT_VALUE:
            return f"{name} is given {divergence.detail}"
        case DivergenceKind.GRADIENT:
            return f"{name} gets {divergence.detail}"
        case _:
            return f"{name} gives {divergence.detail}"


def _rebound(evidence: Evidence) -> Iterator[ReboundArgument]:
    for divergence in evidence.divergences:
        if divergence.kind is not DivergenceKind.BINDING or divergence.mine is None or divergence.other is None:
            continue
        call, other = divergence.mine, divergence.other
        for moved in moved_arguments(call, other):
            expression_text = expression(evidence.mine, call.caller, moved.mine.parameter, moved.place)
            yield ReboundArgument(
                call=call.label,
                caller=str(call.caller or ""),
                given=expression_text,
                place=moved.place,
                was=moved.other.parameter,
                now=moved.mine.parameter,
                value=str(moved.mine.value),
                signature=_signature(call),
                other_signature=_signature(other),
            )


def _signature(call: Call) -> str:
    return f"{call.function}({', '.join(argument.parameter for argument in call.arguments)})"


def _on_the_path(evidence: Evidence, change: FunctionChange) -> bool:
    """Whether a function is on the path of the failure: in its traceback, or around the first divergences."""
    failure = evidence.failure
    names = {(frame.file, frame.function) for frame in failure.frames} if failure else set()
    if (change.file, change.function.rpartition(".")[2]) in names:
        return True
    calls = [call for divergence in evidence.divergences[:5] for call in (divergence.mine, divergence.other) if call]
    places = {(call.file, call.function) for call in calls}
    places |= {(call.caller.file, call.caller.function) for call in calls if call.caller}
    return (change.file, change.function) in places


def _known(evidence: Evidence) -> Iterator[str]:
    """What can be said without a cause."""
    mine, other = evidence.mine, evidence.other
    if failure := evidence.failure:
        yield f"in {mine.label} it ends in {failure.signature.replace('@', ' in ')}"
    if where := mine.innermost:
        file, function, line = where
        text = mine.source.line(file, line)
        if not other.source.has(file):
            yield f"{other.label} has no {file}"
        elif text and other.source.function(file, function) is None:
            yield f"{other.label} has no `{function}` in {file}"
        elif text and evidence.change_of(file, function):
            yield f"`{function}`, where it ends, is not the same in {other.label}"
    if first := evidence.first:
        yield f"the first module that differs: {clause_of(evidence, first)}"
    if origin := arises_in(evidence):
        change = origin[1]
        place = f"`{change.function}` ({change.file}:{change.line})"
        yield f"the first difference arises in {place}: {change_told(change, other.label)}"
    count = len(evidence.changes)
    plural = "" if count == 1 else "s"
    yield f"{count} function{plural} that ran differ{'s' if count == 1 else ''} between {mine.label} and {other.label}"


def _unknown(evidence: Evidence) -> Iterator[str]:
    if evidence.mine.trace is None or evidence.other.trace is None:
        yield "what ran in each of the two: no recording came of it"
    elif evidence.passes is None and evidence.mine.trace.passes:
        yield "where the two part: they recorded no common forward pass"
    if not evidence.changes:
        yield "what brought it: nothing that ran differs in the release's own code"
    else:
        yield "which of the changes brought it"


def passing(outcome: Outcome, why: str = "") -> Diagnosis:
    """Of a cell that passes: there is nothing to explain."""
    return Diagnosis(cell=outcome.cell, against="", why=why, status=outcome.status, reason=outcome.reason)
