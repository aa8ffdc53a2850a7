"""Asking releases: cells are run by the process tree as `run` runs them, without a matrix that lists them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

from harness.compare.transitions.cached_outcomes import Observation
from harness.compare.transitions.cell_answer import Read, answer_of
from harness.compare.transitions.search_space import Candidate, SearchSpace
from harness.config.matrix import Matrix, VariantSource
from harness.core.cells import Cell, Outcome, Release, Status
from harness.core.errors import FetchError, IntegrityError, ReleaseError
from harness.environments.environment import Environment, scrubbed_environment
from harness.releases import fetch
from harness.rules.apply import apply_rules
from harness.run import Settings, build_plan, execute
from harness.run.prepare import prepare

Execute = Callable[..., None]


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """What cells are run with."""

    matrix: Matrix
    """Its settings hold; its cells do not matter."""
    stack: Environment
    cache: Path
    workspace: Path
    """A folder of this process alone, with a short path."""
    preload: tuple[str, ...]
    jobs: int
    execute: Execute = execute
    on_outcome: Callable[[Outcome], None] = lambda _: None
    on_warning: Callable[[str], None] = lambda _: None
    _numbers: count[int] = field(default_factory=count)

    def run(
        self,
        questions: Sequence[tuple[Release, Cell]],
        *,
        variants: Sequence[VariantSource],
        extra: Mapping[str, Any] | None = None,
    ) -> dict[Cell, Outcome]:
        """Run some cells, whose releases are laid out, in processes that served no cell before.

        Args:
            questions: Each cell once.
            variants: Where the cells' variants come from.
            extra: Put into each cell's request besides.
        """
        # A tree of its own for each round: sockets' names are short, and nothing of an earlier round is met.
        workspace = self.workspace / str(next(self._numbers))
        workspace.mkdir()
        cells = tuple(cell for _, cell in questions)
        matrix = replace(
            self.matrix,
            cells=cells,
            releases=tuple({release.label: release for release, _ in questions}.values()),
            variants=tuple(variants),
        )
        prepared = prepare(matrix, cells, self.stack, cache=self.cache, workspace=workspace)
        limits = matrix.limits
        settings = Settings(
            workspace=workspace / "tree",
            jobs=self.jobs,
            memory_bytes=limits.memory_bytes,
            timeout_seconds=limits.timeout_seconds,
            preload=self.preload,
            sys_path=tuple(str(path) for path in self.stack.extra_paths),
            places={str(self.cache): "<cache>", str(workspace): "<workspace>"},
        )
        plan = build_plan(
            cells,
            settings,
            release_for=prepared.release_for,
            request_for=lambda cell: {**prepared.request_for(cell), **(extra or {})},
        )
        outcomes: dict[Cell, Outcome] = {}

        def keep(outcome: Outcome) -> None:
            outcomes[outcome.cell] = apply_rules(outcome)
            self.on_outcome(outcomes[outcome.cell])

        self.execute(
            plan,
            keep,
            python=self.stack.python,
            env=scrubbed_environment(self.stack, workspace / "env", cache=self.cache),
            on_warning=self.on_warning,
        )
        return outcomes

    def lay_out(self, release: Release) -> str:
        """Have a release lie ready; why it cannot, or nothing.

        Raises:
            StoreError: the cache cannot be written to, which no other release would change.
        """
        try:
            fetch([release], self.cache, jobs=1)
        except (FetchError, IntegrityError, ReleaseError) as error:
            return f"it cannot be laid out: {error.what}" + (f" ({error.cause})" if error.cause else "")
        return ""


@dataclass(frozen=True, kw_only=True)
class CandidateRunner:
    """Asks the places of one row; what `finding.find` calls."""

    bench: SearchSettings
    row: SearchSpace
    variants: Sequence[VariantSource]
    enter: Callable[[Candidate], tuple[Release, Cell] | str]
    """Has a place lie ready: its release and cell, or why nothing can be asked of it."""
    read: Read = answer_of
    """What counts as an answer."""
    on_round: Callable[[Sequence[Cell]], None] = lambda _: None
    unbuildable: Callable[[Outcome], str] = lambda _: ""
    """Why an outcome says nothing about the question, such as a commit that cannot be imported; or nothing."""

    def __call__(self, numbers: Sequence[int]) -> dict[int, Observation]:
        """A sighting of every place."""
        sightings: dict[int, Observation] = {}
        questions: dict[Cell, tuple[Release, list[int]]] = {}
        for number in numbers:
            entered = self.enter(self.row.places[number])
            if isinstance(entered, str):
                sightings[number] = Observation(answer=None, reason=entered)
            else:
                # Commits that differ in nothing that counts are one release, and are asked once.
                questions.setdefault(entered[1], (entered[0], []))[1].append(number)
        if questions:
            self.on_round(tuple(questions))
            outcomes = self.bench.run(
                [(release, cell) for cell, (release, _) in questions.items()], variants=self.variants
            )
            for cell, (_, several) in questions.items():
                first, *others = several
                sightings[first] = self._sighting(outcomes[cell])
                sightings |= dict.fromkeys(others, replace(sightings[first], ran=False))
        return sightings

    def _sighting(self, outcome: Outcome) -> Observation:
        why_not = self.unbuildable(outcome)
        if outcome.status is Status.ERRORED:
            why_not = f"not answered, by a fault of the harness or the machine: {outcome.reason}"
        answer = None if why_not else self.read(outcome, {})
        return Observation(answer=answer, reason=why_not or outcome.reason, started=outcome.started, ran=True)


def enter_release(bench: SearchSettings, place: Candidate) -> tuple[Release, Cell] | str:
    """Have a published release lie ready."""
    if place.release is None or place.cell is None:
        return place.why_not or "nothing can be asked of it"
    return bench.lay_out(place.release) or (place.release, place.cell)
