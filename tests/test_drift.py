"""Groups of equal curves, where they part, and which causes are named: only those that the evidence supports."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from drift_scene import LOSSES, divergence_of, recording_of, series_of, stopped_early, tuned_to
from golden_files import assert_golden

from harness.compare.drift.analysis import drift_of
from harness.compare.drift.causes import DriftKind, cause_of
from harness.compare.drift.curves import curve_series, relation
from harness.compare.drift.divergences import curve_divergences
from harness.compare.drift.format import render_drift
from harness.compare.drift.recordings import DRIFT, RecordedPlace, TrainingStage, add_recording, load_recordings
from harness.core.errors import StoreError
from harness.core.versions import Order

OTHER = (9.0, 8.5, 8.1, 7.5)


def text(cause) -> str:
    return " ".join(cause.sentences)


def test_releases_with_equal_losses_are_one_group() -> None:
    series = series_of(tuned_to("1.4.1"), tuned_to("1.4.0"), tuned_to("1.4.2", OTHER))
    assert [segment.releases for segment in series.segments] == [("1.4.0", "1.4.1"), ("1.4.2",)]


def test_a_curve_that_differs_in_the_last_digit_parts_and_the_step_is_named() -> None:
    divergence = divergence_of(tuned_to("1.4.0", (9.0, 0.3)), tuned_to("1.4.1", (9.0, 0.1 + 0.2)))
    assert divergence.loss is not None
    assert (divergence.loss.step, divergence.loss.mine, divergence.loss.other) == (2, 0.3, 0.1 + 0.2)
    assert "bit-identical for 1 step" in text(cause_of(divergence, None))


def test_the_same_nan_is_no_divergence() -> None:
    assert len(series_of(tuned_to("1.4.0", (9.0, "nan")), tuned_to("1.4.1", (9.0, "nan"))).segments) == 1


def test_trainers_are_reported_apart_and_a_curve_that_comes_back_is_reported() -> None:
    ds = tuned_to("1.4.0", entry="train_ds")
    by_name = {
        series.name: series
        for series in curve_series([tuned_to("1.4.0"), tuned_to("1.4.1", OTHER), tuned_to("1.4.2"), ds])
    }
    assert [len(series.segments) for series in by_name.values()] == [3, 1]
    series = next(iter(by_name.values()))
    assert relation(series, 2) == ("the curve of 1.4.0 again",)
    assert len(curve_divergences(series)) == 2


def test_releases_without_a_curve_between_two_groups_are_named() -> None:
    outcomes = (tuned_to("1.4.0"), tuned_to("1.4.1", ()), tuned_to("1.4.2", OTHER))
    (divergence,) = curve_divergences(series_of(*outcomes))
    assert divergence.between == ("1.4.1",)
    found = drift_of(outcomes, Order.of(["1.4.0", "1.4.1", "1.4.2"], ["1.4.1.post1"]), {})
    assert found is not None
    (one,) = found.divergences
    assert (one.without_curve, one.unmeasured) == (("1.4.1",), ("1.4.1.post1",))


def test_another_number_of_steps_with_the_same_losses_is_reported_with_the_trainer_options() -> None:
    note = "one epoch more is run than asked for"
    cause = cause_of(divergence_of(tuned_to("1.4.0", trainer_options=[note]), tuned_to("1.4.1", LOSSES[:3])), None)
    assert (cause.kind, cause.weight) == (DriftKind.STEPS, "feeding or schedule")
    assert "bit-identical for all 3 steps that both take" in text(cause)
    assert "1.4.0 takes 4 steps, 1.4.1 3." in text(cause)
    assert f"Only 1.4.0: {note}." in text(cause)


def test_a_training_that_breaks_off_is_no_other_schedule() -> None:
    cause = cause_of(divergence_of(tuned_to("1.4.0"), stopped_early("1.4.1")), None)
    assert (cause.kind, cause.weight) == (DriftKind.STOPPED_EARLY, "a failure")
    assert "The training of 1.4.1 stops after 1 step" in text(cause)


def test_a_learning_rate_that_differs_first_and_alone_is_the_cause() -> None:
    rates = [0.001, 0.002, 0.003, 0.004], [0.001, 0.0025, 0.003, 0.004]
    before, after = tuned_to("1.4.0", learning_rates=rates[0]), tuned_to("1.4.1", OTHER, learning_rates=rates[1])
    cause = cause_of(divergence_of(before, after), None)
    assert cause.kind is DriftKind.SCHEDULE
    assert "the learning rate differs first, at step 2 (0.002 against 0.0025" in text(cause)


def test_a_learning_rate_that_differs_beside_something_earlier_is_not_named_as_the_cause() -> None:
    rates = [0.001, 0.002, 0.003, 0.004], [0.001, 0.0025, 0.003, 0.004]
    norms = [3.0, 3.0, 3.0, 3.0], [3.1, 3.0, 3.0, 3.0]
    before = tuned_to("1.4.0", learning_rates=rates[0], gradient_norms=norms[0])
    after = tuned_to("1.4.1", OTHER, learning_rates=rates[1], gradient_norms=norms[1])
    cause = cause_of(divergence_of(before, after), None)
    assert (cause.kind, cause.explained) == (DriftKind.UNKNOWN, False)
    assert (
        "The metrics alone do not say why. In addition to the loss, these differ first: gradient norm at step 1"
        in text(cause)
    )


def test_gradients_that_part_before_any_loss_are_reported() -> None:
    norms = [3.0, 3.0, 3.0, 3.0], [3.0, 3.1, 3.0, 3.0]
    before, after = tuned_to("1.4.0", gradient_norms=norms[0]), tuned_to("1.4.1", OTHER, gradient_norms=norms[1])
    cause = cause_of(divergence_of(before, after), None)
    assert cause.kind is DriftKind.GRADIENT
    assert "In step 2 every metric of the forward pass is equal" in text(cause)


def test_other_utterances_in_the_batch_are_reported_where_the_targets_are_known() -> None:
    rows = [[1, 2], [3]]
    before = tuned_to("1.4.0", targets={"rows": rows, "steps": [[[0]], [[1]], [[0]], [[1]]]})
    after = tuned_to("1.4.1", OTHER, targets={"rows": rows, "steps": [[[0]], [[1]], [[1]], [[1]]]})
    divergence = divergence_of(before, after)
    assert divergence.same_rows is False
    assert cause_of(divergence, None).kind is DriftKind.ROWS
    assert divergence_of(before, tuned_to("1.4.1", OTHER)).same_rows is None


def test_a_module_that_parts_is_named_with_what_changed_in_its_file_and_nothing_else() -> None:
    divergence = divergence_of(tuned_to("1.4.0"), tuned_to("1.4.1", OTHER))
    cause = cause_of(divergence, recording_of(divergence))
    assert (cause.kind, cause.weight) == (DriftKind.MODEL, "computation")
    assert "`predictor` (funasr/models/paraformer/cif_predictor.py:202) is the first module to differ" in text(cause)
    assert (
        "Of what ran there one function changed: CifPredictorV2.forward (funasr/models/paraformer/cif_predictor.py)."
        in text(cause)
    )
    assert [change.function for change in cause.changes] == ["CifPredictorV2.forward"]


def test_a_module_in_whose_file_nothing_changed_is_given_no_cause() -> None:
    divergence = divergence_of(tuned_to("1.4.0"), tuned_to("1.4.1", OTHER))
    place = RecordedPlace(kind="output_value", name="decoder", code="funasr/models/paraformer/decoder.py:9", detail="")
    cause = cause_of(divergence, recording_of(divergence, first=place))
    assert cause.changes == ()
    assert "None of the functions that ran there changed; 2 changed elsewhere." in text(cause)


def test_where_no_function_that_ran_differs_that_is_said() -> None:
    divergence = divergence_of(tuned_to("1.4.0"), tuned_to("1.4.1", OTHER))
    cause = cause_of(divergence, recording_of(divergence, changes=(), same_functions=True))
    assert "No function of the release that ran differs between the two." in text(cause)


@pytest.mark.parametrize(
    ("stage", "sort", "changed"),
    [
        (TrainingStage.START, DriftKind.START, []),
        (TrainingStage.DATA, DriftKind.INPUT, ["apply_lfr"]),
        (TrainingStage.DRAWS, DriftKind.RANDOM, []),
        (TrainingStage.GRADIENT, DriftKind.GRADIENT, []),
        (TrainingStage.UPDATE, DriftKind.UPDATE, []),
    ],
)
def test_each_stage_looks_for_changes_where_it_lies(stage: TrainingStage, sort: DriftKind, changed: list[str]) -> None:
    divergence = divergence_of(tuned_to("1.4.0"), tuned_to("1.4.1", OTHER))
    cause = cause_of(divergence, recording_of(divergence, stage))
    assert cause.kind is sort
    assert [change.function for change in cause.changes] == changed


@pytest.mark.parametrize(("same", "sort"), [(True, DriftKind.INPUT), (False, DriftKind.ROWS), (None, DriftKind.INPUT)])
def test_other_tokens_to_say_mean_other_utterances(same: bool | None, sort: DriftKind) -> None:
    divergence = divergence_of(tuned_to("1.4.0"), tuned_to("1.4.1", OTHER))
    assert cause_of(divergence, recording_of(divergence, TrainingStage.DATA, same_targets=same)).kind is sort


def test_a_recording_that_does_not_differ_explains_nothing() -> None:
    divergence = divergence_of(tuned_to("1.4.0"), tuned_to("1.4.1", OTHER))
    cause = cause_of(divergence, recording_of(divergence, TrainingStage.NONE, at=None, first=None))
    assert cause.kind is DriftKind.UNKNOWN
    assert "Recorded for 1 step, the two do not differ." in text(cause)


def test_a_recording_whose_losses_are_others_than_the_runs_says_so() -> None:
    divergence = divergence_of(tuned_to("1.4.0"), tuned_to("1.4.1", OTHER))
    assert "other settings than the run" in text(cause_of(divergence, recording_of(divergence, repeated=False)))


def test_recordings_are_kept_beside_the_run_and_come_back_as_they_were(tmp_path: Path) -> None:
    divergence = divergence_of(tuned_to("1.4.0"), tuned_to("1.4.1", OTHER))
    recording = recording_of(divergence)
    add_recording(tmp_path, recording_of(divergence, TrainingStage.NONE, at=None, first=None))
    add_recording(tmp_path, recording)
    assert load_recordings(tmp_path) == {divergence.key: recording}
    (tmp_path / DRIFT).write_text('{"schema": 2}')
    with pytest.raises(StoreError, match="schema 2"):
        load_recordings(tmp_path)


def test_a_recording_counts_for_both_trainers_while_the_curves_are_the_same_and_no_longer() -> None:
    one = divergence_of(tuned_to("1.4.0"), tuned_to("1.4.1", OTHER))
    ds = divergence_of(tuned_to("1.4.0", entry="train_ds"), tuned_to("1.4.1", OTHER, entry="train_ds"))
    changed = divergence_of(tuned_to("1.4.0"), tuned_to("1.4.1", (9.0, 1.0)))
    assert one.key == ds.key
    assert one.key != changed.key


def test_the_output_of_drift() -> None:
    outcomes = [
        tuned_to("1.4.0"),
        tuned_to("1.4.1"),
        tuned_to("1.4.1", entry="train_ds"),
        tuned_to("1.4.2", ()),
        tuned_to("1.4.4", OTHER),
        tuned_to("1.4.4", OTHER, entry="train_ds"),
        tuned_to("1.4.5", OTHER[:3]),
        tuned_to("1.4.6"),
        stopped_early("1.4.7"),
    ]
    first = divergence_of(tuned_to("1.4.1"), tuned_to("1.4.4", OTHER))
    order = Order.of({one.cell.release for one in outcomes}, ["1.4.3"])
    found = drift_of(outcomes, order, {first.key: recording_of(first)})
    assert found is not None
    assert [(one.number, len(one.series), one.cause.kind) for one in found.divergences] == [
        (1, 2, DriftKind.MODEL),
        (2, 1, DriftKind.STEPS),
        (3, 1, DriftKind.UNKNOWN),
        (4, 1, DriftKind.STOPPED_EARLY),
    ]
    assert [one.number for one in found.divergences if one.can_be_recorded] == [3]
    assert_golden("drift.txt", render_drift(found, matrix="m.toml") + "\n")
    record = found.to_json()
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert [one["kind"] for one in record["divergences"]] == ["model", "steps", "unknown", "stopped_early"]
