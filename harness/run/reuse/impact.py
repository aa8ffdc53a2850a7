"""Which checks a change of a release reaches, by what their cells used when they last ran."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from harness.core.cells import Check
from harness.run.reuse.fingerprint import DependencyKind, Fingerprint, ReleaseSeen, value
from harness.run.reuse.kept import KnownOutcome

_ALWAYS_OTHER = frozenset({DependencyKind.VERSION})
"""What every change of a release changes; not reported."""
_RELATIVE = frozenset({DependencyKind.REGISTRY})
"""What a fingerprint has as an import found it, and a source that was never imported cannot have: compared by
the sources of both."""


@dataclass(frozen=True, kw_only=True)
class ReachedPart:
    """A part of the release that a check uses, and that is another after the change."""

    kind: DependencyKind
    name: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}" if self.name else str(self.kind)


@dataclass(frozen=True, kw_only=True)
class CheckImpact:
    """Whether a change reaches a check of a variant."""

    variant: str
    check: Check
    cells: int
    """Cells of which it is known what they use."""
    reached: tuple[ReachedPart, ...]
    """Empty where the change cannot be noticed."""


def impact(known: Iterable[KnownOutcome], before: ReleaseSeen, after: ReleaseSeen) -> tuple[CheckImpact, ...]:
    """What a change reaches.

    Args:
        known: Cells of the release before the change.
        before: The release itself.
        after: The changed one.
    """
    cells: dict[tuple[str, Check], set[str]] = defaultdict(set)
    parts: dict[tuple[str, Check], dict[ReachedPart, None]] = defaultdict(dict)
    for known_outcome in known:
        cell = known_outcome.outcome.cell
        place = (cell.variant or "", cell.check)
        cells[place].add(cell.id)
        parts[place].update(dict.fromkeys(_changed(known_outcome.fingerprint, before, after)))
    return tuple(
        CheckImpact(
            variant=variant, check=check, cells=len(cells[variant, check]), reached=tuple(parts[variant, check])
        )
        for variant, check in sorted(cells, key=lambda place: (place[0], place[1].position))
    )


def _changed(recorded: Fingerprint, before: ReleaseSeen, after: ReleaseSeen) -> list[ReachedPart]:
    return [
        ReachedPart(kind=need[0], name="" if need[0] in _RELATIVE else need[1])
        for need, known in recorded.items()
        if need[0] not in _ALWAYS_OTHER
        and (value(need, before) if need[0] in _RELATIVE else known) != value(need, after)
    ]
