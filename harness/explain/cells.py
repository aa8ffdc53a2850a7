"""The cell that shows what a log shows, and the command that runs it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from functools import cache

from harness.config.built_in import LOCK_NAME, built_in_folder, shipped_file
from harness.config.matrix import load_matrix
from harness.core.cells import Cell
from harness.releases import load_lock, resolve
from harness.variants.catalogue import available

PROGRAM = "funasr-harness"
_MATRICES = ("atlas", "architectures", "findings", "later_checks", "properties", "training", "ranks")
"""Built-in matrices that fix their releases, the widest first."""
FOLDER = "runs/explain"


def cell_command(*cells: Cell) -> str:
    """The line that runs the first of some cells that a built-in matrix has; else `diagnose` of the last one.

    Empty where that is about a variant that the harness does not bring along.
    """
    for cell in cells:
        for name in _MATRICES:
            if cell.id in _cells(name):
                return shlex.join((PROGRAM, "run", name, "--only", cell.id, "-o", FOLDER))
    last = cells[-1]
    return shlex.join((PROGRAM, "diagnose", last.id)) if last.variant in (None, *available()) else ""


@cache
def _cells(name: str) -> frozenset[str]:
    """The ids of a built-in matrix."""
    return frozenset(_ids(name))


def _ids(name: str) -> Iterator[str]:
    path = built_in_folder() / f"{name}.toml"
    if not path.is_file():
        return
    locked = load_lock(shipped_file(LOCK_NAME))
    matrix = load_matrix(path, resolve=lambda spec: resolve(spec, locked), variants=available(), gpu_present=False)
    yield from (cell.id for cell in matrix.cells)
