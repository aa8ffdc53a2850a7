"""Every key of the config and the command, by the code of real releases."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from forked import Forked
from preflight_inputs import user_inputs
from preflight_key_recording import settings_of
from preflight_shipped import REFUSED_RIGHTLY, accused, cases, inputs_of, moved_to, plain_config, recorded
from user_folders import model_folder

from harness.core.cells import Release, Severity
from harness.preflight import findings
from harness.preflight.findings import Place, PreflightFinding, PreflightPart
from harness.preflight.inputs import Inputs
from harness.preflight.keys import check as static
from harness.preflight.keys import unread
from harness.preflight.keys.check import check
from harness.preflight.keys.confirm import check as confirmed_check
from harness.preflight.keys.confirm import confirm
from harness.preflight.keys.freezing import Spelling, frozen_parts
from harness.preflight.keys.history import read_in
from harness.preflight.settings import Setting

pytestmark = pytest.mark.release

Layout = Callable[[str], Path]
Given = Callable[..., Inputs]
OLD, MIDDLE, NEW = "1.0.6", "1.2.7", "1.4.16"


@pytest.fixture(scope="module")
def given(layout: Layout, locked: tuple[Release, ...]) -> Given:
    """Inputs of the plain template with overrides, for a release."""

    def make(version: str, overrides: Mapping[str, Any], **further: Any) -> Inputs:
        layout(version)
        (release,) = [one for one in locked if one.version == version]
        config = plain_config() | dict(further.pop("config", {}))
        return inputs_of(release, config, overrides, **further)

    return make


def the_only(inputs: Inputs) -> PreflightFinding:
    (found,) = [one for one in check(inputs).findings if one.severity is not Severity.MINOR]
    return found


@pytest.mark.parametrize(
    ("version", "key", "meant"),
    [
        (NEW, "train_conf.nax_epoch", "train_conf.max_epoch"),
        (NEW, "dataset_conf.max_token_lenght", "dataset_conf.max_token_length"),
        (NEW, "train_conf.use_fp61", "train_conf.use_fp16"),
        (NEW, "train_conf.val_best_metric", "train_conf.avg_keep_nbest_models_type"),
        (NEW, "train_conf.keep_latest_models", "train_conf.keep_nbest_models"),
        (NEW, "train_conf.save_checkpoint_steps", "train_conf.save_checkpoint_interval"),
        (NEW, "batch_size", "dataset_conf.batch_size"),
        (NEW, "accum_grad", "train_conf.accum_grad"),
        (NEW, "num_workers", "dataset_conf.num_workers"),
        (NEW, "log_interval", "train_conf.log_interval"),
        (NEW, "lr", "optim_conf.lr"),
        (NEW, "train_conf.batch_size", "dataset_conf.batch_size"),
        (NEW, "trian_conf.max_epoch", "train_conf.max_epoch"),
        (NEW, "train_conf.validate_steps", "train_conf.validate_interval"),
        (NEW, "frontend_conf.n_mel", "frontend_conf.n_mels"),
        (MIDDLE, "train_conf.gradient_accumulation_steps", "train_conf.accum_grad"),
        (OLD, "train_conf.accum_grda", "train_conf.accum_grad"),
    ],
)
def test_a_key_that_nothing_reads_is_named_with_the_one_that_is_meant(
    given: Given, version: str, key: str, meant: str
) -> None:
    found = the_only(given(version, {key: 3}))
    assert (found.rule, found.severity, found.place.key) == ("key-without-effect", Severity.WRONG, key)
    assert f"`++{meant}=3`" in found.remedy
    assert any("funasr/" in line for line in found.evidence)


def test_a_key_of_other_releases_is_named_with_them(given: Given) -> None:
    found = the_only(given(OLD, {"train_conf.use_bf16": True}))
    assert found.rule == "key-without-effect"
    assert any("is read by train of 1." in line for line in found.evidence)
    assert "1.4.16" in read_in("train_conf.validate_interval", "train_ds")
    assert read_in("train_conf.no_such_key", "train_ds") == ""


@pytest.mark.parametrize("version", [OLD, MIDDLE, NEW])
def test_what_a_constructor_refuses_is_broken(given: Given, version: str) -> None:
    typo = the_only(given(version, {"optim_conf.lrr": 0.0001}))
    assert (typo.rule, typo.severity) == ("key-refused", Severity.BROKEN)
    assert "optim_conf.lr=" in typo.remedy
    twice = the_only(given(version, {"train_conf.output_dir": "exp"}))
    assert (twice.rule, twice.severity) == ("key-given-twice", Severity.BROKEN)
    assert "`++output_dir=exp`" in twice.remedy
    encoder = the_only(given(version, {"encoder_conf.dropout": 0.1}))
    assert (encoder.rule, encoder.severity) == ("key-refused", Severity.BROKEN)
    assert "encoder_conf.dropout_rate=0.1" in encoder.remedy
    warm = the_only(given(version, {"scheduler_conf.warmup": 100}))
    assert warm.rule == "key-refused"
    other_word = the_only(given(version, {"optim_conf.learning_rate": 0.1}))
    assert other_word.remedy == "write `++optim_conf.lr=0.1`"
    misplaced = the_only(given(version, {"optim_conf.warmup_steps": 100}))
    assert misplaced.remedy == "write `++scheduler_conf.warmup_steps=100`, it belongs there"
    nobodys = the_only(given(version, {"optim_conf.xyzzy": 1}))
    assert nobodys.remedy == "leave the key out"


def test_a_refused_key_of_the_config_is_broken_and_a_dead_one_is_not(given: Given) -> None:
    assert the_only(given(NEW, {}, config={"optim_conf.lrr": 1.0})).rule == "key-refused"
    dead = check(given(NEW, {}, config={"train_conf.validate_intervall": 1, "some_note": "mine"})).findings
    assert [(one.rule, one.severity) for one in dead] == [("config-key-without-effect", Severity.MINOR)]


SOUND = {
    "model": "/data/model",
    "train_data_set_list": "train.jsonl",
    "valid_data_set_list": "val.jsonl",
    "dataset": "AudioDataset",
    "dataset_conf.index_ds": "IndexDSJsonl",
    "dataset_conf.batch_type": "token",
    "dataset_conf.batch_size": 6000,
    "dataset_conf.num_workers": 4,
    "train_conf.max_epoch": 50,
    "train_conf.grad_clip": 1.0,
    "train_conf.accum_grad": 2,
    "optim": "adamw",
    "optim_conf.lr": 0.0002,
    "optim_conf.weight_decay": 0.01,
    "scheduler_conf.warmup_steps": 500,
    "init_param": "/data/model/model.pt",
    "output_dir": "exp",
    "tokenizer_conf.token_list": "/data/model/tokens.json",
    "frontend_conf.cmvn_file": "/data/model/am.mvn",
    "seed": 7,
    "device": "cpu",
    "hydra.run.dir": "exp",
}
SOUND_NOW = {
    "train_conf.log_interval": 1,
    "train_conf.resume": True,
    "train_conf.validate_interval": 2000,
    "train_conf.save_checkpoint_interval": 2000,
    "train_conf.keep_nbest_models": 20,
    "train_conf.avg_nbest_model": 10,
    "train_conf.use_bf16": True,
    "dataset_conf.data_split_num": 1,
    "dataset_conf.batch_sampler": "BatchSampler",
    "dataset_conf.sort_size": 1024,
    "freeze_param": "encoder,predictor",
    "disable_update": True,
}


@pytest.mark.parametrize(("version", "overrides"), [(OLD, SOUND), (MIDDLE, SOUND), (NEW, SOUND | SOUND_NOW)])
def test_a_sound_command_is_not_accused(given: Given, version: str, overrides: dict[str, Any]) -> None:
    assert not accused(given(version, overrides))


@pytest.mark.parametrize(
    ("key", "value", "rule", "severity"),
    [
        ("train_conf.max_epoch", "five", "value-type", Severity.BROKEN),
        ("train_conf.max_epoch", 5.0, "value-type", Severity.BROKEN),
        ("train_conf.max_epoch", True, "value-type", Severity.BROKEN),
        ("train_conf.max_epoch", 0, "value-range", Severity.BROKEN),
        ("train_conf.accum_grad", -2, "value-range", Severity.BROKEN),
        ("train_conf.use_fp16", "false", "text-for-switch", Severity.WRONG),
        ("train_conf.resume", "exp/model.pt", "text-for-switch", Severity.WRONG),
        ("train_conf.avg_keep_nbest_models_type", "wer", "ranking-unknown", Severity.BROKEN),
        ("optim_conf.lr", "1e-3", "value-type", Severity.BROKEN),
        ("optim_conf.lr", -0.001, "value-range", Severity.BROKEN),
        ("optim_conf.lr", 0, "value-range", Severity.BROKEN),
        ("optim_conf.lr", 2, "learning-rate-steep", Severity.WRONG),
        ("scheduler_conf.warmup_steps", 0.1, "warmup-share", Severity.WRONG),
        ("dataset", "AudioDatset", "component-unknown", Severity.BROKEN),
        ("dataset_conf.index_ds", "IndexDSJson", "component-unknown", Severity.BROKEN),
        ("dataset_conf.batch_sampler", "BatchSampelr", "component-unknown", Severity.BROKEN),
        ("dataset_conf.batch_size", -4, "value-range", Severity.BROKEN),
        ("dataset_conf.num_workers", -1, "value-range", Severity.BROKEN),
        ("lora_only", True, "lora-without-layers", Severity.BROKEN),
        ("bf16", True, "half-precision-weights", Severity.WRONG),
        ("encoder_conf.num_blocks", "fifty", "value-type", Severity.BROKEN),
    ],
)
def test_a_value_that_the_release_cannot_take(
    given: Given, key: str, value: object, rule: str, severity: Severity
) -> None:
    found = [one for one in accused(given(NEW, {key: value})) if one.rule == rule]
    assert [(one.rule, one.severity, one.place.key) for one in found] == [(rule, severity, key)]


def test_a_key_of_the_config_that_nothing_reads_is_named(given: Given) -> None:
    """It resembles no key, so it is no finding; a number alone would leave open which it is."""
    (plain,) = check(given(NEW, {})).facts
    (more,) = check(given(NEW, {}, config={"my_notes": "x", "train_conf.zzz_colour": 1})).facts
    assert "my_notes" not in plain.value
    assert {"my_notes", "train_conf.zzz_colour"} <= set(more.value.partition("nothing reads ")[2].split(", "))
    (many,) = check(given(NEW, {}, config={f"my_notes_{number}": 1 for number in range(9)})).facts
    assert many.value.endswith(" more")


def test_a_negative_interval_trains_like_a_positive_one(given: Given) -> None:
    # Python's remainder by -50 is 0 where that by 50 is.
    for key in ("train_conf.validate_interval", "train_conf.log_interval"):
        (one,) = [one for one in check(given(NEW, {key: -50})).findings if one.rule == "value-range"]
        assert one.severity is Severity.MINOR
    assert the_only(given(NEW, {"dataset_conf.batch_size": 0.5})).remedy == "write a whole number"
    assert "=NUMBER`" in the_only(given(NEW, {"train_conf.early_stopping": True})).remedy


def test_components_are_those_of_the_release(given: Given) -> None:
    old = the_only(given(OLD, {"dataset_conf.batch_sampler": "EspnetStyleBatchSampler"}))
    assert old.rule == "component-unknown"
    assert not accused(given(NEW, {"dataset_conf.batch_sampler": "EspnetStyleBatchSampler"}))
    loader = the_only(given(NEW, {"dataset_conf.dataloader": "DataloaderMapStile"}))
    assert "`++dataset_conf.dataloader=DataloaderMapStyle`" in loader.remedy


def test_words_that_count_something_else(given: Given) -> None:
    unknown = {"dataset_conf.batch_type": "examples", "dataset_conf.batch_size": 8}
    assert the_only(given(NEW, unknown)).rule == "batch-type-unknown"
    assert not accused(given(NEW, {"dataset_conf.batch_type": "example", "dataset_conf.batch_size": 16}))
    rules = {one.rule for one in check(given(NEW, {"dataset_conf.max_token_length": 500})).findings}
    assert rules == {"token-length-unit"}


def test_epochs_and_averages_that_are_others_than_they_say(given: Given) -> None:
    def rules(version: str, **values: int) -> set[str]:
        overrides = {f"train_conf.{key}": value for key, value in values.items()}
        return {one.rule for one in check(given(version, overrides)).findings}

    assert rules(OLD, max_epoch=5) == {"one-more-epoch"}
    assert rules(NEW, max_epoch=5) == set()
    assert rules(NEW, keep_nbest_models=5, avg_nbest_model=10) == {"average-of-fewer"}
    assert rules(NEW, keep_nbest_models=10, avg_nbest_model=5) == set()


@pytest.mark.parametrize(
    ("value", "taken", "names"),
    [
        ("encoder", Spelling.EVALUATED, None),
        ("'encoder'", Spelling.EVALUATED, ["encoder"]),
        (["encoder"], Spelling.EVALUATED, None),
        ("encoder", Spelling.EVALUATED_WITH_COMMA, ["encoder"]),
        ("encoder,predictor", Spelling.EVALUATED_WITH_COMMA, None),
        ("'encoder','predictor'", Spelling.EVALUATED_WITH_COMMA, ["encoder", "predictor"]),
        (["encoder", "predictor"], Spelling.EVALUATED_WITH_COMMA, ["encoder", "predictor"]),
        ("encoder,predictor", Spelling.SPLIT, ["encoder", "predictor"]),
        ("encoder, predictor", Spelling.SPLIT, ["encoder", " predictor"]),
    ],
)
def test_what_each_spelling_of_freeze_param_freezes(value: object, taken: Spelling, names: list[str] | None) -> None:
    found, error = frozen_parts(value, taken)
    assert (found if names is not None else bool(error)) == (names if names is not None else True)


def test_freezing_that_cannot_work_is_named_and_what_works_is_not(given: Given) -> None:
    for version, value in ((OLD, "encoder"), (MIDDLE, "encoder,predictor")):
        found = the_only(given(version, {"freeze_param": value}))
        assert (found.rule, found.severity) == ("freeze-spelling", Severity.BROKEN)
        assert "++freeze_param=" in found.remedy
    for version, sound in ((OLD, "'encoder'"), (MIDDLE, "encoder"), (NEW, "encoder,predictor"), (NEW, ["encoder"])):
        assert not accused(given(version, {"freeze_param": sound}))
    assert the_only(given(NEW, {"freeze_param": "encoder, predictor"})).rule == "freeze-nothing"
    assert the_only(given(NEW, {"freeze_param": "encodr"})).rule == "freeze-nothing"


@pytest.mark.parametrize("version", [OLD, MIDDLE])
def test_what_funasr_ships_is_not_accused(layout: Layout, version: str) -> None:
    layout(version)
    kinds = ("/paraformer/", "/seaco_paraformer/", "/sense_voice/")

    def wanted(name: str, of: str) -> bool:
        return of == version and any(kind in name for kind in kinds)

    checked = 0
    for name, _, inputs in cases(wanted):
        assert name in REFUSED_RIGHTLY or not accused(inputs), name
        checked += 1
    assert checked > 4


def test_an_alarm_about_what_funasr_ships_would_be_seen(layout: Place) -> None:
    """The same scripts with one key misspelled, and the one that FunASR refuses."""
    layout(NEW)
    kinds = ("/paraformer/finetune.sh", "/sense_voice/finetune.sh", *REFUSED_RIGHTLY)
    shipped = [(name, inputs) for name, inputs in moved_to(NEW) if name.endswith(kinds)]
    assert len({name for name, _ in shipped}) == len(kinds)
    typo = settings_of({"train_conf.nax_epoch": 3}, command=True)
    for name, inputs in shipped:
        assert bool(accused(inputs)) is (name in REFUSED_RIGHTLY)
        command = dataclasses.replace(inputs.command, overrides=(*inputs.command.overrides, *typo))
        keys = {one.place.key for one in accused(dataclasses.replace(inputs, command=command))}
        assert "train_conf.nax_epoch" in keys


@pytest.mark.long
@pytest.mark.parametrize("version", sorted({of for one in recorded()["configs"] for of in one["releases"]}))
def test_nothing_that_funasr_ships_is_accused(layout: Place, version: str) -> None:
    layout(version)
    alarms = {
        f"{name}: {one.message}"
        for name, _, inputs in cases(lambda _, of: of == version)
        if name not in REFUSED_RIGHTLY
        for one in accused(inputs)
    }
    assert alarms == set()


@pytest.mark.long
@pytest.mark.parametrize("version", ["1.4.4", "1.4.16"])
def test_the_newest_shipped_scripts_are_not_accused_in_later_releases(layout: Place, version: str) -> None:
    layout(version)
    checked = 0
    for name, inputs in moved_to(version):
        assert name in REFUSED_RIGHTLY or not accused(inputs), name
        checked += 1
    assert checked > 60


def test_a_second_reading_comes_from_the_cache_and_equals_the_first(given: Given, tmp_path: Path) -> None:
    first = check(given(NEW, {"train_conf.nax_epoch": 3}, cache=tmp_path))
    stored = list((tmp_path / "preflight" / "keys").iterdir())
    assert len(stored) == 1
    assert check(given(NEW, {"train_conf.nax_epoch": 3}, cache=tmp_path)) == first
    stored[0].write_text("[{}]", encoding="utf-8")
    assert check(given(NEW, {"train_conf.nax_epoch": 3}, cache=tmp_path)) == first


def test_what_a_release_asks_for_while_it_runs_is_what_the_reading_says(
    layout: Layout, forked: Forked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = model_folder(forked, layout(NEW), tmp_path / "model")
    dead = {"train_conf.nax_epoch": 3, "dataset_conf.batchsize": 4, "accum_grad": 2, "tokenizer_conf.unkown": "x"}
    files = {
        "tokenizer_conf.token_list": str(folder / "tokens.json"),
        "frontend_conf.cmvn_file": str(folder / "am.mvn"),
    }
    inputs = user_inputs(folder, layout(NEW), overrides={**dead, **files, "train_conf.max_epoch": 1, "seed": 3})
    found = confirm(inputs)
    assert found.ended == "stopped"
    assert found.missed == frozenset()
    assert {"train_conf.max_epoch", "seed", "optim", "encoder", "dataset_conf.batch_size"} <= found.recorded
    assert not found.recorded & set(dead)
    # A false accusation of the static reading is withdrawn by a dry run, and a true one is not.
    accusations = [
        PreflightFinding(severity=Severity.WRONG, rule="key-without-effect", message="m", place=findings.Place(key=key))
        for key in ("seed", "accum_grad")
    ]
    monkeypatch.setattr(static, "check", lambda _: PreflightPart(findings=tuple(accusations)))
    for dry_run, expected in ((False, ["seed", "accum_grad"]), (True, ["accum_grad"])):
        part = confirmed_check(dataclasses.replace(inputs, dry_run=dry_run))
        assert [one.place.key for one in part.findings] == expected


def test_the_line_to_type_keeps_the_value_as_hydra_received_it() -> None:
    """A list is not written as Python has it, and the shell must not take it apart."""

    def line(value: Any, text: str) -> str:
        return unread._line("b.key", Setting(path="a.key", value=value, place=Place(), from_command=True, text=text))

    assert line(50, "++a.key=50") == "++b.key=50"
    assert line(True, "++a.key=True") == "++b.key=True"
    assert line(["encoder", "predictor"], "++a.key=[encoder,predictor]") == "'++b.key=[encoder,predictor]'"
    assert line("$(touch owned)", "++a.key='$(touch owned)'") == """'++b.key='"'"'$(touch owned)'"'"''"""
    # One key of several in a mapping.
    assert line(3, "++a={key: 3, other: 4}") == "++b.key=3"
