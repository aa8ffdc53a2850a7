"""The dry run: the release's trainer on a user's rows, from their weights, and nothing of theirs written."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from forked import Forked
from user_folders import environment, model_folder, speech, write_jsonl

from harness.core.cells import Failure, Frame, Severity
from harness.core.evidence.training import LossCriterion, Targets
from harness.preflight.command import TrainingCommand
from harness.preflight.dry_run import dry_run
from harness.preflight.dry_run.dry_run_answer import DryRun, FirstLoss, RowRead, Trained
from harness.preflight.dry_run.dry_run_failure import culprit
from harness.preflight.dry_run.dry_run_findings import of_start, of_steps
from harness.preflight.dry_run.dry_run_request import (
    Checkpoint,
    changes_of,
    checkpoint_of,
    files_of,
    request_for,
    shallow,
)
from harness.preflight.dry_run.dry_run_sample import ROWS, read_sample
from harness.preflight.findings import Place, PreflightFinding, PreflightPart
from harness.preflight.inputs import Inputs
from harness.preflight.release.release_questions import ask_all
from harness.preflight.settings import Setting, SettingsInForce
from harness.releases import default_cache, load_lock, resolve
from harness.variants.from_folder import code_in

LOCK = Path(__file__).parent.parent / "matrices" / "releases.lock.toml"
CONFIG = {"model": "Paraformer", "encoder_conf": {"num_blocks": 50}, "optim_conf": {"lr": 0.001}}


def setting(path: str, value: Any, *, command: bool = True) -> Setting:
    place = Place(file="" if command else "config.yaml", key=path)
    return Setting(path=path, value=value, place=place, from_command=command, text=f"++{path}={value}")


def overridden(values: Mapping[str, Any], *, entry: str | None = None) -> TrainingCommand:
    return TrainingCommand(overrides=tuple(setting(path, value) for path, value in values.items()), entry=entry)


def inputs_at(folder: Path, overrides: Mapping[str, Any] | None = None, **more: Any) -> Inputs:
    """Of a folder without a model, for what needs no release."""
    leaves = {"model": "Paraformer", "encoder_conf.num_blocks": 50, "optim_conf.lr": 0.001}
    settings = {path: setting(path, value, command=False) for path, value in leaves.items()}
    return Inputs(
        **{
            "model": folder,
            "release": resolve("1.4.16", load_lock(LOCK))[0],
            "install_dir": folder,
            "cache": folder,
            "environment": None,
            "train": folder / "train.jsonl",
            "valid": None,
            "command": overridden(overrides or {}),
            "config": SettingsInForce(by_path=settings),
            "gpus": None,
            "card": None,
            "root": folder,
            **more,
        }  # type: ignore[arg-type]
    )


def rows_at(folder: Path, count: int = 40) -> list[dict[str, Any]]:
    """Rows whose recordings exist, each longer than the one before."""
    (folder / "a.wav").write_bytes(b"RIFF")
    return [
        {"key": f"u{n}", "source": "a.wav", "source_len": 10 * n + 10, "target": "好" * (n % 7 + 1), "target_len": 3}
        for n in range(count)
    ]


def test_a_sample_has_the_longest_row_and_leaves_every_byte(tmp_path: Path) -> None:
    rows = rows_at(tmp_path)
    path = write_jsonl(tmp_path / "train.jsonl", rows)
    sample = read_sample([path], tmp_path)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(sample.rows) == ROWS
    assert sample.listed == 40
    assert {row.key for row in sample.rows} >= {"u0", "u39"}
    assert all(row.text == lines[row.line - 1] for row in sample.rows)


def test_a_sample_tries_what_may_end_a_training_and_nothing_that_may_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    rows = rows_at(tmp_path)
    rows += [{"key": "gone", "source": "gone.wav", "target": "好"}, {"key": "pipe", "source": "pipe.wav", "target": ""}]
    rows.append({"key": "far", "source": "https://example.org/a.wav", "target": "好"})
    path = write_jsonl(tmp_path / "train.jsonl", rows)
    with path.open("ab") as file:
        file.write(b'{"key": "\xff\n' + b"x" * (2 << 20) + b"\n")
    sample = read_sample([path], tmp_path)
    keys = {row.key for row in sample.rows}
    assert "gone" in keys
    assert not keys & {"pipe", "far"}
    assert sample.passed_over == 3


def test_depths_are_reduced_and_their_parts_stay_in_proportion() -> None:
    config = {
        "encoder_conf": {"num_blocks": 50, "tp_blocks": 20},
        "decoder_conf": {"num_blocks": 16, "att_layer_num": 16},
        "decoder2_conf": {"num_blocks": 6, "att_layer_num": 1},
        "small_conf": {"num_blocks": 2},
        "model_conf": {"ctc_weight": 0.3},
    }
    assert shallow(config) == {
        "encoder_conf.num_blocks": 2,
        "encoder_conf.tp_blocks": 2,
        "decoder_conf.num_blocks": 2,
        "decoder_conf.att_layer_num": 2,
        "decoder2_conf.num_blocks": 2,
    }


def test_only_files_of_the_folder_are_copied_and_no_code(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret").write_text("x")
    for name in ("tokens.json", "am.mvn", "model.py", "requirements.txt", "model.pt"):
        (folder / name).write_text("x")
    os.mkfifo(folder / "seg_dict")
    metas = {"init_param": "model.pt", "code": "model.py", "more": {"out": "../secret", "all": "am.mvn"}}
    (folder / "configuration.json").write_text(json.dumps({"file_path_metas": metas}))
    assert sorted(files_of(folder)) == ["am.mvn", "configuration.json", "tokens.json"]


def test_the_checkpoint_is_the_commands_then_the_folders(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_text("x")
    assert checkpoint_of(inputs_at(tmp_path)).path == tmp_path / "model.pt"
    (tmp_path / "other.pt").write_text("x")
    named = checkpoint_of(inputs_at(tmp_path, {"init_param": "other.pt"}))
    assert (named.path, named.in_copy, named.missing) == (tmp_path / "other.pt", "started_from.pt", False)
    assert checkpoint_of(inputs_at(tmp_path, {"init_param": "/nowhere.pt"})).missing


def test_what_runs_code_or_writes_elsewhere_is_not_passed_on(tmp_path: Path) -> None:
    overrides = {
        "trust_remote_code": True,
        "remote_code": "evil.py",
        "hydra.callbacks.x._target_": "os.system",
        "output_dir": "/elsewhere",
        "train_conf.max_epoch": 500,
        "optim_conf.lr": math.nan,
    }
    inputs = inputs_at(tmp_path, overrides)
    sample = read_sample([write_jsonl(tmp_path / "train.jsonl", rows_at(tmp_path, 4))], tmp_path)
    request = request_for(inputs, "train_ds", sample, sample, Checkpoint(path=None), changes_of(inputs, 4))
    given = json.loads(request["settings"])["overrides"]
    assert set(given) == {"trust_remote_code", "train_conf.max_epoch", "optim_conf.lr"}
    assert request["forced"]["trust_remote_code"] is False
    assert request["forced"]["train_conf.max_epoch"] == 2
    assert math.isnan(given["optim_conf.lr"])


def test_what_a_cpu_cannot_do_is_left_out_and_said(tmp_path: Path) -> None:
    overrides = {"train_conf.use_bf16": True, "train_conf.accum_grad": 8, "dataset_conf.batch_size": 32}
    changes = changes_of(inputs_at(tmp_path, overrides), 12)
    assert changes.forced["train_conf.use_bf16"] is False
    assert changes.forced["train_conf.accum_grad"] == 2
    assert changes.forced["dataset_conf.batch_size"] == 3
    assert "without use_bf16" in changes.said
    by_tokens = {"dataset_conf.batch_type": "token", "dataset_conf.batch_size": 6000}
    assert "dataset_conf.batch_size" not in changes_of(inputs_at(tmp_path, by_tokens), 12).forced
    # One batch an epoch makes no step of two.
    gathered = by_tokens | {"train_conf.accum_grad": 4}
    assert changes_of(inputs_at(tmp_path, gathered), 12).forced["train_conf.accum_grad"] == 1


@pytest.mark.parametrize(
    ("value", "refused"),
    [("__import__('os').system('x')", True), ("print(1)", True), ("encoder,predictor", False), ("[encoder]", False)],
)
def test_what_a_release_would_run_as_code_is_not_tried(tmp_path: Path, value: str, refused: bool) -> None:
    write_jsonl(tmp_path / "train.jsonl", rows_at(tmp_path, 4))
    found = dry_run.plan(inputs_at(tmp_path, {"freeze_param": value}))
    assert ("freeze_param" in str(found)) is refused or not isinstance(found, str)
    assert code_in({"encoder_conf": {"conv_feature_layers": "[(512,10,5)] + [(512,3,2)] * 4"}}) is None


def first(loss: float, batch: str = "b") -> FirstLoss:
    return FirstLoss(loss=loss, stats={"loss_att": loss}, batch=batch)


def tried(start: float, fresh: float, *, deviation: float | None = 0.2, whole: bool = True) -> DryRun:
    training = Trained(
        first=first(start),
        failure=None,
        steps=4,
        losses=(start,) * 4,
        learning_rates=(1e-4,) * 4,
        saved=("model.pt",),
        criterion=LossCriterion(classes=8404, smoothing=0.1, normalize_length=True),
        targets=Targets(rows=((5, 6, 7),), steps=(((0,),),)),
    )
    control = Trained(first=first(fresh), failure=None)
    return DryRun(training=training, whole=whole, control=control, norm_deviation=deviation, elements=10)


def start_of(found: DryRun, checkpoint: Checkpoint, folder: Path) -> list[tuple[str, Severity]]:
    return [(one.rule, one.severity) for one in of_start(inputs_at(folder), found, checkpoint)]


def test_the_start_is_held_against_a_fresh_model(tmp_path: Path) -> None:
    there = Checkpoint(path=tmp_path / "model.pt")
    assert start_of(tried(1.2, 8.1), there, tmp_path) == []
    assert start_of(tried(8.1, 8.1), there, tmp_path) == [("start-is-random", Severity.WRONG)]
    assert start_of(tried(9.4, 8.1), there, tmp_path) == [("start-at-random-level", Severity.WRONG)]
    # A checkpoint that nobody trained, and rows that it knows a little of.
    assert start_of(tried(8.0, 8.1, deviation=0.001), there, tmp_path) == [("start-at-random-level", Severity.MINOR)]
    assert start_of(tried(7.5, 8.1), there, tmp_path) == [("start-at-random-level", Severity.MINOR)]
    assert start_of(tried(9.4, 8.1, whole=False), there, tmp_path) == []
    assert start_of(tried(8.1, 8.1), Checkpoint(path=None), tmp_path) == [("start-without-checkpoint", Severity.MINOR)]


def test_steps_that_train_nothing_are_named(tmp_path: Path) -> None:
    sound = tried(1.2, 8.1).training
    inputs = inputs_at(tmp_path)

    def rules(found: Trained) -> list[str]:
        return [one.rule for one in of_steps(inputs, found)]

    assert rules(sound) == []
    assert rules(replace(sound, frozen=200, without_gradient=("encoder",), freeze_asked="encoder")) == []
    assert rules(replace(sound, steps=0)) == ["dry-run-no-step"]
    assert rules(replace(sound, steps=0, forwards=2)) == []
    assert rules(replace(sound, not_finite=2, losses=(1.0, 1.0, math.nan, math.nan))) == ["loss-not-finite"]
    assert rules(replace(sound, learning_rates=(0.0,) * 4)) == ["learning-rate-zero"]
    assert rules(replace(sound, freeze_asked="[encoder]", frozen_but_trained=90)) == ["freeze-has-no-effect"]
    assert rules(replace(sound, saved=())) == ["nothing-saved"]


def ended(kind: str, message: str, functions: tuple[str, ...], **more: Any) -> Trained:
    frame = Frame(file="funasr/train_utils/trainer_ds.py", line=7, function=functions[-1], code="x = y")
    failure = Failure(type=kind, message=message, frames=(frame,), signature=f"{kind}@{frame.file}:{frame.function}")
    return Trained(first=None, failure=failure, functions=functions, **more)


def blamed(folder: Path, found: Trained, overrides: Mapping[str, Any] | None = None) -> PreflightFinding:
    sample = read_sample([write_jsonl(folder / "train.jsonl", rows_at(folder, 4))], folder)
    return culprit(inputs_at(folder, overrides), "train_ds", found, sample, None)


def test_the_culprit_of_an_exception_is_a_row_a_setting_or_the_release(tmp_path: Path) -> None:
    read = RowRead(source="a.wav", target="好好")
    row = blamed(tmp_path, ended("LibsndfileError", "format", ("main", "__getitem__"), row=read))
    assert (row.rule, row.place.line, row.place.key) == ("row-ends-training", 2, "u1")
    typo = ended("TypeError", "Adam.__init__() got an unexpected keyword argument 'lrr'", ("warp_optim_scheduler",))
    mine = blamed(tmp_path, typo, {"optim_conf.lrr": 0.1})
    assert (mine.rule, mine.place.key) == ("setting-ends-training", "optim_conf.lrr")
    neutral = blamed(tmp_path, ended("RuntimeError", "shapes differ", ("train_epoch", "forward")))
    assert neutral.rule == "training-ends"
    assert "forward pass" in neutral.message
    recipe = blamed(tmp_path, ended("AttributeError", "size", ("train_epoch", "forward")), {"model": "SeacoParaformer"})
    assert "++dataset=AudioDatasetHotword" in recipe.remedy
    late = blamed(tmp_path, ended("AttributeError", "error_calculator", ("main", "_validate_epoch", "forward")))
    assert "in the validation" in late.message
    assert all(one.severity is Severity.BROKEN for one in (row, mine, neutral, late))


def test_a_known_issue_is_named_in_the_releases_that_have_it(tmp_path: Path) -> None:
    sample = read_sample([write_jsonl(tmp_path / "train.jsonl", rows_at(tmp_path, 4))], tmp_path)
    frame = Frame(file="funasr/models/sanm/attention.py", line=7, function="forward", code="x = y")
    signature = f"RuntimeError@{frame.file}:{frame.function}"
    failure = Failure(type="RuntimeError", message="27 against 26", frames=(frame,), signature=signature)
    ended_so = Trained(first=None, failure=failure, functions=("train_epoch", "forward"))

    def said(release: str) -> PreflightFinding:
        inputs = inputs_at(tmp_path, release=resolve(release, load_lock(LOCK))[0])
        return culprit(inputs, "train_ds", ended_so, sample, None)

    assert said("1.0.28").rule == "known-issue-ends-training"
    assert "`cif-one-token-short`" in said("1.0.28").message
    assert said("1.4.16").rule == "training-ends"


def folder_hash(folder: Path) -> str:
    """Of everything below it, with times."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        found.update(f"{path} {path.stat().st_mtime_ns}".encode())
        found.update(path.read_bytes() if path.is_file() else b"")
    return found.hexdigest()


class Users:
    """Folders as their users have them, and what a dry run says of them."""

    def __init__(self, forked: Forked, layout: Callable[[str], Path], room: Path) -> None:
        self.forked, self.layout, self.room = forked, layout, room

    def inputs(self, release: str, name: str, overrides: Mapping[str, Any], **changes: Any) -> Inputs:
        folder = self.room / name
        folder.mkdir()
        rows, valid = speech(6), speech(4)
        for row in changes.get("rows", ()):
            rows.append({**rows[0], **row})
        for row in changes.get("valid", ()):
            valid.append({**valid[0], **row})
        from harness.preflight.settings import read_config

        install_dir = self.layout(release)
        model = model_folder(self.forked, install_dir, folder / "model")
        return inputs_at(
            model,
            overrides,
            release=resolve(release, load_lock(LOCK))[0],
            install_dir=install_dir,
            cache=default_cache(),
            environment=environment(),
            train=write_jsonl(folder / "train.jsonl", rows),
            valid=write_jsonl(folder / "valid.jsonl", valid),
            config=read_config(model / "config.yaml"),
            root=folder,
        )


@pytest.fixture(scope="module")
def users(forked: Forked, layout: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Users:
    return Users(forked, layout, tmp_path_factory.mktemp("users"))


def dry_runs(inputs: list[Inputs]) -> list[PreflightPart]:
    """The dry runs of one release, in one process tree."""
    plans = [dry_run.plan(one) for one in inputs]
    assert not any(isinstance(one, str) for one in plans), plans
    before = [folder_hash(one.root) for one in inputs]
    outcomes = ask_all(inputs[0], [one.question for one in plans if not isinstance(one, str)])
    assert before == [folder_hash(one.root) for one in inputs], "a file of the user's was written"
    return [
        dry_run.judged(one, made, outcome)
        for one, made, outcome in zip(inputs, plans, outcomes, strict=True)
        if not isinstance(made, str)
    ]


def above_minor(part: PreflightPart) -> list[str]:
    return [finding.rule for finding in part.findings if finding.severity is not Severity.MINOR]


@pytest.mark.release
def test_in_the_latest_release(users: Users) -> None:
    sound = users.inputs("1.4.16", "sound", {"freeze_param": "encoder", "dataset_conf.batch_size": 4})
    nan = users.inputs("1.4.16", "nan", {"optim_conf.lr": math.nan, "dataset_conf.batch_size": 4})
    random = users.inputs(
        "1.4.16",
        "random",
        {"init_param": "/nowhere/model.pt", "dataset_conf.batch_size": 4},
        valid=[{"key": "gone", "source": "/nowhere/gone.wav", "target": "没有"}],
    )
    frozen, not_a_number, from_nothing = dry_runs([sound, nan, random])
    assert above_minor(frozen) == []
    said = {fact.label: fact.value for fact in frozen.facts}
    assert int(said["steps"]) >= 4
    assert said["numbers that begin as in the checkpoint"] == "100.0%"
    assert int(said["parameter tensors frozen, as asked"]) > 10
    assert above_minor(not_a_number) == ["setting-ends-training"]
    assert not_a_number.findings[0].place.key == "optim_conf.lr"
    assert above_minor(from_nothing) == ["row-ends-training", "start-is-random"]
    assert from_nothing.findings[0].place.key == "gone"
    assert "validation" in from_nothing.findings[0].message


@pytest.mark.release
@pytest.mark.parametrize("release", ["1.0.6"])
def test_in_older_releases_a_row_that_ends_the_training_is_left_out_and_named(users: Users, release: str) -> None:
    gone = {"key": "gone", "source": "/nowhere/gone.wav", "target": "没有"}
    (part,) = dry_runs([users.inputs(release, release, {"dataset_conf.batch_size": 4}, rows=[gone])])
    assert above_minor(part) == ["row-ends-training"]
    assert part.findings[0].place.line == 7
    assert int(next(fact.value for fact in part.facts if fact.label == "steps")) >= 2
