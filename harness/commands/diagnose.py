"""`diagnose`: why a cell fails, by comparing it with a release in which it passes."""

from __future__ import annotations

import argparse
import difflib
from dataclasses import replace

from harness.commands.common import cell_runner, print_json
from harness.commands.exit_status import FAULT, FINE, FOUND
from harness.commands.options import DIAGNOSES
from harness.commands.own_variants import chosen_dimensions, source_of
from harness.compare.diagnose.format import terminal
from harness.compare.diagnose.investigate import ComparisonTarget, investigate, slug, store
from harness.compare.diagnose.nearest import Record, about_property, read_record
from harness.compare.diagnose.runner import TracedRunner
from harness.config.built_in import matrix_path, shipped_file
from harness.config.matrix import Matrix, load_matrix
from harness.core.cells import Cell, Check, Release, Status
from harness.core.errors import InputError
from harness.releases import load_lock, resolve
from harness.text.terminal import say
from harness.variants.catalogue import available, folder_dimensions, load_variant

DEFAULT_MATRIX = "atlas"


def main(options: argparse.Namespace) -> int:
    """Diagnose a cell; 0 if it passes, 1 if it fails, 3 if it could not be measured here."""
    try:
        cell = Cell.parse(options.cell)
    except ValueError as error:
        raise InputError(str(error), next_step="list the ids with: funasr-harness list atlas") from None
    locked = load_lock(options.lock)
    record = read_record(cell, [release.label for release in locked], options.run)
    for notice in record.notices:
        say(notice, style="yellow")
    if cell.check is Check.PROPERTIES:
        record = about_property(record, options.property or "")
    against = _against(options, record, locked)
    releases = _releases(cell, against, locked)
    matrix = settings_of(options, record, locked)
    _validate_early(cell, matrix)
    known = record.seen.get(cell.release)
    say(_announced(cell, against))
    runner = TracedRunner.of(cell_runner(options), matrix, releases)
    outcome = known.outcome if known else None
    diagnosis = investigate(runner, cell, against, known=outcome, property_name=record.asked, say=say)
    folder = options.output or DIAGNOSES / slug(cell, diagnosis.against)
    if options.json:
        print_json(diagnosis.to_json())
    else:
        print(terminal(diagnosis))
    if not diagnosis.against:
        _say_alone(cell, diagnosis.status)
        return _exit_status(diagnosis.status)
    paths = store(diagnosis, folder)
    say(f"diagnosis: {paths[0]}\n           {paths[1]}   ({diagnosis.seconds:.1f} s)")
    return _exit_status(diagnosis.status)


def _exit_status(status: Status) -> int:
    if status is Status.ERRORED:
        return FAULT
    return FINE if status in (Status.PASSED, Status.SKIPPED) else FOUND


def _against(options: argparse.Namespace, record: Record, locked: tuple[Release, ...]) -> ComparisonTarget | None:
    """The release that the user names, else the nearest that passes; None where none is known, or none is needed."""
    if options.against:
        chosen = resolve(options.against, locked)
        if len(chosen) != 1:
            raise InputError(f"--against {options.against} means {len(chosen)} releases", next_step="name one")
        return ComparisonTarget(label=chosen[0].label, why="named with --against", advice=record.advice())
    if record.status(record.cell.release) is Status.PASSED:
        return None
    nearest = next(iter(record.passing()), None)
    if nearest is None:
        return None
    return ComparisonTarget(label=nearest, why=record.why(nearest), advice=record.advice())


def _announced(cell: Cell, against: ComparisonTarget | None) -> str:
    if against is None:
        return f"running {cell.id} alone …"
    return f"running {cell.id} and the same cell of {against.label}: {against.why} …"


def _releases(cell: Cell, against: ComparisonTarget | None, locked: tuple[Release, ...]) -> tuple[Release, ...]:
    labels = [cell.release, *([against.label] if against else [])]
    by_label = {release.label: release for release in locked}
    missing = [label for label in labels if label not in by_label]
    if missing:
        near = difflib.get_close_matches(missing[0], list(by_label), n=3)
        raise InputError(
            f"{missing[0]} is no published release",
            cause=f"near ones are {', '.join(near)}" if near else "",
            next_step="for a local one use: funasr-harness gate --source PATH",
        )
    return tuple(by_label[label] for label in labels)


def settings_of(options: argparse.Namespace, record: Record, locked: tuple[Release, ...]) -> Matrix:
    """The matrix whose settings are used: --matrix, or else that of the run with the cell, or else the atlas."""
    known = record.seen.get(record.cell.release) or next(iter(record.seen.values()), None)
    matrix_file = shipped_file(f"{known.matrix}.toml") if known else None
    path = options.matrix or (matrix_file if matrix_file and matrix_file.is_file() else matrix_path(DEFAULT_MATRIX))
    matrix = load_matrix(
        path,
        resolve=lambda spec: resolve(spec, locked),
        variants=available(),
        gpu_present=True,
        folder_dimensions=folder_dimensions,
    )
    return _with_variant(options.variant, record.cell, matrix) if options.variant else matrix


def _with_variant(name_or_path: str, cell: Cell, matrix: Matrix) -> Matrix:
    """The matrix with the variant of --variant, which the cell has to be about."""
    variant = load_variant(name_or_path)
    dimensions = chosen_dimensions(None, variant)
    meant = replace(cell, variant=variant.name, dimensions=dimensions or cell.dimensions)
    if cell != meant:
        raise InputError(
            f"{cell.id} is not about {name_or_path}, which is the variant {variant.name}",
            next_step=f"name its cell: {meant.id}",
        )
    others = [source for source in matrix.variants if source.name != variant.name]
    return replace(matrix, variants=(*others, source_of(variant, name_or_path)))


def _validate_early(cell: Cell, matrix: Matrix) -> None:
    """Raise for a variant that does not exist before seconds are spent on the stack."""
    if cell.variant and cell.variant not in {source.name for source in matrix.variants}:
        load_variant(cell.variant)


def _say_alone(cell: Cell, status: Status) -> None:
    if status is Status.PASSED:
        say("It passes: there is nothing to diagnose. --against V compares its values with those of another release.")
        return
    say(
        f"No run has a release in which {cell.id.partition('/')[2]} passes, so there is nothing to compare with."
        " Name a release with --against, or run the cell for more releases first.",
        style="yellow",
    )
