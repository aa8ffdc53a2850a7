"""Where the result of a check changes from one release to the next: from a run's outcomes alone, with known causes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from harness.compare.transitions.cell_answer import CellAnswer, answer_of
from harness.compare.transitions.commit_notes import CommitNote
from harness.core.cells import Cell, Status, Verdict
from harness.core.versions import Order, Span
from harness.rules.known_issues import KnownIssue
from harness.rules.levels import Level, gravest
from harness.rules.verdicts import JudgedOutcome
from harness.text.units import plural

_SOUND = (Status.PASSED, Status.SKIPPED)


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Neighbouring releases with one answer."""

    answer: CellAnswer
    level: Level
    """The gravest among the cells."""
    spans: tuple[Span, ...]
    """One, unless releases without a result are between."""
    issues: tuple[KnownIssue, ...]
    """The known issues that explain it; none for what passed or is not listed."""
    reason: str
    """Of the newest outcome, for what was skipped."""
    example: str
    """The id of a cell of the newest release."""

    @property
    def sound(self) -> bool:
        """Whether there is nothing to explain."""
        return self.answer.status in _SOUND

    @property
    def explained(self) -> bool:
        """Whether what fails has a cause on record."""
        return self.sound or (bool(self.issues) and all(issue.explained for issue in self.issues))

    @property
    def why(self) -> str:
        """The titles of the issues that explain it; else why it was skipped, or that nobody has explained it."""
        if self.issues:
            return "; ".join(issue.title + ("" if issue.explained else ": not yet explained") for issue in self.issues)
        return self.reason if self.sound else "not yet explained"


@dataclass(frozen=True, kw_only=True)
class RecordedTransition:
    """A transition between two neighbouring intervals."""

    before: str
    """The last release of the older interval."""
    after: str
    older: Interval
    newer: Interval
    unmeasured: tuple[str, ...]
    """Published releases between the two without a result."""
    commits: tuple[CommitNote, ...]

    @property
    def explained(self) -> bool:
        """Whether each of its sides that fails has a cause on record."""
        return self.older.explained and self.newer.explained

    @property
    def ends(self) -> tuple[KnownIssue, ...]:
        """Issues that are gone in the newer release."""
        return tuple(issue for issue in self.older.issues if issue not in self.newer.issues)

    @property
    def begins(self) -> tuple[KnownIssue, ...]:
        """Issues that are new in it."""
        return tuple(issue for issue in self.newer.issues if issue not in self.older.issues)

    @property
    def sentence(self) -> str:
        """Which issues begin and end here, and what was not measured between the two."""
        clauses = [f"begins: {issue.title}. Cause: {issue.cause}" for issue in self.begins]
        clauses += [f"ends: {issue.title}." for issue in self.ends]
        if not clauses and self.explained:
            clauses = [self.newer.reason or self.older.reason or "neither side fails"]
        if not self.explained:
            clauses.append("Not yet explained in full." if clauses else "not yet explained")
        if self.unmeasured:
            labels = ", ".join(self.unmeasured)
            clauses.append(f"Not measured between the two: {plural(len(self.unmeasured), 'release')} ({labels}).")
        return " ".join(clauses)


@dataclass(frozen=True, kw_only=True)
class AnswerHistory:
    """Questions (cells without the release) with the same results in the same order."""

    number: int
    questions: tuple[str, ...]
    """Ids of cells without the release."""
    intervals: tuple[Interval, ...]
    changes: tuple[RecordedTransition, ...]

    @property
    def anchor(self) -> str:
        """The fragment that leads here."""
        return f"history-{self.number}"


@dataclass(frozen=True, kw_only=True)
class RecordedTransitions:
    """All transitions of a run."""

    histories: tuple[AnswerHistory, ...]
    """Those with a transition, in the order of the questions."""
    steady: int
    """How many questions have one answer in every release that could be judged."""

    @property
    def changes(self) -> int:
        """How many transitions there are, each counted once for each history."""
        return sum(len(history.changes) for history in self.histories)

    @property
    def unexplained(self) -> int:
        """How many of them have a failing side without a cause."""
        return sum(not change.explained for history in self.histories for change in history.changes)


def recorded_transitions(
    judged: Sequence[JudgedOutcome], order: Order, commits: Iterable[CommitNote] = ()
) -> RecordedTransitions | None:
    """The transitions of a run; None where no question was measured in two releases."""
    by_id = {item.outcome.cell.id: item.outcome for item in judged}
    rows: dict[str, dict[str, tuple[JudgedOutcome, CellAnswer]]] = defaultdict(dict)
    for item in judged:
        answer = answer_of(item.outcome, by_id)
        if answer.judged:
            cell = item.outcome.cell
            rows[_question(cell)][cell.release] = (item, answer)
    compared = {name: row for name, row in rows.items() if len(row) > 1}
    if not compared:
        return None
    notes: dict[tuple[str, str, str], list[CommitNote]] = defaultdict(list)
    for note in commits:
        notes[note.asked, note.before, note.after].append(note)
    histories: dict[tuple[object, ...], list[str]] = defaultdict(list)
    by_history: dict[tuple[object, ...], tuple[tuple[Interval, ...], tuple[RecordedTransition, ...]]] = {}
    steady = 0
    for name, row in compared.items():
        intervals = _intervals(row, order)
        if len(intervals) < 2:
            steady += 1
            continue
        changes = _changes(name, intervals, row, order, notes)
        key = tuple((interval.answer, interval.spans, interval.issues) for interval in intervals)
        histories[key].append(name)
        if key not in by_history or any(change.commits for change in changes):
            by_history[key] = (intervals, changes)
    ordered = sorted(histories.items(), key=lambda history: history[1])
    return RecordedTransitions(
        histories=tuple(
            AnswerHistory(
                number=number, questions=tuple(names), intervals=by_history[key][0], changes=by_history[key][1]
            )
            for number, (key, names) in enumerate(ordered, 1)
        ),
        steady=steady,
    )


def _question(cell: Cell) -> str:
    return cell.id.partition("/")[2]


def _intervals(row: dict[str, tuple[JudgedOutcome, CellAnswer]], order: Order) -> tuple[Interval, ...]:
    groups: list[list[str]] = []
    for label in order.sorted(row):
        if groups and row[groups[-1][-1]][1] == row[label][1]:
            groups[-1].append(label)
        else:
            groups.append([label])
    return tuple(_interval(labels, row, order) for labels in groups)


def _interval(labels: Sequence[str], row: dict[str, tuple[JudgedOutcome, CellAnswer]], order: Order) -> Interval:
    newest, answer = row[labels[-1]]
    members = [row[label][0] for label in labels]
    known = [item for item in members if item.verdict is Verdict.KNOWN and item.issue is not None]
    issues = dict.fromkeys(issue for item in known for issue in (item.issue, *item.also) if issue is not None)
    # A release among them that no issue explains leaves the whole unexplained.
    explained = len(known) == len(members)
    return Interval(
        answer=answer,
        level=gravest([Level.of(item) for item in members]),
        spans=order.spans(labels),
        issues=tuple(issues) if explained else (),
        reason=newest.outcome.reason if answer.status is Status.SKIPPED else "",
        example=newest.outcome.cell.id,
    )


def _changes(
    name: str,
    intervals: Sequence[Interval],
    row: dict[str, tuple[JudgedOutcome, CellAnswer]],
    order: Order,
    notes: dict[tuple[str, str, str], list[CommitNote]],
) -> tuple[RecordedTransition, ...]:
    changes = []
    for older, newer in pairwise(intervals):
        before, after = older.spans[-1].last, newer.spans[0].first
        first, last = order.labels.index(before), order.labels.index(after)
        changes.append(
            RecordedTransition(
                before=before,
                after=after,
                older=older,
                newer=newer,
                unmeasured=tuple(label for label in order.labels[first + 1 : last] if label not in row),
                commits=tuple(notes[name, before, after]),
            )
        )
    return tuple(changes)
