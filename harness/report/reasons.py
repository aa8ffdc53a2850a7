"""Sentences about what is wrong with releases: one for each distinct fault, with the releases that have it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from harness.core.cells import Check, Dimensions, Severity, Status, Verdict
from harness.core.versions import Order, Span
from harness.report.failures import GroupKey, defect_key
from harness.report.labels import STATUS_NAME
from harness.rules.defects import Defect
from harness.rules.verdicts import JudgedOutcome
from harness.text.plain import one_line, sentence

Links = Mapping[GroupKey, str]
"""The fragments that lead to groups of failures."""

Releases = Mapping[str, Sequence[JudgedOutcome]]
"""Judged cells by release."""

_LONGEST = 300


@dataclass(frozen=True, kw_only=True)
class Reason:
    """One fault, or why something is not known, and the releases that it is said of."""

    text: str
    """A sentence, without the releases."""
    spans: tuple[Span, ...]
    anchor: str
    """The failure group that it rests on; empty if there is none."""
    severity: Severity | None = None
    """None where it says why something is not known."""
    check: Check | None = None
    """The check that found it."""


@dataclass(kw_only=True)
class _Fault:
    """One defect of one release."""

    check: Check
    severity: Severity
    title: str
    anchor: str
    entries: set[str] = field(default_factory=set)
    shapes: set[Dimensions] = field(default_factory=set)


def faults(
    releases: Releases, order: Order, links: Links, severities: Iterable[Severity], *, trainer: bool = False
) -> tuple[Reason, ...]:
    """A reason for each distinct fault of these severities: the gravest first, then newest releases, then by check.

    Args:
        releases: Judged cells by release.
        order: All releases.
        links: Where failures are described.
        severities: Those that are wanted.
        trainer: Whether the sentences name the trainer; without, it is the one that the release's own recipe calls.
    """
    chosen, age = frozenset(severities), {label: number for number, label in enumerate(order.labels)}
    anchors: dict[tuple[Severity, Check, str], dict[str, str]] = defaultdict(dict)
    for label, items in releases.items():
        for fault, text in _faults(items, links, trainer):
            if fault.severity in chosen:
                anchors[fault.severity, fault.check, text][label] = fault.anchor
    reasons = [
        Reason(
            text=text,
            # Of the newest release: what is wrong besides makes groups of failures, and is not repeated here.
            anchor=anchor_of_release[max(anchor_of_release, key=age.__getitem__)],
            severity=severity,
            check=check,
            spans=order.spans(anchor_of_release),
        )
        for (severity, check, text), anchor_of_release in anchors.items()
    ]
    reasons.sort(key=lambda reason: reason.check.position if reason.check else 0)
    reasons.sort(key=lambda reason: age[reason.spans[-1].last], reverse=True)
    ranks = list(Severity)
    return tuple(sorted(reasons, key=lambda reason: ranks.index(reason.severity or ranks[-1])))


def unknown(releases: Releases, order: Order) -> tuple[Reason, ...]:
    """Why it is not known what releases are good for, newest first."""
    labels: dict[str, set[str]] = defaultdict(set)
    for label, items in releases.items():
        labels[_why_unknown(items)].add(label)
    reasons = [
        Reason(text=text, anchor="", spans=order.spans(labels_of_reason)) for text, labels_of_reason in labels.items()
    ]
    return tuple(sorted(reasons, key=lambda reason: order.labels.index(reason.spans[-1].last), reverse=True))


def _faults(items: Sequence[JudgedOutcome], links: Links, trainer: bool) -> Iterator[tuple[_Fault, str]]:
    """The faults of one release, each with its sentence."""
    faults_by_key: dict[tuple[Check, str], _Fault] = {}
    for item in items:
        cell = item.outcome.cell
        for defect in item.defects:
            key = (cell.check, defect.issue.id if defect.issue else defect.signature)
            fault = faults_by_key.setdefault(
                key,
                _Fault(
                    check=cell.check, severity=defect.severity, title=_title(item, defect),
                    anchor=links.get(defect_key(item, defect), ""),
                ),
            )  # fmt: skip
            fault.entries |= {str(cell.entry)} if cell.entry and trainer else set()
            fault.shapes |= {cell.dimensions} if cell.dimensions else set()
    for fault in faults_by_key.values():
        yield fault, sentence(f"{_failing_check(fault)}{_where(fault, items)}: {fault.title}")


def _failing_check(fault: _Fault) -> str:
    sentence_start = fault.check.facts.failing if fault.severity is Severity.BROKEN else str(fault.check)
    return sentence_start + (f" with {' and '.join(sorted(fault.entries))}" if fault.entries else "")


def _where(fault: _Fault, items: Sequence[JudgedOutcome]) -> str:
    tested_dimensions = {
        item.outcome.cell.dimensions
        for item in items
        if item.outcome.cell.check is fault.check and item.outcome.status is not Status.SKIPPED
    }
    return (
        f" at {', '.join(map(str, sorted(fault.shapes)))} only"
        if len(fault.shapes) < len(tested_dimensions - {None})
        else ""
    )


def _title(item: JudgedOutcome, defect: Defect) -> str:
    if defect.issue:
        return one_line(defect.issue.title) + ("" if defect.issue.explained else " (not yet explained)")
    outcome = item.outcome
    if outcome.failure and "/" in defect.signature:
        kind, _, place = defect.signature.partition("@")
        described = f"{kind} in {place}"
    elif "@" in defect.signature:
        described = f"{defect.signature.partition('@')[2]}: {defect.message}"
    else:
        described = STATUS_NAME[outcome.status]
    return f"{one_line(described, at_most=_LONGEST)} (not yet explained)"


def _why_unknown(items: Sequence[JudgedOutcome]) -> str:
    for item in items:
        if item.verdict in (Verdict.YOURS, Verdict.UNDECIDED):
            return sentence(one_line(item.sentence, at_most=_LONGEST))
    for item in items:
        if item.outcome.status is Status.BLOCKED and item.outcome.cell.check is Check.FINETUNE:
            return sentence(f"It was not fine-tuned: {one_line(item.outcome.reason, at_most=_LONGEST)}")
    of_variants = [item for item in items if item.outcome.cell.variant]
    if of_variants and all(item.outcome.status is Status.SKIPPED for item in of_variants):
        first = of_variants[0]
        return sentence(f"It was skipped: {one_line(first.outcome.reason, at_most=_LONGEST)}")
    return "Nothing was learned: no cell was run to an answer."
