"""`gate`: compares a checkout, a wheel or a patch with a release, cell by cell, with the cause of each regression."""

from __future__ import annotations

import argparse
import contextlib
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
from harness.run.prepare import Prepared
from harness.run.progress import Display
from harness.run.reuse.reuse import Reuse
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
    against = _single_release(options.against, locked)
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


def _single_release(spec: str, locked: tuple[Release, ...]) -> Release:
    releases = resolve(spec, locked)
    if len(releases) != 1:
        raise InputError(f"{spec} means {len(releases)} releases", next_step="name one")
    return releases[0]


def _source(options: argparse.Namespace, locked: tuple[Release, ...], against: Release, folder: Path) -> GateSource:
    base = _single_release(options.source, locked) if options.source else against
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
    release = source.release
    if release.label == against.label:
        raise InputError(f"{release.label} cannot be compared with itself", next_step="name another with --against")
    pairs_of_cells = questions(matrix.cells, release.label, against.label)
    selected = set(select([cell for cell, _ in pairs_of_cells], options.only))
    pairs_of_cells = tuple(pair_of_cells for pair_of_cells in pairs_of_cells if pair_of_cells[0] in selected)
    say(f"{len(pairs_of_cells)} cells of {release.label} and of {against.label} …")
    runner = TracedRunner.of(cell_runner(options), matrix, [release, against])
    cells = [cell for pair_of_cells in pairs_of_cells for cell in pair_of_cells]
    reuse: list[Reuse] = []

    def reuse_of(prepared: Prepared) -> Reuse:
        reuse.append(runner.runner.reuse(prepared, base=against.label))
        return reuse[0]

    with Display(total=len(cells)) as display:
        outcomes = runner.run(cells, display, reuse_of if options.reuse else None)
    for used in reuse:
        with contextlib.suppress(OSError):
            # A cache that cannot be written to costs later gates their time.
            used.save()
    pairs = [pair(outcomes[cell], outcomes[counterpart]) for cell, counterpart in pairs_of_cells]
    diagnoses = {} if options.no_diagnosis else _diagnoses(options, runner, pairs)
    return Gate(
        source=release.label,
        of=source.of,
        against=against.label,
        matrix=matrix.name,
        pairs=tuple(pairs),
        diagnoses=diagnoses,
        notices=source.notices,
        reuse=reuse[0].count.facts() if reuse else None,
    )


def _diagnoses(options: argparse.Namespace, runner: TracedRunner, pairs: list[CellPair]) -> dict[str, Diagnosis]:
    diagnoses = {}
    for failed in roots(pairs):
        cell = failed.mine.cell
        say(f"why does {cell.id} fail …")
        against = ComparisonTarget(label=failed.other.cell.release, why="the release that the source is compared with")
        diagnosis = investigate(runner, cell, against, known=failed.mine, say=say)
        store(diagnosis, options.output / "diagnoses" / slug(cell, diagnosis.against))
        diagnoses[cell.id] = diagnosis
    return diagnoses


def _write(gate: Gate, folder: Path) -> Path:
    write_json(folder / "gate.json", gate.to_json())
    write_document(folder / "gate.md", comment(gate))
    return folder / "gate.md"
