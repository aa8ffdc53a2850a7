"""Runs cells and records them, with the cell runner of every command."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from harness.compare.diagnose.traces import Trace
from harness.config.matrix import Matrix
from harness.core.cells import Cell, Outcome, Release
from harness.releases import install_path
from harness.run.prepare import Prepared
from harness.run.progress import Display
from harness.run.reuse.reuse import Reuse
from harness.run.runner import CellRunner, RunOptions, TraceOptions

EVIDENCE = "trace"


@dataclass(frozen=True, kw_only=True)
class Traced:
    """A cell's outcome, and the recording of it."""

    outcome: Outcome
    """Without the recording in its evidence."""
    trace: Trace | None
    """None where the cell's process left none: an import, a crash, a time-out."""
    raw: Mapping[str, object] | None
    """The recording as the process wrote it."""
    install_dir: Path
    """The folder of the release."""


@dataclass(frozen=True, kw_only=True)
class TracedRunner:
    """Runs cells of some releases, recorded or not; made once per command, used as often as needed."""

    runner: CellRunner
    matrix: Matrix
    """Whose settings and limits hold; its own cells and releases do not matter."""
    releases: Mapping[str, Release]
    """By label."""

    @classmethod
    def of(cls, runner: CellRunner, matrix: Matrix, releases: Sequence[Release]) -> Self:
        """One for these releases."""
        return cls(runner=runner, matrix=matrix, releases={release.label: release for release in releases})

    def trace(self, options: Mapping[Cell, TraceOptions]) -> dict[Cell, Traced]:
        """Run each cell with a recorder, without the checks that it depends on.

        Args:
            options: What is recorded of each cell, see `harness.worker.record.tracing`.

        Raises:
            HarnessError: a release, the speech or the environment is missing.
        """
        cells = tuple(options)
        recorded = RunOptions(trace=options, without_dependencies=True)
        outcomes = self.runner.run(self.matrix, cells, self.releases, options=recorded)
        return {cell: self._traced(outcomes[cell]) for cell in cells}

    def run(
        self, cells: Sequence[Cell], display: Display, reuse_of: Callable[[Prepared], Reuse] | None = None
    ) -> dict[Cell, Outcome]:
        """Run cells as `run` does, nothing recorded: a check that does not pass blocks those that depend on it.

        Args:
            reuse_of: Makes what says which cells need not run; None where all do.

        Raises:
            HarnessError: a release, the speech or the environment is missing.
        """
        return self.runner.run(self.matrix, cells, self.releases, display=display, reuse_of=reuse_of)

    def _traced(self, outcome: Outcome) -> Traced:
        evidence = dict(outcome.evidence)
        raw = evidence.pop(EVIDENCE, None)
        return Traced(
            outcome=replace(outcome, evidence=evidence),
            trace=Trace.from_json(raw) if raw else None,
            raw=raw,
            install_dir=install_path(self.releases[outcome.cell.release], self.runner.settings.cache),
        )


def trace_pair(
    runner: TracedRunner, first: Cell, second: Cell, options: TraceOptions | None = None
) -> tuple[Traced, Traced]:
    """Two cells with the same options; the first forward pass if they are left out."""
    options = options or {"passes": [0]}
    traced = runner.trace({first: options, second: options})
    return traced[first], traced[second]
