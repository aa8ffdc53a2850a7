"""The order of releases, and ranges of consecutive ones."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Self

from packaging.version import InvalidVersion, Version


@dataclass(frozen=True, kw_only=True)
class Span:
    """Some releases in a row, with nothing published between them."""

    first: str
    last: str
    count: int

    def __str__(self) -> str:
        if self.count == 1:
            return self.first
        if self.count == 2:
            return f"{self.first}, {self.last}"
        return f"{self.first} – {self.last} ({self.count} releases)"


@dataclass(frozen=True, kw_only=True)
class Order:
    """All releases that are known of, oldest first."""

    labels: tuple[str, ...]

    @classmethod
    def of(cls, run: Iterable[str], published: Iterable[str]) -> Self:
        """The releases of a run among the published ones.

        Without `published`, two releases count as neighbours when nothing between them was run.
        """
        return cls(labels=tuple(sorted({*run, *published}, key=_place)))

    def sorted(self, releases: Collection[str]) -> tuple[str, ...]:
        """`releases`, oldest first."""
        return tuple(label for label in self.labels if label in releases)

    def spans(self, releases: Collection[str]) -> tuple[Span, ...]:
        """`releases` as runs of neighbours, oldest first."""
        wanted = frozenset(releases)
        rows: list[list[str]] = []
        apart = True
        for label in self.labels:
            if label not in wanted:
                apart = True
                continue
            if apart:
                rows.append([])
            rows[-1].append(label)
            apart = False
        return tuple(Span(first=row[0], last=row[-1], count=len(row)) for row in rows)


def in_words(spans: Iterable[Span]) -> str:
    """`1.0.0 – 1.0.5 (6 releases), 1.2.0`."""
    return ", ".join(str(span) for span in spans)


def installable(label: str) -> bool:
    """Whether `pip install funasr==label` can mean this release: local checkouts and wheels have a `+local` part."""
    try:
        return Version(label).local is None
    except InvalidVersion:
        return False


def _place(label: str) -> tuple[bool, Version, str]:
    try:
        return (True, Version(label), label)
    except InvalidVersion:
        return (False, Version("0"), label)
