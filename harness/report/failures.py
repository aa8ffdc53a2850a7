"""Failures and findings grouped by signature: one group is one thing that is wrong, in all cells that show it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from harness.core.cells import Check, Entry, Failure, Outcome, Severity, Status, Verdict
from harness.core.evidence.common import FINDING
from harness.core.versions import Order, Span
from harness.rules.defects import Defect
from harness.rules.known_issues import KnownIssue
from harness.rules.severity import gravest
from harness.rules.verdicts import JudgedOutcome
from harness.text.plain import one_line

GroupKey = tuple[str, Verdict, str]
"""Signature, verdict, and the ids of the known issues."""

_NOT_FAILURES = frozenset((Status.PASSED, Status.BLOCKED, Status.SKIPPED))
_MOST_MESSAGES = 8
_URGENCY = {
    **{Verdict.REGRESSION: 0, Verdict.UNEXPECTED_PASS: 0},
    **{Verdict.YOURS: 1, Verdict.UNDECIDED: 1, Verdict.FAULT: 1},
}


@dataclass(frozen=True, kw_only=True)
class Message:
    """One text that the failure came with, and where."""

    text: str
    cells: int
    shapes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class FailurePlace:
    """Where a failure shows."""

    variant: str | None
    check: Check
    entry: Entry | None
    shapes: tuple[str, ...]
    spans: tuple[Span, ...]

    @property
    def check_name(self) -> str:
        """`finetune@train_ds`."""
        return f"{self.check}@{self.entry}" if self.entry else str(self.check)


@dataclass(frozen=True, kw_only=True)
class FailureGroup:
    """All cells that failed with one signature and were judged alike."""

    number: int
    key: GroupKey
    signature: str
    type: str
    statuses: tuple[Status, ...]
    verdict: Verdict
    severity: Severity | None
    """The gravest among the cells'; None where the harness or the user's input is the cause."""
    issue: KnownIssue | None
    also: tuple[KnownIssue, ...]
    """Further known issues, where the finding has several parts."""
    sentence: str
    """What the judge said of the first of these cells."""
    messages: tuple[Message, ...]
    """The most frequent ones, first."""
    other_messages: int
    """How many different ones there are besides."""
    lines: tuple[TracebackLine, ...]
    """The most frequent traceback, outermost first."""
    other_tracebacks: int
    places: tuple[FailurePlace, ...]
    releases: tuple[Span, ...]
    cells: int
    blocked_cells: int
    """How many cells were blocked by these."""
    example: str
    """The id of a cell of the newest release."""

    def holds(self, item: JudgedOutcome) -> bool:
        """Whether a cell is one of these."""
        return any(group_key(wrong) == self.key for wrong in _wrong_in(item))

    @property
    def explained(self) -> bool:
        """Whether somebody knows the cause."""
        issues = (self.issue, *self.also) if self.issue else ()
        return self.verdict is Verdict.KNOWN and bool(issues) and all(issue.explained for issue in issues)

    @property
    def anchor(self) -> str:
        """The fragment that leads to the group."""
        return f"failure-{self.number}"


def signature_of(outcome: Outcome) -> str:
    """What a failure is grouped by; one without an exception, such as a time-out, goes by status and check."""
    return outcome.failure.signature if outcome.failure else f"{outcome.status}@{outcome.cell.check}"


def has_failed(outcome: Outcome) -> bool:
    """Whether the cell itself went wrong: blocked cells follow another one's failure."""
    return outcome.status not in _NOT_FAILURES


def group_key(item: JudgedOutcome) -> GroupKey:
    """Equal for failures that belong together: same signature, judged alike."""
    issues = (item.issue, *item.also) if item.issue else ()
    return (signature_of(item.outcome), item.verdict, " ".join(issue.id for issue in issues))


def defect_key(item: JudgedOutcome, defect: Defect) -> GroupKey:
    """The key of the group that a defect of a cell belongs to."""
    return group_key(_by_itself(item, defect) if _is_finding(defect) else item)


def group_failures(judged: Sequence[JudgedOutcome], order: Order) -> tuple[FailureGroup, ...]:
    """Group what is wrong: what is not explained comes first, then the gravest, then what concerns most cells."""
    groups: dict[GroupKey, list[JudgedOutcome]] = defaultdict(list)
    for item in judged:
        for wrong in _wrong_in(item):
            groups[group_key(wrong)].append(wrong)
    followers = _followers(judged)
    ranked = sorted(groups.items(), key=lambda entry: (_rank(entry[1]), -len(entry[1]), entry[0]))
    return tuple(
        _group(number, members, order, followers=sum(followers[item.outcome.cell.id] for item in members))
        for number, (_, members) in enumerate(ranked, start=1)
    )


def _wrong_in(item: JudgedOutcome) -> Iterator[JudgedOutcome]:
    """What is wrong with a cell, each as if it were all: its failure, and every finding."""
    if has_failed(item.outcome):
        yield replace(item, defects=tuple(defect for defect in item.defects if not _is_finding(defect)))
    for defect in item.defects:
        if _is_finding(defect):
            yield _by_itself(item, defect)


def _by_itself(item: JudgedOutcome, defect: Defect) -> JudgedOutcome:
    """A cell as if this finding were its failure."""
    failure = Failure(type=FINDING, message=defect.message, signature=defect.signature)
    known = Verdict.KNOWN if defect.issue else Verdict.REGRESSION
    return replace(
        item,
        outcome=replace(item.outcome, failure=failure),
        verdict=known,
        issue=defect.issue,
        also=(),
        sentence="It was found in addition to what the check decides, and no known issue covers it.",
        defects=(defect,),
    )


def _is_finding(defect: Defect) -> bool:
    return defect.signature.startswith(f"{FINDING}@")


def _rank(members: Sequence[JudgedOutcome]) -> tuple[int, int]:
    severity = _severity(members)
    return (_URGENCY.get(members[0].verdict, 2), list(Severity).index(severity) if severity else len(Severity))


def _severity(members: Sequence[JudgedOutcome]) -> Severity | None:
    return gravest(defect.severity for item in members for defect in item.defects)


def _group(number: int, members: list[JudgedOutcome], order: Order, *, followers: int) -> FailureGroup:
    outcomes = [item.outcome for item in members]
    newest = order.sorted({outcome.cell.release for outcome in outcomes})[-1]
    example = next(outcome for outcome in outcomes if outcome.cell.release == newest)
    messages = _messages(outcomes)
    structures = Counter(structure(outcome.failure) for outcome in outcomes)
    usual = structures.most_common(1)[0][0]
    return FailureGroup(
        number=number,
        key=group_key(members[0]),
        signature=signature_of(example),
        type=example.failure.type if example.failure else str(example.status),
        statuses=tuple(status for status in Status if any(outcome.status is status for outcome in outcomes)),
        verdict=members[0].verdict,
        severity=_severity(members),
        issue=members[0].issue,
        also=members[0].also,
        sentence=members[0].sentence,
        messages=messages[:_MOST_MESSAGES],
        other_messages=max(0, len(messages) - _MOST_MESSAGES),
        lines=shared_lines(
            outcome.failure for outcome in outcomes if outcome.failure and structure(outcome.failure) == usual
        ),
        other_tracebacks=len(structures) - 1,
        places=_places(outcomes, order),
        releases=order.spans({outcome.cell.release for outcome in outcomes}),
        cells=len(outcomes),
        blocked_cells=followers,
        example=example.cell.id,
    )


def _messages(outcomes: Sequence[Outcome]) -> tuple[Message, ...]:
    texts: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        texts[one_line(outcome.failure.message if outcome.failure else outcome.reason)].append(outcome)
    messages = (Message(text=text, cells=len(members), shapes=_shapes(members)) for text, members in texts.items())
    return tuple(sorted(messages, key=lambda message: (-message.cells, message.text)))


def _places(outcomes: Sequence[Outcome], order: Order) -> tuple[FailurePlace, ...]:
    """By variant and check; shapes with the same releases share a line."""
    releases: dict[tuple[str | None, Check, Entry | None], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for outcome in outcomes:
        cell = outcome.cell
        releases[cell.variant, cell.check, cell.entry][str(cell.dimensions) if cell.dimensions else ""].add(
            cell.release
        )
    places: list[FailurePlace] = []
    for (variant, check, entry), by_shape in releases.items():
        shapes: dict[tuple[Span, ...], list[str]] = defaultdict(list)
        for shape, labels in sorted(by_shape.items()):
            shapes[order.spans(labels)].append(shape)
        places.extend(
            FailurePlace(variant=variant, check=check, entry=entry, shapes=tuple(filter(None, names)), spans=spans)
            for spans, names in shapes.items()
        )
    return tuple(
        sorted(places, key=lambda place: (place.variant or "", place.check.position, place.check_name, place.shapes))
    )


def _followers(judged: Sequence[JudgedOutcome]) -> Counter[str]:
    """How many blocked cells depend on each failed one; each counts for the lowest that failed below it."""
    failed: dict[str, list[Outcome]] = defaultdict(list)
    for item in judged:
        if has_failed(item.outcome):
            failed[item.outcome.cell.release].append(item.outcome)
    counts: Counter[str] = Counter()
    for item in judged:
        cell = item.outcome.cell
        if item.outcome.status is Status.BLOCKED:
            below = [other.cell for other in failed[cell.release] if cell.depends_on(other.cell)]
            if below:
                counts[min(below, key=lambda other: other.check.position).id] += 1
    return counts


def _shapes(outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    return tuple(
        str(shape) for shape in sorted({outcome.cell.dimensions for outcome in outcomes if outcome.cell.dimensions})
    )


Structure = tuple[tuple[str, str, str], ...]
"""File, function and code of each frame."""


@dataclass(frozen=True, kw_only=True)
class TracebackLine:
    """One frame that several tracebacks share."""

    file: str
    function: str
    code: str
    first: int
    """The lowest line number that it has in any of them, and the highest."""
    last: int

    @property
    def place(self) -> str:
        """`funasr/losses/label_smoothing_loss.py:64`, or `…:64–71` where releases differ."""
        return f"{self.file}:{self.first}" + (f"–{self.last}" if self.last != self.first else "")


def structure(failure: Failure | None) -> Structure:
    """A traceback without its line numbers."""
    if failure is None:
        return ()
    return tuple((frame.file, frame.function, frame.code.strip()) for frame in failure.frames)


def shared_lines(failures: Iterable[Failure]) -> tuple[TracebackLine, ...]:
    """The frames of tracebacks of one structure, with the range of their line numbers.

    Raises:
        ValueError: the tracebacks are of different lengths.
    """
    stacks = [failure.frames for failure in failures]
    return tuple(
        TracebackLine(
            file=frames[0].file,
            function=frames[0].function,
            code=frames[0].code.strip(),
            first=min(frame.line for frame in frames),
            last=max(frame.line for frame in frames),
        )
        for frames in zip(*stacks, strict=True)
    )
