"""What releases need without saying so, and what the harness changed so that they run here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.cells import Check
from harness.judge.verdicts import Judged
from harness.report.facts import words
from harness.report.order import Order, Span
from harness.report.words import adaptation_meaning


@dataclass(frozen=True, kw_only=True)
class Undeclared:
    """A third-party module that releases import and their metadata does not declare."""

    module: str
    releases: int
    spans: tuple[Span, ...]


@dataclass(frozen=True, kw_only=True)
class AdaptationUse:
    """A named change that cells made use of."""

    name: str
    meaning: str
    cells: int
    checks: tuple[Check, ...]
    spans: tuple[Span, ...]


def undeclared_modules(judged: Iterable[Judged], order: Order) -> tuple[Undeclared, ...]:
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


def adaptations_used(judged: Sequence[Judged], order: Order) -> tuple[AdaptationUse, ...]:
    """By name."""
    names = sorted({name for item in judged for name in item.outcome.adaptations})
    return tuple(_use(name, [item for item in judged if name in item.outcome.adaptations], order) for name in names)


def _use(name: str, users: Sequence[Judged], order: Order) -> AdaptationUse:
    checks = {item.outcome.cell.check for item in users}
    return AdaptationUse(
        name=name,
        meaning=adaptation_meaning(name),
        cells=len(users),
        checks=tuple(check for check in Check if check in checks),
        spans=order.spans({item.outcome.cell.release for item in users}),
    )
