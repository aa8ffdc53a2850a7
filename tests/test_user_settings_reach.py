"""A variant's own settings reach every check about a trainer, without those that a check makes itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_release

from harness.worker.checks import accumulation, ranks
from harness.worker.checks.data import loader_capture
from harness.worker.release import model
from harness.worker.trainer import launch, options
from harness.worker.trainer.children import ChildContext
from harness.worker.trainer.training_trace import ReleaseTrainer, TrainingTrace

OVERRIDES = {
    "optim": "adamw",
    "dataset": "AudioDatasetHotword",
    "freeze_param": "encoder",
    "optim_conf.weight_decay": 0.1,
    "train_conf.max_epoch": 77,
    "dataset_conf.batch_size": 9,
    "optim_conf.lr": 0.5,
}
REACH = {name: OVERRIDES[name] for name in ("optim", "dataset", "freeze_param", "optim_conf.weight_decay")}


@pytest.fixture
def install_dir(tmp_path: Path) -> Path:
    return tiny_release.write_release(tmp_path / "release")


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The command lines that trainers are given."""
    lines: list[dict[str, Any]] = []

    def note(_entry: str, words: dict[str, Any], **_: Any) -> None:
        lines.append(dict(words))

    monkeypatch.setattr(launch, "run_trainer", note)
    monkeypatch.setattr(launch, "import_model_class", lambda *_: None)
    return lines


def request_of(install_dir: Path, room: Path) -> dict[str, Any]:
    rows = room / "rows.jsonl"
    rows.write_text('{"key": "a", "source": "a.wav", "target": "t"}\n', encoding="utf-8")
    settings = {"epochs": 3, "batch_size": 2, "learning_rate": 0.01, "warmup_steps": 1, "overrides": OVERRIDES}
    data = {"train": str(rows), "valid": str(rows), "utterances": 1, "frame_seconds": 0.06}
    folder = tiny_release.write_model_folder(room / "folder")
    return tiny_release.request(install_dir, "finetune", folder, finetune=settings, data=data)


def check_reach(words: dict[str, Any]) -> None:
    assert {name: words[name] for name in REACH} == REACH
    assert words["train_conf.max_epoch"] != 77
    assert words["dataset_conf.batch_size"] != 9
    assert words["optim_conf.lr"] != 0.5


def test_they_reach_checkpoint_and_decode(
    install_dir: Path, tmp_path: Path, said: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TrainingTrace, "attach", lambda *_: None)
    recipe = {"epochs": 2, "batch_size": 2, "learning_rate": 0.001, "warmup_steps": 4}
    request = {**request_of(install_dir, tmp_path), "entry": "train"}
    ReleaseTrainer.of(request, tmp_path, **recipe).run(tmp_path / "exp", TrainingTrace())
    check_reach(said[0])


def test_they_reach_data(
    install_dir: Path, tmp_path: Path, said: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader_capture.importlib, "import_module", lambda _: type("Module", (), {"main": None}))
    trainer_options, dataset_options = (
        options.trainer_options(str(install_dir), "1.0.0", "train"),
        options.dataset_options(str(install_dir)),
    )
    trainer = loader_capture.DataTrainer(
        "train", "Tiny", tmp_path, trainer_options, dataset_options, options.shared_overrides(OVERRIDES)
    )
    with pytest.raises(RuntimeError, match="without calling its main"):
        trainer.start("train.jsonl", "valid.jsonl")
    check_reach(said[0])


@pytest.mark.parametrize("extra", ["accumulation", "ranks"])
def test_they_reach_the_small_trainings(
    install_dir: Path, tmp_path: Path, said: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, extra: str
) -> None:
    request = request_of(install_dir, tmp_path)
    monkeypatch.setattr(launch, "copy_folder", lambda *_: tmp_path / "model")
    if extra == "ranks":
        keys = (ranks.WEIGHTS, ranks.LOSSES, ranks.NORMS, ranks.ROWS)
        monkeypatch.setattr(ranks, "_record_steps", lambda *_: {key: [] for key in keys})
        ranks.train(request, tmp_path, 1)
    else:
        for name in ("disable_randomness", "_batches_seen", "_leave_at_first_step"):
            monkeypatch.setattr(accumulation, name, lambda *_: [])
        accumulation.train(request, (2, None), tmp_path, ChildContext(tmp_path))
    check_reach(said[0])


def test_finetune_is_given_all_of_them(install_dir: Path) -> None:
    words = options.trainer_options(str(install_dir), "1.0.0", "train").overrides(
        {
            **dict.fromkeys(("model_folder", "train", "valid", "seed", "device", "output_dir"), "x"),
            **{"batch_size": 2, "epochs": 3, "learning_rate": 0.1, "warmup_steps": 1, "overrides": OVERRIDES},
        }
    )
    assert {name: words[name] for name in OVERRIDES} == OVERRIDES


def test_every_start_is_written_by_the_one_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny_release.write_model_folder(tmp_path / "folder")
    written: list[int] = []
    monkeypatch.setattr(model, "write_start", lambda _folder, path, seed: (path.touch(), written.append(seed)))
    pytest.importorskip("omegaconf")
    launch.copy_folder(str(folder), tmp_path / "one", 3)
    launch.copy_folder(str(folder), tmp_path / "other", 4, launch.WITHOUT_DITHER)
    assert written == [3, 4]
    assert (tmp_path / "one/model.pt").exists()
    assert (tmp_path / "other/model.pt").exists()
