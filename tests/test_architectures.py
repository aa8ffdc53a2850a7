"""The architectures that the harness brings along: what their files state, and what the contract sees of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_release
import yaml
from forked import Forked
from test_variants import COMMON, DECODER, ENCODER, changed, own_file

from harness.core.cells import Depth, Dimensions
from harness.core.errors import VariantError
from harness.variants.architecture import look_up
from harness.variants.catalogue import available, load_variant
from harness.variants.variant import dimension_problems, render
from harness.worker.checks import dispatch
from harness.worker.release import importer, shims
from harness.worker.release.batches import FRAMES, TOKENS, make_batch

OTHERS = tuple(name for name in available() if name not in ("paraformer", "paraformer_streaming"))
CONTEXTUAL, HYBRID = "contextual_paraformer", "conformer"

# Typed from upstream's templates: what each has that its next of kin has not.
OFFLINE = {
    **COMMON,
    "encoder": "SANMEncoder",
    "encoder_conf": {**ENCODER, "input_layer": "pe"},
    "decoder_conf": {**DECODER, "sanm_shfit": 0},
    "frontend": "WavFrontend",
    "train_conf": {
        "accum_grad": 1,
        "grad_clip": 5,
        "max_epoch": 150,
        "val_scheduler_criterion": ["valid", "acc"],
        "best_model_criterion": [["valid", "acc", "max"]],
        "keep_nbest_models": 10,
        "log_interval": 50,
    },
}
FINER_PREDICTOR = {
    **COMMON["predictor_conf"],  # type: ignore[dict-item]
    "smooth_factor2": 0.25,
    "noise_threshold2": 0.01,
    "upsample_times": 3,
    "use_cif1_cnn": False,
    "upsample_type": "cnn_blstm",
}


def shape_of(name: str, hidden_size: int = 320) -> Dimensions:
    return Dimensions(vocab_size=25055 if name == "sense_voice" else 8404, hidden_size=hidden_size)


def test_bicif_is_upstreams_template_key_by_key() -> None:
    wanted = {**OFFLINE, "model": "BiCifParaformer", "predictor": "CifPredictorV3", "predictor_conf": FINER_PREDICTOR}
    config = render(load_variant("bicif_paraformer"), dimensions=shape_of("", 512), depth=Depth.FULL)
    assert changed(config, wanted) == set()


def test_the_contextual_model_is_upstreams_template_key_by_key() -> None:
    conf = {**COMMON["model_conf"], "inner_dim": 512}  # type: ignore[dict-item]
    wanted = {**OFFLINE, "model": "ContextualParaformer", "model_conf": conf, "decoder": "ContextualParaformerDecoder"}
    config = render(load_variant(CONTEXTUAL), dimensions=shape_of("", 512), depth=Depth.FULL)
    assert changed(config, wanted) == set()


def test_conformer_has_the_numbers_of_upstreams_template() -> None:
    config = render(load_variant(HYBRID), dimensions=shape_of("", 256), depth=Depth.FULL)
    assert config["model_conf"] == {"ctc_weight": 0.3, "lsm_weight": 0.1, "length_normalized_loss": False}
    assert (
        config["encoder_conf"] | {"output_size": 256, "num_blocks": 12, "linear_units": 2048} == config["encoder_conf"]
    )
    assert config["decoder"] == "TransformerDecoder"
    assert config["decoder_conf"]["num_blocks"] == 6
    assert (config["frontend_conf"]["lfr_m"], config["frontend_conf"]["lfr_n"]) == (1, 1)


@pytest.mark.parametrize("name", OTHERS)
def test_a_file_names_its_source_and_the_release_that_it_is_read_from(name: str) -> None:
    variant = load_variant(name)
    head = variant.path.read_text(encoding="utf-8").partition("harness:")[0]
    assert variant.source in head
    assert "release 1.4.3" in head
    assert "In releases since 1." in head


@pytest.mark.parametrize("name", OTHERS)
def test_the_reduced_depth_differs_in_blocks_and_feed_forward_width_only(name: str) -> None:
    variant = load_variant(name)
    reduced, published = (
        render(variant, dimensions=shape_of(name), depth=scale) for scale in (Depth.REDUCED, Depth.FULL)
    )
    last = {path.rpartition(".")[2] for path in changed(reduced, published)}
    assert "num_blocks" in last
    assert last <= {"num_blocks", "linear_units", "att_layer_num", "tp_blocks"}


@pytest.mark.parametrize("name", OTHERS)
def test_every_width_of_another_hidden_size_is_a_hole(name: str) -> None:
    variant = load_variant(name)
    narrow, wide = (render(variant, dimensions=shape_of(name, size), depth=Depth.REDUCED) for size in (320, 512))
    assert changed(narrow, wide) == set(variant.hidden_size)
    assert {look_up(narrow, path) for path in variant.hidden_size} == {320}


@pytest.mark.parametrize("name", OTHERS)
def test_the_loss_and_what_it_is_the_sum_of_are_stated(name: str) -> None:
    variant = load_variant(name)
    told = variant.traits.to_dict(render(variant, dimensions=shape_of(name), depth=Depth.REDUCED))
    assert told["losses"]
    assert all(isinstance(weight, int | float) for weight in told["loss_is"].values())
    assert any(told["loss_is"].values())
    assert ("predictor" in variant.groups) == ("predictor" in variant.config)


def test_weights_are_products_of_numbers_paths_and_their_complements() -> None:
    variant = load_variant("uniasr")
    told = variant.traits.to_dict(variant.config)
    assert told["loss_is"] == {"loss_att": 0.5, "loss_pre": 0.5, "loss_att2": 0.5, "loss_pre2": 0.5}
    assert told["projection_width"] == {"decoder.output_layer": 256}


def test_components_of_keys_with_other_names_are_looked_for_in_their_own_table() -> None:
    components = load_variant("uniasr").components
    assert ("encoder_classes", "SANMEncoderChunkOpt") in components
    assert not [table for table, _ in components if table.startswith(("stride_conv", "encoder2"))]
    assert ("decoder_classes", "ParaformerSANMDecoder") in load_variant("seaco_paraformer").components


@pytest.mark.parametrize(("name", "enough"), [("sense_voice", 25018), ("seaco_paraformer", 8378)])
def test_a_vocabulary_without_the_labels_of_an_architecture_is_refused(name: str, enough: int) -> None:
    variant = load_variant(name)
    assert dimension_problems(variant, Dimensions(vocab_size=enough, hidden_size=320)) == ()
    (problem,) = dimension_problems(variant, Dimensions(vocab_size=enough - 1, hidden_size=320))
    assert f"has no token {enough - 1}" in problem


def test_all_faults_of_an_anatomy_are_reported_at_once(tmp_path: Path) -> None:
    file = own_file(
        tmp_path,
        losses={"criterion_att": 3},
        loss_is={"loss_att": "model_conf.weight", "loss_ctc": [], "loss_pre": "model"},
        no_hotword="encoder_conf.output_sise",
        labels_before_text=[[1], ["a"]],
        projection_width={"decoder.output_layer": "encoder_conf.width"},
        inputs=["speech", "hotword_pat"],
        tables={"encoder3": "encoder"},
        training="none",
    )
    with pytest.raises(VariantError) as caught:
        load_variant(str(file))
    told = str(caught.value)
    for expected in (
        "harness losses: expected the names of projections, found 3",
        "harness loss_is: model_conf.weight is not in the config",
        "harness loss_is: expected numbers and paths of the config, found []",
        "harness loss_is: model must be a number in the config, found 'Own'",
        'encoder_conf.output_sise is not in the config, did you mean "encoder_conf.output_size"?',
        "harness labels_before_text: expected a list of token ids for each place",
        "harness projection_width: encoder_conf.width is not in the config",
        'harness inputs: the harness makes no hotword_pat, did you mean "hotword_pad"?',
        "harness tables: encoder3 is not in the config",
        "harness training: expected a mapping",
    ):
        assert expected in told


# The contract, on a release in miniature whose model has a CTC loss beside its attention loss, and no predictor.

HYBRID_MODEL = """
import torch
from funasr.losses.label_smoothing_loss import LabelSmoothingLoss
from funasr.register import tables

class CTC(torch.nn.Module):
    def __init__(self, hidden_size, outputs, fault):
        super().__init__()
        self.ctc_lo = torch.nn.Linear(hidden_size, outputs)
        self.ctc_loss = torch.nn.CTCLoss()
        self.fault = fault

    def forward(self, hidden, lengths, text, text_lengths):
        scores = hidden if self.fault == "hidden_states_into_ctc" else self.ctc_lo(hidden)
        return self.ctc_loss(scores.transpose(0, 1).log_softmax(2), text.clamp(min=0), lengths, text_lengths)

@tables.register("model_classes", "Tiny")
class Hybrid(torch.nn.Module):
    def __init__(self, vocab_size, hidden_size=6, fault="", **_):
        super().__init__()
        self.fault = fault
        self.encoder = torch.nn.Linear(5, hidden_size)
        self.decoder = torch.nn.Module()
        self.decoder.output_layer = torch.nn.Linear(hidden_size, vocab_size)
        self.spare = torch.nn.Linear(hidden_size, 1)
        self.ctc = CTC(hidden_size, vocab_size - (fault == "ctc_of_other_size"), fault)
        self.criterion_att = LabelSmoothingLoss(vocab_size - (fault == "loss_of_other_size"), strict=True)
        if fault == "no_second_loss":
            self.ctc.ctc_loss = None

    def forward(self, speech, speech_lengths, text, text_lengths, **kwargs):
        hidden = self.encoder(speech)
        found = hidden[:, : text.size(1)]
        scores = found if self.fault == "hidden_states" else self.decoder.output_layer(found)
        loss_att = self.criterion_att(scores, text)
        loss_ctc = torch.zeros(())
        if self.fault != "ctc_not_called":
            loss_ctc = self.ctc(hidden, speech_lengths[:, 0].long(), text, text_lengths[:, 0].long())
        loss = 0.7 * loss_att + (0.3 if self.fault != "other_weights" else 0.5) * loss_ctc
        return loss, {"loss_att": loss_att.detach(), "loss_ctc": loss_ctc.detach()}, torch.tensor(len(text))
"""
TOLD = {
    "losses": {"criterion_att": ["decoder.output_layer"], "ctc.ctc_loss": ["ctc.ctc_lo"]},
    "loss_is": {"loss_att": 0.7, "loss_ctc": 0.3},
    "without_loss": ["spare"],
}
GROUPS = {"encoder": ["encoder"], "decoder": ["decoder"], "ctc": ["ctc"]}


@pytest.fixture(scope="module")
def install_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    files = {**tiny_release.FILES, "models/tiny.py": HYBRID_MODEL}
    return tiny_release.write_package(tmp_path_factory.mktemp("hybrid"), files)


def run(request: dict[str, Any]) -> dict[str, Any]:
    return dispatch.run(request)


def ask(forked: Forked, install_dir: Path, folder: Path, fault: str, *, check: str = "loss_contract") -> dict[str, Any]:
    tiny_release.write_model_folder(folder / "model", fault=fault)
    request = tiny_release.request(install_dir, check, folder / "model", contract=TOLD, groups=GROUPS)
    answer: dict[str, Any] = forked(run, request=request)
    return answer


def test_a_model_without_a_predictor_keeps_the_contract_without_one(
    forked: Forked, install_dir: Path, tmp_path: Path
) -> None:
    answer = ask(forked, install_dir, tmp_path, "")
    assert (answer["status"], answer["reason"]) == ("passed", "")
    assert set(answer["metrics"]["gradient_norm_by_group"]) == {"encoder", "decoder", "ctc"}
    seen = {entry["name"]: (entry["classes"], entry["width"]) for entry in answer["evidence"]["loss_inputs"]}
    assert seen == {"criterion_att": (23, 23), "ctc.ctc_loss": (None, 23)}


@pytest.mark.parametrize(
    ("fault", "signature"),
    [
        ("hidden_states", "AssertionError@funasr/losses/label_smoothing_loss.py:forward"),
        ("loss_of_other_size", "AssertionError@funasr/losses/label_smoothing_loss.py:forward"),
        ("hidden_states_into_ctc", "LossWidth@ctc.ctc_loss"),
        ("ctc_of_other_size", "LossWidth@ctc.ctc_loss"),
        ("ctc_not_called", "LossNotCalled@ctc.ctc_loss"),
        ("other_weights", "LossNotTheSum@model"),
    ],
)
def test_a_fault_of_either_loss_breaks_the_contract(
    forked: Forked, install_dir: Path, tmp_path: Path, fault: str, signature: str
) -> None:
    answer = ask(forked, install_dir, tmp_path, fault)
    assert (answer["status"], answer["failure"]["signature"]) == ("failed", signature)


@pytest.mark.parametrize(
    ("fault", "signature"),
    [
        ("loss_of_other_size", "LossBuiltForOtherVocabulary@criterion_att"),
        ("ctc_of_other_size", "ProjectionOfOtherWidth@ctc.ctc_lo"),
        ("no_second_loss", "NoLoss@ctc.ctc_loss"),
    ],
)
def test_a_model_that_lacks_what_carries_its_loss_is_not_constructed(
    forked: Forked, install_dir: Path, tmp_path: Path, fault: str, signature: str
) -> None:
    assert ask(forked, install_dir, tmp_path, fault, check="construct")["failure"]["signature"] == signature


def batches(labels: list[list[int]]) -> dict[str, Any]:
    wanted = {
        "frame_seconds": 0.01,
        "inputs": ["hotword_pad"],
        "no_hotword": 21,
        "ctc": True,
        "labels_before_text": labels,
    }
    made = make_batch(5, 23, 0, "cpu", wanted)
    return {name: tensor.tolist() for name, tensor in made.items() if name != "speech"} | {
        "speech": list(made["speech"].shape)
    }


def test_a_batch_has_the_frames_labels_and_hotwords_that_were_asked_for(forked: Forked) -> None:
    made = forked(batches, labels=[[7, 8], [9]])
    assert made["speech"] == [4, 6 * FRAMES[0], 5]
    assert [row[:2] for row in made["text"]] == [[7, 9], [8, 9], [7, 9], [8, 9]]
    assert made["text_lengths"] == [[count + 2] for count in TOKENS]
    # No blank among the tokens of a text that CTC is asked for.
    assert made["text"][0][2:4] == [3, 22]
    assert made["hotword_pad"] == [[3, 22, 0, 0], made["text"][2][2:6], [1, 0, 0, 0]]
    assert made["hotword_lengths"] == [2, 4, 1]
    for text, label, count in zip(made["text"], made["seaco_label_pad"], TOKENS, strict=True):
        assert label[count:] == [-1] * (max(TOKENS) - count)
        assert all(one in (21, token) for one, token in zip(label[:count], text[2:], strict=False))


def aligned(seed: int) -> dict[str, Any]:
    """The likeliest path, by trying all of them."""
    import itertools

    import torch

    scores = torch.randn(1, 5, 3, generator=torch.Generator().manual_seed(seed)).log_softmax(2)
    text = [[1, 1], [1, 2], [2]][seed % 3]

    def collapsed(path: tuple[int, ...]) -> list[int]:
        return [token for token, _ in itertools.groupby(path) if token]

    worth = {
        path: sum(float(scores[0, frame, token]) for frame, token in enumerate(path))
        for path in itertools.product(range(3), repeat=5)
        if collapsed(path) == text
    }
    path, places = shims.align_ctc(scores, torch.tensor([text]))
    return {"path": path[0].tolist(), "score": float(places.sum()), "best": max(worth.values()), "paths": list(worth)}


@pytest.mark.parametrize("seed", range(6))
def test_the_likeliest_alignment_is_the_best_of_all(forked: Forked, seed: int) -> None:
    found = forked(aligned, seed=seed)
    assert found["path"] in found["paths"]
    assert found["score"] == pytest.approx(found["best"], abs=1e-5)


def too_short() -> str:
    import torch

    try:
        shims.align_ctc(torch.zeros(1, 2, 3), torch.tensor([[1, 1]]))
    except RuntimeError as error:
        return str(error)
    return ""


def test_a_text_that_does_not_fit_the_frames_is_refused(forked: Forked) -> None:
    assert forked(too_short) == "targets length is too long for CTC"


def through_torchaudio() -> dict[str, Any]:
    import torch
    import torchaudio

    def original(*_args: Any, **_kwargs: Any) -> None:
        raise RuntimeError("forced_align Requires alignment extension, but TorchAudio is not compiled with it.")

    torchaudio.functional.forced_align = original
    shims.apply("cpu")
    path, _ = torchaudio.functional.forced_align(torch.zeros(1, 3, 3), torch.tensor([[1]]), blank=0)
    return {"length": path.shape[1], "used": shims.used()}


def test_alignment_in_python_is_named_where_it_was_used(forked: Forked) -> None:
    try:
        found = forked(through_torchaudio)
    except AssertionError as error:
        if "torchaudio" in str(error):
            pytest.skip("torchaudio does not import as it is installed")
        raise
    assert found["length"] == 3
    assert shims.ALIGNMENT in found["used"]


def test_the_matrix_of_architectures_asks_for_all_of_them() -> None:
    import tomllib

    matrix = tomllib.loads((Path(__file__).parent.parent / "matrices" / "architectures.toml").read_text("utf-8"))
    asked = {*matrix["axes"]["variant"], *(name for part in matrix["include"] for name in part["variant"])}
    assert asked == set(available())


REFUSING = """
class Tables:
    decoder_classes = {}

    def register(self, table, name):
        def note(registered):
            assert name not in self.decoder_classes, "registered already"
            self.decoder_classes[name] = registered
            return registered
        return note

tables = Tables()
"""
DECODER_MODULE = """
from funasr.register import tables

@tables.register("decoder_classes", "Twice")
class Decoder:
    pass
"""


def imported(install_dir: str, first: str) -> str:
    """Whose decoder is in the table when this module was imported before it is asked for."""
    import importlib

    importer.import_components_only(install_dir, "1.0.5")
    importlib.import_module(first)
    importer.import_components(install_dir, [("decoder_classes", "Twice")])
    found = importlib.import_module("funasr.register").tables.decoder_classes["Twice"]
    return str(found.__module__)


def test_a_second_registration_that_the_release_refuses_is_no_failure(forked: Forked, tmp_path: Path) -> None:
    files = {"register.py": REFUSING, "models/one.py": DECODER_MODULE, "models/other.py": DECODER_MODULE}
    install_dir = tiny_release.write_package(tmp_path / "release", files)
    assert forked(imported, install_dir=str(install_dir), first="funasr.models.other") == "funasr.models.other"


def test_every_file_is_yaml_with_a_harness_block() -> None:
    for name in OTHERS:
        assert "harness" in yaml.safe_load(load_variant(name).path.read_text(encoding="utf-8"))
