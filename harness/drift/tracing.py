"""Both sides of a parting run again with a recorder: where in a step they part, and what changed in what ran."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from harness.cells import Outcome
from harness.diagnose import Asker, Trace, Traced
from harness.diagnose.asking import trace_pair
from harness.diagnose.changes import FunctionChange, executed_changes
from harness.diagnose.parting import SHAPES, VALUES, Kind
from harness.diagnose.parting import Parting as Difference
from harness.diagnose.parting import partings as differences
from harness.drift.curves import losses_of
from harness.drift.evidence import Parting
from harness.drift.recordings import Change, Place, Recording, Stage

MOST_PASSES = 30
"""Of a training more forward passes than this are not recorded whole."""
MOST_EDITS = 12
"""How many changed statements of a function are kept."""


TARGETS = "text"
"""The parameter of a model's forward that takes the tokens to say."""


class Where(TypedDict):
    """The fields of a recording that say where two trainings part."""

    stage: Stage
    at: int | None
    first: Place | None
    same_targets: bool | None
    within: Place | None


def record(asker: Asker, parting: Parting) -> Recording:
    """Run both sides of a parting up to the step at which their losses part, and compare what was recorded.

    Args:
        asker: Knows both releases.
        parting: Whose losses differ at some step.
    """
    last = min(parting.loss.step if parting.loss else 1, MOST_PASSES)
    # In the order of time: the newer release is told against the older.
    newer, older = trace_pair(asker, parting.other.cell, parting.mine.cell, {"passes": list(range(last))})
    changes: tuple[FunctionChange, ...] = ()
    if newer.trace and older.trace:
        changes = executed_changes((older.trace, older.overlay), (newer.trace, newer.overlay))
    where = _where(newer.trace, older.trace, last)
    return Recording(
        key=parting.key,
        passes=last,
        repeated=_repeats(newer, parting.other, last) and _repeats(older, parting.mine, last),
        **where,
        # What is compiled is not seen to run; the file that it stands in is told all the same by what calls it.
        changes=tuple(_change(change) for change in changes if change.ran or change.other_ran),
        same_functions=not changes,
    )


def _repeats(traced: Traced, known: Outcome, steps: int) -> bool:
    now, then = losses_of(traced.outcome)[:steps], losses_of(known)[:steps]
    return bool(now) and list(map(repr, now)) == list(map(repr, then))


def _where(newer: Trace | None, older: Trace | None, passes: int) -> Where:
    """The stage, the step, the first module that parts, and what else is known of it."""
    nowhere = Where(stage=Stage.NONE, at=None, first=None, same_targets=None, within=None)
    if newer is None or older is None:
        return nowhere
    for number in range(passes):
        found = differences(newer, older, number=number)
        first = next((one for one in found if one.is_module and one.kind in VALUES | SHAPES), None)
        if first is None:
            continue
        if first.kind is Kind.WEIGHTS:
            # The weights of a pass are what the step before made of them.
            stage = Stage.UPDATE if number else Stage.START
            return Where(stage=stage, at=max(number, 1), first=_place(first), same_targets=None, within=None)
        stage = _stage(first, found)
        return Where(
            stage=stage,
            at=number + 1,
            first=_place(first),
            same_targets=_same_targets(first) if stage is Stage.DATA else None,
            within=_within(first, found) if stage is Stage.MODEL else None,
        )
    return nowhere


def _same_targets(first: Difference) -> bool | None:
    """Whether both calls of the model were given the same tokens to say."""
    if first.mine is None or first.other is None:
        return None
    mine, other = first.mine.argument(TARGETS), first.other.argument(TARGETS)
    return None if mine is None or other is None else mine.value.content == other.value.content


def _stage(first: Difference, found: Sequence[Difference]) -> Stage:
    if first.kind is Kind.GRADIENT:
        return Stage.GRADIENT
    if first.kind in (Kind.INPUT_VALUE, Kind.INPUT_SHAPE) and not first.name:
        return Stage.DATA
    drawn = any(one.kind is Kind.DRAWS and one.my_place == first.my_place and one.is_module for one in found)
    return Stage.DRAWS if first.kind is Kind.OUTPUT_VALUE and drawn else Stage.MODEL


def _within(first: Difference, found: Sequence[Difference]) -> Place | None:
    """The innermost function whose arguments are the same and whose result is not, up to where the module ends."""
    differing = {one.my_place for one in found if one.kind in (Kind.INPUT_VALUE, Kind.INPUT_SHAPE)}
    for one in found:
        if one.moment > first.moment:
            break
        if not one.is_module and one.kind in (Kind.OUTPUT_VALUE, Kind.OUTPUT_SHAPE) and one.my_place not in differing:
            return _place(one)
    return None


def _place(one: Difference) -> Place:
    call = one.call
    # The model's own forward is watched by the harness, so that its place would be the harness's.
    code = call.place if call and call.file.startswith("funasr/") else ""
    return Place(kind=str(one.kind), name=one.label, code=code, detail=one.detail)


def _change(change: FunctionChange) -> Change:
    older = [str(line.text) for edit in change.edits for line in edit.mine]
    newer = [str(line.text) for edit in change.edits for line in edit.other]
    return Change(
        file=change.file,
        function=change.function,
        older=tuple(older[:MOST_EDITS]),
        newer=tuple(newer[:MOST_EDITS]),
        more=max(0, len(older) - MOST_EDITS) + max(0, len(newer) - MOST_EDITS),
    )
