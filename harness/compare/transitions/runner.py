"""Runs the candidates of a search with the cell runner of every command, and records which files ran in a cell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.compare.diagnose import TracedRunner
from harness.compare.transitions.cached_outcomes import Observation
from harness.compare.transitions.cell_answer import Read, answer_of
from harness.compare.transitions.search_space import Candidate, SearchSpace
from harness.config.matrix import Matrix
from harness.core.cells import Cell, Check, Outcome, Release, Status
from harness.core.errors import FetchError, IntegrityError, ReleaseError
from harness.releases import fetch
from harness.run.runner import CellRunner


def install(release: Release, cache: Path) -> str:
    """Install a release; returns why that is impossible, or nothing.

    Raises:
        StoreError: the cache cannot be written to, which no other release would change.
    """
    try:
        fetch([release], cache, jobs=1)
    except (FetchError, IntegrityError, ReleaseError) as error:
        return f"it cannot be installed: {error.what}" + (f" ({error.cause})" if error.cause else "")
    return ""


@dataclass(frozen=True, kw_only=True)
class CandidateRunner:
    """Runs candidates of one search space; the function that `find` calls."""

    runner: CellRunner
    matrix: Matrix
    """Whose settings and limits hold; its own cells and releases do not matter."""
    row: SearchSpace
    enter: Callable[[Candidate], tuple[Release, Cell] | str]
    """Installs a candidate: its release and cell, or why it cannot be run."""
    read: Read = answer_of
    """What counts as an answer."""
    on_round: Callable[[Sequence[Cell]], None] = lambda _: None
    unbuildable: Callable[[Outcome], str] = lambda _: ""
    """Why an outcome says nothing about the question, such as a commit that cannot be imported; or nothing."""

    def __call__(self, numbers: Sequence[int]) -> dict[int, Observation]:
        """An observation of every candidate."""
        observations: dict[int, Observation] = {}
        questions: dict[Cell, tuple[Release, list[int]]] = {}
        for number in numbers:
            entered = self.enter(self.row.places[number])
            if isinstance(entered, str):
                observations[number] = Observation(answer=None, reason=entered)
            else:
                # Commits that differ in nothing that counts are one release, and run once.
                questions.setdefault(entered[1], (entered[0], []))[1].append(number)
        if questions:
            self.on_round(tuple(questions))
            releases = {release.label: release for release, _ in questions.values()}
            outcomes = self.runner.run(self.matrix, tuple(questions), releases)
            for cell, (_, several) in questions.items():
                first, *others = several
                observations[first] = self._observation(outcomes[cell])
                observations |= dict.fromkeys(others, replace(observations[first], ran=False))
        return observations

    def _observation(self, outcome: Outcome) -> Observation:
        why_not = self.unbuildable(outcome)
        if outcome.status is Status.ERRORED:
            why_not = f"not answered, by a fault of the harness or the machine: {outcome.reason}"
        answer = None if why_not else self.read(outcome, {})
        return Observation(answer=answer, reason=why_not or outcome.reason, started=outcome.started, ran=True)


def enter_release(cache: Path, place: Candidate) -> tuple[Release, Cell] | str:
    """Install a published release."""
    if place.release is None or place.cell is None:
        return place.why_not or "it has no such cell"
    return install(place.release, cache) or (place.release, place.cell)


def executed_files(runner: CellRunner, matrix: Matrix, cells: Sequence[tuple[Release, Cell]]) -> tuple[str, ...]:
    """The funasr files of which a function ran in any of these cells, so that a diff can be restricted to them.

    The cells are run once more, with a recorder; an `import` has none.
    """
    release_of_cell = {cell: release for release, cell in cells if cell.check is not Check.IMPORT}
    if not release_of_cell:
        return ()
    traced = TracedRunner.of(runner, matrix, tuple(release_of_cell.values())).trace(
        {cell: {"passes": [0]} for cell in release_of_cell}
    )
    traces = [traced_cell.trace for traced_cell in traced.values() if traced_cell.trace]
    return tuple(sorted({function.file for trace in traces for function in trace.functions}))
