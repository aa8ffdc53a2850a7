"""One run out of the shards of a matrix, which may be of different machines.

What must agree is what makes outcomes comparable: matrix, selection, split, environment, speech, and the harness's
commit. A cell that two shards have must have the same outcome in both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.config.shards import ShardOrigin
from harness.core.cells import Outcome
from harness.core.errors import InputError, StoreError, listing
from harness.run.provenance import Machine, Provenance, ReuseFacts, Unequal
from harness.run.store import LoadedRun, RunStore, load_run

_MOST_NAMED = 5


@dataclass(frozen=True, kw_only=True)
class Shards:
    """The runs of some shards of one split, which fit together."""

    runs: tuple[LoadedRun, ...]
    """By the shards' numbers."""
    outcomes: tuple[Outcome, ...]
    """One for each cell, shard by shard."""
    provenance: Provenance
    """Of all of them together."""
    lacking: tuple[str, ...]
    """Sentences about shards that are missing or were not finished."""


def read_shards(folders: Sequence[Path]) -> Shards:
    """Read runs that `run --shard` made, in any order.

    Raises:
        StoreError: a folder holds no run, or it cannot be read.
        InputError: they do not fit together; all reasons are listed.
    """
    runs = [load_run(folder) for folder in {folder.resolve(): folder for folder in folders}.values()]
    shards = _shards(runs)
    first, *others = runs
    problems = [problem for other in others for problem in _differences(first, other)]
    if not problems:
        # Cells of another matrix or split cannot be merged with these.
        problems = _contradictions(runs)
    if problems:
        raise InputError(
            listing("these runs cannot be merged", problems),
            cause="the shards are not of one command, or a shard was run twice and both results were given",
            next_step="give each shard's run once, all made with the same harness, matrix, options and environment",
        )
    runs.sort(key=lambda run: shards[id(run)].number)
    outcomes = {outcome.cell.id: outcome for run in runs for outcome in run.outcomes}
    gaps = _gaps(runs, shards)
    return Shards(
        runs=tuple(runs),
        outcomes=tuple(outcomes.values()),
        provenance=_together([run.provenance for run in runs], shards[id(runs[0])].selected, gaps, len(outcomes)),
        lacking=gaps,
    )


def write_merged(shards: Shards, folder: Path, *, fresh: bool = False) -> None:
    """Write them as one run.

    Args:
        fresh: Set aside what the folder holds.

    Raises:
        StoreError: the folder has a run already, or cannot be written.
    """
    if folder.resolve() in {run.folder.resolve() for run in shards.runs if run.folder}:
        raise InputError(
            f"{folder} is the folder of one of the shards", next_step="name another folder for the merged run, with -o"
        )
    with RunStore.open(folder, fresh=fresh) as store:
        if store.load():
            raise StoreError(
                f"{folder} has a run already",
                next_step="set it aside with --fresh, or merge into another folder with -o",
            )
        store.begin(replace(shards.provenance, finished=None))
        for outcome in shards.outcomes:
            store.append(outcome)
        if shards.provenance.finished:
            store.finish(shards.provenance, shards.provenance.finished)


def _shards(runs: Sequence[LoadedRun]) -> dict[int, ShardOrigin]:
    unsharded = [str(run.folder) for run in runs if run.provenance.shard is None]
    if unsharded:
        raise InputError(
            listing("these runs are no shards", unsharded),
            cause="they were made without --shard",
            next_step="make each shard with: funasr-harness run MATRIX --shard K/N",
        )
    return {id(run): run.provenance.shard for run in runs if run.provenance.shard}


def _differences(first: LoadedRun, other: LoadedRun) -> list[str]:
    """Why the two are not of one command."""
    first_provenance, other_provenance = first.provenance, other.provenance
    differences = list(first_provenance.other_sources(other_provenance))
    words = {
        "the harness's commit": (first_provenance.code, other_provenance.code),
        "arguments": (" ".join(first_provenance.arguments), " ".join(other_provenance.arguments)),
        "selection": (" ".join(first_provenance.selection) or "all", " ".join(other_provenance.selection) or "all"),
    }
    if first_provenance.shard and other_provenance.shard:
        words |= {
            "number of shards": (str(first_provenance.shard.count), str(other_provenance.shard.count)),
            "cells of all shards": (str(first_provenance.shard.selected), str(other_provenance.shard.selected)),
        }
    differences += [
        Unequal(name=name, first=first_value, second=second_value)
        for name, (first_value, second_value) in words.items()
        if first_value != second_value
    ]
    problems = [
        f"{difference.name}: {difference.first} in {first.folder}, {difference.second} in {other.folder}"
        for difference in differences
    ]
    if (
        not problems
        and first_provenance.shard
        and other_provenance.shard
        and first_provenance.shard.split_sha256 != other_provenance.shard.split_sha256
    ):
        problems.append(
            f"{first.folder} and {other.folder} are of different splits: other recorded durations, or other releases"
        )
    return problems


def _contradictions(runs: Iterable[LoadedRun]) -> list[str]:
    """Cells that two of the runs have, with different outcomes."""
    known_outcomes: dict[str, tuple[Outcome, LoadedRun]] = {}
    problems = []
    for run in runs:
        for outcome in run.outcomes:
            known, where = known_outcomes.setdefault(outcome.cell.id, (outcome, run))
            if known is not outcome and known.to_json() != outcome.to_json():
                problems.append(f"{outcome.cell.id} has different outcomes in {where.folder} and in {run.folder}")
    return problems


def _gaps(runs: Sequence[LoadedRun], shards: dict[int, ShardOrigin]) -> tuple[str, ...]:
    present = {shards[id(run)].number for run in runs}
    count = shards[id(runs[0])].count
    gaps = []
    if missing := [number for number in range(1, count + 1) if number not in present]:
        gaps.append(f"{_numbered(missing)} of {count} {'is' if len(missing) == 1 else 'are'} missing")
    for run in runs:
        if run.missing:
            shard = shards[id(run)]
            total = run.missing + len(run.outcomes)
            gaps.append(f"shard {shard.name} ({run.folder}) has no outcome of {run.missing} of its {total} cells")
    return tuple(gaps)


def _numbered(numbers: Sequence[int]) -> str:
    words = [str(number) for number in numbers]
    if len(words) == 1:
        return f"shard {words[0]}"
    return f"shards {', '.join(words[:-1])} and {words[-1]}"


def _together(parts: Sequence[Provenance], selected: int, gaps: Sequence[str], outcomes: int) -> Provenance:
    first = parts[0]
    machines: dict[Machine, None] = dict.fromkeys(
        machine for part in parts for machine in (part.machine, *part.other_machines)
    )
    isolations = [set(part.isolation) for part in parts if part.isolation is not None]
    ended = [part.finished for part in parts]
    complete = outcomes >= selected and None not in ended
    return replace(
        first,
        other_machines=tuple(machine for machine in machines if machine != first.machine),
        earlier_commits=tuple(dict.fromkeys(commit for part in parts for commit in part.earlier_commits)),
        notices=tuple(dict.fromkeys((*(f"{gap[0].upper()}{gap[1:]}." for gap in gaps), *_notices(parts)))),
        corpus_sha256=next((part.corpus_sha256 for part in parts if part.corpus_sha256), None),
        isolation=tuple(
            measure for measure in first.isolation or () if all(measure in isolation for isolation in isolations)
        )
        if isolations
        else None,
        started=min(part.started for part in parts),
        finished=max(time for time in ended if time) if complete else None,
        selected=selected,
        reuse=_reused(parts),
        shard=None,
    )


def _reused(parts: Iterable[Provenance]) -> ReuseFacts | None:
    """What was reused in any of them; the seed of the draw is that of the last."""
    total: ReuseFacts | None = None
    for part in parts:
        total = part.reuse.and_earlier(total) if part.reuse else total
    return total


def _notices(parts: Iterable[Provenance]) -> list[str]:
    return [notice for part in parts for notice in part.notices]
