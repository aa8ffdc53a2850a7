"""How far each release got in each column: the grid of the report."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

from harness.cells import Cell, Check, Device, Entry, Precision, Scale, Shape, Status, Verdict
from harness.judge.verdicts import Judged
from harness.report.levels import NAME, Level, sign
from harness.report.order import Order, Span
from harness.report.words import RUNG_LETTER, STATUS_NAME


@dataclass(frozen=True, kw_only=True)
class Column:
    """One ladder: variant × shape × scale × device × precision, with one column more for each trainer."""

    variant: str | None
    """None for the column of the `import` rung, which asks about the release alone."""
    shape: Shape | None
    scale: Scale | None
    device: Device
    precision: Precision
    entry: Entry | None
    """The trainer, in a column of `finetune` cells; None in the column of the rungs below."""

    @classmethod
    def of(cls, cell: Cell) -> Column:
        """The column that a cell belongs to."""
        return cls(
            variant=cell.variant,
            shape=cell.shape,
            scale=cell.scale,
            device=cell.device,
            precision=cell.precision,
            entry=cell.entry,
        )

    @property
    def place(self) -> str:
        """Scale, device and precision in one word each."""
        return " ".join(filter(None, (self.scale, f"{self.device}-{self.precision}")))

    @property
    def sort_key(self) -> tuple[object, ...]:
        """By variant, the rungs below `finetune` first, then by shape."""
        shape = (self.shape.hidden_size, self.shape.vocab_size) if self.shape else (0, 0)
        return (self.variant or "", self.entry is not None, shape, self.place, self.entry or "")


@dataclass(frozen=True, kw_only=True)
class Mark:
    """What one release gave in one column."""

    reached: Check | None
    """The highest check that passed, below the one that stopped it where one did."""
    stopped: Check | None
    """The check that the mark is about, where it is not one that passed: the lowest that is broken, of those that
    others depend on where there is one; else the lowest that was not answered; else the lowest that is wrong, or
    minor."""
    judged: Judged
    """The cell that the mark leads to: the one that it is about, else the highest that passed."""

    @classmethod
    def of(cls, cells: Sequence[Judged]) -> Mark:
        """The mark of a column's cells of one release; `cells` is not empty."""
        ladder = sorted(cells, key=_rung)
        passed = [judged for judged in ladder if Level.of(judged) is Level.PASSED]
        others = sorted((judged for judged in ladder if judged not in passed), key=_concern)
        stop = next(iter(others), None)
        halting = stop is not None and stop.outcome.cell.check.bears and not Level.of(stop).answers
        below = [judged for judged in passed if stop is None or not halting or _rung(judged) < _rung(stop)]
        return cls(
            reached=below[-1].outcome.cell.check if below else None,
            stopped=stop.outcome.cell.check if stop else None,
            judged=stop or passed[-1],
        )

    @property
    def level(self) -> Level:
        """The level of the cell that the mark leads to."""
        return Level.of(self.judged)

    @property
    def sign(self) -> str:
        """Sign and letter, such as `✓ L` or `C ✗ L`, with a star when unexpected: legible without colour."""
        lead = sign(self.judged)
        star = "*" if self.unexpected else ""
        if self.stopped is None:
            return f"{lead} {RUNG_LETTER[self.reached]}{star}" if self.reached else lead + star
        before = f"{RUNG_LETTER[self.reached]} " if self.reached else ""
        return f"{before}{lead} {RUNG_LETTER[self.stopped]}{star}"

    @property
    def unexpected(self) -> bool:
        """Whether someone has to look at it: not explained, or passed against expectation."""
        return self.judged.verdict in (Verdict.REGRESSION, Verdict.UNEXPECTED_PASS)

    @property
    def words(self) -> str:
        """The sign in words."""
        status = self.judged.outcome.status
        told = NAME[self.level] if status in (Status.PASSED, Status.FAILED) else STATUS_NAME[status]
        passed = f"{self.reached} passed" if self.reached else ""
        stopped = f"{self.stopped} {told}" if self.stopped else ""
        return ", ".join(filter(None, (passed, stopped)))

    @property
    def pattern(self) -> tuple[object, ...]:
        """What makes two marks the same to a reader; the signatures, so that one link can serve both."""
        signatures = tuple(defect.signature for defect in self.judged.defects)
        return (self.reached, self.stopped, self.sign, self.level, self.judged.verdict, signatures)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One release."""

    release: str
    marks: tuple[Mark | None, ...]
    """As many as the grid has columns; None where nothing was asked."""

    @property
    def pattern(self) -> tuple[object, ...]:
        """Equal for rows that look the same."""
        return tuple(mark and mark.pattern for mark in self.marks)


@dataclass(frozen=True, kw_only=True)
class Band:
    """Neighbouring releases with identical rows."""

    span: Span
    rows: tuple[Row, ...]
    """Newest first."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Releases, newest first, by columns."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    order: Order

    @cached_property
    def bands(self) -> tuple[Band, ...]:
        """The rows, with neighbours that look the same taken together."""
        bands = []
        for _, group in groupby(self.rows, key=lambda row: row.pattern):
            rows = tuple(group)
            by_label = {row.release: row for row in rows}
            for span in reversed(self.order.spans(list(by_label))):
                inside = self.order.labels[self.order.labels.index(span.first) : self.order.labels.index(span.last) + 1]
                bands.append(Band(span=span, rows=tuple(by_label[label] for label in reversed(inside))))
        return tuple(bands)

    @property
    def one_place(self) -> str:
        """Scale, device and precision if all columns share them, else nothing (then the columns say theirs)."""
        places = {column.place for column in self.columns if column.variant}
        return places.pop() if len(places) == 1 else ""


def build_grid(judged: Iterable[Judged], order: Order) -> Grid:
    """Sort judged outcomes into the grid."""
    cells: dict[str, dict[Column, list[Judged]]] = defaultdict(lambda: defaultdict(list))
    for item in judged:
        cell = item.outcome.cell
        cells[cell.release][Column.of(cell)].append(item)
    columns = sorted({column for row in cells.values() for column in row}, key=lambda column: column.sort_key)
    rows = tuple(
        Row(
            release=release,
            marks=tuple(Mark.of(cells[release][column]) if column in cells[release] else None for column in columns),
        )
        for release in reversed(order.sorted(cells))
    )
    return Grid(columns=tuple(columns), rows=rows, order=order)


def _rung(judged: Judged) -> int:
    return judged.outcome.cell.check.rung


def _concern(judged: Judged) -> tuple[int, bool, int]:
    """What a mark is about, first: what is broken, of that what others depend on, of that the lowest."""
    level = Level.of(judged)
    unanswered = (Level.FAULT, Level.YOURS, Level.NOT_RUN)
    ranks = [Level.BROKEN, Level.NOT_RUN, Level.WRONG, Level.MINOR]
    rank = ranks.index(Level.NOT_RUN if level in unanswered else level)
    return (rank, rank < ranks.index(Level.WRONG) and not judged.outcome.cell.check.bears, _rung(judged))
