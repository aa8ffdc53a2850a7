"""Asking cells with a recorder beside them, through the same process tree as every run."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.compare.diagnose.traces import Trace
from harness.config.matrix import Matrix, VariantSource
from harness.core.cells import Cell, Check, Outcome, Release
from harness.environments.environment import Environment, probe, scrubbed_environment
from harness.releases import layout_path
from harness.rules.apply import apply_rules
from harness.run import Settings, build_plan, execute
from harness.run.preload import PRELOADED
from harness.run.prepare import Prepared, lay_out_releases, prepare
from harness.run.progress import Display

EVIDENCE = "trace"
_SLOWER = 3.0
"""By how much a recorded cell may take longer than one that is not, whose limit is the matrix's."""
_FOR_TRAINERS = frozenset({"umap", "hdbscan", "websockets", "pydub", "huggingface_hub", "torch.distributed.fsdp"})
"""What only an import of the whole release asks for."""


@dataclass(frozen=True, kw_only=True)
class Traced:
    """What a cell gave, and the recording of it."""

    outcome: Outcome
    """Without the recording in its evidence."""
    trace: Trace | None
    """None where the cell's process left none: an import, a crash, a time-out."""
    raw: Mapping[str, Any] | None
    """The recording as it was told."""
    overlay: Path
    """Where the release lies."""


@dataclass(frozen=True, kw_only=True)
class TracedRunner:
    """Runs cells of a matrix with a recorder; made once, asked as often as needed."""

    matrix: Matrix
    """Whose settings and limits hold; its own cells and releases do not matter."""
    releases: Mapping[str, Release]
    """By label, those that can be asked about."""
    cache: Path
    stack: Environment
    jobs: int
    warn: Callable[[str], None]

    @classmethod
    def of(
        cls,
        matrix: Matrix,
        releases: Sequence[Release],
        *,
        cache: Path,
        jobs: int | None = None,
        warn: Callable[[str], None] = lambda _: None,
    ) -> TracedRunner:
        """Look at the stack, which takes as long as it takes to import torch."""
        return cls(
            matrix=matrix,
            releases={release.label: release for release in releases},
            cache=cache,
            stack=probe(cache=cache),
            jobs=jobs or len(os.sched_getaffinity(0)),
            warn=warn,
        )

    def ask(self, wishes: Mapping[Cell, Mapping[str, Any] | None]) -> dict[Cell, Traced]:
        """Ask each cell with its wish, see `harness.worker.record.tracing`; without one nothing is recorded.

        Cells are asked for themselves: no earlier check is run first, and none blocks them.

        Raises:
            HarnessError: a release, the speech or the stack cannot be had.
        """
        cells = tuple(wishes)
        workspace = Path(tempfile.mkdtemp(prefix="fh-")).resolve()
        try:
            prepared = prepare(self._matrix(cells), cells, self.stack, cache=self.cache, workspace=workspace)
            lay_out_releases(prepared, cells)
            # One plan a check: within a plan a cell would be blocked by the earlier check it.
            checks = sorted({cell.check.position for cell in cells})
            plans = [[cell for cell in cells if cell.check.position == check] for check in checks]
            outcomes = self._execute(prepared, plans, wishes, workspace)
        finally:
            shutil.rmtree(workspace, ignore_errors=True)
        return {cell: self._traced(outcomes[cell]) for cell in cells}

    def run(self, cells: Sequence[Cell], display: Display) -> dict[Cell, Outcome]:
        """Run cells as `run` does, nothing recorded: a check that does not pass blocks those above it.

        Raises:
            HarnessError: a release, the speech or the stack cannot be had.
        """
        workspace = Path(tempfile.mkdtemp(prefix="fh-")).resolve()
        try:
            prepared = prepare(self._matrix(cells), cells, self.stack, cache=self.cache, workspace=workspace)
            lay_out_releases(prepared, cells)
            return self._execute(prepared, [cells], dict.fromkeys(cells), workspace, display=display)
        finally:
            shutil.rmtree(workspace, ignore_errors=True)

    def _matrix(self, cells: Sequence[Cell]) -> Matrix:
        known = {source.name: source for source in self.matrix.variants}
        names = sorted({cell.variant for cell in cells if cell.variant})
        return replace(
            self.matrix,
            cells=tuple(cells),
            releases=tuple(self.releases[label] for label in dict.fromkeys(cell.release for cell in cells)),
            variants=tuple(known.get(name, VariantSource(name=name)) for name in names),
        )

    def _execute(
        self,
        prepared: Prepared,
        plans: Sequence[Sequence[Cell]],
        wishes: Mapping[Cell, Mapping[str, Any] | None],
        workspace: Path,
        *,
        display: Display | None = None,
    ) -> dict[Cell, Outcome]:
        outcomes: dict[Cell, Outcome] = {}

        def keep(outcome: Outcome) -> None:
            outcomes[outcome.cell] = apply_rules(outcome)
            if display:
                display.done(outcomes[outcome.cell])

        settings = self._settings(wishes, workspace)
        environment = scrubbed_environment(self.stack, workspace / "env", cache=self.cache)
        for cells in plans:
            plan = build_plan(
                cells,
                settings,
                release_for=prepared.release_for,
                request_for=lambda cell: _request(prepared.request_for(cell), wishes[cell]),
            )
            watching: dict[str, Any] = {}
            if display:
                display.follow(plan, self.matrix, self.stack, self.cache)
                watching = {"on_started": display.started, "on_event": display.event, "on_tick": display.tick}
            execute(plan, keep, python=self.stack.python, env=environment, on_warning=self.warn, **watching)
        return outcomes

    def _settings(self, wishes: Mapping[Cell, Mapping[str, Any] | None], workspace: Path) -> Settings:
        limits = self.matrix.limits
        trained = any(cell.check.through_trainer for cell in wishes)
        factor = _SLOWER if any(wish is not None for wish in wishes.values()) else 1.0
        return Settings(
            workspace=workspace / "tree",
            jobs=self.jobs,
            memory_bytes=limits.memory_bytes,
            timeout_seconds={check: factor * limits.timeout_seconds[check] for check in Check},
            preload=PRELOADED if trained else tuple(name for name in PRELOADED if name not in _FOR_TRAINERS),
            sys_path=tuple(str(path) for path in self.stack.extra_paths),
            places={str(self.cache): "<cache>", str(workspace): "<workspace>"},
        )

    def _traced(self, outcome: Outcome) -> Traced:
        evidence = dict(outcome.evidence)
        raw = evidence.pop(EVIDENCE, None)
        return Traced(
            outcome=replace(outcome, evidence=evidence),
            trace=Trace.from_json(raw) if raw else None,
            raw=raw,
            overlay=layout_path(self.releases[outcome.cell.release], self.cache),
        )


def trace_pair(
    asker: TracedRunner, one: Cell, other: Cell, wish: Mapping[str, Any] | None = None
) -> tuple[Traced, Traced]:
    """Two cells with the same wish, side by side; `{"passes": [0]}` if it is left out."""
    wish = wish or {"passes": [0]}
    answers = asker.ask({one: wish, other: wish})
    return answers[one], answers[other]


def _request(request: Mapping[str, Any], wish: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """One training tells where it dies; further seeds and the extra trainings would only repeat it."""
    if wish is None:
        return request
    once = {"seeds": 1, "accumulate": 1, "processes": 1} if request["check"] == Check.FINETUNE else {}
    if once:
        request = {**request, "finetune": {**request["finetune"], **once}}
    return {**request, "trace": dict(wish)}
