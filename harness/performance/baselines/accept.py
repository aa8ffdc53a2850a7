"""From runs to baselines: what would be accepted, what would change by it, and what is left out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from harness.core.cells import Check, Outcome, Status
from harness.core.errors import InputError
from harness.performance.baselines.keys import Key, NoKey, key_of
from harness.performance.baselines.metrics import KINDS, LOSS_FIGURES, MeasuredTraining, comparable, measured
from harness.performance.baselines.noise import LEAST_REPEATS, Noise, centre_of, noise_of
from harness.performance.baselines.records import Acceptance, Baseline, BaselineEntry, RunOrigin
from harness.rules.convergence import apply_convergence
from harness.run.store import LoadedRun


@dataclass(frozen=True, kw_only=True)
class BaselineChange:
    """One figure of one cell that would be another."""

    cell: str
    figure: str
    """By the names of `KINDS`."""
    old: float | None
    """None where there was none, as for the next one."""
    new: float | None
    repeats: int
    """How often the new one was measured."""


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What would be written."""

    baselines: tuple[Baseline, ...]
    """Whole, with the cells that stay."""
    changes: Mapping[Key, tuple[BaselineChange, ...]]
    left_out: tuple[str, ...]
    """Cells that are not accepted, and why."""
    warnings: tuple[str, ...]


def offer(runs: Sequence[LoadedRun], existing: Iterable[Baseline], *, accepted: str) -> Offer:
    """What accepting these runs together would write.

    Args:
        runs: One or more of the same matrix on the same machine; each is one repeat.
        there: The baselines so far.
        accepted: Now.

    Raises:
        InputError: the runs cannot be repeats of each other, or nothing in them can be accepted.
    """
    _refuse_others(runs)
    repeats, left_out = _repeats(runs)
    if not repeats:
        raise InputError(
            "nothing to accept: no fine-tune of a known machine passed in these runs",
            cause="\n    ".join(left_out[:5]),
            next_step="run a matrix with finetune cells, such as matrices/gpu.toml",
        )
    known = {baseline.key: baseline for baseline in existing}
    baselines = tuple(_merged(key, cells, runs, known.get(key), accepted) for key, cells in repeats.items())
    return Offer(
        baselines=baselines,
        changes={
            baseline.key: tuple(_changes(known.get(baseline.key), baseline, repeats[baseline.key]))
            for baseline in baselines
        },
        left_out=left_out,
        warnings=tuple(_warnings(runs)),
    )


def _refuse_others(runs: Sequence[LoadedRun]) -> None:
    first = runs[0]
    for other in runs[1:]:
        differences = first.provenance.differences(other.provenance)
        if differences:
            listing = "\n".join(f"  - {text}" for text in differences)
            raise InputError(
                f"{other.folder} is no repeat of {first.folder}\n{listing}",
                cause="the runs are of another machine, stack, matrix or corpus",
                next_step="accept runs of one matrix on one machine together, and others by themselves",
            )
    runs_by_start: dict[str, LoadedRun] = {}
    for run in runs:
        other = runs_by_start.setdefault(run.provenance.started, run)
        if other is not run:
            raise InputError(
                f"{run.folder} and {other.folder} are one run, begun {run.provenance.started}",
                cause="the same folder was named twice, or is a copy",
                next_step="name each run once; a run is no repeat of itself",
            )


def _repeats(runs: Sequence[LoadedRun]) -> tuple[dict[Key, dict[str, list[MeasuredTraining]]], tuple[str, ...]]:
    """What each run measured of each cell, by key; and which cells are left out."""
    outcomes_by_cell: dict[str, list[tuple[LoadedRun, Outcome]]] = defaultdict(list)
    for run in runs:
        for outcome in apply_convergence(run.outcomes):
            if outcome.cell.check is Check.FINETUNE and outcome.status not in (Status.SKIPPED, Status.BLOCKED):
                outcomes_by_cell[outcome.cell.id].append((run, outcome))
    repeats: dict[Key, dict[str, list[MeasuredTraining]]] = defaultdict(dict)
    left_out = []
    for name, repeats_of_cell in outcomes_by_cell.items():
        (run, first), failed = (
            repeats_of_cell[0],
            [outcome for _, outcome in repeats_of_cell if not comparable(outcome)],
        )
        key = key_of(first, run.provenance)
        if failed:
            left_out.append(
                f"{name}: {failed[0].status} in {len(failed)} of {len(repeats_of_cell)} runs: {failed[0].reason}"
            )
        elif isinstance(key, NoKey):
            left_out.append(f"{name}: {key.reason}")
        else:
            repeats[key][name] = [measured(outcome.metrics) for _, outcome in repeats_of_cell]
    return repeats, tuple(left_out)


def _merged(
    key: Key,
    cells: Mapping[str, Sequence[MeasuredTraining]],
    runs: Sequence[LoadedRun],
    existing: Baseline | None,
    accepted: str,
) -> Baseline:
    origin = runs[0].provenance
    acceptance = Acceptance(
        accepted=accepted,
        matrix=origin.matrix,
        matrix_sha256=origin.matrix_sha256,
        corpus_sha256=origin.corpus_sha256,
        runs=tuple(RunOrigin.of(run.provenance) for run in runs),
        noise=_noise(list(cells.values()), len(runs)),
        equal_curves=_equal_curves(cells.values()),
    )
    kept_entries = {name: entry for name, entry in (existing.cells if existing else {}).items() if name not in cells}
    # An acceptance that no cell rests on any more goes.
    used = sorted({entry.acceptance for entry in kept_entries.values()})
    earlier = [existing.acceptances[number] for number in used] if existing else []
    entries = {name: replace(entry, acceptance=used.index(entry.acceptance)) for name, entry in kept_entries.items()}
    new_entries = {
        name: BaselineEntry(acceptance=len(earlier), repeats=tuple(measured_repeats))
        for name, measured_repeats in cells.items()
    }
    return Baseline(key=key, acceptances=(*earlier, acceptance), cells={**entries, **new_entries})


def _noise(cells: Sequence[Sequence[MeasuredTraining]], runs: int) -> dict[str, Noise]:
    """The noise of each figure, as far as there are repeats."""
    noises = {}
    for name in KINDS:
        repeats = [
            [value for training in repeats_of_cell if (value := training.value(name)) is not None]
            for repeats_of_cell in cells
        ]
        noise = noise_of(repeats, runs=runs)
        if noise is not None:
            noises[name] = noise
    return noises


def _equal_curves(cells: Iterable[Sequence[MeasuredTraining]]) -> int:
    """How often a cell's losses came again to the last digit; 0 where any did not."""
    again = 0
    for repeats_of_cell in cells:
        curves = [training.curve for training in repeats_of_cell if training.curve is not None]
        if len(set(curves)) > 1:
            return 0
        again += max(len(curves) - 1, 0)
    return again


def _changes(before: Baseline | None, after: Baseline, cells: Iterable[str]) -> Iterable[BaselineChange]:
    for name in sorted(cells):
        old = before.cells.get(name) if before else None
        for figure in KINDS:
            if figure in LOSS_FIGURES and old is not None and old.curves[-1:] == after.cells[name].curves[-1:]:
                continue
            old_values, new_values = (entry.values(figure) if entry else () for entry in (old, after.cells[name]))
            if old_values or new_values:
                yield BaselineChange(
                    cell=name,
                    figure=figure,
                    old=centre_of(old_values) if old_values else None,
                    new=centre_of(new_values) if new_values else None,
                    repeats=len(new_values),
                )


def _warnings(runs: Sequence[LoadedRun]) -> Iterable[str]:
    for run in runs:
        if run.provenance.harness_dirty:
            yield f"{run.folder} was made by a harness with changes that are in no commit"
        if run.provenance.finished is None:
            yield f"{run.folder} was not finished"
    if len({run.provenance.code for run in runs}) > 1 or any(run.provenance.earlier_commits for run in runs):
        yield "the runs are by different commits of the harness: a change of the harness counts as noise"
    if len(runs) < LEAST_REPEATS:
        yield (
            f"{len(runs)} of {LEAST_REPEATS} runs that are needed to know the noise: times and memory get no "
            f"tolerance, and a run compared with them has no tolerance; accept {LEAST_REPEATS} or more runs together"
        )
