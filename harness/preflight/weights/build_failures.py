"""What the release raises while it reads the folder, builds the model or loads weights, and whose doing it is."""

from __future__ import annotations

import re
from collections.abc import Iterator

from harness.core.cells import Failure, Severity
from harness.preflight.findings import Place, PreflightFinding
from harness.preflight.folder.model_files import START, reads_whole_config
from harness.preflight.inputs import Inputs
from harness.preflight.keys.check import check as check_keys
from harness.preflight.release.known import entry_of
from harness.preflight.settings import Setting
from harness.preflight.weights.tensor_fates import TensorFates
from harness.rules.user_input import names_setting

_WITHOUT_FOLDER = 'if "model_conf" not in kwargs:'
"""The line of `main_hydra` below which the folder is read."""
_REFUSED = ("weights_only", "Unsupported global", "Unsupported class", "Unsupported operand")
_GIVEN_TWICE = re.compile(r"got multiple values for keyword argument '(\w+)'")
_GLOBAL = re.compile(r"GLOBAL ([A-Za-z_][\w.]*)")
_RUNS_PROGRAMS = frozenset(
    ("posix", "nt", "os", "subprocess", "pty", "sys", "builtins", "io", "_io", "runpy", "socket", "shutil", "importlib")
)
"""Modules of which no checkpoint needs anything."""
_STAGES = {
    "files": ("folder-refused", "the release ends while it reads the folder"),
    "model": ("model-not-built", "the release cannot build the model"),
    "start": ("start-refused", "the release ends before it loads the checkpoint"),
    "weights": ("checkpoint-refused", "the release cannot load the checkpoint"),
    "loaded": ("model-not-built", "the release ends after it has loaded the checkpoint"),
}


def check_failure(inputs: Inputs, fates: TensorFates, known: frozenset[str]) -> Iterator[PreflightFinding]:
    """The finding about an exception; none where a finding about the folder's files has said it.

    Args:
        known: Rules of findings above minor about the folder's files.
    """
    failure = fates.failure
    if failure is None:
        return
    if (hiding := _hides_folder(inputs)) and fates.stage == "model":
        yield _hidden_folder(inputs, hiding)
        return
    if known:
        return
    if fates.ours == "Unloadable":
        yield _unloadable(inputs, fates, failure)
        return
    if fates.stage == "weights" and "size mismatch" in failure.message:
        yield _sizes_refused(inputs, fates, failure)
        return
    if fates.stage == "loaded" and _is_given_twice(inputs, failure):
        return
    rule, stage_in_words = _STAGES[fates.stage]
    cause = _cause(inputs, failure)
    yield PreflightFinding(
        severity=Severity.BROKEN,
        rule=rule,
        message=f"{stage_in_words}: {_failure_in_words(failure)}",
        place=cause.place if cause else _place(inputs, fates),
        evidence=(failure.signature, *((f"{cause.path}: {cause.value}",) if cause else ())),
        remedy=_remedy(inputs, fates, cause),
    )


def _is_given_twice(inputs: Inputs, failure: Failure) -> bool:
    """Whether the part about the keys names the argument that the trainer was given twice."""
    argument = _GIVEN_TWICE.search(failure.message)
    if argument is None:
        return False
    named = [finding.place.key for finding in check_keys(inputs).findings if finding.rule == "key-given-twice"]
    return any(key.rpartition(".")[2] == argument[1] for key in named)


def _failure_in_words(failure: Failure) -> str:
    message = " ".join(failure.message.split())
    return f"{failure.type}: {message[:300]}"


def _hides_folder(inputs: Inputs) -> Setting | None:
    """An override below `model_conf`: `main` then takes the command for the whole config, and reads no folder."""
    if reads_whole_config(inputs):
        return None
    return next(
        (override for override in inputs.command.overrides if override.path.split(".")[0] == "model_conf"), None
    )


def check_hidden_folder(inputs: Inputs) -> Iterator[PreflightFinding]:
    """The same from the release's code, without building the model."""
    script = inputs.code.text(f"bin/{entry_of(inputs)}.py")
    if (setting := _hides_folder(inputs)) is not None and _WITHOUT_FOLDER in script:
        yield _hidden_folder(inputs, setting)


def _hidden_folder(inputs: Inputs, setting: Setting) -> PreflightFinding:
    return PreflightFinding(
        severity=Severity.BROKEN,
        rule="model-conf-hides-folder",
        message=(
            f"`{setting.path}` in the command makes FunASR take the command for a whole config: it reads nothing of "
            f"{inputs.model.name} and cannot build the model"
        ),
        place=setting.place,
        remedy=f"remove it from the command, and set {setting.path} in a copy of config.yaml",
    )


def _unloadable(inputs: Inputs, fates: TensorFates, failure: Failure) -> PreflightFinding:
    executes = any(words in failure.message for words in _REFUSED)
    name = (fates.loads[-1] if fates.loads else "").rpartition("/")[2] or "the checkpoint"
    message = f"torch cannot load {name}"
    remedy = "take the checkpoint again from where it comes from"
    evidence = " ".join(failure.message.split())[:400]
    needed = _GLOBAL.search(failure.message)
    if executes and needed:
        evidence = f"to load it, Python would have to call or make `{needed[1]}`"
    if executes and needed and needed[1].partition(".")[0] in _RUNS_PROGRAMS:
        message = f"{name} is made to run code: loading it without weights_only would call `{needed[1]}`"
        remedy = "do not load it; take the checkpoint from where the model was published"
    elif executes:
        message = (
            f"{name} contains Python objects as well as tensors: torch from 2.6 on refuses it, and an older torch "
            "would run the code in it"
        )
        remedy = (
            "save the weights alone, where you trust its source: torch.save(torch.load(PATH, weights_only=False)"
            '["state_dict"], "model.pt")'
        )
    return PreflightFinding(
        severity=Severity.BROKEN,
        rule="checkpoint-executes" if executes else "checkpoint-unreadable",
        message=message,
        place=_start_place(inputs, fates),
        evidence=(evidence,),
        remedy=remedy,
    )


def _sizes_refused(inputs: Inputs, fates: TensorFates, failure: Failure) -> PreflightFinding:
    sizes = [part.strip() for part in failure.message.split("size mismatch for ")[1:]]
    return PreflightFinding(
        severity=Severity.BROKEN,
        rule="checkpoint-shapes-refused",
        message="tensors of the checkpoint have another shape than the model's, and the release refuses them",
        place=_start_place(inputs, fates),
        evidence=tuple(" ".join(size.split())[:200] for size in sizes[:5]),
        remedy="use the config.yaml and the token list that belong to the checkpoint",
        count=max(len(sizes), 1),
    )


def _start_place(inputs: Inputs, fates: TensorFates) -> Place:
    if START in inputs.settings.by_path:
        return inputs.settings.place(START)
    return Place(file=fates.loads[-1] if fates.loads else str(inputs.model))


def _place(inputs: Inputs, fates: TensorFates) -> Place:
    if fates.stage in ("start", "weights"):
        return _start_place(inputs, fates)
    return Place(file=str(inputs.config_file))


def _cause(inputs: Inputs, failure: Failure) -> Setting | None:
    """The setting that the exception names: of the command first, for the config is what the model came with."""
    ordered = sorted(inputs.settings, key=lambda setting: not setting.from_command)
    return next((setting for setting in ordered if names_setting(failure, setting.path, setting.value)), None)


def _remedy(inputs: Inputs, fates: TensorFates, cause: Setting | None) -> str:
    if cause is not None and cause.from_command:
        return f"correct or remove {cause.text or cause.path}"
    if fates.stage == "start" and not isinstance(inputs.settings.get(START, ""), str):
        return f"++{START}=PATH of one file: this release takes no list"
    if cause is not None:
        return f"correct {cause.path} in {inputs.config_file.name}"
    return f"use a config.yaml that FunASR {inputs.release.label} can build, or the release that it was made for"
