"""Preflight's schedule: steps, learning rates, checkpoints; a training of no step is named, a sound one is not."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from forked import Forked
from preflight_inputs import rules, user_inputs
from real_training import train
from released import asker
from user_folders import environment, model_folder, speech, write_jsonl

from harness.core.cells import Severity
from harness.preflight.findings import PreflightFinding, PreflightPart
from harness.preflight.forecast.schedule import check
from harness.preflight.inputs import Inputs
from harness.preflight.rows import measured

pytestmark = pytest.mark.release

SOUND = {
    "dataset_conf.batch_type": "example",
    "dataset_conf.batch_size": 2,
    "train_conf.max_epoch": 4,
    "scheduler_conf.warmup_steps": 4,
}


@pytest.fixture(scope="module")
def folder(layout: Callable[[str], Path], forked: Forked, tmp_path_factory: pytest.TempPathFactory) -> Path:
    room = tmp_path_factory.mktemp("user")
    write_jsonl(room / "train.jsonl", speech(8))
    write_jsonl(room / "val.jsonl", speech(4, first=8))
    return model_folder(forked, layout("1.4.16"), room / "model")


@pytest.fixture
def schedule(
    layout: Callable[[str], Path], folder: Path, forked: Forked, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., PreflightPart]:
    monkeypatch.setattr(measured, "ask_release", asker(forked))

    def found(version: str = "1.4.16", overrides: Mapping[str, Any] | None = None, **given: Any) -> PreflightPart:
        room = folder.parent
        inputs: Inputs = user_inputs(
            folder,
            layout(version),
            train=room / "train.jsonl",
            valid=room / ("train.jsonl" if version == "1.0.6" else "val.jsonl"),
            overrides={**SOUND, **(overrides or {})},
            **given,
        )
        return check(inputs)

    return found


def fact(part: PreflightPart, label: str) -> str:
    return next(one.value for one in part.facts if one.label == label)


@pytest.mark.parametrize(
    ("version", "entry", "steps", "epochs"),
    [
        ("1.0.6", "train", 15, 5),
        ("1.2.7", "train_ds", 16, 4),
        ("1.4.16", "train", 16, 4),
        ("1.4.16", "train_ds", 16, 4),
    ],
)
def test_the_steps_are_those_that_the_trainer_takes(
    schedule: Callable[..., PreflightPart], version: str, entry: str, steps: int, epochs: int
) -> None:
    """Measured with each release's own trainer on these rows: 1.0.6 drops an epoch's last batch, and runs one more."""
    part = schedule(version, entry=entry)
    assert not part.findings
    assert fact(part, "steps").startswith(f"{steps} in {epochs} epochs")


def test_a_real_training_takes_the_predicted_steps(
    schedule: Callable[..., PreflightPart], layout: Callable[[str], Path], folder: Path, forked: Forked, tmp_path: Path
) -> None:
    room = folder.parent
    overrides = {
        **SOUND,
        "model": str(folder),
        "train_data_set_list": str(room / "train.jsonl"),
        "valid_data_set_list": str(room / "val.jsonl"),
        "train_conf.max_epoch": 1,
        "train_conf.accum_grad": 2,
        "optim_conf.lr": 0.0005,
        "dataset_conf.num_workers": 0,
        "output_dir": str(tmp_path / "exp"),
    }
    part = schedule(overrides=overrides, entry="train_ds")
    paths = [str(path) for path in environment().extra_paths]
    taken = forked(
        train,
        install_dir=str(layout("1.4.16")),
        version="1.4.16",
        entry="train_ds",
        overrides=overrides,
        root=str(room),
        paths=paths,
    )
    assert taken["error"] == ""
    assert fact(part, "steps").startswith(f"{taken['steps']} in 1 epoch, 2 batches each")
    first, last = taken["rates"][0], taken["rates"][-1]
    assert fact(part, "learning rate").startswith(f"{first:.3g} at step 1, {last:.3g} at step 2")


def test_a_scheduler_that_needs_a_metric_hides_no_steps(schedule: Callable[..., PreflightPart]) -> None:
    part = schedule(overrides={"scheduler": "ReduceLROnPlateau", "scheduler_conf": {}})
    assert fact(part, "steps").startswith("16 in 4 epochs")


def test_accumulation_and_a_warm_up_that_never_ends(schedule: Callable[..., PreflightPart]) -> None:
    part = schedule(overrides={"train_conf.accum_grad": 3, "scheduler_conf.warmup_steps": 25000})
    assert fact(part, "steps").startswith("4 in 4 epochs, 3 batches each")
    found = rules(part)["warmup-longer-than-training"]
    assert (found.severity, found.place.key) == (Severity.WRONG, "scheduler_conf.warmup_steps")
    assert fact(part, "learning rate").startswith("2e-08 at step 1")


@pytest.mark.parametrize(
    ("overrides", "where"),
    [
        ({"train_conf.accum_grad": 8}, "train_conf.accum_grad"),
        ({"train_conf.max_epoch": 0}, "train_conf.max_epoch"),
        ({"dataset_conf.max_token_length": 100}, "train_data_set_list"),
    ],
)
def test_a_training_of_no_step_is_broken(
    schedule: Callable[..., PreflightPart], overrides: dict[str, Any], where: str
) -> None:
    found = rules(schedule(overrides=overrides))["no-steps"]
    assert (found.severity, found.place.key) == (Severity.BROKEN, where)


def write_finished(path: str, epoch: int) -> None:
    """In a child with torch: what a trainer leaves."""
    import torch

    torch.save({"epoch": epoch, "state_dict": {}, "optimizer": {"param_groups": []}}, path)


@pytest.mark.parametrize(("epoch", "rule"), [(4, "resume-finished"), (2, "resume-continues")])
def test_a_resume_that_takes_no_step(
    schedule: Callable[..., PreflightPart], forked: Forked, tmp_path: Path, epoch: int, rule: str
) -> None:
    forked(write_finished, path=str(tmp_path / "model.pt"), epoch=epoch)
    found = rules(schedule(overrides={"output_dir": str(tmp_path)}))
    assert list(found) == [rule]
    assert (found[rule].severity is Severity.BROKEN) == (epoch == 4)


def test_slices_of_one_file_repeat_it(schedule: Callable[..., PreflightPart]) -> None:
    part = schedule(overrides={"dataset_conf.data_split_num": 3})
    assert rules(part)["epoch-repeats-file"].severity is Severity.WRONG
    # A slice is the whole file: 4 batches, 3 times, in 4 epochs.
    assert fact(part, "steps").startswith("48 in 4 epochs")


def test_the_output_folder_is_not_the_model_folder(schedule: Callable[..., PreflightPart], folder: Path) -> None:
    found = rules(schedule(overrides={"output_dir": str(folder)}))
    assert found["resume-no-checkpoint"].severity is Severity.BROKEN


def test_a_batch_size_in_the_other_unit(schedule: Callable[..., PreflightPart]) -> None:
    frames = rules(schedule(overrides={"dataset_conf.batch_size": 6000}))["batch-size-of-frames"]
    assert frames.severity is Severity.WRONG
    rows = rules(schedule(overrides={"dataset_conf.batch_type": "token", "dataset_conf.batch_size": 128}))
    assert rows["batch-size-of-rows"].severity is Severity.WRONG


def test_checkpoints_that_do_not_fit(
    schedule: Callable[..., PreflightPart], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1 << 20))
    found = rules(schedule(overrides={"output_dir": str(tmp_path)}))["disk-too-small"]
    assert found.severity is Severity.BROKEN
    assert "keep_nbest_models" not in found.remedy
    elsewhere = rules(schedule(overrides={"output_dir": str(tmp_path / "not-yet")}))["disk-too-small"]
    assert elsewhere.severity is Severity.MINOR


@pytest.mark.parametrize("keep", [1, 3])
def test_the_line_to_type_for_a_small_disk_fits(
    schedule: Callable[..., PreflightPart], folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, keep: int
) -> None:
    usage = shutil.disk_usage(tmp_path)

    def on_a_disk_of(free: int, **settings: int) -> dict[str, PreflightFinding]:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=free))
        own = {f"train_conf.{name}": value for name, value in settings.items()}
        return rules(schedule(overrides={"output_dir": str(tmp_path), "train_conf.max_epoch": 9, **own}))

    # With Adam, three numbers for each weight, but one in the average.
    weights = (folder / "model.pt").stat().st_size
    free = 3 * weights * (keep + 2) + weights
    remedy = on_a_disk_of(free)["disk-too-small"].remedy
    assert f"++train_conf.keep_nbest_models={keep} ++train_conf.avg_nbest_model={keep}, or" in remedy
    fits = {"keep_nbest_models": keep, "avg_nbest_model": keep}
    assert "disk-too-small" not in on_a_disk_of(free, **fits)
    assert "disk-too-small" in on_a_disk_of(free - 1, **fits)
