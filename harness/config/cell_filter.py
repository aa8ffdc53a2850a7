"""Choosing cells by their ids."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from fnmatch import fnmatchcase

from harness.core.cells import Cell
from harness.core.errors import SelectionError


def select(cells: Sequence[Cell], globs: Sequence[str]) -> tuple[Cell, ...]:
    """The cells whose id matches one of the globs, in the order given; all of them when there are no globs.

    `*` stands for any characters, slashes among them: `1.0.*/paraformer/*`, `*finetune*`.

    Raises:
        SelectionError: a glob matches nothing, even if others do: it is misspelt more often than meant.
    """
    ids = [cell.id for cell in cells]
    # The depths under the names that they had in earlier reports.
    globs = [glob.replace("/slim/", "/reduced/").replace("/published/", "/full/") for glob in globs]
    for glob in globs:
        if not any(fnmatchcase(name, glob) for name in ids):
            raise _nothing_matches(glob, ids)
    return tuple(cell for cell in cells if not globs or any(fnmatchcase(cell.id, glob) for glob in globs))


def _nothing_matches(glob: str, ids: Sequence[str]) -> SelectionError:
    part = f"*{glob.strip('*')}*"
    within = sum(fnmatchcase(name, part) for name in ids)
    near = difflib.get_close_matches(glob.replace("*", ""), ids, n=3, cutoff=0.6)
    if within:
        cause = f'a glob must match the whole id: "{part}" matches {within} of them'
    elif near:
        cause = f"near ids are {', '.join(near)}"
    else:
        cause = f"ids have the form of {ids[-1]}" if ids else "the matrix has no cells"
    return SelectionError(
        f'"{glob}" matches none of the {len(ids)} cells',
        cause=cause,
        next_step="list the ids with: funasr-harness cells MATRIX",
    )
