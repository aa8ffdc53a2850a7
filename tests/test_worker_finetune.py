"""The `finetune` check, on a miniature release whose trainer is driven by hydra as the real one is."""

from __future__ import annotations

import json
import os
import string
from pathlib import Path
from typing import Any

import pytest
import tiny_release
from forked import Forked
from hypothesis import given
from hypothesis import strategies as st
from parsed import judge_invariants

from harness.worker.checks import dispatch
from harness.worker.trainer import launch

# What a folder of the user's may be called, and hydra's grammar or a shell would read otherwise.
ODD = "it's a {folder}, = [odd] $name \\ 你好"


@pytest.fixture(scope="module")
def install_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_release.write_release(tmp_path_factory.mktemp("release"))


def run(request: dict[str, Any], room: str, *, enter: bool) -> dict[str, Any]:
    os.chdir(room)
    if enter:
        dispatch.enter(request["release"])
    answer = dispatch.run(request)
    return {**answer, "left": sorted(file.name for file in Path(room).iterdir())}


def train(
    forked: Forked, install_dir: Path, room: Path, fault: str = "", *, enter: bool = True, **others: Any
) -> dict[str, Any]:
    folder = tiny_release.write_model_folder(room / "folder", fault=fault)
    request = tiny_release.request(install_dir, "finetune", folder, **others)
    place = room / ODD
    place.mkdir()
    answer: dict[str, Any] = forked(run, request=request, room=str(place), enter=enter)
    return answer


@pytest.mark.parametrize(("enter", "whole"), [(False, False), (True, False), (True, True)])
def test_a_training_is_watched_to_its_end(
    forked: Forked, install_dir: Path, tmp_path: Path, enter: bool, whole: bool
) -> None:
    answer = train(forked, install_dir, tmp_path, enter=enter, whole=whole)
    assert answer["shims"] == []
    metrics, evidence = answer["metrics"], answer["evidence"]
    assert (answer["status"], answer["reason"]) == ("passed", "")
    assert (metrics["steps"], metrics["steps_asked"], metrics["steps_expected"], metrics["epochs"]) == (6, 6, 6, 3)
    assert len(metrics["losses"]) == len(metrics["gradient_norms"]) == len(metrics["step_seconds"]) == 6
    assert metrics["learning_rates"] == [0.01] * 6
    assert all(norm > 0 for norm in metrics["gradient_norms"])
    assert set(metrics["relative_change_by_group"]) == {"encoder", "predictor", "decoder"}
    assert metrics["peak_resident_bytes"] > 0
    assert evidence["entry_is_native"] is True
    assert evidence["parameters_unchanged"] == evidence["trainer_options"] == []
    assert evidence["saved"] == ["model.pt"]
    assert "funasr/models/tiny.py:Tiny" in evidence["code"]
    assert answer["left"] == [], "checkpoints of several seeds are gigabytes"


def test_every_seed_has_a_training_of_its_own(forked: Forked, install_dir: Path, tmp_path: Path) -> None:
    settings = {"epochs": 3, "batch_size": 2, "learning_rate": 0.01, "warmup_steps": 1}
    answer = train(forked, install_dir, tmp_path, seed=4, finetune=settings | {"seeds": 3})
    trainings = answer["metrics"]["trainings"]
    assert [one["seed"] for one in trainings] == [4, 5, 6]
    assert trainings[0]["losses"] == answer["metrics"]["losses"]
    assert len({tuple(one["losses"]) for one in trainings}) == 3
    (tmp_path / "alone").mkdir()
    alone = train(forked, install_dir, tmp_path / "alone", seed=5)
    assert alone["metrics"]["losses"] == trainings[1]["losses"], "what ran before must not matter"


def test_where_one_seed_breaks_off_the_next_ones_are_not_tried(
    forked: Forked, install_dir: Path, tmp_path: Path
) -> None:
    settings = {"epochs": 3, "batch_size": 2, "learning_rate": 0.01, "warmup_steps": 1, "seeds": 3}
    answer = train(forked, install_dir, tmp_path, "trainer_raises", finetune=settings)
    assert answer["status"] == "failed"
    assert len(answer["metrics"]["trainings"]) == 1


TYPO = {"optim_conf.lrr": 1}


@pytest.mark.parametrize(
    ("fault", "own", "control"),
    [
        ("optimizer_takes_all", True, {"failure": None}),
        ("trainer_raises", True, {"failure": "ValueError@funasr/bin/train.py:main_hydra"}),
        ("optimizer_takes_all", False, None),
    ],
)
def test_a_training_that_breaks_off_is_tried_without_the_users_settings(
    forked: Forked, install_dir: Path, tmp_path: Path, fault: str, own: bool, control: dict[str, Any] | None
) -> None:
    settings = {"epochs": 3, "batch_size": 2, "learning_rate": 0.01, "warmup_steps": 1, "overrides": TYPO, "own": own}
    answer = train(forked, install_dir, tmp_path, fault, finetune=settings)
    assert answer["status"] == "failed"
    assert answer["evidence"].get("control") == control


@pytest.mark.parametrize(("fault", "finite"), [("", True), ("nan", False)])
def test_a_training_that_diverges_is_trained_without_the_users_settings(
    forked: Forked, install_dir: Path, tmp_path: Path, fault: str, finite: bool
) -> None:
    settings = {"epochs": 3, "batch_size": 2, "learning_rate": 0.01, "warmup_steps": 1, "own": True}
    answer = train(forked, install_dir, tmp_path, fault, finetune={**settings, "overrides": {"optim_conf.lr": 1e30}})
    assert answer["status"] == "passed", (answer["reason"], answer["failure"])
    assert answer["status"] == "passed"
    assert answer["evidence"]["control"] == {"failure": None, "finite": finite}
    sound = tmp_path / "sound"
    sound.mkdir()
    assert "control" not in train(forked, install_dir, sound, finetune={**settings, "overrides": {}})["evidence"]


def test_a_training_that_crashes_takes_the_cell_with_it(forked: Forked, install_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="-11"):
        train(forked, install_dir, tmp_path, "crashes")


def test_a_training_is_given_its_few_rows_over_and_over(forked: Forked, install_dir: Path, tmp_path: Path) -> None:
    source = tmp_path / "speech.jsonl"
    rows = [{"key": f"k{number}", "source": "a.wav", "target": f"t{number}"} for number in range(6)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    settings = {"epochs": 2, "batch_size": 2, "learning_rate": 0.01, "warmup_steps": 1, "rows": 7, "distinct": 3}
    data = {"train": str(source), "valid": "valid.jsonl", "utterances": 6, "frame_seconds": 0.06}
    answer = train(forked, install_dir, tmp_path, finetune=settings, data=data)
    assert answer["metrics"]["invariants"]["listed"] == [3, 2, 2]
    assert (answer["metrics"]["steps_expected"], answer["metrics"]["epochs_expected"]) == (8, 2)


@pytest.mark.parametrize(
    ("fault", "name", "value"),
    [
        ("", "not_from_checkpoint", []),
        ("forgets_the_checkpoint", "not_from_checkpoint", ["encoder.weight"]),
        ("frozen_encoder", "trainable_parameters", 4),
        ("encoder_without_gradient", "without_gradient", ["encoder.weight", "encoder.bias"]),
        (
            "optimizes_less",
            "not_in_optimizer",
            ["encoder.weight", "encoder.bias", "predictor.weight", "predictor.bias"],
        ),
        ("keeps_gradients", "steps_begun_with_gradients", [1, 2, 3, 4, 5]),
    ],
)
def test_what_a_trainer_does_in_silence_is_seen(
    forked: Forked, install_dir: Path, tmp_path: Path, fault: str, name: str, value: object
) -> None:
    answer = train(forked, install_dir, tmp_path, fault)
    assert answer["metrics"]["invariants"][name] == value


@pytest.mark.parametrize(
    ("fault", "broken"),
    [
        ("", False),
        ("adds_up", True),
        ("loses_a_batch", True),
        ("last_batch_alone", True),
        ("no_sync_without_ranks", True),
    ],
)
def test_accumulated_gradients_are_compared_with_the_mean_of_the_batches(
    forked: Forked, install_dir: Path, tmp_path: Path, fault: str, broken: bool
) -> None:
    source = tmp_path / "speech.jsonl"
    rows = [{"key": f"k{number}", "source": "a.wav", "target": "t" * (4 * number + 1)} for number in range(2)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    settings = {"epochs": 3, "batch_size": 2, "learning_rate": 0.01, "warmup_steps": 1, "accumulate": 2}
    data = {"train": str(source), "valid": "valid.jsonl", "utterances": 1, "frame_seconds": 0.06}
    found = train(forked, install_dir, tmp_path, fault, finetune=settings, data=data)["metrics"]["accumulation"]
    if fault == "no_sync_without_ranks":
        assert found["failure"] == "AttributeError@funasr/bin/train.py:main_hydra"
    else:
        assert (found["relative_difference"] > 0.01) is broken
        assert broken or found["relative_difference"] < 1e-6
    assert bool(judge_invariants({"accumulation": found}).reasons["accumulation"]) is broken


def test_the_same_seed_gives_the_same_losses_to_the_last_digit(
    forked: Forked, install_dir: Path, tmp_path: Path
) -> None:
    losses = []
    for number, seed in enumerate((0, 0, 1)):
        (tmp_path / str(number)).mkdir()
        losses.append(train(forked, install_dir, tmp_path / str(number), seed=seed)["metrics"]["losses"])
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


@pytest.mark.parametrize(
    ("fault", "signature", "message"),
    [
        ("trainer_raises", "ValueError@funasr/bin/train.py:main_hydra", "planted in the trainer"),
        ("trainer_exits", "SystemExit@funasr/bin/train.py:main_hydra", "3"),
        (
            "hidden_states",
            "AssertionError@funasr/losses/label_smoothing_loss.py:forward",
            "assert x.size(2) == self.size",
        ),
    ],
)
def test_a_training_that_breaks_off_fails_and_keeps_what_was_seen(
    forked: Forked, install_dir: Path, tmp_path: Path, fault: str, signature: str, message: str
) -> None:
    answer = train(forked, install_dir, tmp_path, fault)
    kind, _, place = signature.partition("@")
    assert (answer["status"], answer["reason"]) == ("failed", f"{kind} in {place}: {message}")
    assert answer["failure"]["signature"] == signature
    assert (answer["metrics"]["steps"], answer["metrics"]["steps_expected"]) == (0, 6)
    assert answer["evidence"]["saved"] == []


def test_a_trainer_that_leaves_early_and_well_is_left_to_the_judge(
    forked: Forked, install_dir: Path, tmp_path: Path
) -> None:
    answer = train(forked, install_dir, tmp_path, "trainer_exits_well")
    assert (answer["status"], answer["metrics"]["steps"], answer["metrics"]["steps_expected"]) == ("passed", 0, 6)


def test_steps_that_are_not_taken_are_not_counted(forked: Forked, install_dir: Path, tmp_path: Path) -> None:
    answer = train(forked, install_dir, tmp_path, "skips_steps")
    assert answer["metrics"]["steps"] == 0
    assert answer["metrics"]["relative_change_by_group"] == {"encoder": 0.0, "predictor": 0.0, "decoder": 0.0}
    assert len(answer["evidence"]["parameters_unchanged"]) == 6


def test_want_of_memory_in_the_trainer_is_no_failure(forked: Forked, install_dir: Path, tmp_path: Path) -> None:
    assert train(forked, install_dir, tmp_path, "eats_memory")["status"] == "out_of_memory"


def test_an_entry_that_the_release_does_not_ship_is_skipped(forked: Forked, install_dir: Path, tmp_path: Path) -> None:
    answer = train(forked, install_dir, tmp_path, entry="train_ds")
    assert (answer["status"], answer["reason"]) == ("skipped", "the release ships no funasr/bin/train_ds.py")


def test_a_model_that_the_release_does_not_have_is_skipped(forked: Forked, install_dir: Path, tmp_path: Path) -> None:
    answer = train(forked, install_dir, tmp_path, model_class="Other")
    assert (answer["status"], answer["reason"]) == ("skipped", "the release has no model 'Other'")


def test_a_release_that_does_not_import_whole_fails(forked: Forked, tmp_path: Path) -> None:
    install_dir = tiny_release.write_release(tmp_path / "release", init='raise RuntimeError("planted")\n')
    answer = train(forked, install_dir, tmp_path, enter=False)
    assert (answer["status"], answer["failure"]["signature"]) == ("failed", "RuntimeError@funasr/__init__.py:<module>")


def read_by_hydra(values: list[Any]) -> list[Any]:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parser = OverridesParser.create()
    return [parser.parse_override(f"++key={launch.quoted(value)}").value() for value in values]


@pytest.mark.parametrize(
    "value", [0, 4, 0.001, 1e-7, True, "cpu", "AudioDataset", ODD, "/data/train.jsonl", "null", "1"]
)
def test_hydra_reads_a_value_back_unchanged(forked: Forked, value: Any) -> None:
    (read,) = forked(read_by_hydra, values=[value])
    assert (read, type(read)) == (value, type(value))


# Without `${`, which is OmegaConf's and means something wherever it stands.
TEXTS = st.text(string.ascii_letters + string.digits + " /\\'\"{}[](),=:.~%@#!?*+-_|<>&;你")


@given(values=st.lists(TEXTS, max_size=20))
def test_hydra_reads_any_text_back_unchanged(values: list[str]) -> None:
    pytest.importorskip("hydra")
    assert read_by_hydra(values) == values
