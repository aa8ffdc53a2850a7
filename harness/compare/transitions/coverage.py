"""Which of a release's files ran in a cell, so that a diff can be restricted to them."""

from __future__ import annotations

from collections.abc import Sequence

from harness.compare.diagnose import TracedRunner
from harness.config.matrix import Matrix
from harness.core.cells import Cell, Check, Release
from harness.run.runner import CellRunner


def executed_files(runner: CellRunner, matrix: Matrix, cells: Sequence[tuple[Release, Cell]]) -> tuple[str, ...]:
    """The funasr files of which a function ran in any of these cells; none where nothing was recorded.

    The cells are run once more, with a recorder; an `import` has none.
    """
    wanted = {cell: release for release, cell in cells if cell.check is not Check.IMPORT}
    if not wanted:
        return ()
    traced = TracedRunner.of(runner, matrix, tuple(wanted.values())).trace({cell: {"passes": [0]} for cell in wanted})
    traces = [one.trace for one in traced.values() if one.trace]
    return tuple(sorted({one.file for trace in traces for one in trace.functions}))
