"""The cells of two releases in pairs: which regressed, are fixed or the same, and which are no evidence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from harness.core.cells import Cell, Outcome, Status
from harness.core.evidence import BLOCKED_BY, REUSED


class Result(StrEnum):
    """What a pair says of the source, compared with the release."""

    REGRESSED = "regressed"
    FIXED = "fixed"
    SAME = "same"
    SPURIOUS = "spurious"
    """They differ, but not because of the source; or that cannot be known."""


@dataclass(frozen=True, kw_only=True)
class CellPair:
    """One check of the source and of the release that it is compared with."""

    mine: Outcome
    other: Outcome
    result: Result
    reason: str = ""
    """Why it is spurious, and other remarks."""
    follows: str = ""
    """The id of the cell that blocks this one in the source."""

    @property
    def reused(self) -> bool:
        """Whether the source's cell was not run, because all that it uses is as for a cell that ran."""
        return REUSED in self.mine.evidence

    @property
    def is_fault(self) -> bool:
        """Whether a fault of the harness or the machine left one of them without a result."""
        return Status.ERRORED in (self.mine.status, self.other.status)


def questions(cells: Iterable[Cell], mine: str, other: str) -> tuple[tuple[Cell, Cell], ...]:
    """The cells of a matrix, each for these two releases."""
    templates = dict.fromkeys(replace(cell, release="") for cell in cells)
    return tuple((replace(cell, release=mine), replace(cell, release=other)) for cell in templates)


def pair(mine: Outcome, other: Outcome) -> CellPair:
    """Compare two outcomes of one question."""
    result, reason = _compared(mine, other)
    follows = str(mine.evidence.get(BLOCKED_BY, "")) if mine.status is Status.BLOCKED else ""
    return CellPair(mine=mine, other=other, result=result, reason=reason, follows=follows)


def _compared(mine: Outcome, other: Outcome) -> tuple[Result, str]:
    match mine.status, other.status:
        case (Status.ERRORED, _):
            return Result.SPURIOUS, f"a fault of the harness or the machine: {mine.reason}"
        case (_, Status.ERRORED):
            return Result.SPURIOUS, f"a fault of the harness or the machine in the release: {other.reason}"
        case (Status.PASSED, Status.PASSED) | (Status.SKIPPED, Status.SKIPPED) | (Status.BLOCKED, Status.BLOCKED):
            return Result.SAME, ""
        case (Status.PASSED, Status.SKIPPED):
            return Result.SAME, f"only the source has it: {other.reason}"
        case (Status.SKIPPED, Status.PASSED):
            return Result.REGRESSED, f"the source no longer has it: {mine.reason}"
        case (Status.PASSED, _):
            return Result.FIXED, ""
        case (_, Status.PASSED):
            return Result.REGRESSED, ""
        case (Status.BLOCKED, _) | (_, Status.BLOCKED):
            return Result.SPURIOUS, "both fail, on different checks"
        case (Status.SKIPPED, _) | (_, Status.SKIPPED):
            return Result.SPURIOUS, "one fails where the other does not have it"
    return _both_fail(mine, other)


def _both_fail(mine: Outcome, other: Outcome) -> tuple[Result, str]:
    signatures = [outcome.failure.signature if outcome.failure else str(outcome.status) for outcome in (mine, other)]
    if mine.status is other.status and signatures[0] == signatures[1]:
        return Result.SAME, "both fail, in the same way"
    return Result.SPURIOUS, f"both fail, differently: {signatures[0]} instead of {signatures[1]}"


def roots(pairs: Sequence[CellPair]) -> tuple[CellPair, ...]:
    """The regressions to explain: those that follow from no other, one for each signature."""
    regressions: dict[tuple[object, ...], CellPair] = {}
    for pair in pairs:
        if pair.result is not Result.REGRESSED or pair.follows or pair.mine.status is Status.SKIPPED:
            continue
        failure = pair.mine.failure
        cell = pair.mine.cell
        regressions.setdefault((cell.variant, cell.check, failure.signature if failure else pair.mine.status), pair)
    return tuple(regressions.values())
