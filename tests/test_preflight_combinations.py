"""What a release's trainer cannot do with a user's settings: found in the code of real releases."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from user_folders import inputs_of

from harness.core.cells import Depth, Dimensions, Severity
from harness.preflight.code.forward_faults import forward_faults
from harness.preflight.code.release_code import code_of
from harness.preflight.code.trainer_code import TrainerCode
from harness.preflight.findings import PreflightFinding
from harness.preflight.inputs import Inputs
from harness.preflight.release.combinations import check
from harness.preflight.release.deepspeed import accumulation
from harness.variants.catalogue import available, load_variant
from harness.variants.variant import render

pytestmark = pytest.mark.release

Layout = Callable[[str], Path]
DATA = {"train_data_set_list": "train.jsonl", "valid_data_set_list": "val.jsonl"}


def config_of(variant: str) -> dict[str, Any]:
    """A variant's config with what its recipe adds."""
    own = load_variant(variant)
    config = render(own, dimensions=Dimensions.parse("v25055-h320"), depth=Depth.FULL)
    for path, value in own.training.items():
        *above, last = path.split(".")
        place = config
        for key in above:
            place = place.setdefault(key, {})
        place[last] = value
    return config


def inputs(
    folder: Path,
    layout: Layout,
    release: str,
    config: dict[str, Any],
    *,
    entry: str | None = None,
    libraries: tuple[str, ...] = (),
    without: str = "",
    **overrides: Any,
) -> Inputs:
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    found = inputs_of(folder, install_dir=layout(release), version=release, **{**DATA, **overrides})
    installed = {name: version for name, version in found.environment.libraries.items() if name != without}
    environment = replace(found.environment, libraries={**installed, **dict.fromkeys(libraries, "1")}, extra_paths=())
    return replace(found, environment=environment, command=replace(found.command, entry=entry))


def named(found: Inputs, rule: str) -> PreflightFinding:
    findings = check(found).findings
    assert [one.rule for one in findings] == [rule], [f"{one.rule}: {one.message}" for one in findings]
    return findings[0]


def silent(found: Inputs) -> None:
    assert [f"{one.rule}: {one.message}" for one in check(found).findings] == []


@pytest.mark.parametrize("release", ["1.0.6", "1.2.7", "1.4.16"])
@pytest.mark.parametrize("variant", ["paraformer", "seaco_paraformer", "bicif_paraformer", "uniasr"])
def test_sound_folders_have_no_finding(tmp_path: Path, layout: Layout, release: str, variant: str) -> None:
    silent(inputs(tmp_path, layout, release, config_of(variant)))


@pytest.mark.parametrize("variant", available())
def test_every_variant_is_sound_in_the_newest(tmp_path: Path, layout: Layout, variant: str) -> None:
    silent(inputs(tmp_path, layout, "1.4.16", config_of(variant), optim="adamw", train_conf__grad_clip=1.0))


@pytest.mark.parametrize(
    ("release", "entry", "overrides", "rule"),
    [
        ("1.4.16", "train_ds", {"valid_data_set_list": ""}, "validation-set-missing"),
        ("1.0.6", "train", {"valid_data_set_list": ""}, "validation-set-missing"),
        (
            "1.4.16",
            "train",
            {"train_conf__save_checkpoint_interval": 300, "train_conf__validate_interval": 100},
            "intervals-differ",
        ),
        ("1.2.7", "train", {"train_conf__validate_interval": 100}, "intervals-differ"),
        ("1.2.7", "train_ds", {"train_conf__save_checkpoint_interval": 300}, "checkpoint-without-validation"),
        ("1.4.16", "train_ds", {"train_conf__accum_grad": 0}, "interval-of-zero"),
        ("1.4.16", "train_ds", {"train_conf__use_fsdp": True}, "fsdp-does-not-work"),
        ("1.2.7", "train_ds", {"use_fsdp": True}, "fsdp-does-not-work"),
        ("1.2.7", "train", {"use_fsdp": True}, "fsdp-does-not-work"),
        ("1.4.16", "train_ds", {"train_conf__use_fp16": True, "train_conf__use_bf16": True}, "fp16-with-bf16"),
        ("1.4.16", "train_ds", {"optim": "adamm"}, "not-an-option"),
        ("1.4.16", "train_ds", {"optim": "lbfgs"}, "cannot-be-stepped"),
        ("1.4.16", "train_ds", {"scheduler": "ReduceLROnPlateau"}, "cannot-be-stepped"),
        ("1.4.16", "train_ds", {"optim_conf": None}, "section-missing"),
        ("1.4.16", "train_ds", {"encoder": "SANMEncoderr"}, "class-not-in-release"),
        ("1.4.16", "train_ds", {"dataset": "OpenAIDataset"}, "data-of-another-model"),
    ],
)
def test_what_the_trainer_cannot_do(
    tmp_path: Path, layout: Layout, release: str, entry: str, overrides: dict[str, Any], rule: str
) -> None:
    config = config_of("paraformer")
    if rule == "checkpoint-without-validation":
        # As the recipes of that release have it.
        config["train_conf"] = {**config.get("train_conf", {}), "validate_interval": 2000}
    found = named(inputs(tmp_path, layout, release, config, entry=entry, **overrides), rule)
    assert found.severity is (Severity.WRONG if rule == "fp16-with-bf16" else Severity.BROKEN)
    assert found.remedy
    assert found.place.key


@pytest.mark.parametrize(
    ("release", "entry", "overrides"),
    [
        ("1.4.16", "train_ds", {"train_conf__save_checkpoint_interval": 300}),
        ("1.2.7", "train_ds", {"train_conf__save_checkpoint_interval": 300, "train_conf__validate_interval": 100}),
        ("1.2.7", "train", {"train_conf__save_checkpoint_interval": 300}),
        ("1.0.18", "train", {"train_conf__save_checkpoint_interval": 300}),
        ("1.4.16", "train_ds", {"train_conf__accum_grad": 2, "train_conf__use_bf16": True}),
        ("1.4.16", "train_ds", {"train_conf__use_deepspeed": False, "train_conf__deepspeed_config": "none.json"}),
        ("1.4.16", "train_ds", {"scheduler": "CosineAnnealingLR"}),
    ],
)
def test_what_the_trainer_can_do(
    tmp_path: Path, layout: Layout, release: str, entry: str, overrides: dict[str, Any]
) -> None:
    silent(inputs(tmp_path, layout, release, config_of("paraformer"), entry=entry, **overrides))


def test_a_validation_set_left_out_is_broken_where_the_command_names_the_other(tmp_path: Path, layout: Layout) -> None:
    found = inputs(tmp_path, layout, "1.4.16", config_of("paraformer"))
    alone = [one for one in found.command.overrides if one.path == "train_data_set_list"]
    left_out = replace(found, command=replace(found.command, overrides=tuple(alone)))
    assert named(left_out, "validation-set-missing").severity is Severity.BROKEN
    silent(replace(left_out, valid=tmp_path / "val.jsonl"))
    untold = replace(found, command=replace(found.command, overrides=()), train=tmp_path / "train.jsonl")
    assert named(untold, "validation-set-unknown").severity is Severity.MINOR


def test_a_checkpoint_that_an_epoch_never_reaches_is_no_fault(tmp_path: Path, layout: Layout) -> None:
    (tmp_path / "train.jsonl").write_text("{}\n" * 8, encoding="utf-8")
    overrides = {"train_conf__save_checkpoint_interval": 300, "train_conf__validate_interval": 2000}
    found = inputs(tmp_path / "m", layout, "1.2.7", config_of("paraformer"), entry="train_ds", **overrides)
    silent(replace(found, train=tmp_path / "train.jsonl"))


MICRO = {"train_micro_batch_size_per_gpu": 1}


@pytest.mark.parametrize(
    ("release", "overrides", "says", "rule"),
    [
        ("1.4.16", {"train_conf__use_deepspeed": True}, MICRO, ""),
        ("1.4.16", {"use_deepspeed": True, "train_conf__accum_grad": 1}, MICRO, ""),
        ("1.2.7", {"train_conf__use_deepspeed": True}, MICRO, ""),
        ("1.4.16", {"train_conf__use_deepspeed": False}, None, ""),
        ("1.4.16", {"train_conf__use_deepspeed": True}, None, "deepspeed-without-config"),
        ("1.4.16", {"train_conf__use_deepspeed": True}, [1], "deepspeed-without-config"),
        ("1.2.7", {"use_deepspeed": True}, MICRO, "deepspeed-switch-ignored"),
        ("1.4.16", {"train_conf__use_deepspeed": True}, {"fp16": {}}, "deepspeed-batch-size"),
        ("1.4.16", {"train_conf__use_deepspeed": True}, {**MICRO, "optimizer": {}}, "deepspeed-optimizer"),
        (
            "1.4.16",
            {"train_conf__use_deepspeed": True, "train_conf__accum_grad": 4},
            {**MICRO, "gradient_accumulation_steps": 2},
            "deepspeed-ignores",
        ),
        (
            "1.4.16",
            {"train_conf__use_deepspeed": True, "train_conf__accum_grad": 2},
            {**MICRO, "gradient_accumulation_steps": 2},
            "",
        ),
    ],
)
def test_deepspeed(
    tmp_path: Path, layout: Layout, release: str, overrides: dict[str, Any], says: Any, rule: str
) -> None:
    if says is not None:
        (tmp_path / "ds.json").write_text(json.dumps(says), encoding="utf-8")
    given = {"train_conf__deepspeed_config": "ds.json", "libraries": ("deepspeed",), "entry": "train_ds", **overrides}
    found = inputs(tmp_path / "m", layout, release, config_of("paraformer"), **given)
    if not rule:
        silent(found)
        return
    one = named(found, rule)
    wrong = rule in ("deepspeed-switch-ignored", "deepspeed-ignores")
    assert one.severity is (Severity.WRONG if wrong else Severity.BROKEN)
    assert one.remedy


def test_deepspeed_without_its_library_its_launcher_or_alone(tmp_path: Path, layout: Layout) -> None:
    (tmp_path / "ds.json").write_text(json.dumps({**MICRO, "gradient_accumulation_steps": 3}), encoding="utf-8")
    on: dict[str, Any] = {"train_conf__use_deepspeed": True, "train_conf__deepspeed_config": "ds.json"}
    config, has = config_of("paraformer"), {"libraries": ("deepspeed",), "entry": "train_ds"}
    found = named(
        inputs(tmp_path / "m", layout, "1.4.16", config, without="deepspeed", entry="train_ds", **on),
        "deepspeed-not-installed",
    )
    assert "pip install deepspeed" in found.remedy
    whole = inputs(tmp_path / "m", layout, "1.4.16", config, **has, **on)
    trainer = TrainerCode(code=whole.code, entry="train_ds")
    assert accumulation(whole, trainer) == 3
    assert accumulation(inputs(tmp_path / "m", layout, "1.4.16", config, **has), trainer) is None
    alone = replace(whole, command=replace(whole.command, launcher="python"))
    assert "mpi4py" in named(alone, "deepspeed-without-launcher").message
    silent(replace(whole, command=replace(whole.command, launcher="torchrun")))
    both = inputs(tmp_path / "m", layout, "1.4.16", config, use_fsdp=True, **has, **on)
    assert "deepspeed-with-fsdp" in {one.rule for one in check(both).findings}
    # Up to 1.4.1 the trainer opens what train_conf names, whatever the top level says.
    elsewhere = {"train_conf__use_deepspeed": True, "deepspeed_config": "ds.json"}
    named(inputs(tmp_path / "m", layout, "1.2.7", config, **has, **elsewhere), "deepspeed-without-config")
    silent(inputs(tmp_path / "m", layout, "1.4.16", config, **has, **elsewhere))


def test_a_scheduler_is_proposed_that_the_trainer_can_step(tmp_path: Path, layout: Layout) -> None:
    for wanted, proposed in (("cosine", "CosineAnnealingLR"), ("linear", "warmuplr"), ("WarmupLR", "warmuplr")):
        found = named(inputs(tmp_path, layout, "1.4.16", config_of("paraformer"), scheduler=wanted), "not-an-option")
        assert found.remedy == f"++scheduler={proposed}"


def test_the_validation_pass_that_dies_and_the_release_in_which_it_does_not(tmp_path: Path, layout: Layout) -> None:
    found = named(inputs(tmp_path, layout, "1.0.6", config_of("conformer")), "validation-ends")
    assert "error_calculator" in found.message
    assert (found.place.file, found.place.line) == ("funasr/models/transformer/model.py", 313)
    silent(inputs(tmp_path, layout, "1.2.7", config_of("conformer")))


@pytest.mark.parametrize(("release", "ends"), [("1.0.18", True), ("1.0.23", True), ("1.0.24", False)])
def test_seaco_with_its_decoder(layout: Layout, release: str, ends: bool) -> None:
    code = code_of(layout(release))
    model = code.definition("model_classes", "SeacoParaformer")
    assert model
    assert forward_faults(code, model, {"train_decoder": False}) == ()
    faults = forward_faults(code, model, {"train_decoder": True})
    assert [one.exception for one in faults] == (["ValueError"] if ends else [])


def test_a_forward_pass_that_its_own_code_ends(tmp_path: Path, layout: Layout) -> None:
    """In a checkout with a fault of its own; the release that it was made of has none."""
    checkout = tmp_path / "checkout"
    shutil.copytree(layout("1.4.16"), checkout, ignore=shutil.ignore_patterns("*.pyc"))
    model = checkout / "funasr" / "models" / "paraformer" / "model.py"
    text = model.read_text(encoding="utf-8")
    taken = "loss_att, acc_att, cer_att, wer_att, loss_pre, pre_loss_att = self._calc_att_loss("
    assert taken in text
    model.write_text(text.replace(taken, taken.replace("loss_att, acc", "loss_att, more, acc", 1)), encoding="utf-8")
    sound = inputs(tmp_path / "model", layout, "1.4.16", config_of("paraformer"))
    silent(sound)
    found = named(replace(sound, install_dir=checkout), "forward-ends")
    assert (found.severity, found.place.file) == (Severity.BROKEN, "funasr/models/paraformer/model.py")
    assert "ValueError at its first batch" in found.message


def test_fsdp_without_a_launcher(tmp_path: Path, layout: Layout) -> None:
    alone = inputs(tmp_path, layout, "1.4.16", config_of("paraformer"), entry="train", use_fsdp=True)
    found = named(replace(alone, command=replace(alone.command, launcher="python")), "fsdp-without-launcher")
    assert found.severity is Severity.BROKEN
    silent(replace(alone, command=replace(alone.command, launcher="torchrun")))


@pytest.mark.parametrize(
    ("model", "why"),
    [
        ("CTTransformer", "`punc`"),
        ("FsmnVADStreaming", "`feats`"),
        ("CAMPPlus", "`x`"),
        ("GLMASR", "no forward pass"),
    ],
)
def test_models_that_cannot_be_trained(tmp_path: Path, layout: Layout, model: str, why: str) -> None:
    sections: dict[str, Any] = {f"{name}_conf": {} for name in ("optim", "scheduler", "train", "dataset", "model")}
    found = named(inputs(tmp_path, layout, "1.4.16", {"model": model, **sections}), "model-not-trainable")
    assert why in found.message


def test_a_class_of_a_later_release_names_it(tmp_path: Path, layout: Layout) -> None:
    found = named(inputs(tmp_path, layout, "1.0.6", config_of("sense_voice")), "class-not-in-release")
    assert "1.0.30" in found.message
    assert found.place.line


@pytest.mark.parametrize(
    ("variant", "data", "fitting"),
    [
        ("sense_voice", "AudioDataset", "SenseVoiceCTCDataset"),
        ("seaco_paraformer", "AudioDataset", "AudioDatasetHotword"),
    ],
)
def test_a_data_set_of_another_model(tmp_path: Path, layout: Layout, variant: str, data: str, fitting: str) -> None:
    found = named(inputs(tmp_path, layout, "1.4.16", config_of(variant), dataset=data), "data-of-another-model")
    assert fitting in found.remedy


def test_a_library_that_the_tokenizer_needs(tmp_path: Path, layout: Layout) -> None:
    config = config_of("sense_voice")
    config |= {"tokenizer": "SentencepiecesTokenizer", "tokenizer_conf": {"bpemodel": "a.model"}}
    found = named(inputs(tmp_path, layout, "1.4.16", config, without="sentencepiece"), "library-missing")
    assert found.remedy == "pip install sentencepiece"
    silent(inputs(tmp_path, layout, "1.4.16", config, libraries=("sentencepiece",)))


def test_whisper_needs_its_library_and_returns_what_no_trainer_takes(tmp_path: Path, layout: Layout) -> None:
    trained = ("dataset_conf", "train_conf", "optim", "optim_conf", "scheduler", "scheduler_conf")
    config = {name: one for name, one in config_of("conformer").items() if name in trained}
    config |= {"model": "WhisperWarp", "frontend": "WhisperFrontend"}
    whole = inputs(tmp_path, layout, "1.4.16", config, libraries=("openai-whisper",))
    found = named(whole, "forward-ends")
    assert found.severity is Severity.BROKEN
    assert "ends with ValueError at its first batch" in found.message
    assert found.place.file == "funasr/models/whisper/model.py"
    lacking = {one.rule: one for one in check(inputs(tmp_path, layout, "1.4.16", config)).findings}
    assert set(lacking) == {"library-missing", "forward-ends"}
    assert lacking["library-missing"].remedy == "pip install openai-whisper"
    # Its forward did nothing then.
    assert {one.rule for one in check(inputs(tmp_path, layout, "1.2.7", config)).findings} >= {"model-not-trainable"}


def test_without_a_command_what_a_script_would_add_is_not_missed(tmp_path: Path, layout: Layout) -> None:
    config = config_of("sense_voice")
    for key in ("dataset", "optim_conf", "train_conf"):
        config.pop(key, None)
    found = inputs(tmp_path, layout, "1.4.16", config)
    silent(replace(found, command=replace(found.command, overrides=())))
    assert {one.rule for one in check(found).findings} == {"section-missing", "data-of-another-model"}
