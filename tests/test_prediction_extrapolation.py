"""Carrying a recording to more blocks and to larger batches gives what would have been measured there."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from typing import Any

import pytest
from estimate_recordings import ACTIVATION, INPUT, OUTPUT, WEIGHT, recording

from harness.performance.prediction.account import Account, account
from harness.performance.prediction.batches import BatchPair, CarryError
from harness.performance.prediction.depth import deepen, uneven_blocks
from harness.performance.prediction.predictor import Predictor
from harness.performance.prediction.recording import (
    BlockStack,
    End,
    Step,
    StepRecording,
    StorageUse,
    measured_name,
    standing_for,
)
from harness.performance.prediction.training_steps import changes, optimizer_of

ADAM = optimizer_of("adam", 0.0)
assert ADAM is not None


def read(blocks: int, full: int, batches: tuple[int, ...] = (2, 3), **more: Any) -> StepRecording:
    return StepRecording.from_json(recording(blocks, full, batches, **more))


def counted(one: StepRecording, step: Step) -> Account:
    assert ADAM is not None
    return account(changes(one, step, ADAM))


def told(step: Step) -> list[object]:
    """A step as it can be compared; in which order things are freed at once does not matter."""
    found: list[object] = []
    for segment in step:
        found.append(segment.label)
        for freed, group in groupby(segment.events, key=lambda event: isinstance(event, End)):
            events = list(group)
            found.append(sorted(map(str, events)) if freed else events)
    return found


@pytest.mark.parametrize("full", [6, 7, 12, 50])
@pytest.mark.parametrize("blocks", [5, 6, 7])
def test_a_step_with_more_blocks_is_event_for_event_the_measured_one(blocks: int, full: int) -> None:
    if full < blocks:
        return
    shallow, deep = read(blocks, full), read(full, full)
    assert told(deepen(shallow.steps[2], shallow.stacks)) == told(deep.steps[2])


def widened_later(blocks: int, full: int, *, per_utterance: bool = False) -> StepRecording:
    """A step of half precision whose gradients are widened all at once, after the last block's backward pass."""
    data, made = recording(blocks, full), 50_000
    for step in data["steps"]:
        outside = [one for one in step if one["kind"] == "backward" and one["stack"] is None][-1]
        update = step[-1]
        for segment in [one for one in step if one["kind"] == "backward" and one["stack"] == "blocks"]:
            half = segment["events"][0]
            half[1] = WEIGHT // 2
            update["events"].remove([half[0]])
            made += 1
            outside["events"] += [[made, WEIGHT], [half[0]]]
            update["events"].append([made])
    for size, step in zip(data["batches"] if per_utterance else (), data["steps"], strict=per_utterance):
        outside = [one for one in step if one["kind"] == "backward" and one["stack"] is None][-1]
        for _ in range(size):
            made += 1
            outside["events"] += [[made, 500_000], [made]]
    return StepRecording.from_json(data)


def test_gradients_that_are_made_of_all_blocks_at_once_are_repeated_too() -> None:
    shallow, deep = widened_later(5, 12), widened_later(12, 12)
    one = counted(shallow, deepen(shallow.steps[2], shallow.stacks))
    other = counted(deep, deep.steps[2])
    assert one.gradients == other.gradients > 12 * WEIGHT
    assert one.requested == other.requested
    assert one.by_phase["update"] == pytest.approx(other.by_phase["update"], rel=0.01)
    assert one.unmatched == 0


@pytest.mark.parametrize("utterances", [4, 40])
def test_they_are_repeated_where_their_segment_is_given_by_its_sum(utterances: int) -> None:
    """A loop over the utterances in the same segment, before a larger batch and the full depth are told."""
    one = widened_later(5, 12, per_utterance=True)
    predictor = Predictor(question=None, recording=one, optimizer=ADAM)  # type: ignore[arg-type]
    assert predictor.at(2).gradients > 12 * WEIGHT
    # In a sum each tensor's own rounding is not there.
    assert predictor.at(utterances).gradients == pytest.approx(predictor.at(2).gradients, rel=1e-3)
    assert predictor.doubts == ()


def test_too_few_blocks_are_not_carried() -> None:
    with pytest.raises(ValueError, match="4 blocks were measured, 5 are needed"):
        deepen(read(4, 9).steps[2], read(4, 9).stacks)


def test_blocks_that_differ_are_reported() -> None:
    data = recording(5, 9)
    segment = next(one for one in data["steps"][0] if one["stack"] == "blocks" and one["index"] == 2)
    segment["events"].extend([[9999, 123_456], [9999]])
    one = StepRecording.from_json(data)
    assert uneven_blocks(one.steps[2], one.stacks) == ("blocks",)
    assert uneven_blocks(one.steps[3], one.stacks) == ()


@pytest.mark.parametrize("utterances", [2, 3, 4, 9, 40])
def test_a_larger_batch_is_reported_from_two_small_ones(utterances: int) -> None:
    one = read(5, 20)
    carried = BatchPair(small=one.steps[2], large=one.steps[3], sizes=(2, 3)).at(utterances)
    measured = read(5, 20, (utterances, utterances + 1)).steps[utterances]
    assert told(carried) == told(measured)


@pytest.mark.parametrize("utterances", [4, 9, 40])
def test_tensors_made_in_a_loop_over_the_utterances_are_reported_by_their_sum(utterances: int) -> None:
    one = read(5, 20, per_utterance=True)
    other = read(5, 20, (utterances, utterances + 1), per_utterance=True)
    carried = deepen(BatchPair(small=one.steps[2], large=one.steps[3], sizes=(2, 3)).at(utterances), one.stacks)
    measured = deepen(other.steps[utterances], other.stacks)
    found, wanted = counted(one, carried), counted(other, measured)
    assert found.requested == pytest.approx(wanted.requested, rel=1e-6)
    assert found.unmatched == 0
    assert found.parts[StorageUse.ACTIVATION] == pytest.approx(wanted.parts[StorageUse.ACTIVATION], rel=1e-3)


def test_batches_that_go_different_ways_are_refused() -> None:
    one = read(5, 20)
    with pytest.raises(CarryError, match="other code of the model"):
        BatchPair(small=one.steps[2], large=one.steps[3][:-1], sizes=(2, 3)).at(8)


def test_the_peak_and_its_parts_are_what_a_sum_says() -> None:
    blocks, size = 10, 40
    one = read(5, blocks)
    found = counted(one, deepen(BatchPair(small=one.steps[2], large=one.steps[3], sizes=(2, 3)).at(size), one.stacks))
    trained = (blocks + 1) * WEIGHT
    saved = size * (blocks * (ACTIVATION + OUTPUT + 70_000) + OUTPUT)
    assert found.phase == "forward"
    # In the last block a tensor passes where its output will be, beside what it keeps from the step before.
    passing = size * (ACTIVATION - OUTPUT)
    assert found.requested == 3 * trained + 4096 + size * INPUT + saved + passing
    assert found.parts[StorageUse.WEIGHT] == pytest.approx(trained + 4096, rel=1e-3)
    assert found.parts[StorageUse.OPTIMIZER] == pytest.approx(2 * trained, rel=1e-3)
    assert set(found.activations) == {"blocks", ""}, "those made in blocks are told from the front's"
    assert found.activations[""] == pytest.approx(size * OUTPUT, rel=1e-3)
    assert sum(found.activations.values()) == found.parts[StorageUse.ACTIVATION]
    assert found.allocated <= found.reserved


def test_with_a_small_batch_the_peak_is_in_the_optimizers_step() -> None:
    one = read(5, 10, (2, 3))
    small = replace(one, parameters=tuple(replace(each, size=200 * WEIGHT) for each in one.parameters))
    found = counted(small, deepen(one.steps[2], one.stacks))
    trained = sum(each.size for each in small.parameters)
    assert found.phase == "update"
    assert found.parts[StorageUse.TEMPORARY] == pytest.approx(trained, rel=1e-3)
    assert found.by_phase["update"] > found.by_phase["backward"]


def test_what_outlives_its_step_is_freed_by_the_next() -> None:
    one = read(5, 30)
    ends = [e.ref for segment in one.steps[3] for e in segment.events if isinstance(e, End) and e.ref.earlier]
    assert len(ends) == 6, "an attribute of each block, and the batch"
    assert counted(one, deepen(one.steps[3], one.stacks)).unmatched == 0


def test_a_tensor_that_is_never_freed_is_reported() -> None:
    data = recording(5, 9)
    for number, step in enumerate((data["before"], *data["steps"])):
        step[1]["events"].append([90_000 + number, 50_000])
    one = StepRecording.from_json(data)
    assert counted(one, deepen(one.steps[3], one.stacks)).unmatched == 1


def test_a_parameter_that_no_gradient_reaches_costs_its_weight_only() -> None:
    data = recording(5, 9)
    data["without_gradient"] = ["blocks.2.weight"]
    one = StepRecording.from_json(data)
    assert [each.name for each in one.parameters if not each.trained] == [
        f"blocks.{place}.weight" for place in range(2, 7)
    ]


def test_each_block_of_the_full_stack_has_one_that_stands_for_it() -> None:
    stack = BlockStack(name="a.b", measured=5, full=9)
    assert [standing_for(place, stack) for place in range(9)] == [0, 1, 2, 2, 2, 2, 2, 3, 4]
    assert measured_name("a.b.8.norm.weight", [stack]) == "a.b.4.norm.weight"
    assert measured_name("a.bc.8.norm.weight", [stack]) == "a.bc.8.norm.weight"


def test_a_recording_of_another_form_is_refused() -> None:
    with pytest.raises(ValueError, match="schema 2"):
        StepRecording.from_json({**recording(5, 9), "schema": 2})


@pytest.mark.parametrize(("name", "decay", "made"), [("adam", 0.0, 1), ("adam", 1e-6, 2), ("adamw", 0.01, 1)])
def test_the_optimizers_rule_counts_what_its_step_makes(name: str, decay: float, made: int) -> None:
    found = optimizer_of(name, decay)
    assert found is not None
    assert (found.kept, found.made) == (2, made)


def test_of_other_optimizers_no_rule_is_known() -> None:
    assert optimizer_of("lbfgs", 0.0) is None
