"""Real releases on both sides of the reported bug, and sound ones with a fault planted in a copy, in one run."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from harness.config.matrix import Matrix, load_matrix
from harness.core.cells import Outcome, Release, Status
from harness.environments.environment import Environment, probe, scrubbed_environment
from harness.releases import default_cache, fetch, install_path, resolve
from harness.rules.apply import apply_rules
from harness.run import Settings, build_plan, execute
from harness.run.prepare import Prepared, lay_out_releases, prepare
from harness.run.runner import PRELOADED
from harness.variants.catalogue import available

# The run takes about a minute of two quiet processors; on a busy machine it may take a while.
pytestmark = [pytest.mark.release, pytest.mark.timeout(1800)]

MATRIX = """
schema = 1
name = "both_sides"
description = "Both sides of the streaming bug, and copies of a sound release with planted faults."

[axes]
release = ["1.0.11", "1.0.12", "1.0.17", "1.0.18", "latest"]
variant = ["paraformer_streaming", "paraformer"]
vocab_size = [8404]
hidden_size = [320]
depth = ["reduced"]
check = ["construct", "loss_contract"]
device = ["cpu"]
precision = ["fp32"]

[[include]]

[[include]]
release = ["1.0.12", "1.0.17", "1.0.18"]
variant = ["paraformer_streaming"]
vocab_size = [8501]
hidden_size = [512]

[[include]]
release = ["1.0.18"]
variant = ["paraformer_streaming"]
check = ["finetune@train"]

[[include]]
release = ["latest"]
variant = ["paraformer_streaming"]
check = ["finetune@train_ds"]

# Whether a trainer trains at all, and twice the same, is no question of width.
[[include]]
release = ["1.0.18", "{unchanged}", "{no_rate}", "{no_steps}"]
variant = ["paraformer_streaming"]
vocab_size = [1200]
hidden_size = [64]
check = ["finetune@train"]

[[include]]
release = ["{hidden_states}", "{one_class_less}"]
variant = ["paraformer_streaming"]

[finetune]
seeds = 1
"""


@dataclass(frozen=True)
class Edit:
    """A fault as a change of one place in a release's code."""

    file: str
    old: str
    new: str


SOUND = "1.0.18"
SMALL = "v1200-h64"
COPIES: Mapping[str, Edit | None] = {
    "unchanged": None,
    "hidden_states": Edit(
        "models/paraformer/decoder.py",
        "olens = tgt_mask.sum(1)\n        if self.output_layer is not None and return_hidden is False:",
        "olens = tgt_mask.sum(1)\n        if False:",
    ),
    "one_class_less": Edit(
        "models/paraformer/model.py",
        "LabelSmoothingLoss(\n            size=vocab_size,",
        "LabelSmoothingLoss(\n            size=vocab_size - 1,",
    ),
    "no_rate": Edit("bin/train.py", '**kwargs.get("optim_conf"))', '**{**kwargs.get("optim_conf"), "lr": 0.0})'),
    "no_steps": Edit("train_utils/trainer.py", "                    optim.step()\n", "                    pass\n"),
}


@dataclass(frozen=True, kw_only=True)
class Run:
    """What came of the run's cells."""

    labels: Mapping[str, str]
    """Of the copies, by their names above; a published release is its own."""
    outcomes: Mapping[str, Outcome]

    def outcome(
        self, release: str, check: str, variant: str = "paraformer_streaming", shape: str = "v8404-h320"
    ) -> Outcome:
        release = self.labels.get(release, release)
        return self.outcomes[f"{release}/{variant}/{shape}/reduced/{check}/cpu-fp32"]


def plant(locked: tuple[Release, ...], name: str, folder: Path) -> Path:
    """A copy of the sound release as a checkout, with the fault in it."""
    (release,) = resolve(SOUND, locked)
    fetch([release], default_cache(), jobs=1)
    shutil.copytree(
        install_path(release, default_cache()) / "funasr", folder / name / "funasr", copy_function=shutil.copyfile
    )
    edit = COPIES[name]
    if edit is None:
        # The copy needs a hash of its own to be another release than the others.
        (folder / name / "funasr" / "unchanged.txt").touch()
        return folder / name
    file = folder / name / "funasr" / edit.file
    text = file.read_text("utf-8")
    assert text.count(edit.old) == 1, f"{edit.file} of {SOUND} holds {edit.old!r} {text.count(edit.old)} times"
    file.write_text(text.replace(edit.old, edit.new), "utf-8")
    return folder / name


def carry_out(matrix: Matrix, prepared: Prepared, stack: Environment, room: Path) -> dict[str, Outcome]:
    settings = Settings(
        workspace=room / "tree",
        jobs=len(os.sched_getaffinity(0)),
        memory_bytes=matrix.limits.memory_bytes,
        timeout_seconds={check: 4 * seconds for check, seconds in matrix.limits.timeout_seconds.items()},
        preload=tuple(dict.fromkeys((*PRELOADED, "torch._dynamo"))),
        sys_path=tuple(str(path) for path in stack.extra_paths),
        places={str(prepared.cache): "<cache>", str(room): "<workspace>"},
        enter_timeout_seconds=600.0,
        preload_timeout_seconds=900.0,
    )
    plan = build_plan(matrix.cells, settings, release_for=prepared.release_for, request_for=prepared.request_for)
    outcomes: dict[str, Outcome] = {}
    warnings: list[str] = []

    def keep(outcome: Outcome) -> None:
        outcomes[outcome.cell.id] = apply_rules(outcome)

    environment = scrubbed_environment(stack, room / "env", cache=prepared.cache)
    execute(plan, keep, python=stack.python, env=environment, on_warning=warnings.append)
    assert warnings == []
    assert set(outcomes) == {cell.id for cell in matrix.cells}
    return outcomes


@pytest.fixture(scope="module")
def run(locked: tuple[Release, ...], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """All of it, once."""
    pytest.importorskip("torch", reason="runs releases: install the `stack` extra")
    # Short, for the sockets that are made below it.
    room = tmp_path_factory.mktemp("r").resolve()
    copies = {name: plant(locked, name, room / "copies") for name in COPIES}
    (room / "matrix.toml").write_text(MATRIX.format(**copies), encoding="utf-8")
    matrix = load_matrix(
        room / "matrix.toml", resolve=partial(resolve, locked=locked), variants=available(), gpu_present=False
    )
    stack = probe(cache=default_cache())
    prepared = prepare(matrix, matrix.cells, stack, cache=default_cache(), workspace=room)
    lay_out_releases(prepared, matrix.cells)
    labels = {release.path.name: release.label for release in matrix.releases if release.path}
    labels["latest"] = resolve("latest", locked)[0].label
    return Run(labels=labels, outcomes=carry_out(matrix, prepared, stack, room))


BEFORE = ("1.0.11", "1.0.12", "1.0.17")
AFTER = ("1.0.18", "latest")


@pytest.mark.parametrize("release", [*BEFORE, *AFTER])
@pytest.mark.parametrize("check", ["construct", "loss_contract"])
def test_the_offline_model_passes_on_both_sides(run: Run, release: str, check: str) -> None:
    outcome = run.outcome(release, check, "paraformer")
    assert (outcome.status, outcome.reason) == (Status.PASSED, "")


@pytest.mark.parametrize("release", [*BEFORE, *AFTER])
def test_the_streaming_model_is_built_for_its_vocabulary_on_both_sides(run: Run, release: str) -> None:
    outcome = run.outcome(release, "construct")
    assert outcome.status is Status.PASSED
    assert outcome.evidence["losses"] == [{"name": "criterion_att", "type": "LabelSmoothingLoss", "classes": 8404}]
    projection = {"name": "decoder.output_layer", "in_features": 320, "out_features": 8404}
    assert outcome.evidence["projections"] == [projection]
    groups = outcome.metrics["parameters_by_group"]
    assert set(groups) == {"encoder", "predictor", "decoder"}
    assert sum(groups.values()) == outcome.metrics["parameters"]


def test_before_the_assertion_an_attribute_was_missing(run: Run) -> None:
    outcome = run.outcome("1.0.11", "loss_contract")
    assert outcome.status is Status.FAILED
    assert outcome.failure is not None
    assert outcome.failure.type == "AttributeError"
    assert "step_cur" in outcome.reason
    place = "funasr/models/paraformer_streaming/model.py:_calc_att_predictor_loss"
    assert outcome.failure.signature == f"AttributeError@{place}"


@pytest.mark.parametrize("release", ["1.0.12", "1.0.17"])
@pytest.mark.parametrize(("shape", "width", "classes"), [("v8404-h320", 320, 8404), ("v8501-h512", 512, 8501)])
def test_the_loss_is_handed_hidden_states_as_the_reports_say(
    run: Run, release: str, shape: str, width: int, classes: int
) -> None:
    outcome = run.outcome(release, "loss_contract", shape=shape)
    assert outcome.status is Status.FAILED
    (seen,) = outcome.evidence["loss_inputs"]
    assert (seen["name"], seen["width"], seen["classes"]) == ("criterion_att", width, classes)
    assert seen["input_shape"][0] == 4
    assert f"built for {classes} classes and received tensors {width} wide" in outcome.reason
    assert outcome.failure is not None
    assert outcome.failure.signature == "AssertionError@funasr/losses/label_smoothing_loss.py:forward"
    files = [frame.file for frame in outcome.failure.frames]
    assert files[0] == "funasr/models/paraformer_streaming/model.py"
    assert files[-1] == "funasr/losses/label_smoothing_loss.py"
    assert outcome.evidence["projection_calls"] == {"decoder.output_layer": 0}


@pytest.mark.parametrize(
    ("release", "shape"), [("1.0.18", "v8404-h320"), ("latest", "v8404-h320"), ("1.0.18", "v8501-h512")]
)
def test_since_1_0_18_the_streaming_model_keeps_the_contract(run: Run, release: str, shape: str) -> None:
    outcome = run.outcome(release, "loss_contract", shape=shape)
    assert (outcome.status, outcome.reason) == (Status.PASSED, "")
    (seen,) = outcome.evidence["loss_inputs"]
    assert f"v{seen['width']}" == f"v{seen['classes']}" == shape.partition("-")[0]
    norms = outcome.metrics["gradient_norm_by_group"]
    assert set(norms) == {"encoder", "predictor", "decoder"}
    assert min(norms.values()) > 0


TRAINED = [("1.0.18", "finetune@train"), ("latest", "finetune@train_ds")]
# 1.0.18 steps its schedule once an epoch too often, and cannot accumulate without several processes.
BROKEN_INVARIANTS = {"1.0.18": {"schedule", "accumulation"}, "latest": set()}


@pytest.mark.parametrize(("release", "check"), TRAINED)
def test_the_releases_own_trainer_learns(run: Run, release: str, check: str) -> None:
    outcome = run.outcome(release, check)
    metrics, evidence = outcome.metrics, outcome.evidence
    assert set(evidence["training"]["unmet"]) == BROKEN_INVARIANTS[release]
    assert outcome.status is (Status.FAILED if BROKEN_INVARIANTS[release] else Status.PASSED)
    assert evidence["entry_is_native"] is True
    assert metrics["steps"] == metrics["steps_expected"] >= metrics["steps_asked"] == 49
    assert len(metrics["losses"]) == len(metrics["step_seconds"]) == metrics["steps"]
    assert min(metrics["step_seconds"]) > 0
    (learned,) = evidence["training"]["learning"]["seeds"]
    assert learned["gain"] > 0.5
    assert learned["last_accuracy"] > 2 * learned["constant_accuracy"]
    (heard,) = evidence["training"]["learning"]["hearing"]
    assert (heard["of"], heard["texts"], heard["not_observed"]) == ("held_out", 36, "")
    # Sound trainings heard 0.56 to 1.00 of what can only be heard; see docs/checks.md#rules-for-learning.
    assert min(mode["share"] for mode in heard["modes"]) > 0.4
    assert evidence["training"]["invariants"]["not_observed"] == ("ranks", "frozen")
    assert evidence["saved"]


@pytest.mark.parametrize(("release", "check"), TRAINED)
def test_encoder_predictor_and_decoder_are_changed(run: Run, release: str, check: str) -> None:
    changes = run.outcome(release, check).metrics["relative_change_by_group"]
    assert set(changes) == {"encoder", "predictor", "decoder"}
    assert all(0.001 < change < 1 for change in changes.values())


@pytest.mark.parametrize(("release", "check"), TRAINED)
def test_what_could_be_measured_is_there_and_the_rest_is_null(run: Run, release: str, check: str) -> None:
    metrics = run.outcome(release, check).metrics
    assert metrics["peak_resident_bytes"] > 100 << 20
    assert metrics["peak_allocated_bytes"] is metrics["peak_reserved_bytes"] is metrics["peak_used_bytes"] is None
    assert all(norm > 0 for norm in metrics["gradient_norms"])
    assert metrics["samples_per_second"] > 0
    # The corpus speaks some seconds an utterance.
    assert 1 < metrics["audio_seconds_per_second"] / metrics["samples_per_second"] < 15


@pytest.mark.parametrize(("release", "check"), TRAINED)
def test_the_trainers_statistics_are_there_for_every_step(run: Run, release: str, check: str) -> None:
    metrics = run.outcome(release, check).metrics
    stats = metrics["stats"]
    assert stats["loss"] == metrics["losses"]
    assert {"acc", "loss_att", "loss_pre"} <= set(stats)
    assert all(len(values) == metrics["steps"] for values in stats.values())


@pytest.mark.parametrize("metric", ["losses", "gradient_norms", "relative_change_by_group", "learning_rates", "stats"])
def test_the_same_seed_gives_the_same_training_to_the_last_digit(run: Run, metric: str) -> None:
    once = run.outcome("1.0.18", "finetune@train", shape=SMALL).metrics
    again = run.outcome("unchanged", "finetune@train", shape=SMALL).metrics
    assert once[metric] == again[metric]


def test_a_decoder_that_gives_its_hidden_states_is_found(run: Run) -> None:
    assert run.outcome("hidden_states", "construct").status is Status.PASSED
    outcome = run.outcome("hidden_states", "loss_contract")
    assert outcome.status is Status.FAILED
    (seen,) = outcome.evidence["loss_inputs"]
    assert (seen["width"], seen["classes"]) == (320, 8404)
    assert "320 wide" in outcome.reason


def test_a_loss_that_is_built_for_one_class_less_is_found(run: Run) -> None:
    outcome = run.outcome("one_class_less", "construct")
    assert outcome.status is Status.FAILED
    assert outcome.reason == "criterion_att is built for 8403 classes, the vocabulary has 8404"
    above = run.outcome("one_class_less", "loss_contract")
    assert above.status is Status.BLOCKED
    assert outcome.cell.id in above.reason


@pytest.mark.parametrize(
    ("fault", "unmet", "said"),
    [
        (
            "no_rate",
            {"parameters", "unigram", "accuracy", "hearing", "moving", *BROKEN_INVARIANTS[SOUND]},
            "The encoder's parameters did not move",
        ),
        ("no_steps", {"steps"}, "The optimizer took none of 56 steps, and the trainer reported no error."),
    ],
)
def test_a_trainer_that_does_not_train_is_found(run: Run, fault: str, unmet: set[str], said: str) -> None:
    outcome = run.outcome(fault, "finetune@train", shape=SMALL)
    assert outcome.status is Status.FAILED
    assert outcome.failure is not None
    kind, _, conditions = outcome.failure.signature.partition("@")
    assert kind == "NotTrained"
    # Whether epochs that do not fall come in the order of falling is a matter of chance.
    assert set(conditions.split("+")) - {"trend"} == unmet
    assert set(outcome.evidence["training"]["unmet"]) == set(conditions.split("+"))
    assert said in outcome.reason


def test_nothing_of_this_machine_is_in_any_outcome(run: Run) -> None:
    for outcome in run.outcomes.values():
        text = str(outcome.to_json())
        for place in (str(Path.home()), str(default_cache()), str(Path(__file__).parents[1]), tempfile.gettempdir()):
            assert place not in text, outcome.cell.id


def used(outcome: Outcome) -> set[str]:
    return set(outcome.shims) - {"torchaudio-without-native-libraries"}


@pytest.mark.parametrize(
    ("release", "check", "shims"),
    [
        ("1.0.17", "construct", {"import-what-is-needed"}),
        ("1.0.18", "construct", set()),
        ("1.0.18", "finetune@train", {"cuda-calls-stay-on-cpu"}),
        ("latest", "finetune@train_ds", {"cuda-devices-mean-cpu"}),
    ],
)
def test_only_shims_that_were_made_use_of_are_reported(run: Run, release: str, check: str, shims: set[str]) -> None:
    reads_audio: set[Any] = {"soundfile-reads-audio"} if "finetune" in check else set()
    assert used(run.outcome(release, check)) - reads_audio == shims
