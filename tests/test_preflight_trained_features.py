"""The frontend in force against the one that the checkpoint was trained with."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from user_folders import inputs_of

from harness.core.cells import Severity
from harness.preflight.findings import Place, PreflightFinding
from harness.preflight.weights.kept_weights import check_weights
from harness.preflight.weights.tensor_fates import ModelTensor, TensorFates
from harness.preflight.weights.trained_features import check_frontend

FRONTEND = {"fs": 16000, "window": "hamming", "n_mels": 80, "frame_length": 25, "frame_shift": 10}
STACKED = {"lfr_m": 7, "lfr_n": 6}


def folder(path: Path, *, kind: str = "WavFrontend", config: str = "config.yaml", **frontend: Any) -> Path:
    path.mkdir()
    content = {"model": "Paraformer", "frontend": kind, "frontend_conf": {**FRONTEND, **STACKED, **frontend}}
    (path / config).write_text(yaml.safe_dump(content), encoding="utf-8")
    metas = {"init_param": "model.pt", "config": config}
    (path / "configuration.json").write_text(json.dumps({"file_path_metas": metas}), encoding="utf-8")
    (path / "model.pt").write_bytes(b"PK")
    return path


def found(model: Path, **overrides: Any) -> list[PreflightFinding]:
    return list(check_frontend(inputs_of(model, **overrides)))


@pytest.mark.parametrize(
    ("override", "said", "remedy"),
    [
        ({"lfr_n": 1}, "lfr_n 6, here 1; a frame each 60 ms, here each 10 ms", "++frontend_conf.lfr_n=6"),
        ({"fs": 8000}, "fs 16000, here 8000", "++frontend_conf.fs=16000"),
        ({"frame_shift": 20}, "a frame each 60 ms, here each 120 ms", "++frontend_conf.frame_shift=10"),
        # As many numbers, and others: no tensor has another shape.
        (
            {"n_mels": 40, "lfr_m": 14},
            "n_mels 80, here 40, lfr_m 7, here 14",
            "++frontend_conf.n_mels=80 ++frontend_conf.lfr_m=7",
        ),
    ],
)
def test_a_setting_that_changes_the_features_of_the_folders_checkpoint(
    tmp_path: Path, override: dict[str, Any], said: str, remedy: str
) -> None:
    model = folder(tmp_path / "model")
    (one,) = found(model, **{f"frontend_conf__{key}": value for key, value in override.items()})
    assert (one.rule, one.severity) == ("frontend-not-the-checkpoints", Severity.WRONG)
    assert said in one.message
    assert one.remedy == remedy
    assert one.place == Place(key=f"frontend_conf.{next(iter(override))}")


def test_the_features_of_the_folder_that_the_weights_come_from(tmp_path: Path) -> None:
    mine, base = folder(tmp_path / "mine", lfr_n=1), folder(tmp_path / "base", config="base.yaml")
    (one,) = found(mine, init_param=str(base / "model.pt"))
    assert one.evidence == (f"trained with: {base / 'base.yaml'}",)
    assert one.place.file == str(mine / "config.yaml")
    # Given again, as the base has it.
    assert found(mine, init_param=str(base / "model.pt"), frontend_conf__lfr_n=6) == []
    whisper = folder(tmp_path / "whisper", kind="WhisperFrontend")
    (other,) = found(mine, init_param=str(whisper / "model.pt"))
    assert "features of WhisperFrontend, and the training makes those of WavFrontend" in other.message


def test_what_changes_no_feature_is_not_accused(tmp_path: Path) -> None:
    model = folder(tmp_path / "model")
    assert found(model) == []
    assert found(model, frontend_conf__dither=0.0, frontend_conf__lfr_n=6, frontend_conf__window="hamming") == []
    online = folder(tmp_path / "online", kind="WavFrontendOnline")
    assert found(online, init_param=str(model / "model.pt")) == []
    # Nothing tells how these were trained.
    alone = tmp_path / "weights.pt"
    alone.write_bytes(b"PK")
    assert found(model, init_param=str(alone), frontend_conf__lfr_n=1) == []
    assert found(model, init_param="/nowhere/model.pt", frontend_conf__lfr_n=1) == []


def tensor(name: str, shape: tuple[int, ...], was: tuple[int, ...] | None) -> ModelTensor:
    return ModelTensor(name=name, shape=shape, parameter=True, loaded=was is None, found_shape=was, excluded=False)


def test_first_layers_of_another_size_are_reported_from_another_model(tmp_path: Path) -> None:
    model = folder(tmp_path / "model", lfr_m=1)
    first = [
        tensor("encoder.encoders0.0.norm1.weight", (80,), (560,)),
        tensor("encoder.encoders0.0.self_attn.linear_q_k_v.weight", (960, 80), (960, 560)),
    ]
    rest = [tensor("encoder.after_norm.weight", (320,), None), tensor("decoder.embed.0.weight", (8404, 320), None)]
    fates = TensorFates(stage="loaded", failure=None, model=(*first, *rest), features=80, loads=("model.pt",))
    (one,) = check_weights(inputs_of(model), fates)
    assert (one.rule, one.severity, one.count) == ("features-not-the-checkpoints", Severity.WRONG, 2)
    assert "takes features of size 560 and the frontend makes 80 (n_mels 80 × lfr_m 1)" in one.message
    assert one.remedy.startswith("++frontend_conf.lfr_m=7")
    wider = replace(fates, model=(*first, replace(rest[0], loaded=False, found_shape=(512,)), rest[1]))
    assert [one.rule for one in check_weights(inputs_of(model), wider)] == [
        "features-not-the-checkpoints",
        "tensors-of-another-shape",
    ]
    kept = replace(fates, model=tuple(rest), features=560)
    assert list(check_weights(inputs_of(model), kept)) == []
