"""The configuration in force, read inside from a miniature release, and what the rules then expect of its training."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import tiny_release
from forked import Forked
from parsed import judge_invariants, judge_training

from harness.worker.checks import dispatch
from harness.worker.trainer import expectation, in_force

RECIPE = {"epochs": 3, "batch_size": 2, "learning_rate": 0.01, "warmup_steps": 1}


@pytest.fixture(scope="module")
def install_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_release.write_release(tmp_path_factory.mktemp("release"))


def run(request: dict[str, Any], room: str) -> dict[str, Any]:
    os.chdir(room)
    dispatch.enter(request["release"])
    answer: dict[str, Any] = dispatch.run(request)
    return answer


def metrics_of(forked: Forked, install_dir: Path, room: Path, fault: str = "", **overrides: Any) -> dict[str, Any]:
    folder = tiny_release.write_model_folder(room / "folder", fault=fault)
    settings = {**RECIPE, "overrides": overrides}
    request = tiny_release.request(install_dir, "finetune", folder, whole=True, finetune=settings)
    answer = forked(run, request=request, room=str(room))
    assert answer["status"] == "passed", answer["reason"]
    found: dict[str, Any] = answer["metrics"]
    return found


def broken(metrics: dict[str, Any]) -> set[str]:
    """Of the invariants that the miniature can be judged by; its schedule is constant."""
    reasons = judge_invariants(metrics).reasons
    return {name for name, found in reasons.items() if found} - {"schedule", "moving", "statistics"}


CLIP = {"train_conf.grad_clip": 0.01, "optim": "adamw"}
WITHIN = {"train_conf.validate_interval": 1}
FREEZE = {"freeze_param": "encoder"}


@pytest.mark.parametrize(
    ("fault", "overrides", "accused"),
    [
        ("", {}, set()),
        ("loads_no_encoder", {}, {"start"}),
        ("start_is_gone", {}, {"start"}),
        ("forgets_the_checkpoint", {}, {"start"}),
        ("", CLIP, set()),
        ("clips_higher", CLIP, {"clipping"}),
        ("clips_by_name", CLIP, set()),
        ("higher_clips_by_name", CLIP, {"clipping"}),
        ("", WITHIN, set()),
        ("one_epoch_more", WITHIN, {"epochs"}),
        ("one_epoch_more", {}, {"epochs"}),
        ("", FREEZE, set()),
        ("freezes_nothing", FREEZE, {"frozen"}),
    ],
)
def test_the_rules_take_the_configuration_in_force(
    forked: Forked, install_dir: Path, tmp_path: Path, fault: str, overrides: dict[str, Any], accused: set[str]
) -> None:
    metrics = metrics_of(forked, install_dir, tmp_path, fault, **overrides)
    assert broken(metrics) == accused
    config = metrics["config_in_force"]
    assert config["source"] == "main"
    for path, value in overrides.items():
        section, _, name = path.partition(".")
        assert (config[section][name] if name else config[section]) == value


def test_what_the_user_freezes_need_not_move(forked: Forked, install_dir: Path, tmp_path: Path) -> None:
    verdict = judge_training(metrics_of(forked, install_dir, tmp_path, **FREEZE))
    assert "parameters" not in verdict.unmet
    assert set(verdict.not_observed) >= {"accuracy"}
    assert "freezes 2 tensors" in verdict.not_observed["accuracy"]


def test_what_stands_still_without_being_frozen_is_found(forked: Forked, install_dir: Path, tmp_path: Path) -> None:
    verdict = judge_training(metrics_of(forked, install_dir, tmp_path, "optimizes_less", freeze_param="predictor"))
    assert any("The encoder's parameters did not move" in reason for reason in verdict.reasons)
    assert not any("The predictor's" in reason for reason in verdict.reasons)


def test_a_start_that_is_gone_is_named(forked: Forked, install_dir: Path, tmp_path: Path) -> None:
    metrics = metrics_of(forked, install_dir, tmp_path, init_param="/nowhere/mine.pt")
    (reason,) = judge_invariants(metrics).reasons["start"]
    assert reason.startswith("`init_param` mine.pt does not exist: ")


def test_a_start_of_the_user_s_own_is_compared_as_far_as_it_fits(
    forked: Forked, install_dir: Path, tmp_path: Path
) -> None:
    own = tmp_path / "mine.pt"
    forked(save_own, path=str(own))
    assert broken(metrics_of(forked, install_dir, tmp_path, init_param=str(own))) == set()
    (tmp_path / "other").mkdir()
    assert broken(metrics_of(forked, install_dir, tmp_path / "other", "loads_no_encoder", init_param=str(own))) == {
        "start"
    }


def save_own(path: str) -> None:
    import torch

    torch.save({"encoder.weight": torch.ones(tiny_release.HIDDEN_SIZE, tiny_release.INPUT_SIZE) * 0.3}, path)


CONFIG = {
    "optim_conf": {"lr": 0.002},
    "train_conf": {"max_epoch": 5, "grad_clip": 1.0},
    "optim": "adamw",
}


class Trainer:
    max_epoch = 5
    grad_clip = 1.0


@pytest.mark.parametrize(
    ("config", "held", "key"),
    [
        ({}, {}, ""),
        ({"optim_conf": {"lr": 0.001}}, {}, "optim_conf.lr"),
        ({"optim": "adam"}, {}, "optim"),
        ({}, {"grad_clip": 10.0}, "train_conf.grad_clip"),
        ({}, {"max_epoch": 6}, "train_conf.max_epoch"),
    ],
)
def test_a_setting_that_the_release_works_with_otherwise_is_named(
    config: dict[str, Any], held: dict[str, Any], key: str
) -> None:
    trainer = Trainer()
    vars(trainer).update(held)
    force = in_force.InForce(trainer=trainer, config={**CONFIG, **config}, source="trainer")
    differs = force.differs(in_force.configured(CONFIG, {"train_conf.max_epoch": 5, "seed": 3}))
    assert [one["key"] for one in differs] == ([key] if key else [])
    metrics = {"invariants": {"configuration": differs, "configuration_source": "trainer"}}
    assert bool(judge_invariants(metrics).reasons["configuration"]) == bool(key)


def test_a_configuration_that_was_not_found_accuses_nobody() -> None:
    force = in_force.InForce()
    assert (force.to_dict(), force.differs(in_force.configured(CONFIG, {}))) == ({}, [])
    metrics = {"invariants": {"configuration": [], "configuration_source": None}}
    assert "configuration" in judge_invariants(metrics).not_observed


@pytest.mark.parametrize(
    ("config", "frozen"),
    [
        ({}, []),
        ({"freeze_param": "encoder"}, ["encoder.weight", "encoder.a", "encoder.lora_A"]),
        ({"freeze_param": "enc"}, []),
        ({"freeze_param": "[encoder.a, decoder]"}, ["encoder.a", "decoder.bias"]),
        ({"freeze_param": ["decoder"]}, ["decoder.bias"]),
        ({"lora_only": True}, ["encoder.weight", "decoder.bias"]),
    ],
)
def test_what_a_configuration_freezes(config: dict[str, Any], frozen: list[str]) -> None:
    names = ["encoder.weight", "encoder.a", "encoder.lora_A", "decoder.bias", "predictor.cif.weight"]
    assert in_force.frozen_by(config, names, ["decoder.bias"]) == frozen


LIMITS = {"max_token_length": 100.0, "min_source_length": 5.0}
ROWS = [
    {"target": "a", "source_len": 90, "target_len": 9},
    {"target": "b", "source_len": 101, "target_len": 2},
    {"target": "a", "source_len": 90, "target_len": 9},
    {"target": "c", "source_len": 4, "target_len": 2},
    {"target": "d", "source_len": 95, "target_len": 9},
]


def test_rows_beyond_a_limit_need_not_arrive() -> None:
    found = expectation.expected_rows(ROWS, LIMITS)
    assert (found["listed"], found["listed_optional"]) == ([2], [1, 1, 1])
    assert found["rows_beyond_limits"] == [
        "max_token_length 100 < 103",
        "min_source_length 5 > 4",
        "max_token_length 100 < 104",
    ]


@pytest.mark.parametrize(
    ("arrived", "steps", "accused"),
    [
        ({0: 2}, 1, set()),
        ({0: 2, 1: 1, 2: 1, 3: 1}, 1, set()),
        ({0: 2, 1: 1}, 1, set()),
        ({0: 1, 1: 1}, 1, {"batches"}),
        ({1: 1, 2: 1, 3: 1}, 1, {"batches"}),
        ({0: 2, 1: 2}, 1, {"batches"}),
        ({0: 2, 1: 1, 2: 1, 3: 1}, 4, {"steps"}),
    ],
)
def test_rows_within_the_limits_have_to(arrived: dict[int, int], steps: int, accused: set[str]) -> None:
    rows = expectation.expected_rows(ROWS, LIMITS)
    wanted = {"steps_expected": min(steps, 3), "steps_expected_least": 1, "epochs_expected": 1}
    batches = [row for row, times in arrived.items() for _ in range(times)]
    metrics = {
        **wanted,
        "steps": steps,
        "epochs": 1,
        "losses": [1.0] * steps,
        "steps_of_epochs": [steps],
        "targets": {"rows": [[7, 2], [8, 2], [9, 2], [10, 2]], "steps": [[batches], *[[]] * (steps - 1)]},
        "invariants": rows,
    }
    verdict = judge_training(metrics)
    unmet = {name for name in verdict.unmet if name in ("batches",)}
    unmet |= {"steps"} if any("of 3 steps" in reason for reason in verdict.reasons) else set()
    assert unmet == accused


SETTINGS = {"epochs": 5, "batch_size": 4, "learning_rate": 0.002, "warmup_steps": 8}


class OneEpochEach:
    @staticmethod
    def epochs_run(epochs: int) -> int:
        return epochs


@pytest.mark.parametrize(
    ("config", "expected", "least"),
    [
        ({}, 25, 25),
        ({"max_epoch": 2}, 10, 10),
        ({"dataset_conf": {"batch_size": 8}}, 15, 15),
        ({"accum_grad": 2}, 15, 10),
        ({"dataset_conf": {"batch_type": "token", "batch_size": 6000}}, None, None),
    ],
)
def test_steps_follow_from_the_configuration(config: dict[str, Any], expected: int | None, least: int | None) -> None:
    found = expectation.expected_steps(
        OneEpochEach(), config, SETTINGS, {"listed": [4] * 5}, expectation.EpochSize(steps=99)
    )  # type: ignore[arg-type]
    assert (found["steps_expected"], found.get("steps_expected_least")) == (expected, least)


@pytest.mark.parametrize(("taken", "expected"), [(5, 6), (6, 6), (7, 7), (9, 9), (10, 9), (0, 6)])
def test_of_two_numbers_of_steps_that_are_right_the_one_that_was_taken_is_expected(taken: int, expected: int) -> None:
    counted = expectation.EpochSize(batches=[2, 3], steps=taken)
    found = expectation.expected_steps(OneEpochEach(), {}, {**SETTINGS, "epochs": 3}, {}, counted)  # type: ignore[arg-type]
    assert found["steps_expected"] == expected


@pytest.mark.parametrize(
    ("config", "rate", "warmup", "clip"),
    [
        ({"optim_conf": {"lr": 0.01}, "scheduler_conf": {"warmup_steps": 3}, "grad_clip": 1.0}, 0.01, 3, 1.0),
        ({"optim_conf": {"lr": 0.01}, "scheduler": "noamlr"}, 0.01, None, None),
        ({"optim_conf": {}, "grad_clip": 1.0, "grad_clip_type": 1.0}, None, 25000, None),
        ({}, 0.002, 8, None),
    ],
)
def test_schedule_and_clipping_follow_from_it(
    config: dict[str, Any], rate: float | None, warmup: int | None, clip: float | None
) -> None:
    found = expectation.expected_schedule(config, SETTINGS)
    assert (found["learning_rate"], found["warmup_steps"], found["gradient_clip"]) == (rate, warmup, clip)


def test_a_limit_is_the_configured_one_or_the_code_s(tmp_path: Path) -> None:
    folder = tmp_path / "funasr/datasets/audio_datasets"
    folder.mkdir(parents=True)
    (folder / "index_ds.py").write_text('kwargs.get("max_source_length", 2048)\n', encoding="utf-8")
    (folder / "samplers.py").write_text('kwargs.get("max_token_length", None)\n', encoding="utf-8")
    assert expectation.row_limits(str(tmp_path), {}) == {"max_source_length": 2048.0}
    configured = {"max_token_length": 500, "max_source_length": 9000}
    assert expectation.row_limits(str(tmp_path), configured) == {"max_token_length": 500.0, "max_source_length": 9000.0}


def bound_by_name(install_dir: str) -> list[bool]:
    """Whether a release's own names for two of torch's functions are the watched ones, before and after."""
    import importlib

    import torch

    from harness.worker.release import importer
    from harness.worker.trainer import memory
    from harness.worker.trainer.recorder import TrainingRecorder
    from harness.worker.trainer.training_trace import TrainingTrace

    importer.import_all(install_dir)
    module = importlib.import_module("funasr.train_utils.bound_by_name")
    model_class: Any = type("Model", (torch.nn.Module,), {"forward": lambda self: None})
    plain = (module.save, module.clip)
    found = [module.save is torch.save, module.clip is torch.nn.utils.clip_grad_norm_]
    TrainingTrace().attach(model_class)
    TrainingRecorder(meter=memory.meter("cpu")).attach(model_class)
    found += [module.save is torch.save, module.clip is torch.nn.utils.clip_grad_norm_]
    return [*found, module.save is not plain[0], module.clip is not plain[1]]


def test_functions_that_a_release_has_imported_by_name_are_watched(forked: Forked, install_dir: Path) -> None:
    assert forked(bound_by_name, install_dir=str(install_dir)) == [True] * 6
