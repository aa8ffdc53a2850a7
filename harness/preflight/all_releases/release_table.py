"""What is to be said of every release, in ranges that differ: the sound ones first, and of them the nearest."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from packaging.version import Version

from harness.core.cells import Severity
from harness.core.versions import Order, Span
from harness.text.plain import one_line

MOST_LINES = 20
"""On a terminal, without -v."""
_MOST_REASONS = 2
"""Of a range, without -v."""
_INDENT = " " * 8
_WIDEST = 120
_LONGEST = 1000
"""Columns, and characters of a reason."""


@dataclass(frozen=True, kw_only=True)
class ReleaseReason:
    """Why a release is not one to train with."""

    severity: Severity
    rule: str
    """With the key or file that it is about."""
    text: str


@dataclass(frozen=True, kw_only=True)
class ReleaseGroup:
    """Consecutive releases of which the same is to be said."""

    releases: str
    """`1.0.18 – 1.0.23 (6 releases)`."""
    severity: Severity | None
    """The gravest; None where nothing above `minor` was found."""
    reasons: tuple[ReleaseReason, ...]
    """The gravest first."""

    def lines(self, most: int | None, width: int) -> Iterator[str]:
        """A line for the range, and each of its reasons in lines of at most `width` columns."""
        yield f"{self.severity or 'sound':>6}  {self.releases}"
        shown = self.reasons if most is None else self.reasons[:most]
        for reason in shown:
            yield from textwrap.wrap(
                one_line(reason.text, at_most=_LONGEST),
                width,
                initial_indent=_INDENT,
                subsequent_indent=f"{_INDENT}  ",
                break_on_hyphens=False,
            )
        if more := len(self.reasons) - len(shown):
            yield f"{_INDENT}and {more} more"


@dataclass(frozen=True, kw_only=True)
class ReleaseTable:
    """Every release."""

    groups: tuple[ReleaseGroup, ...]
    """The sound ranges, then the others; of each the nearest to `base` first."""
    best: str
    """The newest of which nothing above `minor` is known; empty where there is none."""
    nearest: str
    """The nearest to `base` of these."""
    base: str
    """The release that the user has, else the newest."""
    read: int
    """Of how many the code was read; of the others only what is recorded is known."""
    listed: int
    sound: int
    """In how many nothing above `minor` was found."""
    atlas: bool
    """Whether the committed run of every release was at hand."""

    @property
    def verdict(self) -> str:
        """In how many releases this training would work, in one sentence."""
        if not self.sound:
            return f"No go: something stops or changes this training in each of {self.listed} published releases."
        return f"Go with {self.sound} of {self.listed} published releases: nothing above minor was found in them."

    def lines(self, *, verbose: bool = False, width: int = _WIDEST) -> tuple[str, ...]:
        """The ranges, and what to install; twenty lines of at most `width` columns, or all of them."""
        last, wide = self.last(), max(40, min(width, _WIDEST))
        for most in (None, _MOST_REASONS, 1):
            range_lines = [line for group in self.groups for line in group.lines(None if verbose else most, wide)]
            if verbose or len(range_lines) + len(last) <= MOST_LINES:
                return (*range_lines, *last)
        rows: list[str] = []
        for number, group in enumerate(self.groups):
            lines = list(group.lines(1, wide))
            if len(rows) + len(lines) + len(last) + 1 > MOST_LINES:
                rows.append(f"{_INDENT}… and {len(self.groups) - number} more ranges: -v names them")
                break
            rows += lines
        return (*rows, *last)

    def last(self) -> tuple[str, ...]:
        """What to install, and what was not read."""
        if not self.best:
            answer = ["No release is without a finding above minor."]
        else:
            answer = [f"Best: pip install funasr=={self.best}"]
            if self.nearest != self.best:
                answer.insert(0, f"Nearest to {self.base}: pip install funasr=={self.nearest}")
        note = f"The code of {self.read} of {self.listed} releases was read; of the others only records are known."
        return (*answer, *([note] if self.read < self.listed else []))

    def to_json(self) -> dict[str, object]:
        """The record for `--json`."""
        groups = [
            {
                "releases": group.releases,
                "severity": group.severity,
                "reasons": [
                    {"severity": reason.severity, "rule": reason.rule, "text": reason.text} for reason in group.reasons
                ],
            }
            for group in self.groups
        ]
        best = {"best": self.best or None, "nearest": self.nearest or None, "base": self.base}
        return {"releases": groups, **best, "read": self.read, "listed": self.listed}


def table_of(reasons: Mapping[str, Sequence[ReleaseReason]], *, base: str, read: int, atlas: bool) -> ReleaseTable:
    """The table.

    Args:
        reasons: By release, oldest first, with the gravest reason first.
        base: A release, which need not be among them.
        read: Of how many the code was read.
        atlas: Whether the committed run was at hand.
    """
    labels = list(reasons)
    sound = [label for label in labels if not reasons[label] and not Version(label).is_prerelease]
    places = {label: number for number, label in enumerate(labels)}
    base_place = max((places[label] for label in labels if Version(label) <= Version(base)), default=0)

    def away(label: str) -> tuple[int, int]:
        # Of two that are as near, the newer.
        return abs(places[label] - base_place), -places[label]

    return ReleaseTable(
        groups=tuple(_grouped(labels, reasons, base_place)),
        best=sound[-1] if sound else "",
        nearest=min(sound, key=away, default=""),
        base=base,
        read=read,
        listed=len(labels),
        sound=sum(not reasons[label] for label in labels),
        atlas=atlas,
    )


def _grouped(
    labels: Sequence[str], reasons: Mapping[str, Sequence[ReleaseReason]], base_place: int
) -> list[ReleaseGroup]:
    """Ranges; releases in which the training breaks for the same reasons are one, whatever else is wrong in them."""
    order = Order.of(labels, ())
    shown = {label: _decisive(reasons[label]) for label in labels}
    labels_by_rules: dict[tuple[str, ...], list[str]] = {}
    for label in labels:
        labels_by_rules.setdefault(tuple(reason.rule for reason in shown[label]), []).append(label)
    spans = [span for same in labels_by_rules.values() for span in order.spans(same)]

    def near(span: Span) -> tuple[bool, int, int]:
        first, last = labels.index(span.first), labels.index(span.last)
        away = max(first - base_place, base_place - last, 0)
        return bool(shown[span.first]), away, -last

    return [
        ReleaseGroup(
            releases=str(span),
            severity=shown[span.last][0].severity if shown[span.last] else None,
            reasons=tuple(shown[span.last]),
        )
        for span in sorted(spans, key=near)
    ]


def _decisive(reasons: Sequence[ReleaseReason]) -> Sequence[ReleaseReason]:
    """What breaks the training; where nothing does, what is wrong with it."""
    broken = [reason for reason in reasons if reason.severity is Severity.BROKEN]
    return broken or list(reasons)
