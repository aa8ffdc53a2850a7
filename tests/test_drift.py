"""Groups of equal curves, where they part, and which causes are named: only those that the evidence supports."""

from __future__ import annotations

from pathlib import Path

import pytest
from drift_scene import LOSSES, broken_off, lane_of, parting_of, recording_of, tuned_to

from harness.compare.drift.causes import Sort, cause_of
from harness.compare.drift.curves import curve_series, relation
from harness.compare.drift.evidence import curve_divergences
from harness.compare.drift.format import told
from harness.compare.drift.recordings import RecordedPlace, TrainingStage
from harness.compare.drift.storing import DRIFT, add_recording, load_recordings
from harness.core.errors import StoreError

OTHER = (9.0, 8.5, 8.1, 7.5)


def text(cause) -> str:
    return " ".join(cause.sentences)


def test_releases_with_equal_losses_are_one_group() -> None:
    lane = lane_of(tuned_to("1.4.1"), tuned_to("1.4.0"), tuned_to("1.4.2", OTHER))
    assert [stretch.releases for stretch in lane.stretches] == [("1.4.0", "1.4.1"), ("1.4.2",)]


def test_a_curve_that_differs_in_the_last_digit_parts_and_the_step_is_named() -> None:
    parting = parting_of(tuned_to("1.4.0", (9.0, 0.3)), tuned_to("1.4.1", (9.0, 0.1 + 0.2)))
    assert parting.loss is not None
    assert (parting.loss.step, parting.loss.mine, parting.loss.other) == (2, 0.3, 0.1 + 0.2)
    assert "equal to the last digit for 1 step" in text(cause_of(parting, None))


def test_the_same_nan_is_no_parting() -> None:
    assert len(lane_of(tuned_to("1.4.0", (9.0, "nan")), tuned_to("1.4.1", (9.0, "nan"))).stretches) == 1


def test_trainers_are_told_apart_and_a_curve_that_comes_back_is_told() -> None:
    ds = tuned_to("1.4.0", entry="train_ds")
    by_name = {
        lane.name: lane for lane in curve_series([tuned_to("1.4.0"), tuned_to("1.4.1", OTHER), tuned_to("1.4.2"), ds])
    }
    assert [len(lane.stretches) for lane in by_name.values()] == [3, 1]
    lane = next(iter(by_name.values()))
    assert relation(lane, 2) == ("the curve of 1.4.0 again",)
    assert len(curve_divergences(lane)) == 2


def test_releases_without_a_curve_between_two_groups_are_named() -> None:
    lane = lane_of(tuned_to("1.4.0"), tuned_to("1.4.1", ()), tuned_to("1.4.2", OTHER))
    (parting,) = curve_divergences(lane)
    assert parting.between == ("1.4.1",)
    said = "\n".join(told(lane, {1: parting}, {}, published=(), matrix="m.toml"))
    assert "Without a curve between the two: 1.4.1." in said


def test_another_number_of_steps_with_the_same_losses_is_told_as_that_with_the_dialect() -> None:
    note = "one epoch more is run than asked for"
    cause = cause_of(parting_of(tuned_to("1.4.0", dialect=[note]), tuned_to("1.4.1", LOSSES[:3])), None)
    assert (cause.sort, cause.weight) == (Sort.STEPS, "feeding or schedule")
    assert "equal to the last digit for all 3 steps that both take" in text(cause)
    assert "1.4.0 takes 4 steps, 1.4.1 3." in text(cause)
    assert f"Only 1.4.0: {note}." in text(cause)


def test_a_training_that_breaks_off_is_no_other_schedule() -> None:
    cause = cause_of(parting_of(tuned_to("1.4.0"), broken_off("1.4.1")), None)
    assert (cause.sort, cause.weight) == (Sort.BROKE_OFF, "a failure")
    assert "The training of 1.4.1 breaks off after 1 step" in text(cause)


def test_a_learning_rate_that_differs_first_and_alone_is_the_cause() -> None:
    rates = [0.001, 0.002, 0.003, 0.004], [0.001, 0.0025, 0.003, 0.004]
    before, after = tuned_to("1.4.0", learning_rates=rates[0]), tuned_to("1.4.1", OTHER, learning_rates=rates[1])
    cause = cause_of(parting_of(before, after), None)
    assert cause.sort is Sort.SCHEDULE
    assert "the learning rate differs first, at step 2 (0.002 against 0.0025" in text(cause)


def test_a_learning_rate_that_differs_beside_something_earlier_is_not_named_as_the_cause() -> None:
    rates = [0.001, 0.002, 0.003, 0.004], [0.001, 0.0025, 0.003, 0.004]
    norms = [3.0, 3.0, 3.0, 3.0], [3.1, 3.0, 3.0, 3.0]
    before = tuned_to("1.4.0", learning_rates=rates[0], gradient_norms=norms[0])
    after = tuned_to("1.4.1", OTHER, learning_rates=rates[1], gradient_norms=norms[1])
    cause = cause_of(parting_of(before, after), None)
    assert (cause.sort, cause.explained) == (Sort.UNKNOWN, False)
    assert "The figures alone do not say why. Besides the loss differ first: gradient norm at step 1" in text(cause)


def test_gradients_that_part_before_any_loss_are_told() -> None:
    norms = [3.0, 3.0, 3.0, 3.0], [3.0, 3.1, 3.0, 3.0]
    before, after = tuned_to("1.4.0", gradient_norms=norms[0]), tuned_to("1.4.1", OTHER, gradient_norms=norms[1])
    cause = cause_of(parting_of(before, after), None)
    assert cause.sort is Sort.GRADIENT
    assert "In step 2 everything that was measured of the forward pass is equal" in text(cause)


def test_other_utterances_in_the_batch_are_told_where_the_targets_are_known() -> None:
    rows = [[1, 2], [3]]
    before = tuned_to("1.4.0", targets={"rows": rows, "steps": [[[0]], [[1]], [[0]], [[1]]]})
    after = tuned_to("1.4.1", OTHER, targets={"rows": rows, "steps": [[[0]], [[1]], [[1]], [[1]]]})
    parting = parting_of(before, after)
    assert parting.same_rows is False
    assert cause_of(parting, None).sort is Sort.ROWS
    assert parting_of(before, tuned_to("1.4.1", OTHER)).same_rows is None


def test_a_module_that_parts_is_named_with_what_changed_in_its_file_and_nothing_else() -> None:
    parting = parting_of(tuned_to("1.4.0"), tuned_to("1.4.1", OTHER))
    cause = cause_of(parting, recording_of(parting))
    assert (cause.sort, cause.weight) == (Sort.MODEL, "computation")
    assert "`predictor` (funasr/models/paraformer/cif_predictor.py:202) is the first module to part" in text(cause)
    assert (
        "Of what ran there one function changed: CifPredictorV2.forward (funasr/models/paraformer/cif_predictor.py)."
        in text(cause)
    )
    assert [change.function for change in cause.changes] == ["CifPredictorV2.forward"]
    said = "\n".join(
        told(
            lane_of(parting.mine, parting.other),
            {1: parting},
            {parting.key: recording_of(parting)},
            published=(),
            matrix="m.toml",
        )
    )
    assert "+ acoustic_embeds = cif_v1(hidden)" in said


def test_a_module_in_whose_file_nothing_changed_is_given_no_cause() -> None:
    parting = parting_of(tuned_to("1.4.0"), tuned_to("1.4.1", OTHER))
    place = RecordedPlace(kind="output_value", name="decoder", code="funasr/models/paraformer/decoder.py:9", detail="")
    cause = cause_of(parting, recording_of(parting, first=place))
    assert cause.changes == ()
    assert "None of the functions that ran there changed; 2 changed elsewhere." in text(cause)


def test_where_no_function_that_ran_differs_that_is_said() -> None:
    parting = parting_of(tuned_to("1.4.0"), tuned_to("1.4.1", OTHER))
    cause = cause_of(parting, recording_of(parting, changes=(), same_functions=True))
    assert "No function of the release that ran differs between the two." in text(cause)


@pytest.mark.parametrize(
    ("stage", "sort", "changed"),
    [
        (TrainingStage.START, Sort.START, []),
        (TrainingStage.DATA, Sort.INPUT, ["apply_lfr"]),
        (TrainingStage.DRAWS, Sort.RANDOM, []),
        (TrainingStage.GRADIENT, Sort.GRADIENT, []),
        (TrainingStage.UPDATE, Sort.UPDATE, []),
    ],
)
def test_each_stage_looks_for_changes_where_it_lies(stage: TrainingStage, sort: Sort, changed: list[str]) -> None:
    parting = parting_of(tuned_to("1.4.0"), tuned_to("1.4.1", OTHER))
    cause = cause_of(parting, recording_of(parting, stage))
    assert cause.sort is sort
    assert [change.function for change in cause.changes] == changed


@pytest.mark.parametrize(("same", "sort"), [(True, Sort.INPUT), (False, Sort.ROWS), (None, Sort.INPUT)])
def test_other_tokens_to_say_mean_other_utterances(same: bool | None, sort: Sort) -> None:
    parting = parting_of(tuned_to("1.4.0"), tuned_to("1.4.1", OTHER))
    assert cause_of(parting, recording_of(parting, TrainingStage.DATA, same_targets=same)).sort is sort


def test_a_recording_that_does_not_differ_explains_nothing() -> None:
    parting = parting_of(tuned_to("1.4.0"), tuned_to("1.4.1", OTHER))
    cause = cause_of(parting, recording_of(parting, TrainingStage.NONE, at=None, first=None))
    assert cause.sort is Sort.UNKNOWN
    assert "Recorded for 1 step, the two do not differ." in text(cause)


def test_a_recording_whose_losses_are_others_than_the_runs_says_so() -> None:
    parting = parting_of(tuned_to("1.4.0"), tuned_to("1.4.1", OTHER))
    assert "other settings than the run" in text(cause_of(parting, recording_of(parting, repeated=False)))


def test_recordings_are_kept_beside_the_run_and_come_back_as_they_were(tmp_path: Path) -> None:
    parting = parting_of(tuned_to("1.4.0"), tuned_to("1.4.1", OTHER))
    recording = recording_of(parting)
    add_recording(tmp_path, recording_of(parting, TrainingStage.NONE, at=None, first=None))
    add_recording(tmp_path, recording)
    assert load_recordings(tmp_path) == {parting.key: recording}
    (tmp_path / DRIFT).write_text('{"schema": 2}')
    with pytest.raises(StoreError, match="schema 2"):
        load_recordings(tmp_path)


def test_a_recording_counts_for_both_trainers_while_the_curves_are_the_same_and_no_longer() -> None:
    one = parting_of(tuned_to("1.4.0"), tuned_to("1.4.1", OTHER))
    ds = parting_of(tuned_to("1.4.0", entry="train_ds"), tuned_to("1.4.1", OTHER, entry="train_ds"))
    changed = parting_of(tuned_to("1.4.0"), tuned_to("1.4.1", (9.0, 1.0)))
    assert one.key == ds.key
    assert one.key != changed.key
