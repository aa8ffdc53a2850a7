"""Command lines that repeat a run or show a cell of it, as its user would type them in the folder where it was started.

`run.json` keeps the arguments that shaped a run. Paths below the folder in which it was started are kept relative to
it, and of others the file's name alone, behind a word that a shell takes for no path of its own: what is published with
a run names no folder of the machine.
"""

from __future__ import annotations

import glob
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from harness.config.built_in import committed_reports, is_built_in_matrix, shipped_file
from harness.config.shards import ShardOrigin
from harness.run.archive import FOLDERS
from harness.run.provenance import Provenance

PROGRAM = "funasr-harness"
ELSEWHERE = "<elsewhere>"
UNKNOWN_MATRIX = "MATRIX"
AGAIN = "runs/again"
"""Where a cell is run again: the folder of its run has an outcome of it already."""
_FOR_SHOW = ("--known-issues", "--lock")
"""The options that `show` has as well."""


def near(path: Path) -> str:
    """A path as it may be kept: relative to the current folder if it is below it.

    Of a built-in matrix its name; of a committed run that the harness brings along `reports/NAME`.
    """
    resolved, working_folder = path.expanduser().resolve(), Path.cwd().resolve()
    if resolved.is_relative_to(working_folder):
        return str(resolved.relative_to(working_folder))
    if is_built_in_matrix(resolved):
        return resolved.stem
    if resolved.is_relative_to(committed_reports().resolve()):
        return str(resolved.relative_to(committed_reports().parent.resolve()))
    return f"{ELSEWHERE}/{resolved.name}"


@dataclass(frozen=True, kw_only=True)
class Repeating:
    """What a run's commands have in common."""

    arguments: tuple[str, ...]
    """Of `run`: the matrix, then options with their values; without a selection and a folder."""
    selection: tuple[str, ...]
    folder: str | None
    """Where the run lies, or None where it is found without being named."""
    shard: tuple[str, ...] = ()
    """`--shard`, and where its expected seconds are from; empty for a run of all cells."""

    @classmethod
    def of(cls, provenance: Provenance, folder: Path | None) -> Self:
        """A run made by an older harness kept the matrix's name alone, and is taken to have had no options."""
        lies = None if folder is None else near(folder)
        if lies and lies.partition("/")[0] in FOLDERS and lies.count("/") == 1:
            lies = None
        return cls(
            arguments=provenance.arguments or (_named(provenance.matrix),),
            selection=provenance.selection,
            folder=lies,
            shard=_shard(provenance.shard),
        )

    def show(self, cell: str) -> str:
        """Prints everything known about one cell."""
        where = ("--run", self.folder) if self.folder else ()
        return _line("show", cell, *where, *self._options(_FOR_SHOW))

    def again(self, cell: str) -> str:
        """Runs this one cell again, apart from all other outcomes."""
        return _line("run", *self.arguments, "--only", glob.escape(cell), "-o", AGAIN, "--fresh")

    def whole_run(self) -> str:
        """Runs all cells of the run."""
        selection = (word for pattern in self.selection for word in ("--only", pattern))
        return _line("run", *self.arguments, *selection, *self.shard)

    @property
    def hint(self) -> str:
        """What is to be put in place of `ELSEWHERE`; empty where nothing is."""
        words = (*self.arguments, self.folder or "")
        if not any(word.startswith(ELSEWHERE) for word in words):
            return ""
        return f"{ELSEWHERE}: the folder in which you keep it; it is not below the one that the run was started in"

    def _options(self, names: Sequence[str]) -> tuple[str, ...]:
        pairs = zip(self.arguments, self.arguments[1:], strict=False)
        return tuple(word for pair in pairs if pair[0] in names for word in pair)


def _shard(shard: ShardOrigin | None) -> tuple[str, ...]:
    if shard is None:
        return ()
    return ("--shard", shard.name, *(word for folder in shard.durations for word in ("--durations", folder)))


def _named(matrix: str) -> str:
    """What names a matrix in a command: its path below the current folder, or its name if it is built in."""
    path = shipped_file(f"{matrix}.toml")
    return near(path) if path.is_file() else UNKNOWN_MATRIX


def _line(*words: str) -> str:
    return shlex.join((PROGRAM, *words))
