"""Observers in trainings by real releases: the training is the same to the last bit, and is recorded as it was."""

from __future__ import annotations

import json
import os
import socket
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from forked import Forked
from watched_scene import TrainingScene, Watched, read_records, scene, stack, train

from harness.watch.records import (
    Ended,
    EpochEnded,
    ObserverFailed,
    ProcessStarted,
    ReadBack,
    Saved,
    TrainingStarted,
    TrainingStep,
    Validated,
)

pytestmark = pytest.mark.release

WITHIN = {"train_conf.validate_interval": 2, "train_conf.save_checkpoint_interval": 2}
CASES: Mapping[str, tuple[str, str, Mapping[str, Any], int]] = {
    "train_ds": ("1.4.16", "train_ds", {"train_conf.max_epoch": 2}, 1),
    "train_ds, within epochs": ("1.4.16", "train_ds", WITHIN, 1),
    "train_ds, two ranks, accumulated": ("1.4.16", "train_ds", {"train_conf.accum_grad": 2, "backend": "gloo"}, 2),
    "train, bf16": ("1.4.16", "train", {"train_conf.use_bf16": True}, 1),
    # Without accumulation: its trainer then calls `no_sync` of a model that one process does not wrap.
    "train of 1.0.6": ("1.0.6", "train", {}, 1),
}
"""Release, entry point, settings and number of processes."""


# In a child with torch


def carry_out(overlay: str, paths: list[str], cases: dict[str, Any]) -> dict[str, Any]:
    """Trainings forked from one process that has imported the release: what each has saved, by name."""
    sys.path[:0] = paths
    import torch

    from harness.worker.checks.ranks import _allow_missing_gpus
    from harness.worker.release import importer, shims

    importer.import_all(overlay)
    shims.apply("cpu")
    _allow_missing_gpus()
    original = torch.tensor
    # The trainers' device is the number of a GPU.
    torch.tensor = lambda *args, **kwargs: original(*args, **{**kwargs, "device": None})  # type: ignore[assignment]
    # As a user has it: hydra prints an exception and exits.
    os.environ.pop("HYDRA_FULL_ERROR", None)
    found = {}
    for name, case in cases.items():
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        ranks = [_fork(case, rank, port) for rank in range(case["ranks"])]
        for pid in ranks:
            assert os.waitpid(pid, 0)[1] == 0, (Path(case["folder"]) / "said.txt").read_text()[-3000:]
        found[name] = _saved(Path(case["folder"]))
    return found


def _fork(case: dict[str, Any], rank: int, port: str) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        if case["ranks"] > 1:
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(case["ranks"])}
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        os.chdir(case["folder"])
        said = os.open(f"said{rank or ''}.txt", os.O_WRONLY | os.O_CREAT)
        os.dup2(said, 1)
        os.dup2(said, 2)
        _train(case)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _train(case: dict[str, Any]) -> None:
    import importlib

    from harness.worker.watch import start

    if case["watched"]:
        start.begin("records")
    module, *words = case["command"]
    sys.argv = [f"{module.rpartition('.')[2]}.py", *words]
    importlib.import_module(module).main_hydra()
    if start._begun is not None:
        start._begun.endings.ended()


def _saved(folder: Path) -> dict[str, str]:
    """A digest of each saved file's tensors and numbers."""
    import hashlib

    import torch

    found = {}
    for path in sorted((folder / "exp").glob("model.pt*")):
        digest = hashlib.sha256()
        _add(digest, torch.load(path, map_location="cpu", weights_only=False))
        found[path.name] = digest.hexdigest()
    return found


def _add(digest: Any, value: Any) -> None:
    if hasattr(value, "numpy"):
        digest.update(value.detach().contiguous().numpy().tobytes())
    elif isinstance(value, dict):
        for name, one in value.items():
            digest.update(repr(name).encode())
            _add(digest, one)
    elif isinstance(value, list | tuple):
        for one in value:
            _add(digest, one)
    else:
        digest.update(repr(value).encode())


# In this process


@pytest.fixture(scope="module")
def scenes(
    forked: Forked, layout: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, TrainingScene]:
    """Files for a training by each release."""
    return {
        release: scene(forked, tmp_path_factory.mktemp("release"), layout(release))
        for release in dict.fromkeys(one[0] for one in CASES.values())
    }


@pytest.fixture(scope="module")
def carried_out(forked: Forked, scenes: Mapping[str, TrainingScene]) -> dict[str, Any]:
    """Each case with observers and without: what was saved and what was recorded."""
    found: dict[str, Any] = {}
    for release, place in scenes.items():
        orders = {}
        for name, (of_release, entry, settings, ranks) in CASES.items():
            for watched in (True, False) if of_release == release else ():
                folder = place.room / f"{name}-{watched}"
                (folder / "records").mkdir(parents=True)
                command = place.command(entry, **{**settings, "output_dir": str(folder / "exp")})
                orders[f"{name}-{watched}"] = {
                    "folder": str(folder),
                    "command": command,
                    "watched": watched,
                    "ranks": ranks,
                }
        paths = [str(one) for one in stack().extra_paths]
        saved = forked(carry_out, overlay=str(place.install_dir), paths=paths, cases=orders)
        for name, one in saved.items():
            found[name] = (one, read_records(Path(orders[name]["folder"]) / "records"))
    return found


@pytest.mark.parametrize("name", CASES)
def test_the_training_is_the_same(carried_out: dict[str, Any], name: str) -> None:
    watched, _ = carried_out[f"{name}-True"]
    alone, nothing = carried_out[f"{name}-False"]
    assert watched == alone
    assert "model.pt" in alone
    assert not nothing


@pytest.mark.parametrize("name", CASES)
def test_the_records_say_what_it_was(carried_out: dict[str, Any], name: str) -> None:
    release, entry, settings, ranks = CASES[name]
    _, files = carried_out[f"{name}-True"]
    assert len(files) == ranks
    for records in files.values():
        seen = {kind: [one for one in records if isinstance(one, kind)] for kind in map(type, records)}
        (process,), (training,), (ended,) = seen[ProcessStarted], seen[TrainingStarted], seen[Ended]
        assert ObserverFailed not in seen, seen[ObserverFailed]
        assert (process.funasr, process.world_size) == (release, ranks)
        assert (training.trainer, training.model) == (
            f"funasr.train_utils.trainer{'_ds' if entry == 'train_ds' else ''}.Trainer",
            "Paraformer",
        )
        assert training.entry == f"funasr/bin/{entry}.py"
        assert training.wrapped == ("DistributedDataParallel" if ranks > 1 else "")
        assert (training.optimizer, training.scheduler) == ("Adam", "WarmupLR")
        assert (training.rows, training.vocabulary, training.label_smoothing) == (8, 1200, 0.1)
        assert training.in_force["optim_conf"]["lr"] == 0.001
        # Releases up to 1.0.18 choose no best checkpoint.
        assert training.in_force.get("avg_keep_nbest_models_type") == ("acc" if release == "1.4.16" else None)
        steps, accumulate = seen[TrainingStep], settings.get("train_conf.accum_grad", 1)
        assert [one.step for one in steps] == list(range(1, len(steps) + 1))
        assert {len(one.forwards) for one in steps} == {accumulate}
        assert steps[0].learning_rates == pytest.approx((0.00025,))
        for one in steps:
            assert one.gradient_norm > 0
            assert one.clipped_at == 5
            assert {"loss", "acc"} <= set(one.forwards[0].stats)
            assert one.forwards[0].frames_used <= one.forwards[0].frames * one.forwards[0].utterances
            assert 0 < one.unigram < 7.1
        assert all(one.loss > 0 and one.seconds > 0 for one in seen[Validated])
        assert (ended.how, ended.status, ended.step) == ("finished", None, len(steps))
        if process.rank == 0:
            (read,) = seen[ReadBack]
            assert (read.skipped, read.equal, read.different, read.missing) == ("", read.tensors, (), ())
            assert all(not one.missing and not one.other_values for one in seen[Saved])
            assert any(one.averaged for one in seen[Saved])
        else:
            assert Saved not in seen


def test_epochs_and_validations_are_reported_apart(carried_out: dict[str, Any]) -> None:
    def of(name: str, kind: type[Any]) -> list[Any]:
        (records,) = carried_out[f"{name}-True"][1].values()
        return [one for one in records if isinstance(one, kind)]

    epochs = of("train_ds", EpochEnded)
    assert [(one.epoch, one.batches, one.utterances, one.distinct) for one in epochs] == [(0, 4, 8, 8), (1, 4, 8, 8)]
    assert [(one.epoch, one.step) for one in of("train_ds", Validated)] == [(0, 4), (1, 8)]
    within = of("train_ds, within epochs", Validated)
    assert [(one.epoch, one.step) for one in within] == [(0, 2), (0, 4), (0, 4)]
    assert [(one.epoch, one.batches) for one in of("train_ds, within epochs", EpochEnded)] == [(0, 4)]


def test_a_users_script_is_observed_from_its_start_to_its_failure(scenes: Mapping[str, TrainingScene]) -> None:
    place = scenes["1.4.16"]
    rows = (place.room / "train.jsonl").read_text("utf-8").splitlines()
    # The sixth row of the third batch has no recording.
    lost = json.loads(rows[5])
    lost["source"] = str(place.room / "lost.wav")
    (place.room / "lost.jsonl").write_text("\n".join([*rows[:5], json.dumps(lost), *rows[6:]]) + "\n", "utf-8")
    command = place.command(
        "train_ds",
        **{"train_data_set_list": str(place.room / "lost.jsonl"), "dataset_conf.num_workers": 1},
    )
    done: Watched = train(place, "failing", command, script=True)
    assert done.status == 1
    assert len(done.files) == 1
    (ended,) = done.of(Ended)
    assert (ended.how, ended.status, ended.step) == ("exception", 1, 2)
    assert "lost.wav" in ended.exception + "".join(ended.traceback)
    assert ended.post_mortem.phase == "data"
    assert not done.of(ObserverFailed)
