"""The training command against a release, against the files that preflight was given, and FunASR's own scripts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from training_scripts import CONFIG, SOUND, write_script

from harness.core.cells import Release, Severity
from harness.preflight.command import TrainingCommand, read_script, read_words
from harness.preflight.findings import PreflightPart
from harness.preflight.inputs import Inputs
from harness.preflight.release.command_in_release import check
from harness.preflight.release.shipped_scripts import RECIPES, recorded_releases, script_for, shipped_scripts
from harness.preflight.rows.data_files import data_sets
from harness.preflight.settings import SettingsInForce, read_config


def installed(folder: Path, trainers: Sequence[str] = ("train", "train_ds"), programs: str = "") -> Path:
    """What a release looks like as far as the command goes."""
    (folder / "funasr" / "bin").mkdir(parents=True)
    for name in trainers:
        (folder / "funasr" / "bin" / f"{name}.py").touch()
    (folder / "funasr-1.dist-info").mkdir()
    (folder / "funasr-1.dist-info" / "entry_points.txt").write_text(f"[console_scripts]\n{programs}")
    return folder


def inputs(here: Path, command: TrainingCommand, install_dir: Path, **others: Any) -> Inputs:
    model = here / "some_paraformer"
    model.mkdir(exist_ok=True)
    (model / "config.yaml").write_text("model: Paraformer\n")
    version = others.pop("version", "1.4.16")
    given: dict[str, Any] = {"train": None, "valid": None, "gpus": None, "config": read_config(model / "config.yaml")}
    return Inputs(
        model=model,
        release=Release(label=version, version=version, kind="wheel", filename="", sha256=""),
        install_dir=install_dir,
        cache=here,
        environment=cast(Any, None),
        command=command,
        card=None,
        root=here,
        **{**given, **others},
    )


def script(here: Path, text: str = SOUND) -> TrainingCommand:
    data = here / "data" / "list"
    data.mkdir(parents=True, exist_ok=True)
    (data / "train.jsonl").touch()
    (data / "val.jsonl").touch()
    return read_script(write_script(here, text), root=here, environment={})


def rules(part: PreflightPart, severity: Severity | None = None) -> set[str]:
    return {one.rule for one in part.findings if severity in (None, one.severity)}


def above_minor(part: PreflightPart) -> set[str]:
    return {one.rule for one in part.findings if one.severity is not Severity.MINOR}


def test_a_sound_script_has_nothing_above_minor(tmp_path: Path) -> None:
    install_dir = installed(tmp_path / "release")
    assert rules(check(inputs(tmp_path, script(tmp_path), install_dir))) == {"trainer-file-elsewhere"}
    assert above_minor(check(inputs(tmp_path, script(tmp_path, CONFIG), install_dir))) == set()
    given = {"train": tmp_path / "data/list/train.jsonl", "valid": tmp_path / "data/list/val.jsonl", "gpus": 2}
    assert rules(check(inputs(tmp_path, script(tmp_path), install_dir, **given))) == {"trainer-file-elsewhere"}


def test_no_command_is_no_finding(tmp_path: Path) -> None:
    part = check(inputs(tmp_path, read_words([]), installed(tmp_path / "release")))
    assert part.findings == ()
    assert part.skipped
    words = check(inputs(tmp_path, read_words(["++seed=1"]), installed(tmp_path / "release2")))
    assert words.findings == ()


@pytest.mark.parametrize(
    ("trainer", "has", "broken"),
    [
        ("../../../funasr/bin/train_ds.py", ("train",), True),
        ("../../../funasr/bin/train.py", ("train",), False),
        ("-m funasr.bin.train_ds", ("train",), True),
        ("-m funasr.bin.train_ds", ("train", "train_ds"), False),
        ("`which funasr-train-ds`", ("train", "train_ds"), True),
        ("`which funasr-train`", ("train", "train_ds"), False),
    ],
)
def test_the_trainer_must_be_the_releases(tmp_path: Path, trainer: str, has: tuple[str, ...], broken: bool) -> None:
    text = SOUND.replace("${train_tool}", trainer)
    install_dir = installed(tmp_path / "release", has, "funasr-train = funasr.bin.train:main_hydra\n")
    part = check(inputs(tmp_path, script(tmp_path, text), install_dir))
    assert above_minor(part) == ({"trainer-not-in-release"} if broken else set())
    for one in part.findings:
        assert SOUND.splitlines()[(one.place.line or 0) - 1] in ("${train_tool} \\", SOUND.splitlines()[28])


def test_another_file_than_the_one_that_is_checked(tmp_path: Path) -> None:
    install_dir = installed(tmp_path / "release")
    mine = tmp_path / "mine.jsonl"
    mine.touch()
    part = check(inputs(tmp_path, script(tmp_path), install_dir, train=mine))
    (finding,) = (one for one in part.findings if one.rule == "checks-another-file")
    assert finding.severity is Severity.WRONG
    assert finding.place.key == "train_data_set_list"
    elsewhere = script(tmp_path, SOUND.replace('data_dir="data/list"', 'data_dir="/data/of/the/host"'))
    part = check(inputs(tmp_path, elsewhere, install_dir, train=mine, valid=mine))
    assert above_minor(part) == set()
    assert "checks-another-file" in rules(part)


def test_another_model_than_the_one_that_is_checked(tmp_path: Path) -> None:
    install_dir = installed(tmp_path / "release")
    (tmp_path / "other").mkdir()
    other = script(tmp_path, SOUND.replace("iic/some_paraformer", "./other"))
    assert above_minor(check(inputs(tmp_path, other, install_dir))) == {"checks-another-file"}
    this = script(tmp_path, SOUND.replace("iic/some_paraformer", "./some_paraformer"))
    assert above_minor(check(inputs(tmp_path, this, install_dir))) == set()
    quoted = script(tmp_path, SOUND.replace('"iic/some_paraformer"', "“iic/some_paraformer”"))
    assert above_minor(check(inputs(tmp_path, quoted, install_dir))) == set()
    lacking = script(tmp_path, SOUND.replace('++model="${model_name_or_model_dir}" \\\n', ""))
    assert above_minor(check(inputs(tmp_path, lacking, install_dir))) == {"model-not-named"}


def test_a_relative_config_path_is_looked_up_beside_the_trainer(tmp_path: Path) -> None:
    install_dir = installed(tmp_path / "release")
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "conformer.yaml").touch()
    relative = CONFIG.replace('--config-path "${workspace}/conf"', "--config-path conf")
    given = {"train": tmp_path / "conf", "valid": tmp_path / "conf"}
    assert above_minor(check(inputs(tmp_path, script(tmp_path, relative), install_dir, **given))) == {
        "config-path-relative"
    }
    assert above_minor(check(inputs(tmp_path, script(tmp_path, CONFIG), install_dir, **given))) == set()


@pytest.mark.parametrize(
    ("word", "rule"),
    [
        ("optim_conf.lr=0.1", ""),
        ("optim_conf.ls=0.1", "setting-without-plus"),
        ("+optim_conf.lr=0.1", "setting-appended-twice"),
        ("+optim_conf.eps=0.1", ""),
        ("++optim_conf.lr=0.1", ""),
    ],
)
def test_keys_of_a_config_that_the_command_names(tmp_path: Path, word: str, rule: str) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "conformer.yaml").write_text("model: Conformer\noptim_conf:\n  lr: 1\n")
    text = CONFIG.replace('++output_dir="exp/${model_dir}"', word)
    part = check(inputs(tmp_path, script(tmp_path, text), installed(tmp_path / "release")))
    assert above_minor(part) == ({rule} if rule else set())


def test_several_calls_are_a_fact(tmp_path: Path) -> None:
    text = SOUND + "\ntorchrun $DISTRIBUTED_ARGS ${train_tool} ++model=x ++train_data_set_list=y\n"
    facts = {one.label: one.value for one in check(inputs(tmp_path, script(tmp_path, text), tmp_path)).facts}
    assert facts["trainer calls"].startswith("2, in lines 33, ")


def test_fewer_gpus_than_the_script_starts_processes(tmp_path: Path) -> None:
    part = check(inputs(tmp_path, script(tmp_path), installed(tmp_path / "release"), gpus=1))
    assert "gpus-differ" in rules(part, Severity.MINOR)


def test_data_that_only_a_run_names_is_not_missing(tmp_path: Path) -> None:
    text = SOUND.replace('="${train_data}"', '="$1"')
    found = data_sets(inputs(tmp_path, script(tmp_path, text), installed(tmp_path / "release")))
    assert [one.role for one in found.sets] == ["valid"]
    assert found.findings == ()


def test_facts_name_the_releases_own_script(tmp_path: Path) -> None:
    install_dir = installed(tmp_path / "release")
    text = SOUND.replace("train_tool=../../../funasr/bin/train_ds.py", "train_tool=../../../funasr/bin/train.py")
    text = text.replace("++optim_conf.lr=0.0002", "++optim_conf.lr=0.0002 ++my_conf.key=$1")
    facts = {one.label: one.value for one in check(inputs(tmp_path, script(tmp_path, text), install_dir)).facts}
    assert facts["trainer"] == "torchrun ../../../funasr/bin/train.py, 2 processes"
    assert facts["finetune.sh of 1.4.3"] == "calls funasr/bin/train_ds.py, not train.py"
    assert "dataset_conf.batch_sampler=BatchSampler" in facts["finetune.sh of 1.4.3 sets, and nothing here"]
    assert facts["set here, and not by finetune.sh of 1.4.3"] == "my_conf.key"
    assert facts["value not known here"] == "++my_conf.key=$1"
    assert "iic/some_paraformer" in facts["starts from"]
    own = {one.label for one in check(inputs(tmp_path, script(tmp_path), install_dir, config=SettingsInForce())).facts}
    assert not any("finetune.sh" in one for one in own)


def test_shipped_scripts_are_recorded_for_ten_releases() -> None:
    assert len(recorded_releases()) == 10
    assert {one.script for one in shipped_scripts()} >= {
        place for model, place in RECIPES.items() if script_for(model, (1, 4, 16)) is not None
    }
    assert all(script_for(model, (1, 4, 16)) is not None for model in RECIPES)
    old, _ = script_for("Paraformer", (1, 0, 6)) or (None, "")
    new, release = script_for("Paraformer", (1, 4, 16)) or (None, "")
    assert old is not None
    assert new is not None
    assert (old.entry, new.entry, release) == ("train", "train_ds", "1.4.3")
    assert new.settings["dataset_conf.batch_type"] == "token"
    assert not any("/Users" in str(one.settings) or "/tmp/" in str(one.settings) for one in shipped_scripts())


@pytest.mark.parametrize("recorded", shipped_scripts(), ids=lambda one: f"{one.script[9:]}-{next(iter(one.releases))}")
def test_what_shipped_scripts_pass_has_nothing_above_minor(recorded: Any) -> None:
    """As words: what they pass is what hydra takes."""
    words = [f"++{key}={spelled(value)}" for key, value in recorded.settings.items()]
    assert [one.rule for one in read_words(words).findings if one.severity is not Severity.MINOR] == []


def spelled(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(spelled(one) for one in value)}]"
    text = {True: "true", False: "false", None: "null"}.get(value) if isinstance(value, (bool, type(None))) else None
    return text or (f"'{value}'" if isinstance(value, str) and "<" in value else str(value))


@pytest.mark.release
@pytest.mark.parametrize("version", ["1.0.0", "1.0.6", "1.2.7", "1.4.16"])
def test_hydra_starts_without_a_config_in_every_release(layout: Callable[[str], Path], version: str) -> None:
    """So a key without ++ is unknown to it, whatever the model's config.yaml says."""
    for path in (layout(version) / "funasr" / "bin").glob("train*.py"):
        assert "@hydra.main(config_name=None, version_base=None)" in path.read_text("utf-8")


@pytest.mark.release
@pytest.mark.parametrize(
    ("version", "text", "broken"),
    [
        ("1.0.6", "funasr/bin/train_ds.py", True),
        ("1.0.6", "funasr/bin/train.py", False),
        ("1.2.7", "-m funasr.bin.train_ds", False),
        ("1.2.7", "funasr-train-ds", True),
        ("1.4.16", "funasr-train-ds", False),
    ],
)
def test_in_real_releases(tmp_path: Path, layout: Callable[[str], Path], version: str, text: str, broken: bool) -> None:
    command = script(tmp_path, SOUND.replace("${train_tool}", text))
    part = check(inputs(tmp_path, command, layout(version), version=version))
    assert above_minor(part) == ({"trainer-not-in-release"} if broken else set())
