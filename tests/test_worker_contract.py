"""Construct and loss_contract: each fault that a model may have gives its own failure, a sound model passes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import tiny_release
from forked import Forked

from harness.worker.checks import dispatch, loss_contract
from harness.worker.release import batches

EVERY_FRAME = [[length, length] for length in batches.FRAMES]


def run(request: dict[str, Any]) -> dict[str, Any]:
    return dispatch.run(request)


@pytest.fixture(scope="module")
def install_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The miniature; running its `__init__` would be an error."""
    init = 'raise RuntimeError("the package was imported whole")'
    return tiny_release.write_release(tmp_path_factory.mktemp("release"), init=init)


def ask(forked: Forked, install_dir: Path, folder: Path, check: str, fault: str = "", **others: Any) -> dict[str, Any]:
    tiny_release.write_model_folder(folder, fault=fault, hidden_size=others.pop("built_with", tiny_release.HIDDEN_SIZE))
    answer: dict[str, Any] = forked(run, request=tiny_release.request(install_dir, check, folder, **others))
    return answer


def test_a_sound_model_is_built_for_its_vocabulary(forked: Forked, install_dir: Path, tmp_path: Path) -> None:
    answer = ask(forked, install_dir, tmp_path / "model", "construct")
    assert (answer["status"], answer["reason"], answer["failure"]) == ("passed", "", None)
    assert answer["metrics"] == {
        "parameters": 36 + 7 + 161,
        "parameters_by_group": {"encoder": 36, "predictor": 7, "decoder": 161},
    }
    assert answer["evidence"] == {
        "losses": [{"name": "criterion_att", "type": "LabelSmoothingLoss", "classes": 23}],
        "projections": [{"name": "decoder.output_layer", "in_features": 6, "out_features": 23}],
        "input_size": 5,
        "code": [
            "funasr/losses/label_smoothing_loss.py:LabelSmoothingLoss",
            "funasr/models/tiny.py:Decoder",
            "funasr/models/tiny.py:Tiny",
        ],
        "classes": {"model_classes/Tiny": "funasr.models.tiny:Tiny"},
        "findings": [],
    }
    assert answer["shims"] == ["import-what-is-needed"]


@pytest.mark.parametrize(
    ("fault", "signature", "reason"),
    [
        ("other_classes", "LossBuiltForOtherVocabulary@criterion_att",
         "criterion_att is built for 22 classes, the vocabulary has 23"),
        ("other_outputs", "ProjectionOfOtherWidth@decoder.output_layer",
         "decoder.output_layer outputs 24 scores, the vocabulary has 23"),
        ("no_loss", "NoLoss@model", "the model has no loss built for a number of classes"),
        ("no_projection", "NoProjection@model", "the model has no projection to the vocabulary"),
        ("unregistered", "Unregistered@heads",
         "the model holds heads outside its registered modules: nothing trains or saves it"),
        ("frozen_encoder", "Frozen@encoder", "requires_grad is off for encoder, and the config freezes nothing"),
        ("auto_model_raises", "KeyError@funasr/auto/auto_model.py:__init__",
         "KeyError in funasr/auto/auto_model.py:__init__: 'planted in AutoModel'"),
    ],
)  # fmt: skip
def test_a_model_that_does_not_fit_its_vocabulary_is_not_constructed(
    forked: Forked, install_dir: Path, tmp_path: Path, fault: str, signature: str, reason: str
) -> None:
    answer = ask(forked, install_dir, tmp_path / "model", "construct", fault)
    assert (answer["status"], answer["reason"]) == ("failed", reason)
    assert answer["failure"]["signature"] == signature


def test_a_model_of_another_hidden_size_is_not_constructed(forked: Forked, install_dir: Path, tmp_path: Path) -> None:
    answer = ask(forked, install_dir, tmp_path / "model", "construct", built_with=8)
    assert answer["reason"] == "decoder.output_layer takes 8 features, the hidden size is 6"
    assert answer["failure"]["signature"] == "ProjectionOfOtherWidth@decoder.output_layer"


def test_a_sound_model_keeps_the_contract(forked: Forked, install_dir: Path, tmp_path: Path) -> None:
    answer = ask(forked, install_dir, tmp_path / "model", "loss_contract")
    assert (answer["status"], answer["reason"], answer["failure"]) == ("passed", "", None)
    assert answer["evidence"] == {
        "loss_inputs": [{"name": "criterion_att", "classes": 23, "input_shape": [4, 8, 23], "width": 23}],
        "projection_calls": {"decoder.output_layer": 1},
        "frames_heard": dict.fromkeys(("features", "predictor", "decoder"), EVERY_FRAME),
        "classes": {"model_classes/Tiny": "funasr.models.tiny:Tiny"},
        "findings": [],
    }
    norms = answer["metrics"]["gradient_norm_by_group"]
    assert set(norms) == {"encoder", "predictor", "decoder"}
    assert all(math.isfinite(norm) and norm > 0 for norm in norms.values())
    assert 0 < answer["metrics"]["loss"] < 10


@pytest.mark.parametrize(
    ("fault", "signature", "reason"),
    [
        ("hidden_states", "AssertionError@funasr/losses/label_smoothing_loss.py:forward",
         "AssertionError in funasr/losses/label_smoothing_loss.py:forward: criterion_att was built for 23 classes"
         " and received tensors 6 wide (vocabulary 23)"),
        ("hidden_states_unnoticed", "LossWidth@criterion_att",
         "criterion_att was built for 23 classes and received tensors 6 wide (vocabulary 23)"),
        ("other_classes", "AssertionError@funasr/losses/label_smoothing_loss.py:forward",
         "AssertionError in funasr/losses/label_smoothing_loss.py:forward: criterion_att was built for 22 classes"
         " and received tensors 23 wide (vocabulary 23)"),
        ("other_outputs", "AssertionError@funasr/losses/label_smoothing_loss.py:forward",
         "AssertionError in funasr/losses/label_smoothing_loss.py:forward: criterion_att was built for 23 classes"
         " and received tensors 24 wide (vocabulary 23)"),
        ("loss_not_called", "LossNotCalled@model", "the forward pass called no classification loss"),
        ("nan", "LossNotFinite@model", "the loss is nan"),
        ("detached", "NoGradient@loss", "the loss is cut off from the model: it has no gradient"),
        ("frozen_encoder", "NoGradient@encoder", "after backward the encoder has no gradient"),
        ("encoder_without_gradient", "NoGradient@encoder", "after backward the encoder has no gradient"),
        ("unused", "NoGradient@spare.weight",
         "after backward 2 parameters have no gradient, such as spare.weight"),
        ("forward_raises", "IndexError@funasr/models/tiny.py:forward",
         "IndexError in funasr/models/tiny.py:forward: planted in forward"),
        ("encoder_zeroed", "NoGradient@encoder", "after backward the encoder has no gradient"),
    ],
)  # fmt: skip
def test_a_broken_contract_fails_with_its_own_signature(
    forked: Forked, install_dir: Path, tmp_path: Path, fault: str, signature: str, reason: str
) -> None:
    answer = ask(forked, install_dir, tmp_path / "model", "loss_contract", fault)
    assert (answer["status"], answer["reason"]) == ("failed", reason)
    assert answer["failure"]["signature"] == signature


@pytest.mark.parametrize(
    ("fault", "path", "heard"),
    [
        ("features_zeroed", "features", [0, 0, 0, 0]),
        # Each row has the frames of the one before it, as far as its own length goes.
        ("features_rolled", "features", [33, 28, 21, 21]),
        ("frame_repeated", "features", [1, 1, 1, 1]),
        ("frame_skipped", "features", [39, 33, 28, 21]),
        ("masks_everything", "features", [0, 0, 0, 0]),
        ("masks_the_third", "features", [39, 32, 27, 20]),
        ("memory_zeroed", "decoder", [0, 0, 0, 0]),
        ("memory_detached", "decoder", [0, 0, 0, 0]),
        ("first_frame_only", "decoder", [1, 1, 1, 1]),
        ("predictor_knows_lengths_only", "predictor", [0, 0, 0, 0]),
    ],
)
def test_frames_that_do_not_reach_the_loss_are_counted(
    forked: Forked, install_dir: Path, tmp_path: Path, fault: str, path: str, heard: list[int]
) -> None:
    answer = ask(forked, install_dir, tmp_path / "model", "loss_contract", fault)
    assert (answer["status"], answer["failure"]["signature"]) == ("failed", f"FramesUnheard@{path}")
    told = answer["evidence"]["frames_heard"]
    assert told.pop(path) == [[count, length] for count, length in zip(heard, batches.FRAMES, strict=True)]
    if path != "features":
        assert all(counts == EVERY_FRAME for counts in told.values())
    missing = [
        f"{length - count} of the {length} of utterance {row}"
        for row, (count, length) in enumerate(zip(heard, batches.FRAMES, strict=True))
        if count < length
    ]
    along = "" if path == "features" else f" along the {path}"
    frames = f"{sum(batches.FRAMES) - sum(heard)} of {sum(batches.FRAMES)} frames of speech"
    assert answer["reason"] == f"the loss does not depend{along} on {frames}: {', '.join(missing)}"


@pytest.mark.parametrize("fault", ["masks_sometimes", "hears_by_turns", "raises_at_times"])
def test_a_frame_that_is_left_out_in_one_pass_and_not_in_another_is_heard(
    forked: Forked, install_dir: Path, tmp_path: Path, fault: str
) -> None:
    answer = ask(forked, install_dir, tmp_path / "model", "loss_contract", fault)
    assert (answer["status"], answer["reason"]) == ("passed", "")
    assert answer["evidence"] == {
        "loss_inputs": [{"name": "criterion_att", "classes": 23, "input_shape": [4, 8, 23], "width": 23}],
        "projection_calls": {"decoder.output_layer": 1},
        "frames_heard": dict.fromkeys(("features", "predictor", "decoder"), EVERY_FRAME),
        "classes": {"model_classes/Tiny": "funasr.models.tiny:Tiny"},
        "findings": [],
    }


@pytest.mark.parametrize(("fault", "excused"), [("unused", ["spare.weight", "spare.bias"]), ("", [])])
def test_parameters_that_the_yaml_excuses_are_a_finding_where_no_gradient_reaches_them(
    forked: Forked, install_dir: Path, tmp_path: Path, fault: str, excused: list[str]
) -> None:
    folder = tiny_release.write_model_folder(tmp_path / "model", fault=fault)
    told = {"contract": {"without_loss": ["spare"]}}
    answer = forked(run, request=tiny_release.request(install_dir, "loss_contract", folder, **told))
    assert answer["status"] == "passed"
    found = answer["evidence"]["findings"]
    assert [one["detail"]["parameters"] for one in found] == ([excused] if excused else [])
    assert [(one["code"], one["place"]) for one in found] == [("parameters-without-gradient", "spare")] * bool(excused)


@pytest.mark.parametrize(
    ("ratio", "unreached"), [(0.0, ("decoder.embed",)), (0, ("decoder.embed",)), (0.75, ()), (None, ())]
)
def test_without_a_sampler_nothing_embeds_the_targets(ratio: float | None, unreached: tuple[str, ...]) -> None:
    assert (
        loss_contract.parameters_without_sampler({"model_conf": {} if ratio is None else {"sampling_ratio": ratio}})
        == unreached
    )


def test_a_loss_that_is_the_sum_of_its_parts_keeps_the_contract(
    forked: Forked, install_dir: Path, tmp_path: Path
) -> None:
    answer = ask(forked, install_dir, tmp_path / "model", "loss_contract", "tells_its_parts")
    assert (answer["status"], answer["reason"]) == ("passed", "")


def test_a_part_that_is_reported_and_left_out_of_the_loss_is_found(
    forked: Forked, install_dir: Path, tmp_path: Path
) -> None:
    answer = ask(forked, install_dir, tmp_path / "model", "loss_contract", "leaves_out_a_part")
    assert (answer["status"], answer["failure"]["signature"]) == ("failed", "LossNotTheSum@model")
    assert "0.5 * loss_pre 3 = " in answer["reason"]


def test_nothing_is_said_of_losses_that_the_model_does_not_report() -> None:
    parts = {"loss_att": 2.0, "loss_pre": 1.0}
    weights = {"ctc_weight": 0.0, "predictor_weight": 1.0}
    assert loss_contract.sum_misfit(3.0, parts, weights) is None
    assert loss_contract.sum_misfit(2.0, parts, weights) is not None
    assert loss_contract.sum_misfit(2.0, {"loss_att": 2.0}, weights) is None
    assert loss_contract.sum_misfit(2.0, parts, {}) is None
    assert loss_contract.sum_misfit(2.0, {**parts, "pre_loss_att": 1.0}, weights) is None
    assert loss_contract.sum_misfit(2.0, parts, {"ctc_weight": 0.5, "predictor_weight": 1.0}) is None
    both = {**parts, "loss_ctc": 4.0}
    assert loss_contract.sum_misfit(4.0, both, {"ctc_weight": 0.5, "predictor_weight": 1.0}) is None
    assert loss_contract.sum_misfit(3.0, both, {"ctc_weight": 0.5, "predictor_weight": 1.0}) is not None


def test_what_autograd_raises_is_the_releases_doing(forked: Forked, install_dir: Path, tmp_path: Path) -> None:
    answer = ask(forked, install_dir, tmp_path / "model", "loss_contract", "changed_in_place")
    assert answer["status"] == "failed"
    assert answer["failure"]["type"] == "RuntimeError"
    assert "modified by an inplace operation" in answer["reason"]
    assert answer["failure"]["signature"].startswith("RuntimeError@torch/")


@pytest.mark.parametrize("size", [tiny_release.HIDDEN_SIZE, tiny_release.VOCAB_SIZE])
def test_hidden_states_in_place_of_scores_are_found_at_any_width(
    forked: Forked, install_dir: Path, tmp_path: Path, size: int
) -> None:
    folder = tmp_path / "model"
    answer = ask(
        forked, install_dir, folder, "loss_contract", "hidden_states_unnoticed", built_with=size, hidden_size=size
    )
    signature = (
        "ProjectionNotCalled@decoder.output_layer" if size == tiny_release.VOCAB_SIZE else "LossWidth@criterion_att"
    )
    assert (answer["status"], answer["failure"]["signature"]) == ("failed", signature)
    assert answer["evidence"]["projection_calls"] == {"decoder.output_layer": 0}


def test_an_allocator_that_gives_up_is_no_failure_of_the_release(
    forked: Forked, install_dir: Path, tmp_path: Path
) -> None:
    answer = ask(forked, install_dir, tmp_path / "model", "loss_contract", "eats_memory")
    assert answer["status"] == "out_of_memory"
    assert "can't allocate memory" in answer["reason"]


def test_the_seed_decides_the_loss_to_the_last_digit(forked: Forked, install_dir: Path, tmp_path: Path) -> None:
    answers = [
        ask(forked, install_dir, tmp_path / f"model{number}", "loss_contract", seed=seed)
        for number, seed in enumerate((0, 0, 1))
    ]
    first, again, other = (answer["metrics"]["loss"] for answer in answers)
    assert first == again != other


def batch_of_shape(vocab_size: int) -> dict[str, Any]:
    batch = batches.make_batch(5, vocab_size, 0, "cpu")
    return {name: [list(tensor.shape), str(tensor.dtype), tensor.tolist()] for name, tensor in batch.items()}


def test_the_batch_is_one_that_the_collator_could_have_made(forked: Forked) -> None:
    batch = forked(batch_of_shape, vocab_size=23)
    frames, tokens = list(batches.FRAMES), list(batches.TOKENS)
    assert batch["speech"][:2] == [[4, max(frames), 5], "torch.float32"]
    assert batch["speech_lengths"] == [[4, 1], "torch.int32", [[length] for length in frames]]
    assert batch["text_lengths"] == [[4, 1], "torch.int32", [[length] for length in tokens]]
    shape, _, text = batch["text"]
    assert shape == [4, max(tokens)]
    for row, length in zip(text, tokens, strict=True):
        assert all(0 <= token < 23 for token in row[:length])
        assert row[length:] == [batches.PADDING] * (max(tokens) - length)
    assert {0, 22} <= set(text[0])
    for row, length in zip(batch["speech"][2], frames, strict=True):
        assert all(value == 0.0 for frame in row[length:] for value in frame)
