"""`gate`: compares a checkout, a wheel or a patch with a release, cell by cell, with the cause of each regression."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from harness.commands.common import cache_of, cell_runner, print_json
from harness.compare.diagnose.diagnosis import Diagnosis
from harness.compare.diagnose.investigate import ComparisonTarget, investigate, slug, store
from harness.compare.diagnose.runner import TracedRunner
from harness.compare.gate.format import Gate, comment, terminal
from harness.compare.gate.pairs import CellPair, pair, questions, roots
from harness.compare.gate.patching import patched
from harness.config.matrix import Matrix, load_matrix, select
from harness.core.cells import Release
from harness.core.durable import write_document, write_json
from harness.core.errors import InputError
from harness.core.temporary import temporary_folder
from harness.environments.environment import gpu_present
from harness.releases import fetch, install_path, load_lock, resolve
from harness.run.progress import Display
from harness.text.terminal import say
from harness.variants.catalogue import available, folder_dimensions


@dataclass(frozen=True, kw_only=True)
class GateSource:
    """What is tried."""

    release: Release
    of: str
    """Where it comes from, in words."""
    notices: tuple[str, ...] = ()


def main(options: argparse.Namespace) -> int:
    """Run the matrix on the source and on the release; 1 when something regressed."""
    if not options.source and not options.apply:
        raise InputError(
            "nothing to try: neither --source nor --apply was given",
            next_step="name a checkout or a wheel with --source, or a patch with --apply",
        )
    locked = load_lock(options.lock)
    against = _one(options.against, locked)
    matrix = load_matrix(
        options.matrix,
        resolve=lambda spec: resolve(spec, locked),
        variants=available(),
        gpu_present=gpu_present(),
        folder_dimensions=folder_dimensions,
    )
    with temporary_folder("gate") as folder:
        source = _source(options, locked, against, folder)
        for notice in source.notices:
            say(notice, style="yellow")
        gate = _gate(options, matrix, source, against)
    if options.json:
        print_json(gate.to_json())
    else:
        print(terminal(gate))
    say(f"for a comment: {_write(gate, options.output)}")
    return gate.exit_code


def _one(spec: str, locked: tuple[Release, ...]) -> Release:
    found = resolve(spec, locked)
    if len(found) != 1:
        raise InputError(f"{spec} means {len(found)} releases", next_step="name one")
    return found[0]


def _source(options: argparse.Namespace, locked: tuple[Release, ...], against: Release, folder: Path) -> GateSource:
    base = _one(options.source, locked) if options.source else against
    if options.apply is None:
        return GateSource(release=base, of=base.filename if base.path else f"release {base.label}")
    cache = cache_of(options)
    fetch([base], cache, jobs=1)
    release, outside = patched(install_path(base, cache), options.apply, folder / base.label)
    # Made ready at once: the folder that it was made in goes when the gate is done.
    fetch([release], cache, jobs=1)
    notices = (f"not part of any release, and left alone: {', '.join(outside)}",) if outside else ()
    return GateSource(release=release, of=f"{base.label} with {options.apply.name}", notices=notices)


def _gate(options: argparse.Namespace, matrix: Matrix, source: GateSource, against: Release) -> Gate:
    mine = source.release
    if mine.label == against.label:
        raise InputError(f"{mine.label} cannot be compared with itself", next_step="name another with --against")
    asked = questions(matrix.cells, mine.label, against.label)
    wanted = set(select([one for one, _ in asked], options.only))
    asked = tuple(each for each in asked if each[0] in wanted)
    say(f"{len(asked)} cells of {mine.label} and of {against.label} …")
    runner = TracedRunner.of(cell_runner(options), matrix, [mine, against])
    cells = [cell for each in asked for cell in each]
    with Display(total=len(cells)) as display:
        outcomes = runner.run(cells, display)
    pairs = [pair(outcomes[one], outcomes[other]) for one, other in asked]
    diagnoses = {} if options.no_diagnosis else _diagnoses(options, runner, pairs)
    return Gate(
        source=mine.label,
        of=source.of,
        against=against.label,
        matrix=matrix.name,
        pairs=tuple(pairs),
        diagnoses=diagnoses,
        notices=source.notices,
    )


def _diagnoses(options: argparse.Namespace, runner: TracedRunner, pairs: list[CellPair]) -> dict[str, Diagnosis]:
    found = {}
    for one in roots(pairs):
        cell = one.mine.cell
        say(f"why does {cell.id} fail …")
        against = ComparisonTarget(label=one.other.cell.release, why="the release that the source is compared with")
        diagnosis = investigate(runner, cell, against, known=one.mine, say=say)
        store(diagnosis, options.output / "diagnoses" / slug(cell, diagnosis.against))
        found[cell.id] = diagnosis
    return found


def _write(gate: Gate, folder: Path) -> Path:
    write_json(folder / "gate.json", gate.to_json())
    write_document(folder / "gate.md", comment(gate))
    return folder / "gate.md"
