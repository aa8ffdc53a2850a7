"""What the rules of the command look at: the script's commands, and the trainer's call taken apart."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.preflight.command.hydra_words import HydraWords
from harness.preflight.command.launchers import Launch
from harness.preflight.command.shell import Command
from harness.preflight.findings import Place

_SUBSTRING = re.compile(r"\$\{([A-Za-z_]\w*):(\s*[A-Za-z0-9_./]+)\}")


@dataclass(frozen=True, kw_only=True)
class TrainerCall:
    """The trainer's call in a script."""

    script: Path
    """As the user named it."""
    path: Path
    """The file in which the call is written: the script itself, or one that it reads."""
    text: bytes
    """Of that file, with `\\n` at the ends of lines."""
    commands: tuple[Command, ...]
    """All that the script may run, in order."""
    command: Command
    launch: Launch
    hydra: HydraWords
    environment: Mapping[str, str]
    calls: tuple[int, ...]
    """The lines of all trainer calls of the script."""

    @property
    def lines(self) -> list[str]:
        return self.text.decode("utf-8", "replace").split("\n")

    def place(self, line: int | None, key: str = "") -> Place:
        """In the file of the call."""
        return Place(file=self.file, line=line, key=key)

    @property
    def file(self) -> str:
        """As the user would name it."""
        return str(self.script if self.path.name == self.script.name else self.path)

    def line(self, number: int) -> str:
        """A line of the file, counted from 1; empty beyond its end."""
        lines = self.lines
        return lines[number - 1] if 0 < number <= len(lines) else ""

    @property
    def false_defaults(self) -> list[tuple[int, str, str]]:
        """Each `${NAME: value}` of a variable that nothing sets: its line, the name, the value."""
        known = {*self.command.exported, *self.command.unexported, *self.environment}
        return [
            (number, match[1], match[2])
            for number, line in enumerate(self.lines, 1)
            if not line.lstrip().startswith("#")
            for match in _SUBSTRING.finditer(line)
            if match[1] not in known
        ]

    @property
    def after(self) -> tuple[Command, ...]:
        """The commands of the same file that are written behind the call."""
        start = self.command.end_byte
        return tuple(
            command for command in self.commands if command.source == self.path and command.start_byte >= start
        )
