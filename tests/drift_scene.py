"""Runs with loss curves made up for the tests of drift: nothing in here was ever measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from report_factory import loss_failure, training, tuned

from harness.compare.drift.curves import CurveSeries, curve_series
from harness.compare.drift.divergences import CurveDivergence, curve_divergences
from harness.compare.drift.recordings import DivergenceRecording, RecordedEdit, RecordedPlace, TrainingStage
from harness.core.cells import Outcome, Status

LOSSES = (9.0, 8.5, 8.0, 7.5)


def tuned_to(release: str, losses: Sequence[float | str] = LOSSES, entry: str = "train", **metrics: Any) -> Outcome:
    """A fine-tune with these losses, and everything else equal unless it is given."""
    steps = len(losses)
    plain = {**training(steps=steps), "losses": list(losses), "stats": {}}
    options = metrics.pop("trainer_options", [])
    return tuned(
        release, entry, metrics={**plain, **metrics}, evidence={"entry_is_native": True, "trainer_options": options}
    )


def stopped_early(release: str, losses: Sequence[float] = LOSSES[:1]) -> Outcome:
    """A fine-tune that stopped after some steps."""
    one = tuned_to(release, losses)
    return replace(one, status=Status.FAILED, reason="it stopped", failure=loss_failure(1, 2))


def series_of(*outcomes: Outcome) -> CurveSeries:
    (series,) = curve_series(outcomes)
    return series


def divergence_of(before: Outcome, after: Outcome) -> CurveDivergence:
    (divergence,) = curve_divergences(series_of(before, after))
    return divergence


def recording_of(
    divergence: CurveDivergence, stage: TrainingStage = TrainingStage.MODEL, **fields: Any
) -> DivergenceRecording:
    """A recording in which a module parts, with one change in its file and one elsewhere."""
    given: dict[str, Any] = {
        "key": divergence.key,
        "passes": 1,
        "repeated": True,
        "stage": stage,
        "at": 1,
        "first": RecordedPlace(
            kind="output_value",
            name="predictor",
            code="funasr/models/paraformer/cif_predictor.py:202",
            detail="[4, 10, 320] with other values",
        ),
        "same_targets": None,
        "within": None,
        "changes": (
            RecordedEdit(
                file="funasr/models/paraformer/cif_predictor.py",
                function="CifPredictorV2.forward",
                older=("acoustic_embeds = cif(hidden)",),
                newer=("acoustic_embeds = cif_v1(hidden)",),
                more=0,
            ),
            RecordedEdit(
                file="funasr/frontends/wav_frontend.py", function="apply_lfr", older=("a",), newer=("b",), more=0
            ),
        ),
        "same_functions": False,
    }
    return DivergenceRecording(**{**given, **fields})
