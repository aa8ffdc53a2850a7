"""Rules about the files that bash opens for the trainer's output before it starts the trainer."""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Iterator
from pathlib import Path

from harness.core.cells import Severity
from harness.preflight.command.call import TrainerCall
from harness.preflight.command.shell import Command
from harness.preflight.command.words import Word
from harness.preflight.command.wrappers import unwrapped
from harness.preflight.findings import PreflightFinding

_MAKES_NO_FOLDER = frozenset(
    {
        *("echo", "printf", "export", "declare", "local", "cd", "set", "shift", "unset", "ulimit", "alias", "test"),
        *("[", "[[", "true", "false", ":", "ls", "cat", "pwd", "which", "type", "command", "date", "hostname", "sleep"),
        *("nvidia-smi", "rm", "touch", "head", "tail", "wc", "grep", "dirname", "basename", "realpath"),
    }
)
"""A sourced script is none of them: it may be one that is not here."""


def findings(call: TrainerCall) -> Iterator[PreflightFinding]:
    """Of the call's redirections."""
    for word in call.command.writes:
        folder = _folder_of(word, call.command)
        if folder is not None and _is_missing(folder) and not _may_be_made(folder, call):
            yield PreflightFinding(
                severity=Severity.BROKEN,
                rule="log-folder-missing",
                message=f"bash cannot open {word.text} for the output, and starts no trainer: there is no folder "
                f"{folder}, and no command before makes it",
                place=call.place(word.line),
                evidence=(call.line(word.line).strip()[:120],),
                remedy=f"mkdir -p {shlex.quote(posixpath.dirname(word.text))}",
            )
            return


def _folder_of(word: Word, command: Command) -> Path | None:
    """Where the file is to be; None where that is not known."""
    if not word.known or not word.text or (command.directory is None and not word.text.startswith("/")):
        return None
    return Path(posixpath.normpath(posixpath.join(command.directory or "/", posixpath.dirname(word.text))))


def _is_missing(folder: Path) -> bool:
    """Whether it is missing here; below a root that is missing as well the script is another machine's."""
    try:
        return not folder.exists() and next(above for above in folder.parents if above.is_dir()) != Path("/")
    except OSError:
        return False


def _may_be_made(folder: Path, call: TrainerCall) -> bool:
    """Whether a command makes the folder before the trainer is started, or may as far as is known here."""
    before = call.commands[: call.commands.index(call.command)]
    return any(_may_make(folder, command) for command in before)


def _may_make(folder: Path, command: Command) -> bool:
    program, *arguments = unwrapped(command.words) or (Word(text=":", line=0),)
    name = posixpath.basename(program.text)
    if not program.known or name != "mkdir":
        return not program.known or name not in _MAKES_NO_FOLDER
    places = [word for word in arguments if not word.text.startswith("-")]
    # without any, as behind `xargs`, the names come from elsewhere
    return not places or any(
        not word.known
        or (command.directory is None and not word.text.startswith("/"))
        or Path(posixpath.normpath(posixpath.join(command.directory or "/", word.text))).is_relative_to(folder)
        for word in places
    )
