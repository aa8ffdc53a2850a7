"""Outcomes of earlier runs in this folder, as far as they are of the same check and settings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.compare.transitions.cell_answer import CellAnswer, Read, answer_of
from harness.compare.transitions.search_space import SearchSpace
from harness.core.cells import Check
from harness.core.errors import StoreError
from harness.run.store import LoadedRun, load_run, run_folders

FOLDERS = ("reports", "runs", "runs/bisections")
"""Where runs lie, relative to the current folder."""

WITHOUT_SETTINGS = frozenset({Check.IMPORT, Check.CONSTRUCT, Check.LOSS_CONTRACT})
"""Checks that run in the same way with every matrix; the others depend on what the matrix says."""


@dataclass(frozen=True, kw_only=True)
class Observation:
    """An answer of one place, and where it is from."""

    answer: CellAnswer | None
    """None where the place cannot be judged."""
    reason: str = ""
    """In words what was seen: the outcome's reason, or why the place cannot be judged."""
    origin: str = ""
    """The folder of the run on record; empty where the cell was run for this search."""
    started: str = ""
    """When it was measured, UTC."""
    ran: bool = False
    """Whether a cell was run for it; what cannot be laid out runs none."""

    @property
    def cached(self) -> bool:
        """Whether it is on record, and was not run for this search."""
        return bool(self.origin)


@dataclass(frozen=True, kw_only=True)
class CachedOutcomes:
    """What the runs in this folder know of a row."""

    observations: Mapping[int, Observation]
    """By place."""
    notices: tuple[str, ...] = ()
    """Which runs were passed over, and why."""


def folders() -> tuple[Path, ...]:
    """The folders of all runs of the working folder."""
    return tuple(run_folders(*FOLDERS))


def on_record(
    row: SearchSpace, runs: Sequence[Path], *, matrix: str, sha256: str, read: Read = answer_of
) -> CachedOutcomes:
    """What runs know of a row.

    Where the check depends on the matrix's settings, only outcomes of one matrix are compared: those of
    the matrix of the search, or where there are none those of a matrix that ran every place.

    Args:
        row: What is searched.
        runs: Their folders; of several that know a cell the newest outcome is believed.
        matrix: The name of the matrix of the search.
        sha256: Of that matrix.
        read: What counts as an answer.
    """
    notices: list[str] = []
    by_matrix: dict[tuple[str, str], dict[int, Observation]] = defaultdict(dict)
    everything: dict[int, Observation] = {}
    contradicted: dict[str, int] = {}
    from_where: dict[tuple[str, str], list[str]] = defaultdict(list)
    for folder in runs:
        try:
            run = load_run(folder)
        except StoreError as error:
            notices.append(f"passed over: {error.what}")
            continue
        known = dict(_observations(run, folder, row, read))
        if known:
            key = (run.provenance.matrix, run.provenance.matrix_sha256)
            for number, observation in known.items():
                _believe(by_matrix[key], number, observation)
                if older := _believe(everything, number, observation):
                    contradicted[older.origin] = contradicted.get(older.origin, 0) + 1
            from_where[key].append(folder.as_posix())
    if row.asked.cell.check in WITHOUT_SETTINGS:
        notices += [
            f"{origin} has another answer for {many} of these, measured earlier: the newest is believed"
            for origin, many in contradicted.items()
        ]
        return CachedOutcomes(observations=everything, notices=tuple(notices))
    chosen = _chosen(row, by_matrix, (matrix, sha256))
    notices.extend(
        f"passed over: {', '.join(from_where[key])} were run with other settings (matrix {key[0]} as it was then)"
        for key in by_matrix
        if key != chosen
    )
    return CachedOutcomes(observations=by_matrix[chosen] if chosen else {}, notices=tuple(notices))


def _believe(known: dict[int, Observation], number: int, observation: Observation) -> Observation | None:
    """Keep the newest observation of a place; the one that is given up, where it says something else."""
    other = known.get(number)
    if other is None:
        known[number] = observation
        return None
    newer, older = (observation, other) if observation.started >= other.started else (other, observation)
    known[number] = newer
    return older if older.answer != newer.answer else None


def _chosen(
    row: SearchSpace, by_matrix: Mapping[tuple[str, str], Mapping[int, Observation]], matrix_of_search: tuple[str, str]
) -> tuple[str, str] | None:
    if matrix_of_search in by_matrix:
        return matrix_of_search
    complete = [key for key, known in by_matrix.items() if len(known) == len(row.places)]
    return complete[-1] if complete else None


def _observations(run: LoadedRun, folder: Path, row: SearchSpace, read: Read) -> Iterator[tuple[int, Observation]]:
    by_id = {outcome.cell.id: outcome for outcome in run.outcomes}
    for number, place in enumerate(row.places):
        outcome = by_id.get(place.cell.id) if place.cell else None
        if outcome is None:
            continue
        answer = read(outcome, by_id)
        # What errored says nothing; it is run again.
        if answer.judged:
            yield (
                number,
                Observation(answer=answer, reason=outcome.reason, origin=folder.as_posix(), started=outcome.started),
            )
