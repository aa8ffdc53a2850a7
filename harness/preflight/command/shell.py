"""The state of a shell while a script is read: variables, working directory, functions, commands met so far."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.preflight.command.words import Kind, Piece, Value, Word

if TYPE_CHECKING:
    from tree_sitter import Node


@dataclass(frozen=True, kw_only=True)
class Variable:
    """One variable, with its value or why that is not known."""

    value: Value
    exported: bool = False
    line: int = 0
    array: bool = False


@dataclass(frozen=True, kw_only=True)
class Command:
    """One simple command that the script may run, with its words as the program receives them."""

    words: tuple[Word, ...]
    line: int
    end_line: int
    start_byte: int
    end_byte: int
    source: Path
    """The script in which it is written."""
    directory: str | None
    """The working directory; None where it is not known."""
    exported: Mapping[str, Value]
    """The environment that the script makes for it, its own `NAME=value` in front included."""
    unexported: frozenset[str]
    """Variables that are set and not exported."""
    unset: tuple[str, ...] = ()
    """Variables in words that vanish because they are not set."""
    certain: bool = True
    """Whether it runs whatever a condition says that is not known here."""
    writes: tuple[Word, ...] = ()
    """Files that bash opens for its output before it starts."""


@dataclass(kw_only=True)
class Shell:
    """What bash would know at a point of the script."""

    environment: Mapping[str, str]
    directory: str | None
    script: Path
    variables: dict[str, Variable] = field(default_factory=dict)
    functions: dict[str, Node] = field(default_factory=dict)
    arguments: tuple[Word, ...] | None = None
    """Of the script or function; None where they are not known."""
    open_ended: str = ""
    """Why a variable that is not set here may still be: `eval`, a file that is sourced and not there."""
    certain: bool = True
    ended: bool = False
    """Whether `exit` was met, or `return` in a function."""
    returns: bool = False

    def come_back(self) -> None:
        """Behind a function or a sourced file: only `exit` ends the script."""
        if self.returns:
            self.ended = self.returns = False

    def copy(self) -> Shell:
        """The state as a branch or a subshell starts with it."""
        return replace(self, variables=dict(self.variables), functions=dict(self.functions))

    def get(self, name: str, line: int) -> Value:
        """A variable's value: of the script, else of the environment."""
        if name in self.variables:
            return self.variables[name].value
        if name in self.environment:
            return (Piece(text=self.environment[name], line=line),)
        if self.open_ended:
            return unknown(f"${name}", f"{name} may be set by {self.open_ended}", line)
        return (Piece(text="", line=line, unset=name),)

    def is_set(self, name: str) -> bool | None:
        """Whether a variable is set; None where that is not known."""
        if name in self.variables or name in self.environment:
            return True
        return None if self.open_ended else False

    def assign(self, name: str, value: Value, *, line: int, exported: bool = False, array: bool = False) -> None:
        """Set a variable; an exported one stays exported."""
        before = self.variables.get(name)
        stays_exported = exported or name in self.environment or (before is not None and before.exported)
        self.variables[name] = Variable(value=value, exported=stays_exported, line=line, array=array)

    def export(self, name: str) -> None:
        """Export a variable that is set."""
        if name in self.variables:
            self.variables[name] = replace(self.variables[name], exported=True)

    def change_directory(self, to: str | None) -> None:
        """`cd`; None for a folder that is not known."""
        if to is None or (self.directory is None and not to.startswith("/")):
            self.directory = None
        else:
            self.directory = posixpath.normpath(posixpath.join(self.directory or "/", to))

    def merge(self, branches: list[Shell]) -> None:
        """Go on after branches of which one was taken: what they disagree about is not known."""
        going = [branch for branch in branches if not branch.ended]
        if not going:
            self.ended, self.returns = True, all(branch.returns for branch in branches)
            return
        for name in {name for branch in going for name in branch.variables}:
            values = {branch.variables.get(name) for branch in going}
            if len(values) == 1:
                self.variables[name] = going[0].variables[name]
                continue
            assigned = [value for value in values if value is not None]
            why = f"{name} depends on a condition of the script"
            self.variables[name] = replace(assigned[0], value=unknown(f"${name}", why, assigned[0].line))
        directories = {branch.directory for branch in going}
        self.directory = directories.pop() if len(directories) == 1 else None
        self.open_ended = next((branch.open_ended for branch in going if branch.open_ended), "")
        for branch in going:
            self.functions.update(branch.functions)


def unknown(expression: str, why: str, line: int, kind: Kind = Kind.LITERAL) -> Value:
    """A value that only a run of the script knows."""
    return (Piece(text=expression, line=line, kind=kind, unknown=why),)
