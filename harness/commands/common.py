"""What several commands begin with: the lock, the cache and the cells that the options name."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from harness.commands.defaults import BASELINES, KNOWN_ISSUES, LOCK
from harness.config.matrix import Matrix, load_matrix, select
from harness.core.cells import Cell, Release
from harness.core.errors import MatrixError
from harness.core.wire import strict
from harness.releases import default_cache, load_lock, resolve
from harness.run.repeat_commands import ELSEWHERE, near
from harness.variants.catalogue import available, load_variant
from harness.variants.variant import shape_problems


def read_cells(options: argparse.Namespace, *, gpu_present: bool) -> tuple[Matrix, tuple[Cell, ...]]:
    """The matrix that the options name, expanded with the locked releases, and those of its cells that they select.

    Raises:
        MatrixError: all that is wrong with the matrix or the lock.
        VariantError: all that is wrong with a variant of the user's.
        SelectionError: a selection matches nothing.
    """

    # Read when a release is asked for: a mistyped matrix is the nearer mistake, and is told first.
    @cache
    def locked() -> tuple[Release, ...]:
        return load_lock(options.lock)

    matrix = load_matrix(
        options.matrix,
        resolve=lambda spec: resolve(spec, locked()),
        variants=available(),
        gpu_present=gpu_present,
    )
    if problems := tuple(dict.fromkeys(_misfits(matrix))):
        raise MatrixError(str(options.matrix), problems)
    return matrix, select(matrix.cells, options.only)


def arguments_of(options: argparse.Namespace) -> tuple[str, ...]:
    """The arguments of `run` that shape its outcomes, as the run keeps them; see `harness.run.repeat_commands`."""
    words = [near(options.matrix)]
    for name, default in _SHAPING.items():
        value = getattr(options, name, default)
        if value is not None and value != default:
            words += [f"--{name.replace('_', '-')}", near(value)]
    if rows := getattr(options, "rows", None):
        words += ["--rows", str(rows)]
    cache = getattr(options, "cache", None)
    # Elsewhere it is where this machine keeps things, and says nothing of the outcomes.
    if cache is not None and not near(Path(cache)).startswith(ELSEWHERE):
        words += ["--cache", near(Path(cache))]
    return (*words, *(["--require-gpu"] if getattr(options, "require_gpu", False) else []))


_SHAPING: Mapping[str, Path | None] = {
    "jsonl": None,
    "valid": None, "known_issues": KNOWN_ISSUES, "lock": LOCK, "baselines": BASELINES
}  # fmt: skip
"""Options that name files, with their defaults."""


def cache_of(options: argparse.Namespace) -> Path:
    """The cache that the options name, or the default one; absolute, as a release's processes run elsewhere."""
    return Path(options.cache).expanduser().absolute() if options.cache else default_cache()


def locked_labels(lock: Path) -> tuple[str, ...]:
    """The labels of all published releases that the lock knows, oldest first."""
    return tuple(release.label for release in load_lock(lock))


def _misfits(matrix: Matrix) -> Iterator[str]:
    """Sizes of the matrix that one of its variants cannot have."""
    variants = {source.name: load_variant(str(source.path or source.name)) for source in matrix.variants}
    for name, shape in dict.fromkeys((cell.variant, cell.dimensions) for cell in matrix.cells):
        if name and shape:
            yield from (f"{name}: {problem}" for problem in shape_problems(variants[name], shape))


def print_json(record: Mapping[str, Any]) -> None:
    """Print a record as strict JSON to standard output; what JSON has no number for is "nan", "inf" or "-inf"."""
    print(json.dumps(strict(record), indent=1, ensure_ascii=False, allow_nan=False))
