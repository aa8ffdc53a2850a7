"""What each release's trainer accepts: read from made-up code, and from real releases."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.worker.trainer import options

TRAINING = {
    "model_folder": "/model",
    "train": "/train.jsonl",
    "valid": "/valid.jsonl",
    "output_dir": "/exp",
    "batch_size": 4,
    "epochs": 5,
    "learning_rate": 0.001,
    "warmup_steps": 3,
    "seed": 7,
    "device": "cpu",
}
SAMPLERS = "datasets/audio_datasets/samplers.py"
ONE_MORE = "for epoch in range(trainer.start_epoch, trainer.max_epoch + 1):"
AS_ASKED = "for epoch in range(trainer.start_epoch, trainer.max_epoch):"


def write(install_dir: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        path = install_dir / "funasr" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(install_dir)


def newest(install_dir: Path, **others: str) -> str:
    files = {SAMPLERS: '@tables.register("batch_sampler_classes", "BatchSampler")', "bin/train.py": AS_ASKED}
    return write(install_dir, {**files, **others})


def test_the_newest_options_need_no_note(tmp_path: Path) -> None:
    trainer_options = options.trainer_options(newest(tmp_path), "1.4.16", "train")
    assert (trainer_options.native_entry, trainer_options.batch_sampler, trainer_options.notes) == (
        "train",
        "BatchSampler",
        (),
    )
    assert (trainer_options.extra_epoch, trainer_options.validates_on_training_set) == (False, False)


def test_a_release_without_the_usual_sampler_is_asked_for_the_one_it_has(tmp_path: Path) -> None:
    install_dir = newest(tmp_path, **{SAMPLERS: '@tables.register("x", "DynamicBatchLocalShuffleSampler")'})
    trainer_options = options.trainer_options(install_dir, "1.0.0", "train")
    assert trainer_options.overrides(TRAINING)["dataset_conf.batch_sampler"] == "DynamicBatchLocalShuffleSampler"
    assert len(trainer_options.notes) == 1
    assert SAMPLERS in trainer_options.notes[0]


@pytest.mark.parametrize(
    "loop",
    [
        ONE_MORE,
        ONE_MORE.replace("trainer.", "self."),
        ONE_MORE.replace(" + ", "+"),
        ONE_MORE.replace("(", "(\n    ").replace(", ", ",\n    ").replace("):", "\n):"),
    ],
)
def test_a_loop_that_counts_its_last_epoch_from_0_is_noticed(tmp_path: Path, loop: str) -> None:
    trainer_options = options.trainer_options(newest(tmp_path, **{"bin/train.py": loop}), "1.0.18", "train")
    assert trainer_options.extra_epoch
    assert (trainer_options.epochs_run(4), len(trainer_options.notes)) == (5, 1)


@pytest.mark.parametrize("entry", ["train", "train_ds"])
@pytest.mark.parametrize(
    "place", ["train_utils/trainer.py", "train_utils/trainer_ds.py", "bin/train.py", "bin/train_ds.py"]
)
def test_each_entry_has_the_loop_of_its_own_trainer(tmp_path: Path, entry: str, place: str) -> None:
    install_dir = newest(tmp_path, **{place: ONE_MORE})
    own = place.endswith(f"/{entry}.py") or place.endswith(f"/{entry.replace('train', 'trainer')}.py")
    assert options.trainer_options(install_dir, "1.0.18", entry).extra_epoch is own


@pytest.mark.parametrize(
    ("sampler_for", "valid"), [("dataset_tr", TRAINING["train"]), ("dataset_val", TRAINING["valid"])]
)
def test_a_release_that_samples_its_validation_by_the_training_set_is_given_that(
    tmp_path: Path, sampler_for: str, valid: str
) -> None:
    text = f"batch_sampler_val = batch_sampler_class({sampler_for}, is_training=False)\n{AS_ASKED}"
    trainer_options = options.trainer_options(newest(tmp_path, **{"bin/train.py": text}), "1.0.0", "train")
    assert trainer_options.overrides(TRAINING)["valid_data_set_list"] == valid
    assert len(trainer_options.notes) == (sampler_for == "dataset_tr")


@pytest.mark.parametrize(
    ("version", "ships_ds", "native"),
    [
        ("1.0.27", True, "train"),
        ("1.0.28", True, "train_ds"),
        ("1.0.28", False, "train"),
        ("1.1.0", True, "train_ds"),
        ("1.10.0", True, "train_ds"),
        ("1.4.16+local.1a2b3c4d", True, "train_ds"),
    ],
)
def test_the_native_entry_is_the_one_that_finetune_sh_calls(
    tmp_path: Path, version: str, ships_ds: bool, native: str
) -> None:
    more = {"bin/train_ds.py": AS_ASKED} if ships_ds else {}
    assert options.trainer_options(newest(tmp_path, **more), version, "train").native_entry == native


def test_the_command_line_asks_for_the_training_of_the_cell(tmp_path: Path) -> None:
    overrides = options.trainer_options(newest(tmp_path), "1.4.16", "train").overrides(TRAINING)
    assert overrides["model"] == "/model"
    assert (overrides["train_data_set_list"], overrides["valid_data_set_list"]) == ("/train.jsonl", "/valid.jsonl")
    assert (overrides["train_conf.max_epoch"], overrides["dataset_conf.batch_size"]) == (5, 4)
    assert (overrides["optim_conf.lr"], overrides["scheduler_conf.warmup_steps"]) == (0.001, 3)
    assert (overrides["seed"], overrides["device"], overrides["output_dir"]) == (7, "cpu", "/exp")


@pytest.mark.parametrize(("utterances", "batch", "epochs", "steps"), [(16, 4, 4, 16), (17, 4, 4, 20), (1, 4, 3, 3)])
def test_every_utterance_arrives_once_an_epoch(utterances: int, batch: int, epochs: int, steps: int) -> None:
    assert options.optimizer_steps(utterances, batch, epochs) == steps


@pytest.mark.release
@pytest.mark.parametrize(
    ("version", "native", "departures"),
    [
        ("1.0.0", "train", {"sampler", "epoch", "validation"}),
        ("1.0.12", "train", {"epoch"}),
        ("1.0.17", "train", {"epoch"}),
        ("1.0.18", "train", {"epoch"}),
        ("1.0.26", "train", set()),
        ("1.0.28", "train_ds", set()),
        ("1.4.16", "train_ds", set()),
    ],
)
def test_real_releases_speak_as_their_code_says(
    layout: Callable[[str], Path], version: str, native: str, departures: set[str]
) -> None:
    install_dir = layout(version)
    for entry in ("train", "train_ds"):
        if not (install_dir / "funasr" / "bin" / f"{entry}.py").exists():
            assert (entry, native) == ("train_ds", "train")
            continue
        trainer_options = options.trainer_options(str(install_dir), version, entry)
        seen = {
            "sampler": trainer_options.batch_sampler != "BatchSampler",
            "epoch": trainer_options.extra_epoch,
            "validation": trainer_options.validates_on_training_set,
        }
        assert trainer_options.native_entry == native
        assert {name for name, departs in seen.items() if departs} == departures
        assert len(trainer_options.notes) == len(departures)
