"""From the axes of a matrix to its cells."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Literal

from harness.core.cells import Cell, Check, Depth, Device, Dimensions, Entry, Precision, Release
from harness.core.versions import release_key, version_of
from harness.worker.trainer.options import NATIVE_DS_SINCE

NATIVE: Literal["native"] = "native"
"""In place of an entry point: the one that the release's own finetune.sh calls."""

Question = tuple[Check, Entry | Literal["native"] | None]
"""A check, and for those about a trainer its entry point."""


def _questions() -> Iterator[tuple[str, tuple[Question, ...]]]:
    for check in Check:
        if not check.through_trainer:
            yield str(check), ((check, None),)
            continue
        yield str(check), tuple((check, entry) for entry in Entry)
        for entry in (*Entry, NATIVE):
            yield f"{check}@{entry}", ((check, entry),)


QUESTIONS: Mapping[str, tuple[Question, ...]] = dict(_questions())
"""What may be written as a check: `finetune` stands for both entry points, `finetune@train` for that one,
`finetune@native` for the one that the release's own finetune.sh calls."""


def native_entry(release: str) -> Entry:
    """The entry point that this release's own finetune.sh calls, by the release's label."""
    version = version_of(release)
    return Entry.TRAIN if version and version.release < NATIVE_DS_SINCE else Entry.TRAIN_DS


@dataclass(frozen=True, kw_only=True)
class Product:
    """One product of axes, as a table of the matrix states it."""

    place: str
    """Where in the file: `[axes]`, `[[include]] #1`."""
    releases: tuple[Release, ...]
    questions: tuple[Question, ...]
    variants: tuple[str, ...] = ()
    dimensions: tuple[Dimensions, ...] = ()
    depths: tuple[Depth | None, ...] = ()
    """None is `auto`: full on a GPU, reduced on a CPU."""
    devices: tuple[Device | None, ...] = ()
    """None is `auto`: the GPU where there is one."""
    precisions: tuple[Precision, ...] = ()
    gpu_only: bool = False
    """Whether it has cells only where there is a GPU."""
    own_dimensions: Mapping[str, Dimensions] = field(default_factory=dict, hash=False)
    """Of variants that have no others, whatever the axes say: model folders of users."""


@dataclass(frozen=True, kw_only=True)
class Exclusion:
    """Drops the cells that match every key that is given; None is a key that is not.

    An `import` cell has no variant, dimensions or depth, and its device and precision are nominal:
    an exclusion that gives any of these says nothing about it.
    """

    releases: frozenset[str] | None = None
    """Labels."""
    questions: frozenset[Question] | None = None
    variants: frozenset[str] | None = None
    vocab_sizes: frozenset[int] | None = None
    hidden_sizes: frozenset[int] | None = None
    depths: frozenset[Depth] | None = None
    devices: frozenset[Device] | None = None
    precisions: frozenset[Precision] | None = None

    def drops(self, cell: Cell) -> bool:
        """Whether this cell is to be left out."""
        about_release: list[bool] = [
            self.releases is None or cell.release in self.releases,
            self.questions is None or any(question in self.questions for question in _answered_by(cell)),
        ]
        model = (self.variants, self.vocab_sizes, self.hidden_sizes, self.depths, self.devices, self.precisions)
        if cell.check is Check.IMPORT:
            return all(about_release) and all(key is None for key in model)
        vocab_size, hidden_size = (
            (cell.dimensions.vocab_size, cell.dimensions.hidden_size) if cell.dimensions else (None, None)
        )
        values = (cell.variant, vocab_size, hidden_size, cell.depth, cell.device, cell.precision)
        return all(about_release) and all(key is None or value in key for key, value in zip(model, values, strict=True))


def expand(axes: Product, *, gpu_present: bool) -> Iterator[Cell]:
    """The cells of one product, in no particular order and perhaps more than once.

    Where `auto` gives the CPU, precisions that only a GPU has are left out:
    a matrix for a GPU also means something on a machine that has none.
    """
    if axes.gpu_only and not gpu_present:
        return
    for release, (check, entry) in product(axes.releases, axes.questions):
        if check is Check.IMPORT:
            yield import_cell(release.label)
            continue
        shapes = [
            (variant, dimensions)
            for variant in axes.variants
            for dimensions in (
                axes.dimensions if variant not in axes.own_dimensions else (axes.own_dimensions[variant],)
            )
        ]
        for (variant, dimensions), depth, chosen_device, precision in product(
            shapes, axes.depths, axes.devices, axes.precisions
        ):
            device = chosen_device or (Device.CUDA if gpu_present else Device.CPU)
            if chosen_device is None and not runs_on(device, precision):
                continue
            yield Cell(
                release=release.label,
                variant=variant,
                dimensions=dimensions,
                depth=depth or (Depth.FULL if device is Device.CUDA else Depth.REDUCED),
                check=check,
                entry=native_entry(release.label) if entry == NATIVE else entry,
                device=device,
                precision=precision,
            )


def size_of(axes: Product) -> int:
    """How many cells a product has at most, without making them."""
    about_models = sum(check is not Check.IMPORT for check, _ in axes.questions)
    variants = len(axes.variants) * max(1, len(axes.dimensions))
    settings = len(axes.depths) * len(axes.devices) * len(axes.precisions)
    return len(axes.releases) * (len(axes.questions) - about_models + about_models * variants * settings)


def _answered_by(cell: Cell) -> tuple[Question, ...]:
    """The questions to which this cell is an answer."""
    if cell.entry and cell.entry is native_entry(cell.release):
        return ((cell.check, cell.entry), (cell.check, NATIVE))
    return ((cell.check, cell.entry),)


def import_cell(release: str) -> Cell:
    """The one `import` cell of a release: it is about the release alone."""
    return Cell(
        release=release,
        variant=None,
        dimensions=None,
        depth=None,
        check=Check.IMPORT,
        entry=None,
        device=Device.CPU,
        precision=Precision.FP32,
    )


def runs_on(device: Device, precision: Precision) -> bool:
    """Whether FunASR's trainer has this precision on this device: half precision is a matter of the GPU."""
    return device is Device.CUDA or precision is Precision.FP32


def not_excluded(cells: Iterable[Cell], exclusions: Sequence[Exclusion]) -> Iterator[Cell]:
    """The cells that no exclusion drops."""
    return (cell for cell in cells if not any(exclusion.drops(cell) for exclusion in exclusions))


def in_order(cells: Iterable[Cell]) -> tuple[Cell, ...]:
    """Each cell once: by release (oldest first), variant, dimensions, depth, device, precision, check, entry point."""
    return tuple(sorted(set(cells), key=_order))


def _order(cell: Cell) -> tuple[object, ...]:
    sizes = (cell.dimensions.vocab_size, cell.dimensions.hidden_size) if cell.dimensions else (0, 0)
    return (
        release_key(cell.release),
        # The release's own cell comes before those of its models.
        cell.variant or "",
        sizes,
        list(Depth).index(cell.depth) if cell.depth else -1,
        list(Device).index(cell.device),
        list(Precision).index(cell.precision),
        cell.check.position,
        list(Entry).index(cell.entry) if cell.entry else -1,
    )
