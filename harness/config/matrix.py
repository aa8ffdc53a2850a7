"""`matrices/*.toml` → cells.

schema = 1
name = "small"
description = "one sentence"

[axes]                              # one product of cells
release = ["1.0.2", ">=1.4", "latest", "all", "../a/checkout"]
variant = ["paraformer", "my_variant.yaml", "path/to/a/model_folder"]  # a folder has its own dimensions
vocab_size = [8404]
hidden_size = [320, 512]
check = ["construct", "finetune"]   # finetune: both entry points; finetune@train_ds: that one;
                                    # finetune@native: the one that the release's own finetune.sh calls
depth = ["auto"]                    # reduced, published; auto: published on a GPU, reduced without
device = ["auto"]                   # cpu, cuda; auto: the GPU where there is one
precision = ["fp32"]                # bf16, fp16

[[include]]                         # a further product; keys left out are taken from [axes]
when = "gpu"                        # only where there is a GPU; may be left out
[[exclude]]                         # drops the cells that match every key given
[limits]                            # timeout_seconds = { finetune = 300 }, memory_bytes
[finetune]                          # steps, batch_size, learning_rate, warmup_steps, seed, utterances
[finetune.gpu]                      # the same, where there is a GPU
[properties] [checkpoint] [decode]  # the settings of these checks, see harness/config/settings.py
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from harness.config.axes import AxesReader, Resolve, VariantSource
from harness.config.expansion import Product, expand, in_order, not_excluded, runs_on, size_of
from harness.config.settings import (
    CHECK_SETTINGS,
    CellLimits,
    CheckSettings,
    FinetuneSettings,
    read_check_settings,
    read_finetune,
    read_limits,
)
from harness.config.toml_tables import Problems, Table, read_document, table_of, tables_of
from harness.core.cells import Cell, Check, Device, Dimensions, Release
from harness.core.errors import SelectionError
from harness.core.versions import release_key

__all__ = ["CellLimits", "FinetuneSettings", "Matrix", "Resolve", "VariantSource", "load_matrix", "select"]

SCHEMA = 1
"""Version of the form of a matrix."""

MOST_CELLS = 50_000
"""More than all releases, variants and checks of the atlas ten times over; a million would take hours to plan alone."""


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """What is to be run, expanded."""

    name: str
    source: Path
    """The file, as the user gave it."""
    sha256: str
    """Of the file's bytes."""
    description: str
    cells: tuple[Cell, ...]
    """Each once, in the order of `harness.config.expansion.in_order`."""
    releases: tuple[Release, ...]
    """Those that a cell is about, oldest first."""
    variants: tuple[VariantSource, ...]
    """Those that a cell is about, by name."""
    limits: CellLimits
    finetune: FinetuneSettings
    check_settings: Mapping[Check, CheckSettings] = field(default_factory=lambda: CHECK_SETTINGS)
    """Settings of the checks that have some of their own."""


def load_matrix(
    path: Path,
    *,
    resolve: Resolve,
    variants: Sequence[str],
    gpu_present: bool,
    folder_dimensions: Callable[[Path], Dimensions] | None = None,
) -> Matrix:
    """Read a matrix and expand it.

    Args:
        path: The TOML file; paths to releases and variants in it are relative to its folder.
        resolve: From `latest`, `>=1.0.12`, a path … to releases.
        variants: The names of the harness's own variants.
        gpu_present: What `auto` is to mean.
        folder_dimensions: Of a model folder that is named as a variant; None where none may be.

    Raises:
        MatrixError: all that is wrong with the file, at once.
    """
    document = read_document(path)
    problems = Problems(source=str(path))
    top = Table(values=document.tables, place="", problems=problems)
    name, description = _head(top)
    reader = AxesReader(folder=path.parent, resolve=resolve, own_variants=variants, folder_dimensions=folder_dimensions)
    limits = read_limits(table_of(document.tables, "limits", problems))
    finetune = read_finetune(table_of(document.tables, "finetune", problems), gpu_present=gpu_present)
    checks = {
        check: read_check_settings(table_of(document.tables, check, problems), CHECK_SETTINGS[check])
        for check in CHECK_SETTINGS
    }
    cells = _cells(top, reader, gpu_present=gpu_present)
    problems.stop_if_any()
    return Matrix(
        name=name,
        source=path,
        sha256=document.sha256,
        description=description,
        cells=cells,
        releases=tuple(reader.releases[label] for label in sorted({c.release for c in cells}, key=release_key)),
        variants=tuple(reader.variants[name] for name in sorted({c.variant for c in cells if c.variant})),
        limits=limits,
        finetune=finetune,
        check_settings=checks,
    )


def _head(top: Table) -> tuple[str, str]:
    top.only(["schema", "name", "description", "axes", "include", "exclude", "limits", "finetune", *CHECK_SETTINGS])
    schema = top.values.get("schema")
    if schema != SCHEMA or isinstance(schema, bool):
        top.problems.add("schema", f"expected {SCHEMA}, the form that this harness reads, found {schema!r}")
    name = top.text("name") or ""
    if name and re.fullmatch(r"\w[\w.-]*", name, re.ASCII) is None:
        top.problems.add("name", f'"{name}" becomes the name of a folder; use letters, digits, "_", "-" and "."')
    return name, top.text("description") or ""


def _cells(top: Table, reader: AxesReader, *, gpu_present: bool) -> tuple[Cell, ...]:
    problems = top.problems
    axes = table_of(top.values, "axes", problems)
    includes = tables_of(top.values, "include", problems)
    exclusions = [reader.exclusion(table) for table in tables_of(top.values, "exclude", problems)]
    tables = [axes, *includes] if axes.values or not includes else includes
    products = [reader.product(table, axes) for table in tables]
    cells: set[Cell] = set()
    vanished: list[str] = []
    sizes = {axes_product.place: size_of(axes_product) for axes_product in products if axes_product is not None}
    if sum(sizes.values()) > MOST_CELLS:
        largest = max(sizes, key=lambda place: sizes[place])
        message = (
            f"{sum(sizes.values()):,} cells, {sizes[largest]:,} of them by {largest}; at most {MOST_CELLS:,} are read"
        )
        problems.add("the matrix", message)
        products = []
    for axes_product in products:
        if axes_product is not None:
            expanded = list(expand(axes_product, gpu_present=gpu_present))
            remaining = list(not_excluded(expanded, exclusions))
            if expanded and not remaining:
                vanished.append(axes_product.place)
            _note_precisions(axes_product, remaining, problems)
            cells.update(remaining)
    for place in vanished if cells else ():
        problems.add(place, "has no cell left: everything that it lists is excluded")
    if not cells and not problems.found:
        problems.add("the matrix", "has no cell: everything is excluded, or needs a GPU where there is none")
    return in_order(cells)


def _note_precisions(axes_product: Product, cells: Sequence[Cell], problems: Problems) -> None:
    for precision in axes_product.precisions:
        if not runs_on(Device.CPU, precision) and any(
            cell.device is Device.CPU and cell.precision is precision for cell in cells
        ):
            problems.add(
                f"{axes_product.place} precision",
                f'"{precision}" is for a GPU, and cells on the CPU have it; use device = ["cuda"] or ["auto"]',
            )


def select(cells: Sequence[Cell], globs: Sequence[str]) -> tuple[Cell, ...]:
    """The cells whose id matches one of the globs, in the order given; all of them when there are no globs.

    `*` matches any characters, slashes included: `1.0.*/paraformer/*`, `*finetune*`.

    Raises:
        SelectionError: a glob matches nothing, even if others do: that is more often a typing error than intended.
    """
    ids = [cell.id for cell in cells]
    # The depths under the names that they had in earlier reports.
    globs = [glob.replace("/slim/", "/reduced/").replace("/published/", "/full/") for glob in globs]
    for glob in globs:
        if not any(fnmatchcase(name, glob) for name in ids):
            raise _nothing_matches(glob, ids)
    return tuple(cell for cell in cells if not globs or any(fnmatchcase(cell.id, glob) for glob in globs))


def _nothing_matches(glob: str, ids: Sequence[str]) -> SelectionError:
    part = f"*{glob.strip('*')}*"
    within = sum(fnmatchcase(name, part) for name in ids)
    near = difflib.get_close_matches(glob.replace("*", ""), ids, n=3, cutoff=0.6)
    if within:
        cause = f'a glob must match the whole id: "{part}" matches {within} of them'
    elif near:
        cause = f"near ids are {', '.join(near)}"
    else:
        cause = f"ids have the form of {ids[-1]}" if ids else "the matrix has no cells"
    return SelectionError(
        f'"{glob}" matches none of the {len(ids)} cells',
        cause=cause,
        next_step="list the ids with: funasr-harness list MATRIX",
    )
