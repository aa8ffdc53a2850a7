"""The training command against the release, the files that preflight was given, and the release's own script."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from harness.core.cells import Severity
from harness.core.errors import InputError
from harness.preflight.command.hydra_words import path_to_type
from harness.preflight.findings import Place, PreflightFact, PreflightFinding, PreflightPart
from harness.preflight.inputs import Inputs
from harness.preflight.release.shipped_scripts import script_for
from harness.preflight.settings import read_config

_HUB = re.compile(r"^[\w.-]+(/[\w.-]+)?$")
_ITS_OWN = ("model", "train_data_set_list", "valid_data_set_list", "output_dir", "init_param")
"""Keys whose values are everybody's own."""
MOST_NAMED = 5


def check(inputs: Inputs) -> PreflightPart:
    """What the command calls and names, and how it differs from the release's own."""
    if not inputs.command.called:
        return PreflightPart(
            skipped="no training command was given: name finetune.sh with --script, or settings after --"
        )
    all_findings = [
        *(*_trainer(inputs), *_config_path(inputs), *_in_its_config(inputs)),
        *(*_model(inputs), *_data(inputs), *_gpus(inputs)),
    ]
    return PreflightPart(findings=tuple(all_findings), facts=tuple(_facts(inputs)))


def _place(inputs: Inputs, line: int | None = None, key: str = "") -> Place:
    return Place(file=str(inputs.command.script or ""), line=line if inputs.command.script else None, key=key)


def _trainer(inputs: Inputs) -> Iterator[PreflightFinding]:
    """Whether the release has the trainer, and whether its file is where the command says."""
    command = inputs.command
    if not command.trainer or command.entry is None:
        return
    entries = [
        name for name in ("train", "train_ds") if (inputs.install_dir / "funasr" / "bin" / f"{name}.py").is_file()
    ]
    program = Path(command.trainer).name if command.trainer.rpartition("/")[2].startswith("funasr-train") else ""
    place = _place(inputs, command.trainer_line)
    version = inputs.release.version
    if command.entry not in entries or (program and program not in programs(inputs.install_dir)):
        trainer_name = program or f"funasr/bin/{command.entry}.py"
        module = f"-m funasr.bin.{command.entry if command.entry in entries else entries[0] if entries else 'train'}"
        yield PreflightFinding(
            severity=Severity.BROKEN,
            rule="trainer-not-in-release",
            message=f"FunASR {version} has no {trainer_name}: the command stops before it trains",
            place=place,
            evidence=(f"it has {', '.join(f'funasr/bin/{name}.py' for name in entries) or 'no trainer'}",),
            remedy=f"torchrun … {module} in place of {command.trainer}",
        )
        return
    if program or command.trainer.startswith("-m ") or not command.trainer.endswith(".py"):
        return
    if (
        command.script is not None
        and command.directory is not None
        and not exists_below(command.directory, command.trainer)
    ):
        yield PreflightFinding(
            severity=Severity.MINOR,
            rule="trainer-file-elsewhere",
            message="there is no such file here: started from this folder, the command cannot open its trainer",
            place=place,
            evidence=(command.trainer,),
            remedy=f"-m funasr.bin.{command.entry}, which is the installed release's",
        )


def programs(install_dir: Path) -> frozenset[str]:
    """The commands that the release installs."""
    commands: set[str] = set()
    for path in install_dir.glob("funasr-*.dist-info/entry_points.txt"):
        text = path.read_text(encoding="utf-8", errors="replace")
        commands |= set(re.findall(r"^([\w-]+)\s*=", text, re.MULTILINE))
    return frozenset(commands)


def exists_below(folder: Path, name: str) -> bool:
    """Whether a file or folder of this name can be seen from a folder."""
    try:
        return (folder / name).exists()
    except (OSError, ValueError):
        return False


def _config_path(inputs: Inputs) -> Iterator[PreflightFinding]:
    """A relative `--config-path`, which hydra looks up next to the trainer's file and not in the working directory."""
    command = inputs.command
    file = command.config_file
    if file is None or file.startswith("/") or "/" not in file or command.directory is None:
        return
    trainer_folder = (command.directory / command.trainer).parent if command.trainer.endswith(".py") else None
    if exists_below(command.directory, file) and not (trainer_folder and exists_below(trainer_folder, file)):
        folder = file.rpartition("/")[0]
        yield PreflightFinding(
            severity=Severity.BROKEN,
            rule="config-path-relative",
            message="hydra looks for a relative --config-path next to the trainer's file, not in the working directory",
            place=_place(inputs, command.trainer_line),
            evidence=(f"{file} is here", "hydra: Primary config directory not found"),
            remedy=f'--config-path "$(pwd)/{folder}"',
        )


def _in_its_config(inputs: Inputs) -> Iterator[PreflightFinding]:
    """With `--config-name` hydra knows that file's keys: without ++ a key must be there, with one + it must not."""
    command = inputs.command
    path = (command.directory or inputs.root) / command.config_file if command.config_file else None
    if path is None or not path.is_file():
        return
    try:
        known = read_config(path)
    except InputError:
        return
    for override in command.overrides:
        there_already = override.path in known.by_path or bool(known.section(override.path))
        if override.text.startswith("++") or override.text.startswith("+") != there_already:
            continue
        alone = override.text.startswith("+")
        yield PreflightFinding(
            severity=Severity.BROKEN,
            rule="setting-appended-twice" if alone else "setting-without-plus",
            message=(
                f"with a single + hydra only adds keys, and {path.name} has this one: the trainer stops"
                if alone
                else f"without ++ hydra changes only known keys, and {path.name} has no such key: the trainer stops"
            ),
            place=override.place,
            evidence=(override.text,),
            remedy=shlex.quote(f"++{override.text.lstrip('+')}"),
        )


def _model(inputs: Inputs) -> Iterator[PreflightFinding]:
    """The model that the command starts from, against the one that is checked."""
    command, named = inputs.command, inputs.command.model
    if command.script is None:
        return
    if named is None:
        known = "model" in {setting.path for setting in command.unvalued}
        if not known and command.config_file is None and command.entry is not None:
            yield PreflightFinding(
                severity=Severity.BROKEN,
                rule="model-not-named",
                message="the command names no model, and the trainer stops at once (AssertionError)",
                place=_place(inputs, command.trainer_line, "model"),
                evidence=('assert "model" in kwargs',),
                remedy=f"++model={inputs.model.name} \\",
            )
        return
    yield from _other_file(inputs, "model", named, inputs.model, "the model", hub=bool(_HUB.match(named)))


def _data(inputs: Inputs) -> Iterator[PreflightFinding]:
    """The files that the command trains on, against those that are checked; whether they are there, the rows say."""
    command = inputs.command
    for key, named, checked_file in (
        ("train_data_set_list", command.train, inputs.train),
        ("valid_data_set_list", command.valid, inputs.valid),
    ):
        if named and checked_file is not None:
            yield from _other_file(inputs, key, named, checked_file, "the data")


def _other_file(
    inputs: Inputs, key: str, named: str, checked_file: Path, subject: str, *, hub: bool = False
) -> Iterator[PreflightFinding]:
    folder = inputs.command.directory or inputs.root
    path = folder / named
    exists = exists_below(folder, named)
    if same(path, checked_file) or (hub and not exists):
        return
    yield PreflightFinding(
        severity=Severity.WRONG if exists else Severity.MINOR,
        rule="checks-another-file",
        message=(
            f"{subject} of the command is another than the one that is checked here"
            if exists
            else f"{subject} of the command is not here: the one that preflight was given is checked in its place"
        ),
        place=inputs.settings.place(key),
        evidence=(f"the command: {named}", f"checked: {checked_file}"),
        remedy=path_to_type(key, checked_file),
    )


def same(first: Path, second: Path) -> bool:
    """Whether two paths are one file or folder."""
    try:
        return first.resolve() == second.resolve() or first.samefile(second)
    except (OSError, ValueError, RuntimeError):
        return False


def _gpus(inputs: Inputs) -> Iterator[PreflightFinding]:
    started = inputs.command.processes
    if inputs.gpus is None or started is None or started == inputs.gpus or inputs.command.script is None:
        return
    yield PreflightFinding(
        severity=Severity.MINOR,
        rule="gpus-differ",
        message=f"the command starts {started} process{'es' if started != 1 else ''}, and --gpus says {inputs.gpus}",
        place=_place(inputs, inputs.command.trainer_line, "nproc_per_node"),
        remedy=f"--nproc_per_node {inputs.gpus}",
    )


def _facts(inputs: Inputs) -> Iterator[PreflightFact]:
    command = inputs.command
    if command.trainer:
        started = f", {command.processes} processes" if (command.processes or 1) > 1 else ""
        through = f"{command.launcher} {command.trainer}".strip()
        yield PreflightFact(section="command", label="trainer", value=through + started)
    if len(command.calls) > 1:
        lines = ", ".join(map(str, command.calls))
        value = f"{len(command.calls)}, in lines {lines}; the first that certainly runs is checked"
        yield PreflightFact(section="command", label="trainer calls", value=value)
    if command.unvalued:
        keys = _few([setting.text for setting in command.unvalued])
        yield PreflightFact(section="command", label="value not known here", value=keys)
    if (
        command.model
        and _HUB.match(command.model)
        and not exists_below(command.directory or inputs.root, command.model)
    ):
        value = f"{command.model} of the hub; {inputs.model.name} is checked in its place"
        yield PreflightFact(section="command", label="starts from", value=value)
    yield from _against_the_shipped(inputs)


def _against_the_shipped(inputs: Inputs) -> Iterator[PreflightFact]:
    """What the release's own script passes and this command does not, where no config sets it; and the reverse."""
    script_and_release = script_for(str(inputs.config.get("model", "")), inputs.version)
    if script_and_release is None:
        return
    shipped, release = script_and_release
    label = f"finetune.sh of {release}" if shipped.script.endswith("finetune.sh") else f"{shipped.script} of {release}"
    command = inputs.command
    keys_here = {setting.path for setting in (*command.overrides, *command.unvalued)}
    if command.entry and shipped.entry and command.entry != shipped.entry:
        yield PreflightFact(
            section="command", label=label, value=f"calls funasr/bin/{shipped.entry}.py, not {command.entry}.py"
        )
    set_by_script_only = [
        f"{key}={value}" for key, value in shipped.settings.items() if key not in keys_here and key not in _ITS_OWN
    ]
    set_by_script_only = [
        setting_text for setting_text in set_by_script_only if inputs.config.get(setting_text.partition("=")[0]) is None
    ]
    if set_by_script_only:
        yield PreflightFact(
            section="command", label=f"{label} sets, and nothing here", value=_few(set_by_script_only), detail=True
        )
    set_here_only = sorted(keys_here - set(shipped.settings) - set(_ITS_OWN))
    if set_here_only:
        yield PreflightFact(
            section="command", label=f"set here, and not by {label}", value=_few(set_here_only), detail=True
        )


def _few(texts: list[str]) -> str:
    shown = ", ".join(texts[:MOST_NAMED])
    return f"{shown} and {len(texts) - MOST_NAMED} more" if len(texts) > MOST_NAMED else shown
