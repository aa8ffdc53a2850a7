"""Which file of a model folder is the config: what the release's `download_from_ms` loads.

Releases 1.0.6, 1.2.7 and 1.4.16 load `file_path_metas.config` of configuration.json under whatever name, and a `config`
of the command in its place. 1.0.6 first looks for config.yaml next to model.pb; the others read config.yaml only where
there is no configuration.json.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from harness.core.cells import Severity
from harness.preflight.command import TrainingCommand
from harness.preflight.findings import Place, PreflightFinding
from harness.preflight.folder.file_kinds import FileKind, content_of, exists, text_of
from harness.preflight.folder.model_files import (
    CONFIG,
    CONFIGURATION,
    below,
    configuration_of,
    folder_rules,
    reads_whole_config,
)
from harness.preflight.inputs import Inputs


def config_of(folder: Path, command: TrainingCommand, *, install_dir: Path, root: Path) -> Path:
    """The config in force; config.yaml where the release loads none, so that what is wrong is found there."""
    usual, rules = folder / CONFIG, folder_rules(install_dir)
    folder_is_usable = usual.is_file() and (not rules.required or (folder / rules.required).is_file())
    if not (folder / CONFIGURATION).is_file() or (rules.names_first and folder_is_usable):
        return usual
    config_option = command.value("config")
    named = below(root, config_option) if config_option else below(folder, _named(folder))
    return named if named is not None and exists(named) and not named.is_dir() else usual


def _named(folder: Path) -> str:
    try:
        metas = configuration_of(folder).get("file_path_metas")
    except (OSError, ValueError, RecursionError):
        return CONFIG
    written = metas.get("config") if isinstance(metas, Mapping) else None
    return written if isinstance(written, str) and written else CONFIG


def check_passed_over(inputs: Inputs) -> Iterator[PreflightFinding]:
    """A config of the folder that this release does not read, with other settings than the one in force."""
    usual, named, chosen = inputs.model / CONFIG, below(inputs.model, _named(inputs.model)), inputs.config_file
    other = usual if chosen != usual else named
    if other is None or other == chosen or reads_whole_config(inputs) or not _differs(other, chosen):
        return
    yield PreflightFinding(
        severity=Severity.MINOR,
        rule="config-passed-over",
        message=f"FunASR {inputs.release.label} reads {chosen.name} and not {other.name}, which says something else",
        place=Place(file=str(other)),
        evidence=(f"in force: {chosen}, named by {_namer(inputs, chosen)}",),
        remedy=f"make changes in {chosen.name}, or give them in the command",
    )


def _namer(inputs: Inputs, chosen: Path) -> str:
    if chosen == inputs.model / CONFIG:
        return f"its usual name next to {folder_rules(inputs.install_dir).required}"
    return "the command" if inputs.command.value("config") else CONFIGURATION


def _differs(first: Path, second: Path) -> bool:
    if {content_of(first).kind, content_of(second).kind} != {FileKind.TEXT}:
        return False
    try:
        return text_of(first) != text_of(second)
    except (OSError, UnicodeDecodeError):
        return False
