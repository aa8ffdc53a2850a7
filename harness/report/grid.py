"""How far each release got in each column: the grid of the report."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

from harness.core.cells import Cell, Check, Depth, Device, Dimensions, Entry, Precision, Status, Verdict
from harness.core.versions import Order, Span
from harness.report.labels import LEVEL_NAME, STATUS_NAME, cell_sign
from harness.rules.levels import Level
from harness.rules.verdicts import JudgedOutcome


@dataclass(frozen=True, kw_only=True)
class Column:
    """One chain: variant × shape × scale × device × precision, with one column more for each trainer."""

    variant: str | None
    """None for the column of the `import` check, which is about the release alone."""
    dimensions: Dimensions | None
    depth: Depth | None
    device: Device
    precision: Precision
    entry: Entry | None
    """The trainer, in a column of `finetune` cells; None in the column of the earlier checks."""

    @classmethod
    def of(cls, cell: Cell) -> Column:
        """The column that a cell belongs to."""
        return cls(
            variant=cell.variant,
            dimensions=cell.dimensions,
            depth=cell.depth,
            device=cell.device,
            precision=cell.precision,
            entry=cell.entry,
        )

    @property
    def place(self) -> str:
        """Scale, device and precision in one word each."""
        return " ".join(filter(None, (self.depth, f"{self.device}-{self.precision}")))

    @property
    def sort_key(self) -> tuple[object, ...]:
        """By variant, the earlier checks `finetune` first, then by shape."""
        shape = (self.dimensions.hidden_size, self.dimensions.vocab_size) if self.dimensions else (0, 0)
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
    judged: JudgedOutcome
    """The cell that the mark leads to: the one that it is about, else the highest that passed."""

    @classmethod
    def of(cls, cells: Sequence[JudgedOutcome]) -> Mark:
        """The mark of a column's cells of one release; `cells` is not empty."""
        chain = sorted(cells, key=_position)
        passed = [judged for judged in chain if Level.of(judged) is Level.PASSED]
        others = sorted((judged for judged in chain if judged not in passed), key=_concern)
        stop = next(iter(others), None)
        halting = stop is not None and stop.outcome.cell.check.blocks_dependents and not Level.of(stop).answers
        below = [judged for judged in passed if stop is None or not halting or _position(judged) < _position(stop)]
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
        lead = cell_sign(self.judged)
        star = "*" if self.unexpected else ""
        if self.stopped is None:
            return f"{lead} {self.reached.facts.letter}{star}" if self.reached else lead + star
        before = f"{self.reached.facts.letter} " if self.reached else ""
        return f"{before}{lead} {self.stopped.facts.letter}{star}"

    @property
    def unexpected(self) -> bool:
        """Whether someone has to look at it: not explained, or passed against expectation."""
        return self.judged.verdict in (Verdict.REGRESSION, Verdict.UNEXPECTED_PASS)

    @property
    def words(self) -> str:
        """The sign in words."""
        status = self.judged.outcome.status
        stopped_word = LEVEL_NAME[self.level] if status in (Status.PASSED, Status.FAILED) else STATUS_NAME[status]
        passed = f"{self.reached} passed" if self.reached else ""
        stopped = f"{self.stopped} {stopped_word}" if self.stopped else ""
        return ", ".join(filter(None, (passed, stopped)))

    @property
    def pattern(self) -> tuple[object, ...]:
        """What makes two marks the same to a reader; the signatures, so that one link can serve both."""
        signatures = tuple(defect.signature for defect in self.judged.defects)
        return (self.reached, self.stopped, self.sign, self.level, self.judged.verdict, signatures)


@dataclass(frozen=True, kw_only=True)
class GridRow:
    """One release."""

    release: str
    marks: tuple[Mark | None, ...]
    """As many as the grid has columns; None where nothing was run."""

    @property
    def pattern(self) -> tuple[object, ...]:
        """Equal for rows that look the same."""
        return tuple(mark and mark.pattern for mark in self.marks)


@dataclass(frozen=True, kw_only=True)
class GridBand:
    """Neighbouring releases with identical rows."""

    span: Span
    rows: tuple[GridRow, ...]
    """Newest first."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Releases, newest first, by columns."""

    columns: tuple[Column, ...]
    rows: tuple[GridRow, ...]
    order: Order

    @cached_property
    def bands(self) -> tuple[GridBand, ...]:
        """The rows, with neighbours that look the same taken together."""
        bands = []
        for _, group in groupby(self.rows, key=lambda row: row.pattern):
            rows = tuple(group)
            by_label = {row.release: row for row in rows}
            for span in reversed(self.order.spans(list(by_label))):
                inside = self.order.labels[self.order.labels.index(span.first) : self.order.labels.index(span.last) + 1]
                bands.append(GridBand(span=span, rows=tuple(by_label[label] for label in reversed(inside))))
        return tuple(bands)

    @property
    def one_place(self) -> str:
        """Scale, device and precision if all columns share them, else nothing (then the columns say theirs)."""
        places = {column.place for column in self.columns if column.variant}
        return places.pop() if len(places) == 1 else ""


def build_grid(judged: Iterable[JudgedOutcome], order: Order) -> Grid:
    """Sort judged outcomes into the grid."""
    cells: dict[str, dict[Column, list[JudgedOutcome]]] = defaultdict(lambda: defaultdict(list))
    for item in judged:
        cell = item.outcome.cell
        cells[cell.release][Column.of(cell)].append(item)
    columns = sorted({column for row in cells.values() for column in row}, key=lambda column: column.sort_key)
    rows = tuple(
        GridRow(
            release=release,
            marks=tuple(Mark.of(cells[release][column]) if column in cells[release] else None for column in columns),
        )
        for release in reversed(order.sorted(cells))
    )
    return Grid(columns=tuple(columns), rows=rows, order=order)


def _position(judged: JudgedOutcome) -> int:
    return judged.outcome.cell.check.position


def _concern(judged: JudgedOutcome) -> tuple[int, bool, int]:
    """What a mark is about, first: what is broken, of that what others depend on, of that the lowest."""
    level = Level.of(judged)
    unanswered = (Level.FAULT, Level.YOURS, Level.NOT_RUN)
    ranks = [Level.BROKEN, Level.NOT_RUN, Level.WRONG, Level.MINOR]
    rank = ranks.index(Level.NOT_RUN if level in unanswered else level)
    return (
        rank,
        rank < ranks.index(Level.WRONG) and not judged.outcome.cell.check.blocks_dependents,
        _position(judged),
    )
