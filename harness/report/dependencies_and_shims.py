"""What releases need without saying so, and what the harness changed so that they run here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.core.cells import Check
from harness.core.release_order import Order, Span
from harness.report.cell_details import words
from harness.report.labels import shim_meaning
from harness.rules.verdicts import JudgedOutcome


@dataclass(frozen=True, kw_only=True)
class Undeclared:
    """A third-party module that releases import and their metadata does not declare."""

    module: str
    releases: int
    spans: tuple[Span, ...]


@dataclass(frozen=True, kw_only=True)
class ShimUse:
    """A named change that cells made use of."""

    name: str
    meaning: str
    cells: int
    checks: tuple[Check, ...]
    spans: tuple[Span, ...]


def undeclared_modules(judged: Iterable[JudgedOutcome], order: Order) -> tuple[Undeclared, ...]:
    """By module, the most widespread first."""
    releases: dict[str, set[str]] = defaultdict(set)
    for item in judged:
        for module in words(item.outcome.evidence.get("undeclared")):
            releases[module].add(item.outcome.cell.release)
    found = (
        Undeclared(module=module, releases=len(labels), spans=order.spans(labels))
        for module, labels in releases.items()
    )
    return tuple(sorted(found, key=lambda entry: (-entry.releases, entry.module)))


def shims_used(judged: Sequence[JudgedOutcome], order: Order) -> tuple[ShimUse, ...]:
    """By name."""
    names = sorted({name for item in judged for name in item.outcome.shims})
    return tuple(_use(name, [item for item in judged if name in item.outcome.shims], order) for name in names)


def _use(name: str, users: Sequence[JudgedOutcome], order: Order) -> ShimUse:
    checks = {item.outcome.cell.check for item in users}
    return ShimUse(
        name=name,
        meaning=shim_meaning(name),
        cells=len(users),
        checks=tuple(check for check in Check if check in checks),
        spans=order.spans({item.outcome.cell.release for item in users}),
    )
