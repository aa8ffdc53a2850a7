"""Reads a script, or the words of a command line, into what the other parts of preflight need."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from harness.core.errors import InputError
from harness.preflight.command import call_rules, launch_rules, output_rules, override_rules, script_rules, sign_rules
from harness.preflight.command.call import TrainerCall
from harness.preflight.command.hydra_words import HydraWords, leaves, read
from harness.preflight.command.interpreter import ShellInterpreter
from harness.preflight.command.launchers import NODES, Launch, launch_of
from harness.preflight.command.scripts import LARGEST, Script, read_text
from harness.preflight.command.shell import Shell
from harness.preflight.command.training_command import TrainingCommand
from harness.preflight.command.words import Word, text_of
from harness.preflight.findings import Place, PreflightFinding
from harness.preflight.settings import Setting

_KEY = re.compile(r"[A-Za-z_][\w./-]*")


def read_script(path: Path, *, root: Path, environment: Mapping[str, str] | None = None) -> TrainingCommand:
    """The training that a script starts, and what is wrong with it; nothing of the script is run.

    `environment` stands for the shell from which the training will be started: this process's, unless given.

    Raises:
        InputError: the script cannot be read.
    """
    raw = _bytes(path)
    full, named = path.absolute(), os.environ if environment is None else environment
    shell = Shell(environment=named, directory=str(root.absolute()), script=full)
    interpreter = ShellInterpreter()
    try:
        interpreter.run(Script(path=full, text=raw.replace(b"\r\n", b"\n").removeprefix(b"\xef\xbb\xbf")), shell)
    except RecursionError as error:
        raise InputError(f"{path}: nested too deeply to be read") from error
    findings = list(script_rules.findings(path, raw, interpreter))
    call = chosen(path, interpreter, named)
    if call is None:
        findings += call_rules.no_call(path, raw, interpreter)
        return TrainingCommand(script=path, findings=tuple(findings))
    lost = list(lost_launchers(path, interpreter))
    findings += [*lost, *script_rules.of_call(call), *call_rules.findings(call), *sign_rules.findings(call)]
    findings += output_rules.findings(call)
    if not lost:
        findings += launch_rules.findings(call)
    typographic_lines = sign_rules.typographic_words(call)
    findings += (
        finding
        for finding in override_rules.findings(call.hydra, call.file)
        if not (finding.rule == "hydra-cannot-read" and finding.place.line in typographic_lines)
    )
    return _command(call, findings)


def _bytes(path: Path) -> bytes:
    if not path.is_file():
        raise InputError(f"{path}: no script", next_step="give the finetune.sh that starts the training")
    if read_text(path) is None:
        raise InputError(f"{path}: cannot be read, or is larger than {LARGEST >> 10} KiB and no script")
    raw = path.read_bytes()[: LARGEST + 1]
    if b"\0" in raw:
        kind = "UTF-16, which bash cannot read" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "no text"
        raise InputError(f"{path}: {kind}", next_step="save the script as UTF-8 text")
    return raw


def chosen(path: Path, interpreter: ShellInterpreter, environment: Mapping[str, str]) -> TrainerCall | None:
    """The trainer's call: the first that certainly runs, else the first."""
    launches = [
        (command_read, launch)
        for command_read in interpreter.commands
        if (launch := launch_of(command_read.words)) is not None
    ]
    if not launches:
        return None
    trainers = [pair for pair in launches if pair[1].entry is not None] or launches
    command, launch = next((pair for pair in trainers if pair[0].certain), trainers[0])
    return TrainerCall(
        script=path,
        path=command.source,
        text=interpreter.followed.get(command.source, b""),
        commands=tuple(interpreter.commands),
        command=command,
        launch=launch,
        hydra=read(launch.words),
        environment=environment,
        calls=tuple(dict.fromkeys(command_read.line for command_read, launch in launches if launch.entry is not None)),
    )


def lost_launchers(path: Path, interpreter: ShellInterpreter) -> Iterable[PreflightFinding]:
    """Launchers that stand alone on their line, with the trainer called on the next one."""
    for before, after in pairwise(interpreter.commands):
        launch, following = launch_of(before.words), launch_of(after.words)
        if launch and launch.launcher and launch.trainer is None and following and not before.unset:
            file = str(path if before.source.name == path.name else before.source)
            for finding in launch_rules.of_words(launch):
                yield replace(finding, place=Place(file=file, line=before.line))


def _command(call: TrainerCall, findings: Iterable[PreflightFinding]) -> TrainingCommand:
    command, launch, hydra = call.command, call.launch, call.hydra
    exported = command.exported.get("CUDA_VISIBLE_DEVICES")
    devices = text_of(exported) if exported is not None else call.environment.get("CUDA_VISIBLE_DEVICES")
    overrides, unvalued = _settings(hydra, call.file)
    return TrainingCommand(
        overrides=overrides,
        unvalued=unvalued,
        deleted=_deleted(hydra),
        entry=launch.entry,
        processes=launch_rules.processes(launch),
        devices=None if devices is None else tuple(filter(None, (device.strip() for device in devices.split(",")))),
        findings=tuple(findings),
        script=call.script,
        called=True,
        trainer=launch_rules.trainer_text(launch),
        trainer_line=launch.trainer.line if launch.trainer else command.line,
        launcher=launch.launcher,
        calls=call.calls,
        directory=Path(command.directory) if command.directory is not None else None,
        config_file=config_file(hydra),
        nodes=launch_rules.number(launch.options.get(NODES.get(launch.launcher, ""))),
    )


def _settings(hydra: HydraWords, file: str) -> tuple[tuple[Setting, ...], tuple[Setting, ...]]:
    """The overrides that hydra takes, in their order, and those whose value is not known."""
    known: list[Setting] = []
    unvalued: list[Setting] = []
    for override in hydra.overrides:
        line = override.word.line if file else None
        if override.prefix == "~" or not _KEY.fullmatch(override.key) or override.key.startswith(("hydra.", "hydra/")):
            continue
        if override.unknown or override.sweep or override.error:
            place = Place(file=file, line=line, key=override.key)
            unvalued.append(
                Setting(path=override.key, value=None, place=place, from_command=True, text=override.word.text)
            )
            continue
        for path, value in leaves(override.key, override.value):
            place = Place(file=file, line=line, key=path)
            known.append(Setting(path=path, value=value, place=place, from_command=True, text=override.word.text))
    return tuple(known), tuple(unvalued)


def _deleted(hydra: HydraWords) -> tuple[str, ...]:
    return tuple(override.key for override in hydra.overrides if override.prefix == "~" and not override.error)


def config_file(hydra: HydraWords) -> str | None:
    """`--config-path` and `--config-name` as one path; None where no config is named or it is not known."""
    name, folder = hydra.options.get("config-name"), hydra.options.get("config-path")
    if name is None or not name.known or (folder is not None and not folder.known):
        return None
    file = name.text if name.text.endswith((".yaml", ".yml")) else f"{name.text}.yaml"
    return f"{folder.text}/{file}" if folder is not None else file


def read_words(words: Sequence[str]) -> TrainingCommand:
    """The training that these words start: a whole command with a launcher, or the trainer's words alone."""
    typed = tuple(Word(text=word, line=0, quoted=True) for word in words)
    launch = launch_of(typed)
    if launch is None:
        launch = Launch(launcher="", words=typed)
    hydra = read(launch.words)
    findings = [*override_rules.findings(hydra, ""), *launch_rules.of_words(launch)]
    overrides, unvalued = _settings(hydra, "")
    return TrainingCommand(
        overrides=overrides,
        unvalued=unvalued,
        deleted=_deleted(hydra),
        entry=launch.entry,
        processes=launch_rules.processes(launch),
        findings=tuple(findings),
        called=bool(words),
        trainer=launch_rules.trainer_text(launch),
        launcher=launch.launcher,
        directory=None,
        config_file=config_file(hydra),
        nodes=launch_rules.number(launch.options.get(NODES.get(launch.launcher, ""))),
    )
