"""`drift`: the releases of a run in groups of equal loss curves, where the groups part, and why as far as is known."""

from __future__ import annotations

import argparse
import shlex
from fnmatch import fnmatchcase
from pathlib import Path

from harness.commands.common import cache_of, locked_labels
from harness.compare.diagnose import TracedRunner
from harness.compare.drift.causes import cause_of
from harness.compare.drift.curves import CurveSeries, curve_series
from harness.compare.drift.evidence import CurveDivergence, curve_divergences
from harness.compare.drift.format import told
from harness.compare.drift.storing import add_recording, load_recordings
from harness.compare.drift.tracing import record
from harness.config.matrix import load_matrix
from harness.core.cells import Check
from harness.core.errors import InputError, SelectionError
from harness.releases import load_lock, resolve
from harness.rules.verdicts import EXIT_EXPECTED
from harness.run.repeat_commands import PROGRAM, Repeating
from harness.run.store import LoadedRun, load_run
from harness.text.terminal import say
from harness.variants.catalogue import available

ALL = "all"


def main(options: argparse.Namespace) -> int:
    """Print the groups and partings; with `--trace`, run both sides of some again and keep what was recorded."""
    run = load_run(options.run)
    for notice in run.notices:
        say(notice, style="yellow")
    found = _lanes(run, options.cell)
    numbered = dict(enumerate((parting for lane in found for parting in curve_divergences(lane)), 1))
    done: set[str] = set()
    for number in _wanted(options.trace, numbered):
        parting = numbered[number]
        # Where both trainers part from the same curve to the same, one recording serves both.
        if parting.key not in done:
            _record(options, run, number, parting)
        done.add(parting.key)
    recordings = load_recordings(options.run)
    published = locked_labels(options.lock)
    matrix = str(options.matrix or Repeating.of(run.provenance, run.folder).arguments[0])
    parts = []
    for lane in found:
        mine = {number: parting for number, parting in numbered.items() if parting.lane == lane.name}
        parts.append("\n".join(told(lane, mine, recordings, published=published, matrix=matrix)))
    print("\n\n".join(parts))
    open_ = [
        number
        for number, parting in numbered.items()
        if parting.loss and parting.key not in recordings and not cause_of(parting, None).explained
    ]
    if open_:
        numbers = ",".join(map(str, open_))
        # As it was called, so that the numbers mean the same.
        chosen = ["--cell", options.cell] if options.cell else []
        settings = ["--matrix", str(options.matrix)] if options.matrix else []
        line = shlex.join([PROGRAM, "drift", str(options.run), *chosen, *settings, "--trace", numbers])
        say(f"to learn more, run both sides again: {line}")
    return EXIT_EXPECTED


def _lanes(run: LoadedRun, glob: str | None) -> tuple[CurveSeries, ...]:
    asked = [outcome for outcome in run.outcomes if outcome.cell.check is Check.FINETUNE]
    chosen = [outcome for outcome in asked if glob is None or fnmatchcase(outcome.cell.id, glob)]
    found = curve_series(chosen)
    if not found:
        which = f'"{glob}" matches no finetune cell with a loss curve' if glob else "no finetune cell has a loss curve"
        example = f"ids have the form of {asked[-1].cell.id}" if asked else "the run asked for no finetune"
        raise SelectionError(
            f"{which} in this run", cause=example, next_step="run one: funasr-harness run matrices/atlas.toml"
        )
    return found


def _wanted(trace: str | None, numbered: dict[int, CurveDivergence]) -> tuple[int, ...]:
    """The partings that are to be recorded; those that differ in nothing but their length need no recording."""
    if trace is None:
        return ()
    if trace == ALL:
        return tuple(number for number, parting in numbered.items() if parting.loss)
    words = [word.strip() for word in trace.split(",")]
    wrong = [word for word in words if not word.isdecimal() or int(word) not in numbered]
    if wrong:
        raise InputError(
            f"--trace: {', '.join(wrong)} is no number of a parting",
            cause=f"this selection has {len(numbered)}, numbered from 1",
            next_step='list them without --trace, then give their numbers or "all"',
        )
    without = [word for word in words if numbered[int(word)].loss is None]
    for word in without:
        say(f"parting {word}: one curve is the beginning of the other, so there is nothing to record")
    return tuple(int(word) for word in words if word not in without)


def _record(options: argparse.Namespace, run: LoadedRun, number: int, parting: CurveDivergence) -> None:
    locked = load_lock(options.lock)
    known = {release.label for release in locked}
    if missing := {parting.before, parting.after} - known:
        say(f"parting {number}: {', '.join(sorted(missing))} is not published, and cannot be run again", style="yellow")
        return
    path = options.matrix or Path("matrices") / f"{run.provenance.matrix}.toml"
    matrix = load_matrix(path, resolve=lambda spec: resolve(spec, locked), variants=available(), gpu_present=False)
    asker = TracedRunner.of(
        matrix,
        [release for release in locked if release.label in (parting.before, parting.after)],
        cache=cache_of(options),
        jobs=options.jobs,
        warn=lambda text: say(text, style="yellow"),
    )
    say(f"recording parting {number}: {parting.before} and {parting.after} …")
    say(f"kept in {add_recording(options.run, record(asker, parting))}")
