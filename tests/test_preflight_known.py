"""The known issues that a user's training meets, and those that it does not."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from user_folders import inputs_of, write_jsonl

from harness.core.cells import Depth, Dimensions, Release, Severity
from harness.preflight.findings import PreflightFinding
from harness.preflight.inputs import Inputs
from harness.preflight.release import known
from harness.preflight.release.known import check, nearest_without
from harness.variants.catalogue import load_variant
from harness.variants.variant import render

Layout = Callable[[str], Path]
EVERY = "known-in-every-training"


def inputs(
    folder: Path,
    layout: Layout,
    release: str,
    variant: str,
    *,
    entry: str | None = None,
    gpus: int | None = None,
    configuration: bool = True,
    **overrides: Any,
) -> Inputs:
    config = render(load_variant(variant), dimensions=Dimensions.parse("v25055-h320"), depth=Depth.FULL)
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    if configuration:
        (folder / "configuration.json").write_text("{}", encoding="utf-8")
    found = inputs_of(folder, install_dir=layout(release), version=release, **overrides)
    return replace(found, gpus=gpus, command=replace(found.command, entry=entry))


def found(given: Inputs) -> dict[str, PreflightFinding]:
    """By rule, without what every training meets."""
    findings = check(given).findings
    assert len({one.rule for one in findings}) == len(findings)
    return {one.rule: one for one in findings if one.rule != EVERY}


@pytest.mark.release
@pytest.mark.parametrize("release", ["1.0.6", "1.2.7", "1.4.16"])
@pytest.mark.parametrize("variant", ["paraformer", "bicif_paraformer", "conformer"])
def test_a_sound_training_has_nothing_above_minor(tmp_path: Path, layout: Layout, release: str, variant: str) -> None:
    assert found(inputs(tmp_path, layout, release, variant)) == {}


@pytest.mark.release
def test_a_sound_streaming_paraformer_is_reported_once_what_every_training_meets(
    tmp_path: Path, layout: Layout
) -> None:
    findings = check(inputs(tmp_path, layout, "1.4.16", "paraformer_streaming")).findings
    (one,) = findings
    assert (one.rule, one.severity) == (EVERY, Severity.MINOR)
    assert one.count == len(one.evidence) == 4


@pytest.mark.release
@pytest.mark.parametrize(
    ("release", "variant", "overrides", "issue", "severity"),
    [
        ("1.0.8", "paraformer_streaming", {}, "streaming-step-cur", "broken"),
        ("1.0.14", "paraformer_streaming", {}, "streaming-hidden-states-into-loss", "broken"),
        ("1.0.28", "paraformer", {}, "cif-one-token-short", "broken"),
        ("1.4.16", "paraformer", {"accum_grad": 2, "gpus": 2, "entry": "train"}, "ranks-drift-apart", "wrong"),
        ("1.2.7", "paraformer", {"accum_grad": 2, "gpus": 2}, "ranks-drift-apart-in-train-ds", "wrong"),
        ("1.0.18", "paraformer", {"accum_grad": 2, "gpus": 1}, "accumulation-needs-several-processes", "wrong"),
        ("1.0.6", "paraformer", {"dataset_conf__batch_type": "length"}, "batches-by-length-lose-data", "wrong"),
        ("1.4.16", "seaco_paraformer", {"gpus": 2}, "seaco-parameters-without-gradient", "wrong"),
        ("1.4.16", "paraformer", {"configuration": False}, "fine-tuned-folder-loads-its-base", "wrong"),
        ("1.4.16", "paraformer", {"device": "cpu", "entry": "train_ds"}, "train-ds-ignores-the-device", "wrong"),
        ("1.2.7", "scama", {}, "scama-predictor-untrained", "broken"),
        ("1.4.16", "sanm", {}, "sanm-decoder-sees-its-token", "broken"),
        ("1.2.2", "e_paraformer", {}, "e-paraformer-missing-function", "broken"),
    ],
)
def test_what_applies_is_named(
    tmp_path: Path, layout: Layout, release: str, variant: str, overrides: dict[str, Any], issue: str, severity: str
) -> None:
    given = {("train_conf__accum_grad" if key == "accum_grad" else key): value for key, value in overrides.items()}
    findings = found(inputs(tmp_path, layout, release, variant, **given))
    assert list(findings) == [f"known-{issue}"]
    one = findings[f"known-{issue}"]
    assert one.severity == severity
    assert one.remedy
    assert any("release without it" in line or "every release" in line or "no later" in line for line in one.evidence)


@pytest.mark.release
@pytest.mark.parametrize(
    ("release", "variant", "overrides"),
    [
        ("1.4.16", "paraformer", {"train_conf__accum_grad": 2, "gpus": 1, "entry": "train"}),
        ("1.4.16", "paraformer", {"train_conf__accum_grad": 1, "gpus": 2, "entry": "train"}),
        ("1.4.16", "paraformer", {"train_conf__accum_grad": 2, "gpus": 2, "entry": "train_ds"}),
        ("1.0.29", "paraformer", {}),
        ("1.0.28", "conformer", {}),
        ("1.4.16", "seaco_paraformer", {"gpus": 2, "train_conf__find_unused_parameters": True}),
        ("1.4.16", "scama", {"model_conf__predictor_weight": 1.0}),
        ("1.4.16", "paraformer", {"device": "cpu", "entry": "train"}),
        ("1.4.16", "paraformer", {"dataset_conf__batch_type": "token"}),
    ],
)
def test_what_the_settings_avoid_is_not(
    tmp_path: Path, layout: Layout, release: str, variant: str, overrides: dict[str, Any]
) -> None:
    assert found(inputs(tmp_path, layout, release, variant, **overrides)) == {}


@pytest.mark.release
def test_the_next_release_without_is_named(tmp_path: Path, layout: Layout) -> None:
    one = found(inputs(tmp_path, layout, "1.0.14", "paraformer_streaming"))["known-streaming-hidden-states-into-loss"]
    assert "the nearest later release without it is 1.0.18" in one.evidence


def test_the_nearest_release_without_is_named_in_both_directions() -> None:
    released = [
        Release(label=version, version=version, kind="wheel", filename="", sha256="")
        for version in ("1.0.27", "1.0.28", "1.0.29", "1.0.30")
    ]
    issue = next(one for one in known._issues() if one.releases == "==1.0.28")
    assert nearest_without(issue, "1.0.28", released) == ("1.0.29", "1.0.27")
    unmended = next(one for one in known._issues() if one.releases == ">=1.0.28")
    assert nearest_without(unmended, "1.0.30", released) == ("", "1.0.27")
    always = next(one for one in known._issues() if one.releases == ">=1.0.0")
    assert nearest_without(always, "1.0.30", released) == ("", "")
    assert known._without("", "1.0.27") == "no later release is without it; the last before it is 1.0.27"


@pytest.mark.release
def test_a_release_in_which_the_model_cannot_be_trained_is_no_way_out(tmp_path: Path, layout: Layout) -> None:
    """Up to 1.0.17 the parameters get their gradients for no training of SeACo gets that far."""
    one = found(inputs(tmp_path, layout, "1.4.16", "seaco_paraformer", gpus=2))[
        "known-seaco-parameters-without-gradient"
    ]
    assert "every release that trains this model has it" in one.evidence


@pytest.mark.release
def test_a_resume_within_an_epoch_is_found_by_the_files(tmp_path: Path, layout: Layout) -> None:
    out = tmp_path / "exp"
    out.mkdir()
    for age, name in enumerate(("model.pt", "model.pt.ep1", "model.pt.ep2.100")):
        (out / name).touch()
        os.utime(out / name, (age, age))
    folder = tmp_path / "m"
    assert "known-resume-within-epoch-replays" in found(
        inputs(folder, layout, "1.4.16", "paraformer", output_dir=str(out))
    )
    assert found(inputs(folder, layout, "1.4.16", "paraformer", output_dir=str(out), train_conf__resume=False)) == {}
    os.utime(out / "model.pt.ep1", (9, 9))
    assert found(inputs(folder, layout, "1.4.16", "paraformer", output_dir=str(out))) == {}


@pytest.mark.release
def test_texts_of_one_character_matter_without_a_bias(tmp_path: Path, layout: Layout) -> None:
    given = inputs(tmp_path / "m", layout, "1.4.16", "paraformer", model_conf__predictor_bias=0)
    short = write_jsonl(tmp_path / "short.jsonl", [{"key": "a", "source": "a.wav", "target": "好"}])
    long = write_jsonl(tmp_path / "long.jsonl", [{"key": "a", "source": "a.wav", "target": "好的"}])
    assert list(found(replace(given, train=short))) == ["known-one-target-is-too-few"]
    assert found(replace(given, train=long)) == {}
