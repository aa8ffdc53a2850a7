"""`drift`: the releases of a run in groups of equal loss curves, where the groups diverge, and why as far as known."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from harness.commands.common import cell_runner, locked_labels, print_json
from harness.commands.exit_status import FINE
from harness.compare.diagnose import TracedRunner
from harness.compare.drift.analysis import Drift, Drifted, drift_of
from harness.compare.drift.format import render_drift
from harness.compare.drift.recordings import add_recording, load_recordings
from harness.compare.drift.tracing import record
from harness.config.built_in import matrix_path
from harness.config.matrix import load_matrix
from harness.core.cells import Check, Outcome
from harness.core.errors import InputError, SelectionError
from harness.core.versions import Order
from harness.releases import load_lock, resolve
from harness.run.repeat_commands import PROGRAM, Repeating
from harness.run.store import LoadedRun, load_run
from harness.text.terminal import say
from harness.variants.catalogue import available, folder_dimensions

ALL = "all"


def main(options: argparse.Namespace) -> int:
    """Print the groups and divergences; with `--trace`, run both sides of some again and keep what was recorded."""
    run = load_run(options.run)
    for notice in run.notices:
        say(notice, style="yellow")
    outcomes = _chosen(run, options.only)
    order = Order.of({outcome.cell.release for outcome in run.outcomes}, locked_labels(options.lock))
    drift = _analysis(run, outcomes, order, options.only)
    to_record = _divergences_to_record(options.trace, {drifted.number: drifted for drifted in drift.divergences})
    for drifted in to_record:
        _record(options, run, drifted)
    if to_record:
        drift = _analysis(run, outcomes, order, options.only)
    if options.json:
        print_json(drift.to_json())
        return FINE
    print(render_drift(drift, matrix=str(options.matrix or Repeating.of(run.provenance, run.folder).arguments[0])))
    if numbers := ",".join(str(drifted.number) for drifted in drift.divergences if drifted.can_be_recorded):
        # As it was called, so that the numbers mean the same.
        chosen = [word for glob in options.only for word in ("--only", glob)]
        settings = ["--matrix", str(options.matrix)] if options.matrix else []
        line = shlex.join([PROGRAM, "drift", str(options.run), *chosen, *settings, "--trace", numbers])
        say(f"to learn more, run both sides again: {line}")
    return FINE


def _chosen(run: LoadedRun, globs: Sequence[str]) -> list[Outcome]:
    return [
        outcome for outcome in run.outcomes if not globs or any(fnmatchcase(outcome.cell.id, glob) for glob in globs)
    ]


def _analysis(run: LoadedRun, outcomes: Sequence[Outcome], order: Order, globs: Sequence[str]) -> Drift:
    drift = drift_of(outcomes, order, load_recordings(run.folder) if run.folder else {})
    if drift is None:
        finetunes = [outcome for outcome in run.outcomes if outcome.cell.check is Check.FINETUNE]
        named = " and ".join(f'"{glob}"' for glob in globs)
        which = f"{named} matches no finetune cell with a loss curve" if globs else "no finetune cell has a loss curve"
        example = f"ids have the form of {finetunes[-1].cell.id}" if finetunes else "the run has no finetune cell"
        raise SelectionError(f"{which} in this run", cause=example, next_step="run one: funasr-harness run atlas")
    return drift


def _divergences_to_record(trace: str | None, numbered: Mapping[int, Drifted]) -> tuple[Drifted, ...]:
    """The divergences that are to be recorded; those that differ in nothing but their length need no recording."""
    if trace is None:
        return ()
    if trace == ALL:
        return tuple(drifted for drifted in numbered.values() if drifted.divergence.loss)
    words = [word.strip() for word in trace.split(",")]
    wrong = [word for word in words if not word.isdecimal() or int(word) not in numbered]
    if wrong:
        raise InputError(
            f"--trace: {', '.join(wrong)} is no number of a divergence",
            cause=f"this selection has {len(numbered)}, numbered from 1",
            next_step='list them without --trace, then give their numbers or "all"',
        )
    without = [word for word in words if numbered[int(word)].divergence.loss is None]
    for word in without:
        say(f"divergence {word}: one curve is the beginning of the other, so there is nothing to record")
    return tuple(numbered[int(word)] for word in words if word not in without)


def _matrix_of(run: LoadedRun) -> Path:
    """The file of the run's own matrix, as it was named when the run started.

    Raises:
        InputError: it is not here.
    """
    named = Repeating.of(run.provenance, run.folder).arguments[0]
    path = matrix_path(named)
    if not path.is_file():
        raise InputError(
            f"the matrix of this run, {named}, is not here",
            cause="paths count from the folder in which the run was started",
            next_step="go there, or name the file with --matrix",
        )
    return path


def _record(options: argparse.Namespace, run: LoadedRun, drifted: Drifted) -> None:
    number, divergence = drifted.number, drifted.divergence
    locked = load_lock(options.lock)
    known = {release.label for release in locked}
    if missing := {divergence.before, divergence.after} - known:
        say(
            f"divergence {number}: {', '.join(sorted(missing))} is not published, and cannot be run again",
            style="yellow",
        )
        return
    matrix = load_matrix(
        options.matrix or _matrix_of(run),
        resolve=lambda spec: resolve(spec, locked),
        variants=available(),
        gpu_present=False,
        folder_dimensions=folder_dimensions,
    )
    releases = [release for release in locked if release.label in (divergence.before, divergence.after)]
    runner = TracedRunner.of(cell_runner(options), matrix, releases)
    say(f"recording divergence {number}: {divergence.before} and {divergence.after} …")
    say(f"kept in {add_recording(options.run, record(runner, divergence))}")
