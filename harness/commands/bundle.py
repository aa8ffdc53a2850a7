"""`bundle`: a matrix and all that it needs as one file, for a GPU host without a network."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from pathlib import Path

from harness import __version__
from harness.bundle import archive, libraries
from harness.bundle.archive import Manifest
from harness.bundle.contents import gather, reject_local_sources
from harness.bundle.libraries import libraries_for
from harness.commands.common import arguments_of, cache_of, carried_lines, read_cells, read_own_speech
from harness.config.matrix import Matrix
from harness.core.cells import Cell
from harness.core.errors import HarnessError, InputError, SelectionError
from harness.core.temporary import temporary_folder
from harness.run.provenance import code_state
from harness.text.terminal import say

_PYTHON = re.compile(r"3\.\d+")
_PLATFORM = re.compile(r"\w+?-manylinux_\d+_\d+")
ALL_BUT_IMPORT = "*/[!-]*/*/*/*/*"
"""The cells that are about a variant: all but those of `import`."""


@dataclass(frozen=True, kw_only=True)
class _SelectedCells:
    matrix: Matrix
    cells: tuple[Cell, ...]
    left_out: dict[str, str]


def main(options: argparse.Namespace) -> int:
    """Make the bundle, and say how large it is and what is not in it."""
    _refuse_odd_target(options)
    selected = _selected_cells(options)
    user_speech = read_own_speech(options)
    reject_local_sources(selected.matrix)
    say(f"{selected.matrix.name}: {len(selected.cells)} cells; making speech, model folders and releases ready …")
    with temporary_folder("bundle") as folder:
        contents = gather(
            selected.matrix,
            selected.cells,
            folder,
            cache=cache_of(options),
            lock=options.lock,
            user_speech=user_speech,
            rows=options.rows,
        )
        for line in carried_lines(user_speech, options.rows):
            say(line.text, style=line.style)
        say(f"fetching libraries for Python {options.python} on {options.platform} …")
        names = libraries_for({cell.check for cell in selected.cells})
        libraries_folder = folder / "libraries"
        laid_out = libraries.lay_out(
            names, options.requirements, libraries_folder, python=options.python, platform=options.platform
        )
        say("packing …")
        parts = {
            "harness.tar.xz": archive.pack({"code": contents.code, "inputs": contents.inputs}),
            "models.tar.xz": archive.pack({"cache/models": contents.models}),
            "releases.tar.xz": archive.pack({"cache/releases": contents.releases}),
            "libraries.tar.xz": archive.pack({"libraries": libraries_folder}),
        }
    commit, dirty = code_state()
    manifest = Manifest(
        matrix=selected.matrix.name,
        matrix_file=selected.matrix.source.name,
        matrix_sha256=selected.matrix.sha256,
        python=options.python,
        platform=options.platform,
        cells=tuple(cell.id for cell in selected.cells),
        selection=tuple(options.only) or (ALL_BUT_IMPORT,),
        left_out=selected.left_out,
        releases=tuple(dict.fromkeys(cell.release for cell in selected.cells)),
        libraries=laid_out,
        harness_version=__version__,
        harness_commit=commit,
        harness_dirty=dirty,
        arguments=arguments_of(options),
        parts={part: archive.part_of(content) for part, content in parts.items()},
    )
    sha256 = archive.write_bundle(options.output, manifest, parts)
    _say_result(options.output, manifest, sha256)
    return 0


def _selected_cells(options: argparse.Namespace) -> _SelectedCells:
    """The cells that the matrix has on a host with a GPU and on one without, less those that no bundle holds."""
    cells_of_both: dict[Cell, None] = {}
    matrix, trouble = None, None
    for gpu_present in (True, False):
        try:
            matrix, cells = read_cells(options, gpu_present=gpu_present)
        except HarnessError as error:
            trouble = trouble or error
        else:
            cells_of_both |= dict.fromkeys(cells)
    if matrix is None:
        assert trouble is not None
        raise trouble
    left_out = {str(cell.check): why for cell in cells_of_both if (why := cell.check.facts.not_in_bundles)}
    bundled = tuple(cell for cell in cells_of_both if not cell.check.facts.not_in_bundles)
    if not bundled:
        raise SelectionError(
            "nothing is left for the bundle",
            cause="; ".join(f"{check}: {why}" for check, why in left_out.items()),
            next_step="select cells of other checks",
        )
    return _SelectedCells(matrix=matrix, cells=bundled, left_out=left_out)


def _refuse_odd_target(options: argparse.Namespace) -> None:
    if not _PYTHON.fullmatch(options.python):
        raise InputError(f'"{options.python}" is no Python', next_step="write it as 3.12")
    if not _PLATFORM.fullmatch(options.platform):
        raise InputError(
            f'"{options.platform}" is no platform that a bundle can be made for',
            next_step="write it as x86_64-manylinux_2_28 or aarch64-manylinux_2_28, the glibc of the host at its end",
        )


def _say_result(output: Path, manifest: Manifest, sha256: str) -> None:
    size = output.stat().st_size
    say(f"{output}: {size / 2**20:.1f} MiB for Python {manifest.python} on {manifest.platform}")
    for name, part in manifest.parts.items():
        say(f"  {part.bytes / 2**20:6.1f} MiB  {name}")
    for check, reason in manifest.left_out.items():
        say(f"left out: the cells of {check}: {reason}", style="yellow")
    say(f"sha256 {sha256}\nthere: python{manifest.python} {output.name} run")
