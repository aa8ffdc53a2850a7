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
        # Cells of another matrix or split have no meaning beside these.
        problems = _contradictions(runs)
    if problems:
        raise InputError(
            listing("these runs cannot be merged", problems),
            cause="the shards are not of one command, or a shard was run twice and both results were given",
            next_step="give each shard's run once, all made with the same harness, matrix, options and environment",
        )
    runs.sort(key=lambda run: shards[id(run)].number)
    outcomes = {outcome.cell.id: outcome for run in runs for outcome in run.outcomes}
    lacking = _lacking(runs, shards)
    return Shards(
        runs=tuple(runs),
        outcomes=tuple(outcomes.values()),
        provenance=_together([run.provenance for run in runs], shards[id(runs[0])].selected, lacking, len(outcomes)),
        lacking=lacking,
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
    whole = [str(run.folder) for run in runs if run.provenance.shard is None]
    if whole:
        raise InputError(
            listing("these runs are no shards", whole),
            cause="they were made without --shard",
            next_step="make each shard with: funasr-harness run MATRIX --shard K/N",
        )
    return {id(run): run.provenance.shard for run in runs if run.provenance.shard}


def _differences(first: LoadedRun, other: LoadedRun) -> list[str]:
    """Why the two are not of one command."""
    mine, others = first.provenance, other.provenance
    found = list(mine.other_sources(others))
    words = {
        "the harness's commit": (mine.code, others.code),
        "arguments": (" ".join(mine.arguments), " ".join(others.arguments)),
        "selection": (" ".join(mine.selection) or "all", " ".join(others.selection) or "all"),
    }
    if mine.shard and others.shard:
        words |= {
            "number of shards": (str(mine.shard.count), str(others.shard.count)),
            "cells of all shards": (str(mine.shard.selected), str(others.shard.selected)),
        }
    found += [Unequal(name=name, first=one, second=two) for name, (one, two) in words.items() if one != two]
    told = [f"{one.name}: {one.first} in {first.folder}, {one.second} in {other.folder}" for one in found]
    if not told and mine.shard and others.shard and mine.shard.split_sha256 != others.shard.split_sha256:
        told.append(
            f"{first.folder} and {other.folder} are of different splits: other recorded durations, or other releases"
        )
    return told


def _contradictions(runs: Iterable[LoadedRun]) -> list[str]:
    """Cells that two of the runs have, with different outcomes."""
    seen: dict[str, tuple[Outcome, LoadedRun]] = {}
    found = []
    for run in runs:
        for outcome in run.outcomes:
            known, where = seen.setdefault(outcome.cell.id, (outcome, run))
            if known is not outcome and known.to_json() != outcome.to_json():
                found.append(f"{outcome.cell.id} has different outcomes in {where.folder} and in {run.folder}")
    return found


def _lacking(runs: Sequence[LoadedRun], shards: dict[int, ShardOrigin]) -> tuple[str, ...]:
    present = {shards[id(run)].number for run in runs}
    count = shards[id(runs[0])].count
    found = []
    if missing := [number for number in range(1, count + 1) if number not in present]:
        found.append(f"{_numbered(missing)} of {count} {'is' if len(missing) == 1 else 'are'} missing")
    for run in runs:
        if run.missing:
            shard = shards[id(run)]
            total = run.missing + len(run.outcomes)
            found.append(f"shard {shard.name} ({run.folder}) has no outcome of {run.missing} of its {total} cells")
    return tuple(found)


def _numbered(numbers: Sequence[int]) -> str:
    words = [str(number) for number in numbers]
    if len(words) == 1:
        return f"shard {words[0]}"
    return f"shards {', '.join(words[:-1])} and {words[-1]}"


def _together(parts: Sequence[Provenance], selected: int, lacking: Sequence[str], outcomes: int) -> Provenance:
    first = parts[0]
    machines: dict[Machine, None] = dict.fromkeys(
        machine for part in parts for machine in (part.machine, *part.other_machines)
    )
    held = [set(part.isolation) for part in parts if part.isolation is not None]
    ended = [part.finished for part in parts]
    whole = outcomes >= selected and None not in ended
    return replace(
        first,
        other_machines=tuple(machine for machine in machines if machine != first.machine),
        earlier_commits=tuple(dict.fromkeys(commit for part in parts for commit in part.earlier_commits)),
        notices=tuple(dict.fromkeys((*(f"{one[0].upper()}{one[1:]}." for one in lacking), *_notices(parts)))),
        corpus_sha256=next((part.corpus_sha256 for part in parts if part.corpus_sha256), None),
        isolation=tuple(one for one in first.isolation or () if all(one in part for part in held)) if held else None,
        started=min(part.started for part in parts),
        finished=max(one for one in ended if one) if whole else None,
        selected=selected,
        reuse=_reused(parts),
        shard=None,
    )


def _reused(parts: Iterable[Provenance]) -> ReuseFacts | None:
    """What was reused in any of them; the seed of the draw is that of the last."""
    whole: ReuseFacts | None = None
    for part in parts:
        whole = part.reuse.and_earlier(whole) if part.reuse else whole
    return whole


def _notices(parts: Iterable[Provenance]) -> list[str]:
    return [notice for part in parts for notice in part.notices]
