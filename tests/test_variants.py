"""Architectures as YAML: true to upstream, filled for a shape, and refused with all their faults at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from harness import variants
from harness.core.cells import Depth, Dimensions
from harness.core.errors import VariantError
from harness.variants.catalogue import available, load_variant
from harness.variants.variant import render

PUBLISHED_SHAPE = Dimensions(vocab_size=8404, hidden_size=512)

# Typed from upstream's templates, not derived from the files under test.
COMMON = {
    "model_conf": {
        "ctc_weight": 0.0,
        "lsm_weight": 0.1,
        "length_normalized_loss": True,
        "predictor_weight": 1.0,
        "predictor_bias": 1,
        "sampling_ratio": 0.75,
    },
    "decoder": "ParaformerSANMDecoder",
    "predictor": "CifPredictorV2",
    "predictor_conf": {"idim": 512, "threshold": 1.0, "l_order": 1, "r_order": 1, "tail_threshold": 0.45},
    "frontend_conf": {
        "fs": 16000,
        "window": "hamming",
        "n_mels": 80,
        "frame_length": 25,
        "frame_shift": 10,
        "lfr_m": 7,
        "lfr_n": 6,
    },
    "specaug": "SpecAugLFR",
    "specaug_conf": {
        "apply_time_warp": False,
        "time_warp_window": 5,
        "time_warp_mode": "bicubic",
        "apply_freq_mask": True,
        "freq_mask_width_range": [0, 30],
        "lfr_rate": 6,
        "num_freq_mask": 1,
        "apply_time_mask": True,
        "time_mask_width_range": [0, 12],
        "num_time_mask": 1,
    },
    "optim": "adam",
    "optim_conf": {"lr": 0.0005},
    "scheduler": "warmuplr",
    "scheduler_conf": {"warmup_steps": 30000},
    "dataset": "AudioDataset",
    "dataset_conf": {
        "index_ds": "IndexDSJsonl",
        "batch_sampler": "BatchSampler",
        "batch_type": "example",
        "batch_size": 1,
        "max_token_length": 2048,
        "buffer_size": 500,
        "shuffle": True,
        "num_workers": 0,
    },
    "tokenizer": "CharTokenizer",
    "tokenizer_conf": {"unk_symbol": "<unk>", "split_with_space": True},
    "ctc_conf": {"dropout_rate": 0.0, "ctc_type": "builtin", "reduce": True, "ignore_nan_grad": True},
    "normalize": None,
}
ENCODER = {
    "output_size": 512,
    "attention_heads": 4,
    "linear_units": 2048,
    "num_blocks": 50,
    "dropout_rate": 0.1,
    "positional_dropout_rate": 0.1,
    "attention_dropout_rate": 0.1,
    "pos_enc_class": "SinusoidalPositionEncoder",
    "normalize_before": True,
    "kernel_size": 11,
    "sanm_shfit": 0,
    "selfattention_layer_type": "sanm",
}
DECODER = {
    "attention_heads": 4,
    "linear_units": 2048,
    "num_blocks": 16,
    "dropout_rate": 0.1,
    "positional_dropout_rate": 0.1,
    "self_attention_dropout_rate": 0.1,
    "src_attention_dropout_rate": 0.1,
    "att_layer_num": 16,
    "kernel_size": 11,
}
PUBLISHED = {
    "paraformer": {
        **COMMON,
        "model": "Paraformer",
        "encoder": "SANMEncoder",
        "encoder_conf": {**ENCODER, "input_layer": "pe"},
        "decoder_conf": {**DECODER, "sanm_shfit": 0},
        "frontend": "WavFrontend",
        "train_conf": {
            "accum_grad": 1,
            "grad_clip": 5,
            "max_epoch": 150,
            "keep_nbest_models": 10,
            "avg_nbest_model": 10,
            "log_interval": 50,
        },
    },
    "paraformer_streaming": {
        **COMMON,
        "model": "ParaformerStreaming",
        "encoder": "SANMEncoderChunkOpt",
        "encoder_conf": {
            **ENCODER,
            "input_layer": "pe_online",
            "chunk_size": [12, 15],
            "stride": [8, 10],
            "pad_left": [0, 0],
            "encoder_att_look_back_factor": [4, 4],
            "decoder_att_look_back_factor": [1, 1],
        },
        "decoder_conf": {**DECODER, "sanm_shfit": 5},
        "frontend": "WavFrontendOnline",
        "train_conf": {
            "accum_grad": 1,
            "grad_clip": 5,
            "max_epoch": 150,
            "val_scheduler_criterion": ["valid", "acc"],
            "best_model_criterion": [["valid", "acc", "max"]],
            "keep_nbest_models": 10,
            "log_interval": 50,
        },
    },
}


def leaves(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value with its dotted path."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def changed(one: Mapping[str, Any], other: Mapping[str, Any]) -> set[str]:
    """The paths at which two configs differ."""
    left, right = dict(leaves(one)), dict(leaves(other))
    return {path for path in {*left, *right} if left.get(path, "absent") != right.get(path, "absent")}


def test_the_architectures_that_are_available_are_these() -> None:
    others = {"paraformer", "paraformer_streaming", "paraformer_v2_community", "sanm", "scama", "seaco_paraformer"}
    others |= {"bicif_paraformer", "branchformer", "conformer", "contextual_paraformer", "e_branchformer"}
    assert set(available()) == others | {"e_paraformer", "sense_voice", "transformer", "uniasr"}


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_the_published_scale_at_512_is_upstreams_template_key_by_key(name: str) -> None:
    config = render(load_variant(name), dimensions=PUBLISHED_SHAPE, depth=Depth.FULL)
    assert changed(config, PUBLISHED[name]) == set()


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_the_reduced_depth_differs_in_blocks_and_feed_forward_width_only(name: str) -> None:
    variant = load_variant(name)
    reduced = render(variant, dimensions=PUBLISHED_SHAPE, depth=Depth.REDUCED)
    assert changed(reduced, PUBLISHED[name]) == {
        "encoder_conf.num_blocks",
        "encoder_conf.linear_units",
        "decoder_conf.num_blocks",
        "decoder_conf.att_layer_num",
        "decoder_conf.linear_units",
    }
    assert reduced["encoder_conf"]["num_blocks"] == reduced["decoder_conf"]["num_blocks"] == 2
    assert reduced["decoder_conf"]["att_layer_num"] == reduced["decoder_conf"]["num_blocks"]


@pytest.mark.parametrize("scale", Depth)
@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_another_hidden_size_changes_its_holes_only(name: str, scale: Depth) -> None:
    variant = load_variant(name)
    narrow = render(variant, dimensions=Dimensions(vocab_size=8404, hidden_size=320), depth=scale)
    wide = render(variant, dimensions=Dimensions(vocab_size=8501, hidden_size=512), depth=scale)
    assert changed(narrow, wide) == {"encoder_conf.output_size", "predictor_conf.idim"}
    assert (narrow["encoder_conf"]["output_size"], narrow["predictor_conf"]["idim"]) == (320, 320)


def test_rendering_leaves_the_variant_as_it_was() -> None:
    variant = load_variant("paraformer")
    config = render(variant, dimensions=Dimensions(vocab_size=8404, hidden_size=320), depth=Depth.REDUCED)
    config["encoder_conf"]["num_blocks"] = 99
    assert changed(render(variant, dimensions=PUBLISHED_SHAPE, depth=Depth.FULL), PUBLISHED["paraformer"]) == set()


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_a_variant_says_which_parameters_are_whose(name: str) -> None:
    variant = load_variant(name)
    assert dict(variant.groups) == {"encoder": ("encoder",), "predictor": ("predictor",), "decoder": ("decoder",)}
    assert variant.inputs == ("speech", "speech_lengths", "text", "text_lengths")


def test_a_misspelt_name_gets_a_suggestion() -> None:
    with pytest.raises(VariantError, match=r'no variant "paraformer_steaming"; did you mean "paraformer_streaming"\?'):
        load_variant("paraformer_steaming")


@given(hidden_size=st.integers(min_value=1, max_value=4096))
def test_a_hidden_size_is_refused_exactly_when_the_heads_do_not_divide_it(hidden_size: int) -> None:
    variant = load_variant("paraformer")
    shape = Dimensions(vocab_size=8404, hidden_size=hidden_size)
    if hidden_size % 4 == 0:
        assert render(variant, dimensions=shape, depth=Depth.REDUCED)["encoder_conf"]["output_size"] == hidden_size
        return
    with pytest.raises(VariantError) as caught:
        render(variant, dimensions=shape, depth=Depth.REDUCED)
    told = str(caught.value)
    assert "4 attention heads of encoder_conf.attention_heads" in told
    assert "4 attention heads of decoder_conf.attention_heads" in told
    assert str(hidden_size // 4 * 4 + 4) in told


def test_the_nearest_hidden_sizes_suit_all_heads_at_once(tmp_path: Path) -> None:
    file = own_file(tmp_path, heads=["encoder_conf.attention_heads", "decoder_conf.attention_heads"])
    with pytest.raises(VariantError, match="510; the nearest sizes that fit are 504 and 516"):
        render(load_variant(str(file)), dimensions=Dimensions(vocab_size=8404, hidden_size=510), depth=Depth.REDUCED)


@pytest.mark.parametrize("vocab_size", [1, 4])
def test_a_vocabulary_without_room_for_text_is_refused(vocab_size: int) -> None:
    shape = Dimensions(vocab_size=vocab_size, hidden_size=320)
    with pytest.raises(VariantError, match=rf"vocabulary of {vocab_size} is not larger than the 4 special tokens"):
        render(load_variant("paraformer"), dimensions=shape, depth=Depth.REDUCED)


def test_both_faults_of_a_shape_are_reported_at_once() -> None:
    with pytest.raises(VariantError) as caught:
        render(load_variant("paraformer"), dimensions=Dimensions(vocab_size=3, hidden_size=511), depth=Depth.REDUCED)
    assert "3 problems" in str(caught.value)


def own_file(folder: Path, **changes: Any) -> Path:
    """A user's variant with 4 encoder and 6 decoder heads; `changes` replace keys of its harness block."""
    config: dict[str, Any] = {
        "harness": {
            "schema": 1,
            "hidden_size": ["encoder_conf.output_size"],
            "vocab_size": ["ctc_conf.odim"],
            "reduced": {"encoder_conf.num_blocks": 1},
            "groups": {"encoder": ["encoder"], "head": ["ctc", "output"]},
            **changes,
        },
        "model": "Own",
        "model_conf": {},
        "encoder_conf": {"output_size": 96, "attention_heads": 4, "num_blocks": 3},
        "decoder_conf": {"attention_heads": 6},
        "ctc_conf": {"odim": 7},
        "frontend": "WavFrontend",
        "frontend_conf": {"n_mels": 80},
        "tokenizer": "CharTokenizer",
        "tokenizer_conf": {},
    }
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def test_a_users_own_file_needs_no_python(tmp_path: Path) -> None:
    variant = load_variant(str(own_file(tmp_path)))
    config = render(variant, dimensions=Dimensions(vocab_size=500, hidden_size=12), depth=Depth.REDUCED)
    assert variant.name == "own"
    assert config["encoder_conf"] == {"output_size": 12, "attention_heads": 4, "num_blocks": 1}
    assert config["ctc_conf"] == {"odim": 500}
    assert "harness" not in config
    assert variant.groups["head"] == ("ctc", "output")


def test_the_hash_is_that_of_the_files_bytes(tmp_path: Path) -> None:
    file = own_file(tmp_path)
    before = load_variant(str(file)).sha256
    file.write_text(file.read_text() + "# a remark\n")
    assert load_variant(str(file)).sha256 != before


def test_all_faults_of_a_harness_block_are_reported_at_once(tmp_path: Path) -> None:
    file = own_file(
        tmp_path,
        schema=2,
        hiden_size=["x"],
        hidden_size=["encoder_conf.ouput_size"],
        heads=["model"],
        reduced={"encoder_conf.num_blocks": "few", "encoder_conf.blocks": 2},
        groups={"encoder": "encoder"},
    )
    with pytest.raises(VariantError) as caught:
        load_variant(str(file))
    told = str(caught.value)
    for expected in (
        'harness hiden_size: unknown key, did you mean "hidden_size"?',
        "harness schema: must be 1",
        'encoder_conf.ouput_size is not in the config, did you mean "encoder_conf.output_size"?',
        "harness heads: model must be a whole number above 0 in the config, found 'Own'",
        "encoder_conf.num_blocks must be a whole number above 0, found 'few'",
        "harness reduced: encoder_conf.blocks is not in the config",
        "harness.groups encoder: expected a list of strings",
    ):
        assert expected in told


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("- a\n- b\n", "must be a mapping, as FunASR's configs are; found list"),
        ("model: [", "is not YAML"),
        ("\x00", "is not YAML"),
        ("", "found NoneType"),
        ("model: Paraformer\n", "has no `harness` block"),
        ("harness: yes\n", "`harness` must be a mapping"),
        ("harness: !!python/object/apply:os.getcwd []\n", "is not YAML"),
    ],
)
def test_a_file_that_is_no_variant_is_refused(tmp_path: Path, content: str, told: str) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(content)
    with pytest.raises(VariantError, match=told):
        load_variant(str(file))


def test_a_config_that_the_model_folder_cannot_serve_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    config = yaml.safe_load(own_file(tmp_path).read_text())
    config.update(frontend="WhisperFrontend", tokenizer="SenseVoiceTokenizer", frontend_conf={"fs": 8000})
    del config["model_conf"]
    file.write_text(yaml.safe_dump(config))
    with pytest.raises(VariantError) as caught:
        load_variant(str(file))
    told = str(caught.value)
    assert "not for WhisperFrontend" in told
    assert "not for SenseVoiceTokenizer" in told
    assert "frontend_conf.fs: must be 16000" in told
    assert "model_conf: expected a mapping" in told


def test_a_missing_file_is_reported_with_what_lies_there(tmp_path: Path) -> None:
    own_file(tmp_path)
    with pytest.raises(VariantError, match=r'did you mean "own.yaml"'):
        load_variant(str(tmp_path / "owm.yaml"))


def test_a_users_file_cannot_take_the_name_of_a_variant_of_the_harness(tmp_path: Path) -> None:
    file = own_file(tmp_path).rename(tmp_path / "paraformer.yaml")
    with pytest.raises(VariantError, match="has the name of the harness' own variant"):
        load_variant(str(file))


def test_the_harness_own_file_may_be_given_by_its_path() -> None:
    path = Path(variants.__file__).parent / "paraformer.yaml"
    assert load_variant(str(path)) == load_variant("paraformer")


def test_a_file_name_that_would_break_cell_ids_is_refused(tmp_path: Path) -> None:
    file = own_file(tmp_path).rename(tmp_path / "my model.yaml")
    with pytest.raises(VariantError, match="cannot be part of a cell's id"):
        load_variant(str(file))
