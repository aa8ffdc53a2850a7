"""What the command says: of mistakes before anything is measured, and of a prediction."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from estimate_recordings import recording
from golden_files import assert_golden

from harness import cli
from harness.commands import estimate as command
from harness.commands.arguments import make_parser
from harness.core.cells import Depth, Dimensions, Precision, Release
from harness.core.errors import InputError, ReleaseError
from harness.performance.prediction import measure
from harness.performance.prediction.calibration import Calibration, read_calibration
from harness.performance.prediction.cards import GpuCard
from harness.performance.prediction.format import Fit, PredictionRequest, by_module, prediction_json, render_prediction
from harness.performance.prediction.measure import MeasureRequest, shallow, too_few
from harness.performance.prediction.predictor import Predictor, figures
from harness.performance.prediction.recording import BlockStack, StepRecording, StorageUse
from harness.performance.prediction.training_steps import optimizer_of
from harness.variants.catalogue import load_variant

USUAL = ("estimate", "--variant", "paraformer_streaming", "--dimensions", "v8404-h512", "--batch", "4")


@pytest.fixture(autouse=True)
def nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("the stack was looked at")

    monkeypatch.setattr(command, "cell_runner", refuse)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--variant", "parafromer_streaming"), 'there is no variant "parafromer_streaming"'),
        (("--dimensions", "8404x512"), "does not state dimensions"),
        (("--dimensions", "v8404-h510"), "do not divide a hidden size of 510"),
        (("--fit", "24 apples"), "no size of a GPU's memory"),
        (("--fit", "0GB"), "no size of a GPU's memory"),
        (("--seconds", "0"), "no length of an utterance"),
        (("--seconds", "nan"), "no length of an utterance"),
        (("--seconds", "4000"), "no length of an utterance"),
        (("--batch", "999999999"), "more than any card holds"),
        (("--batch-type", "token"), "no room for one utterance of 10 s"),
        (("--release", "9.9.9"), "no such release: 9.9.9"),
        (("--release", "all"), "releases"),
        (("--gpu", "an-h100"), 'no calibration of a GPU "an-h100"'),
    ],
)
def test_a_mistake_is_reported_in_one_sentence_before_anything_is_measured(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*USUAL, *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("error:") == 1


@pytest.mark.parametrize(
    "arguments", [("--batch", "0"), ("--batch", "-3"), ("--batch", "four"), ("--precision", "fp8")]
)
def test_a_batch_of_none_is_refused(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main([*USUAL, *arguments])
    assert left.value.code == 2


def test_a_batch_in_tokens_holds_as_many_utterances_as_fit_it() -> None:
    options = make_parser().parse_args([*USUAL, "--batch", "6000", "--batch-type", "token", "--seconds", "10"])
    question, asked, cards = command.read(options)
    assert (asked.utterances, cards) == (6, ())
    assert (question.frames, question.characters) == (167, 33)


@pytest.mark.parametrize(
    ("name", "depths"),
    [
        ("paraformer_streaming", {"encoder_conf.num_blocks": 6, "decoder_conf.att_layer_num": 5}),
        ("conformer", {"encoder_conf.num_blocks": 6, "decoder_conf.num_blocks": 6}),
        ("sense_voice", {"encoder_conf.num_blocks": 6, "encoder_conf.tp_blocks": 5}),
        ("uniasr", {"decoder_conf.num_blocks": 10, "decoder_conf.att_layer_num": 5, "encoder2_conf.num_blocks": 6}),
    ],
)  # fmt: skip
def test_as_many_blocks_are_measured_as_show_how_they_repeat(name: str, depths: dict[str, int]) -> None:
    assert depths.items() <= dict(shallow(load_variant(name), Depth.FULL).reduced).items()


def test_a_stack_that_is_shorter_than_its_config_says_is_measured_with_more_blocks() -> None:
    whole, short = (BlockStack(name="decoder.decoders", measured=count, full=count + 10) for count in (5, 4))
    all_there = BlockStack(name="encoder.encoders0", measured=1, full=1)
    assert too_few([whole, all_there]) == 0
    assert too_few([whole, short, all_there]) == 1
    reduced = dict(shallow(load_variant("contextual_paraformer"), Depth.FULL, 6).reduced)
    assert reduced["decoder_conf.att_layer_num"] == 6


def test_a_model_of_reduced_depth_is_measured_as_it_is() -> None:
    variant = load_variant("paraformer")
    assert shallow(variant, Depth.REDUCED) is variant


@pytest.fixture
def question() -> MeasureRequest:
    return MeasureRequest(
        release=Release(label="1.4.16", version="1.4.16", kind="wheel", filename="f.whl", sha256="0"),
        variant=load_variant("paraformer_streaming"),
        dimensions=Dimensions(vocab_size=8404, hidden_size=512),
        depth=Depth.FULL,
        precision=Precision.FP32,
        frames=167,
        characters=33,
    )


@pytest.fixture
def predictor(question: MeasureRequest) -> Predictor:
    adam = optimizer_of("adam", 0.0)
    assert adam is not None
    return Predictor(question=question, recording=StepRecording.from_json(recording(5, 50)), optimizer=adam)


ASKED = PredictionRequest(utterances=32, seconds=10.0, batch_type="example", stated=32)
CALIBRATED = Calibration(key="a-gpu", context_bytes=500 << 20, workspace_bytes=32 << 20, origin={"gpu": "a GPU"})


def test_the_text_tells_each_part_and_what_only_a_gpu_can_tell(predictor: Predictor) -> None:
    text = render_prediction(predictor, ASKED, [], None)
    for use in (
        StorageUse.WEIGHT,
        StorageUse.GRADIENT,
        StorageUse.OPTIMIZER,
        StorageUse.ACTIVATION,
        StorageUse.TEMPORARY,
        StorageUse.BATCH,
    ):
        assert use.value in text
    assert "not calibrated, not measured on a GPU" in text
    assert "context and workspaces: not measured on a GPU" in text
    assert "doubtful" not in text


def test_activations_are_reported_by_the_module_whose_blocks_made_them(predictor: Predictor) -> None:
    found = by_module({"encoder.encoders": 5, "encoder.encoders0": 2, "decoder.decoders": 9, "": 8})
    assert list(found.items()) == [("decoder's blocks", 9), ("elsewhere", 8), ("encoder's blocks", 7)]
    lines = render_prediction(predictor, ASKED, [], None).splitlines()
    (place,) = [number for number, line in enumerate(lines) if line.startswith("activations ")]
    assert [line.split("  ")[0] for line in lines[place + 1 : place + 3]] == ["- blocks's blocks", "- elsewhere"]


def test_json_tells_bytes_and_null_for_what_is_not_known(predictor: Predictor) -> None:
    data = json.loads(json.dumps(prediction_json(predictor, ASKED, [], None)))
    assert data["predicted_allocated_bytes"] == predictor.at(32).allocated
    assert data["predicted_allocated_bytes"] == sum(data["parts_at_peak_bytes"].values())
    assert sum(data["activations_at_peak_bytes"].values()) == data["parts_at_peak_bytes"]["activations"]
    assert data["optimizer_state_bytes"] == 2 * data["gradient_bytes"] == 2 * data["weights_bytes"]
    assert data["context_bytes"] is None
    assert data["calibration"] is None
    assert data["fit"] == []


def test_a_calibration_adds_the_workspaces_and_is_named(predictor: Predictor) -> None:
    found = predictor.at(32)
    assert figures(found, CALIBRATED)["predicted_allocated_bytes"] == found.allocated + (32 << 20)
    assert figures(found)["predicted_reserved_bytes"] == found.reserved
    text = render_prediction(predictor, ASKED, [], CALIBRATED)
    assert "calibrated with a-gpu" in text
    assert "500 MiB and 32 MiB, measured on a GPU" in text
    assert "not measured" not in text


def test_the_batch_that_fits_is_the_last_one_that_does(predictor: Predictor) -> None:
    card = GpuCard.parse("24GB")
    utterances = predictor.largest(card, None)
    room = card.size - card.margin
    assert predictor.at(utterances).reserved <= room < predictor.at(utterances + 1).reserved
    assert predictor.largest(card, CALIBRATED) < utterances
    fit = Fit(card=card, utterances=utterances, account=predictor.at(utterances))
    text = render_prediction(predictor, ASKED, [fit], None)
    assert f"holds {utterances} utterances of 10 s at most" in text
    assert f"batch_size={utterances * 1000:,}" in text
    assert "margin: 2,289 MiB (10% of the card) are left free" in text
    assert prediction_json(predictor, ASKED, [fit], None)["fit"][0]["tokens"] == utterances * 1000


def test_a_card_that_holds_not_even_one_utterance_is_reported(predictor: Predictor) -> None:
    heavy = [replace(one, size=400 * one.size) for one in predictor.recording.parameters]
    predictor.recording = replace(predictor.recording, parameters=tuple(heavy))
    card = GpuCard.parse("24GB")
    assert predictor.largest(card, None) == 0
    text = render_prediction(predictor, ASKED, [Fit(card=card, utterances=0, account=None)], None)
    assert "does not hold a training step of even one utterance" in text


def test_what_is_doubtful_is_reported(predictor: Predictor) -> None:
    data = recording(5, 50)
    segment = next(one for one in data["steps"][0] if one["stack"] == "blocks" and one["index"] == 2)
    segment["events"].extend([[9999, 123_456], [9999]])
    predictor.recording = StepRecording.from_json(data)
    assert predictor.doubts == ("blocks of blocks differ from each other in a batch of 2",)


def test_gradients_that_got_lost_on_the_way_are_reported(predictor: Predictor) -> None:
    predictor.at(8)
    assert predictor.doubts == ()
    data = recording(5, 50)
    for step in data["steps"]:
        (outside,) = [one for one in step if one["kind"] == "backward" and one["stack"] is None][-1:]
        segment = next(one for one in step if one["kind"] == "backward" and one["index"] == 2)
        outside["events"].append(segment["events"].pop(0))
    lost = Predictor(
        question=predictor.question, recording=StepRecording.from_json(data), optimizer=predictor.optimizer
    )
    lost.at(8)
    assert "not as large as its parameters" in " ".join(lost.doubts)


def test_several_cards_are_reported_one_after_the_other(predictor: Predictor) -> None:
    options = make_parser().parse_args([*USUAL, "--fit", "16GB", "--fit", "80GiB"])
    _, _, cards = command.read(options)
    fits = [command._fit(predictor, card, None) for card in cards]
    small, large = (fit.utterances for fit in fits)
    assert 0 < small < large
    text = render_prediction(predictor, ASKED, fits, None)
    assert text.index("a card of 16GB") < text.index("a card of 80GiB")
    assert [one["utterances"] for one in prediction_json(predictor, ASKED, fits, None)["fit"]] == [small, large]
    assert_golden("estimate.txt", text + "\n")


def test_an_optimizer_without_a_rule_is_refused(question: MeasureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    variant = replace(question.variant, config={**question.variant.config, "optim": "lbfgs"})
    with pytest.raises(InputError, match='trained with "lbfgs"'):
        Predictor.of(replace(question, variant=variant), context=None)  # type: ignore[arg-type]


def test_a_calibration_is_read_from_its_baseline(tmp_path: Path) -> None:
    folder = tmp_path / "a-gpu"
    folder.mkdir()
    (folder / "calibration.json").write_text('{"context_bytes": 5, "workspace_bytes": 6, "origin": {"gpu": "x"}}')
    found = read_calibration(tmp_path, "a-gpu")
    assert (found.context_bytes, found.workspace_bytes, found.origin) == (5, 6, {"gpu": "x"})
    with pytest.raises(InputError, match="there are a-gpu"):
        read_calibration(tmp_path, "../a-gpu")


@pytest.mark.parametrize("text", ["", "[]", '{"context_bytes": 5}', '{"context_bytes": "5", "workspace_bytes": 1}'])
def test_a_damaged_calibration_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a-gpu").mkdir()
    (tmp_path / "a-gpu" / "calibration.json").write_text(text)
    with pytest.raises(InputError, match="is no calibration"):
        read_calibration(tmp_path, "a-gpu")


def test_a_release_that_cannot_make_the_step_is_named_with_its_failure(question: MeasureRequest) -> None:
    from harness.core.cells import Cell, Check, Device, Failure, Outcome, Status

    cell = Cell(
        release="1.0.12", variant="paraformer_streaming", dimensions=question.dimensions, depth=Depth.REDUCED,
        check=Check.LOSS_CONTRACT, entry=None, device=Device.CPU, precision=Precision.FP32,
    )  # fmt: skip
    failure = Failure(type="AssertionError", message="m", frames=(), signature="AssertionError@f.py:forward")
    outcome = Outcome(cell=cell, status=Status.FAILED, reason="AssertionError in f.py:forward: m", failure=failure)
    with pytest.raises(
        ReleaseError, match=r"cannot be trained, so there is nothing to predict: AssertionError in f\.py"
    ):
        measure._read(outcome, question)
    absent = replace(outcome, status=Status.SKIPPED, reason="trainer.py has no use_bf16", failure=None)
    with pytest.raises(
        ReleaseError, match=r"nothing to predict for FunASR 1\.4\.16.* in fp32: trainer\.py has no use_bf16"
    ):
        measure._read(absent, question)
