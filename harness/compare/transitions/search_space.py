"""The row that is searched: releases or commits in their order, each with the cell that is run for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.config.expansion import NATIVE, QUESTIONS, Question, import_cell, native_entry
from harness.core.cells import Cell, Check, Depth, Device, Dimensions, Entry, Precision, Release
from harness.core.errors import InputError

LABEL = "RELEASE"
"""What stands in a template in the place of the release."""


@dataclass(frozen=True, kw_only=True)
class CellTemplate:
    """What is run for every place of a row: a cell in which the release is left open."""

    cell: Cell
    native: bool = False
    """Whether the trainer is each release's own."""

    @property
    def name(self) -> str:
        """Its id without the release: `paraformer/v8404-h320/reduced/loss_contract/cpu-fp32`."""
        name = self.cell.id.partition("/")[2]
        return name.replace(f"@{self.cell.entry}", f"@{NATIVE}") if self.native else name

    @property
    def slug(self) -> str:
        """The same as the name of a folder."""
        return self.name.replace("/", "-").replace("@", "-")

    def of(self, label: str, version: str) -> Cell:
        """The cell of one release."""
        entry = native_entry(version) if self.native else self.cell.entry
        return replace(self.cell, release=label, entry=entry)


def question(text: str) -> Question:
    """What `--check` means: a check, and for those about a trainer its entry point.

    Raises:
        InputError: it is no check, or leaves the trainer open.
    """
    matches = QUESTIONS.get(text)
    if matches is None:
        raise InputError(f'no such check: "{text}"', next_step=f"expected one of {', '.join(QUESTIONS)}")
    if len(matches) > 1:
        choices = ", ".join(f"{text}@{entry}" for _, entry in matches)
        raise InputError(
            f'"{text}" leaves open which trainer is meant', next_step=f"name it: {choices} or {text}@{NATIVE}"
        )
    return matches[0]


def asked_of(
    check: str,
    *,
    variant: str | None,
    dimensions: Dimensions | None,
    depth: Depth,
    device: Device,
    precision: Precision,
) -> CellTemplate:
    """What is run in every release.

    Raises:
        InputError: it is no check, leaves the trainer open, or lacks the model that it is about.
    """
    kind, entry = question(check)
    if kind is Check.IMPORT:
        return CellTemplate(cell=import_cell(LABEL))
    if variant is None or dimensions is None:
        raise InputError(
            f"{check} needs a model", next_step="name one: --variant paraformer_streaming --dimensions v8404-h320"
        )
    cell = Cell(
        release=LABEL,
        variant=variant,
        dimensions=dimensions,
        depth=depth,
        check=kind,
        # Which of the two it is, each release says for itself.
        entry=Entry.TRAIN if entry == NATIVE else entry,
        device=device,
        precision=precision,
    )
    return CellTemplate(cell=cell, native=entry == NATIVE)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One release or commit of a row."""

    label: str
    """As people call it: `1.0.17`, or a commit's abbreviated hash."""
    cell: Cell | None
    """Its cell; None where it could not be installed, so that nothing can be run."""
    release: Release | None = None
    why_not: str = ""
    """Why nothing can be asked."""


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """Releases or commits, oldest first."""

    asked: CellTemplate
    places: tuple[Candidate, ...]


def row_of_releases(template: CellTemplate, releases: Sequence[Release]) -> SearchSpace:
    """The row of some releases, oldest first."""
    places = tuple(
        Candidate(label=release.label, cell=template.of(release.label, release.version), release=release)
        for release in releases
    )
    return SearchSpace(asked=template, places=places)
