"""Versions of releases: their order, and ranges of consecutive ones."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Self

from packaging.version import Version

LONGEST_VERSION = 200
"""Characters; packaging takes a time that grows with the square of some longer ones."""


def version_of(label: str) -> Version | None:
    """The version of a release's label; a local release, `1.4.0+local.1a2b`, follows the published one of its version.

    None for a text that is no version.
    """
    try:
        return Version(label) if len(label) <= LONGEST_VERSION else None
    except ValueError:
        # Not only packaging's own error: a number of five thousand digits is none for Python.
        return None


def release_key(label: str) -> tuple[bool, Version, str]:
    """A sort key for labels, oldest first; a label that is no version comes after all that are."""
    version = version_of(label)
    return (version is None, version or Version("0"), label)


@dataclass(frozen=True, kw_only=True)
class Span:
    """Consecutive releases: nothing was published between them."""

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
    """All known releases, oldest first."""

    labels: tuple[str, ...]

    @classmethod
    def of(cls, run: Iterable[str], published: Iterable[str]) -> Self:
        """The releases of a run among the published ones.

        Without `published`, two releases count as neighbours when nothing between them was run.
        """
        return cls(labels=tuple(sorted({*run, *published}, key=release_key)))

    def sorted(self, releases: Collection[str]) -> tuple[str, ...]:
        """`releases`, oldest first."""
        return tuple(label for label in self.labels if label in releases)

    def spans(self, releases: Collection[str]) -> tuple[Span, ...]:
        """`releases` as ranges of consecutive ones, oldest first."""
        chosen = frozenset(releases)
        rows: list[list[str]] = []
        interrupted = True
        for label in self.labels:
            if label not in chosen:
                interrupted = True
                continue
            if interrupted:
                rows.append([])
            rows[-1].append(label)
            interrupted = False
        return tuple(Span(first=row[0], last=row[-1], count=len(row)) for row in rows)


def in_words(spans: Iterable[Span]) -> str:
    """`1.0.0 – 1.0.5 (6 releases), 1.2.0`."""
    return ", ".join(str(span) for span in spans)


def installable(label: str) -> bool:
    """Whether `pip install funasr==label` can mean this release: local checkouts and wheels have a `+local` part."""
    version = version_of(label)
    return version is not None and version.local is None
