"""Combinations of settings that this release's trainer cannot do, found in its code."""

from __future__ import annotations

import re
from collections.abc import Iterator

from harness.core.cells import Severity
from harness.preflight.code.trainer_code import TrainerCode
from harness.preflight.findings import Place, PreflightFact, PreflightFinding, PreflightPart
from harness.preflight.inputs import Inputs
from harness.preflight.release.deepspeed import deepspeed
from harness.preflight.release.known import entry_of
from harness.preflight.release.libraries import missing_libraries
from harness.preflight.release.sharding import fsdp
from harness.preflight.release.trainable import model_findings

_STEPPED = ("accum_grad", "log_interval", "validate_interval", "save_checkpoint_interval")
_ALONE = {
    "optim": {"lbfgs": "`step` of torch's LBFGS requires a closure, and the trainer calls `optim.step()`"},
    "scheduler": {
        "ReduceLROnPlateau": "`step` of torch's ReduceLROnPlateau requires a loss, and the trainer calls "
        "`scheduler.step()`"
    },
}
"""What torch requires of a caller, that no trainer of FunASR's gives."""


def check(inputs: Inputs) -> PreflightPart:
    """What the trainer cannot do with these settings, this model and this environment."""
    code = inputs.code
    trainer = TrainerCode(code=code, entry=entry_of(inputs))
    findings: list[PreflightFinding] = []
    if trainer.exists:
        for rule in (_validation, _sections, _intervals, _zeros, deepspeed, fsdp, _precision, _steps):
            findings += rule(inputs, trainer)
    findings += model_findings(inputs, code)
    findings += missing_libraries(inputs, trainer)
    return PreflightPart(findings=tuple(findings), facts=tuple(_facts(inputs)))


def _validation(inputs: Inputs, trainer: TrainerCode) -> Iterator[PreflightFinding]:
    text = trainer.main_text + trainer.code.text("datasets/dataloader_entry.py")
    named = inputs.settings.by_path.get("valid_data_set_list")
    unvalued = any(setting.path == "valid_data_set_list" for setting in inputs.command.unvalued)
    if 'kwargs.get("valid_data_set_list")' not in text or unvalued or (named and named.value):
        return
    error_text = "FileNotFoundError: ''" if named and named.value == "" else "AttributeError: 'NoneType' object …"
    sets_are_named = named or "train_data_set_list" in inputs.settings.by_path
    if sets_are_named and not (inputs.valid and not named):
        yield PreflightFinding(
            severity=Severity.BROKEN,
            rule="validation-set-missing",
            message="no validation set is named, and the trainer opens one before its first step: it ends with "
            + error_text,
            place=inputs.settings.place("valid_data_set_list"),
            evidence=(f"`valid_data_set_list` is {named.value!r}",) if named else (),
            remedy="++valid_data_set_list=val.jsonl: a few rows that are not trained on",
        )
    elif inputs.train and not inputs.valid and not named:
        yield PreflightFinding(
            severity=Severity.MINOR,
            rule="validation-set-unknown",
            message="no validation set was named here; the trainer does not start without one",
            place=Place(key="valid_data_set_list"),
            remedy="name it: --valid val.jsonl",
        )


def _sections(inputs: Inputs, trainer: TrainerCode) -> Iterator[PreflightFinding]:
    """Sections that the trainer unpacks whether they are there or not."""
    # Without a command it is not known what the script would add.
    if not inputs.config.by_path or not inputs.command.overrides:
        return
    required = dict.fromkeys(
        (section, expansion.built) for expansion in trainer.expansions for section in expansion.required
    )
    for section, built in required:
        if inputs.settings.get(section) is None and section in (
            "optim_conf",
            "scheduler_conf",
            "train_conf",
            "dataset_conf",
        ):
            yield PreflightFinding(
                severity=Severity.BROKEN,
                rule="section-missing",
                message=f"there is no `{section}`, and the trainer unpacks it nevertheless: it ends with a TypeError",
                place=Place(file=str(inputs.config_file), key=section),
                evidence=(f"{built}(**{section})",),
                remedy=_example(section),
            )
            return


def _example(section: str) -> str:
    examples = {
        "optim_conf": "++optim_conf.lr=0.0002",
        "scheduler_conf": "++scheduler_conf.warmup_steps=30000",
        "train_conf": "++train_conf.max_epoch=50",
        "dataset_conf": "++dataset_conf.batch_type=token ++dataset_conf.batch_size=6000",
    }
    return examples[section]


def _intervals(inputs: Inputs, trainer: TrainerCode) -> Iterator[PreflightFinding]:
    save = _number(inputs, trainer, "save_checkpoint_interval")
    validate = _number(inputs, trainer, "validate_interval")
    if save is None or validate is None or save <= 0 or validate == 0:
        return
    evidence = (f"save_checkpoint_interval is {save:g}, validate_interval {validate:g}",)
    place = _place(inputs, "validate_interval", "save_checkpoint_interval")
    if trainer.intervals_must_agree and inputs.command.entry == "train" and validate >= 0 and save != validate:
        yield PreflightFinding(
            severity=Severity.BROKEN,
            rule="intervals-differ",
            message="funasr/bin/train.py ends with an AssertionError where `save_checkpoint_interval` and "
            "`validate_interval` differ",
            place=place,
            evidence=evidence,
            remedy=f"++train_conf.validate_interval={save:g}, or call funasr/bin/train_ds.py",
        )
    elif trainer.unvalidated_save_raises and validate > 0 and save % validate and not trainer.intervals_must_agree:
        if _fewer_rows(inputs, int(save)):
            return
        yield PreflightFinding(
            severity=Severity.BROKEN,
            rule="checkpoint-without-validation",
            message=f"step {save:g} of an epoch is saved and not validated, and this release's trainer looks up its "
            "accuracy: the training ends there with a KeyError",
            place=place,
            evidence=evidence,
            remedy=f"++train_conf.validate_interval={save:g}",
        )


def _fewer_rows(inputs: Inputs, steps: int) -> bool:
    """Whether an epoch certainly has fewer batches than that: each has at least one row."""
    if inputs.train is None or not inputs.train.is_file():
        return False
    count = 0
    with inputs.train.open("rb") as file:
        while block := file.read(1 << 20):
            count += block.count(b"\n")
            if count >= steps:
                return False
    return count + 1 < steps


def _zeros(inputs: Inputs, trainer: TrainerCode) -> Iterator[PreflightFinding]:
    for key in _STEPPED:
        setting = inputs.settings.by_path.get(f"train_conf.{key}")
        if setting is None or isinstance(setting.value, bool) or setting.value != 0:
            continue
        if re.search(rf"%\s*(?:self\.)?{key}\b", trainer.trainer_text):
            yield PreflightFinding(
                severity=Severity.BROKEN,
                rule="interval-of-zero",
                message=f"the trainer divides by `{key}`: the training ends with a ZeroDivisionError",
                place=setting.place,
                remedy=f"++train_conf.{key}={1 if key == 'accum_grad' else 1000000}",
            )


def _precision(inputs: Inputs, trainer: TrainerCode) -> Iterator[PreflightFinding]:
    both = [
        f"train_conf.{name}" for name in ("use_fp16", "use_bf16") if bool(inputs.settings.get(f"train_conf.{name}"))
    ]
    if len(both) == 2 and all(name in trainer.trainer_text for name in ("use_fp16", "use_bf16")):
        yield PreflightFinding(
            severity=Severity.WRONG,
            rule="fp16-with-bf16",
            message="both precisions are switched on: the model is trained in bf16, with the gradient scaler of fp16",
            place=inputs.settings.place("train_conf.use_fp16"),
            remedy="++train_conf.use_fp16=false",
        )


def _steps(inputs: Inputs, trainer: TrainerCode) -> Iterator[PreflightFinding]:
    """Optimizers and schedulers that the trainer has not, or cannot step."""
    for key, folder in (("optim", "optimizers"), ("scheduler", "schedulers")):
        setting = inputs.settings.by_path.get(key)
        names = re.findall(r"^\s+(\w+)=", trainer.code.text(f"{folder}/__init__.py"), re.MULTILINE)
        if setting is None or not isinstance(setting.value, str) or not names:
            continue
        if setting.value not in names:
            yield PreflightFinding(
                severity=Severity.BROKEN,
                rule="not-an-option",
                message=f"this release has no {key} `{setting.value}`: the trainer ends with an AssertionError",
                place=setting.place,
                evidence=(f"it has {', '.join(names)}",),
                remedy=_nearest(key, setting.value, names),
            )
        elif setting.value in _ALONE[key]:
            yield PreflightFinding(
                severity=Severity.BROKEN,
                rule="cannot-be-stepped",
                message=f"{_ALONE[key][setting.value]}: the training ends with a TypeError at its first step",
                place=setting.place,
                remedy=f"++{key}={'adam' if key == 'optim' else 'warmuplr'}",
            )


def _nearest(key: str, value: str, names: list[str]) -> str:
    """The line with the name that is meant, else with the usual one; never with one that the trainer cannot step."""
    usual = {"optim": "adam", "scheduler": "warmuplr"}[key]
    fit = [name for name in names if name not in _ALONE[key]]
    similar = [name for name in fit if name.lower() == value.lower()] or [
        name for name in fit if value.lower()[:4] == name.lower()[:4] or value.lower() in name.lower()
    ]
    return f"++{key}={(similar or [name for name in fit if name == usual] or fit or names)[0]}"


def _facts(inputs: Inputs) -> Iterator[PreflightFact]:
    device = inputs.settings.get("device", "cuda")
    if str(device).startswith("cuda") and not inputs.environment.cuda_available:
        yield PreflightFact(
            section="environment",
            label="GPU",
            value="torch sees none here; FunASR's trainers use `cuda`",
            detail=True,
        )


def _number(inputs: Inputs, trainer: TrainerCode, key: str) -> float | None:
    value = inputs.settings.get(f"train_conf.{key}", trainer.default(key))
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _place(inputs: Inputs, *keys: str) -> Place:
    """Of the first that is set; one that the command set before one of the config."""
    settings_found = [
        setting for key in keys if (setting := inputs.settings.by_path.get(f"train_conf.{key}")) is not None
    ]
    settings_found.sort(key=lambda setting: not setting.from_command)
    return settings_found[0].place if settings_found else Place(key=f"train_conf.{keys[0]}")
