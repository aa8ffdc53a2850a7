"""Runs both sides of a divergence again with a recorder: where they differ, and which executed code changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from harness.compare.diagnose import Trace, Traced, TracedRunner
from harness.compare.diagnose.changes import FunctionChange, executed_changes
from harness.compare.diagnose.divergence import SHAPES, VALUES, DivergenceKind
from harness.compare.diagnose.divergence import Divergence as Difference
from harness.compare.diagnose.divergence import divergences as differences
from harness.compare.diagnose.runner import trace_pair
from harness.compare.drift.curves import losses_of
from harness.compare.drift.divergences import CurveDivergence
from harness.compare.drift.recordings import DivergenceRecording, RecordedEdit, RecordedPlace, TrainingStage
from harness.core.cells import Outcome

MOST_PASSES = 30
"""Of a training more forward passes than this are not recorded whole."""
MOST_EDITS = 12
"""How many changed statements of a function are kept."""


TARGETS = "text"
"""The parameter of a model's forward that takes the target tokens."""


class Where(TypedDict):
    """The fields of a recording that say where two trainings diverge."""

    stage: TrainingStage
    at: int | None
    first: RecordedPlace | None
    same_targets: bool | None
    within: RecordedPlace | None


def record(runner: TracedRunner, divergence: CurveDivergence) -> DivergenceRecording:
    """Run both sides of a divergence up to the first step with different losses, and compare what was recorded.

    Args:
        runner: Knows both releases.
        divergence: Whose losses differ at some step.
    """
    last = min(divergence.loss.step if divergence.loss else 1, MOST_PASSES)
    # The newer release is compared with the older one.
    newer, older = trace_pair(runner, divergence.other.cell, divergence.mine.cell, {"passes": list(range(last))})
    changes: tuple[FunctionChange, ...] = ()
    if newer.trace and older.trace:
        changes = executed_changes((older.trace, older.install_dir), (newer.trace, newer.install_dir))
    where = _where(newer.trace, older.trace, last)
    return DivergenceRecording(
        key=divergence.key,
        passes=last,
        repeated=_repeats(newer, divergence.other, last) and _repeats(older, divergence.mine, last),
        **where,
        # Compiled code is not seen to run; what calls it names its file nevertheless.
        changes=tuple(_change(change) for change in changes if change.ran or change.other_ran),
        same_functions=not changes,
    )


def _repeats(traced: Traced, known: Outcome, steps: int) -> bool:
    now, then = losses_of(traced.outcome)[:steps], losses_of(known)[:steps]
    return bool(now) and list(map(repr, now)) == list(map(repr, then))


def _where(newer: Trace | None, older: Trace | None, passes: int) -> Where:
    """The stage, the step, the first module that differs, and what else is known of it."""
    nowhere = Where(stage=TrainingStage.NONE, at=None, first=None, same_targets=None, within=None)
    if newer is None or older is None:
        return nowhere
    for number in range(passes):
        all_differences = differences(newer, older, number=number)
        first = next(
            (difference for difference in all_differences if difference.is_module and _computes_otherwise(difference)),
            None,
        )
        if first is None:
            continue
        if first.kind is DivergenceKind.WEIGHTS:
            # The weights of a pass are what the step before made of them.
            stage = TrainingStage.UPDATE if number else TrainingStage.START
            return Where(stage=stage, at=max(number, 1), first=_place(first), same_targets=None, within=None)
        stage = _stage(first, all_differences)
        return Where(
            stage=stage,
            at=number + 1,
            first=_place(first),
            same_targets=_same_targets(first) if stage is TrainingStage.DATA else None,
            within=_within(first, all_differences) if stage is TrainingStage.MODEL else None,
        )
    return nowhere


def _computes_otherwise(difference: Difference) -> bool:
    """Whether the training can go on otherwise from here: a metric that one release alone returns changes nothing."""
    if (
        difference.kind is DivergenceKind.OUTPUT_SHAPE
        and difference.mine
        and difference.other
        and difference.mine.output
        and difference.other.output
    ):
        return not difference.mine.output.equals_in_shared_names(difference.other.output)
    return difference.kind in VALUES | SHAPES


def _same_targets(first: Difference) -> bool | None:
    """Whether both calls of the model had the same target tokens."""
    if first.mine is None or first.other is None:
        return None
    mine, other = first.mine.argument(TARGETS), first.other.argument(TARGETS)
    return None if mine is None or other is None else mine.value.content == other.value.content


def _stage(first: Difference, all_differences: Sequence[Difference]) -> TrainingStage:
    if first.kind is DivergenceKind.GRADIENT:
        return TrainingStage.GRADIENT
    if first.kind in (DivergenceKind.INPUT_VALUE, DivergenceKind.INPUT_SHAPE) and not first.name:
        return TrainingStage.DATA
    drawn = any(
        difference.kind is DivergenceKind.RNG_STATE and difference.my_place == first.my_place and difference.is_module
        for difference in all_differences
    )
    return TrainingStage.DRAWS if first.kind is DivergenceKind.OUTPUT_VALUE and drawn else TrainingStage.MODEL


def _within(first: Difference, all_differences: Sequence[Difference]) -> RecordedPlace | None:
    """The innermost function whose arguments are the same and whose result is not, up to where the module ends."""
    differing = {
        difference.my_place
        for difference in all_differences
        if difference.kind in (DivergenceKind.INPUT_VALUE, DivergenceKind.INPUT_SHAPE)
    }
    for difference in all_differences:
        if difference.moment > first.moment:
            break
        if (
            not difference.is_module
            and difference.kind in (DivergenceKind.OUTPUT_VALUE, DivergenceKind.OUTPUT_SHAPE)
            and difference.my_place not in differing
        ):
            return _place(difference)
    return None


def _place(difference: Difference) -> RecordedPlace:
    call = difference.call
    # The model's own forward is watched by the harness, so that its place would be the harness's.
    code = call.place if call and call.file.startswith("funasr/") else ""
    return RecordedPlace(kind=str(difference.kind), name=difference.label, code=code, detail=difference.detail)


def _change(change: FunctionChange) -> RecordedEdit:
    older = [str(line.text) for edit in change.edits for line in edit.mine]
    newer = [str(line.text) for edit in change.edits for line in edit.other]
    return RecordedEdit(
        file=change.file,
        function=change.function,
        older=tuple(older[:MOST_EDITS]),
        newer=tuple(newer[:MOST_EDITS]),
        more=max(0, len(older) - MOST_EDITS) + max(0, len(newer) - MOST_EDITS),
    )
