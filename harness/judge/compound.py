"""Findings of several parts: `DataDiffers@long+path_aishell` is two things that are wrong with one cell.

Each part may have a known issue of its own, with its own range of releases and its own cause. The cell is known when
the issues that are listed for it explain every part, and all of them still show.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from harness.cells import Failure
from harness.judge.known import KnownIssue

_FINDING = re.compile(r"(?P<kind>[A-Z]\w*)@(?P<names>[a-z0-9_]+(?:\+[a-z0-9_]+)*)")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A check's own finding, taken apart."""

    kind: str
    names: frozenset[str]

    @classmethod
    def of(cls, signature: str) -> Finding | None:
        """Read a signature; None for that of a traceback, whose place is a file."""
        match = _FINDING.fullmatch(signature)
        return cls(kind=match["kind"], names=frozenset(match["names"].split("+"))) if match else None


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """How the listed issues account for a finding."""

    issues: tuple[KnownIssue, ...]
    """Those of which a signature shows."""
    unexplained: tuple[str, ...]
    """Parts of the finding that no issue lists."""
    absent: tuple[KnownIssue, ...]
    """Issues that list parts of such a finding, none of which shows."""


def explain(failure: Failure | None, listed: Sequence[KnownIssue]) -> Explanation | None:
    """Hold a finding's parts against the issues that cover its cell; None when the failure is no such finding."""
    finding = Finding.of(failure.signature) if failure else None
    if finding is None:
        return None
    shown: list[KnownIssue] = []
    absent: list[KnownIssue] = []
    explained: set[str] = set()
    for issue in listed:
        own = [one for signature in issue.signatures if (one := Finding.of(signature)) and one.kind == finding.kind]
        showing = [one for one in own if one.names <= finding.names]
        for one in showing:
            explained |= one.names
        if own:
            (shown if showing else absent).append(issue)
    unexplained = tuple(sorted(finding.names - explained))
    return Explanation(issues=tuple(shown), unexplained=unexplained, absent=tuple(absent))
