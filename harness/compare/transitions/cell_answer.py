"""What a cell's outcome says, in one word that can be compared with its neighbours'."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from harness.compare.drift.curves import digest_of, losses_of
from harness.core.cells import Outcome, Status
from harness.core.evidence import BLOCKED_BY

NO_PLACE = frozenset({Status.TIMED_OUT, Status.OUT_OF_MEMORY})
"""Where such a cell stood when it was ended is chance: two of them are the same answer wherever they stood."""


@dataclass(frozen=True, kw_only=True)
class CellAnswer:
    """What became of a cell, as far as it distinguishes two releases."""

    status: Status
    signature: str = ""
    """The failure's; empty where there is none, or where the status says all that is not chance."""
    below: str = ""
    """The check that did not pass, where the cell is blocked by one."""

    @property
    def judged(self) -> bool:
        """Whether something was learned about the release."""
        return self.status is not Status.ERRORED

    def __str__(self) -> str:
        words = str(self.status).replace("_", " ")
        if self.below:
            words = f"{words} at {self.below}"
        return f"{words} ({self.signature})" if self.signature else words

    def to_json(self) -> dict[str, str]:
        """The answer as it is stored."""
        return {"status": self.status, "signature": self.signature, "below": self.below}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote.

        Raises:
            KeyError, ValueError: it is no answer.
        """
        return cls(status=Status(data["status"]), signature=str(data["signature"]), below=str(data["below"]))


Read = Callable[[Outcome, Mapping[str, Outcome]], CellAnswer]
"""How an outcome is read; with the outcomes of its run by cell id."""


def curve_of(outcome: Outcome, by_id: Mapping[str, Outcome]) -> CellAnswer:
    """The loss curve of an outcome, as an answer; without one, what became of it."""
    digest = digest_of(losses_of(outcome))
    return CellAnswer(status=outcome.status, signature=f"losses {digest}") if digest else answer_of(outcome, by_id)


def answer_of(outcome: Outcome, by_id: Mapping[str, Outcome]) -> CellAnswer:
    """The answer of an outcome; a blocked cell has that of the earlier check which did not pass.

    Args:
        outcome: Of any status.
        by_id: The outcomes of its run, by cell id.
    """
    root, followed = outcome, {outcome.cell.id}
    while root.status is Status.BLOCKED:
        below = by_id.get(str(root.evidence.get(BLOCKED_BY)))
        if below is None or below.cell.id in followed:
            # What blocks it is not on record, so nothing was learned.
            return CellAnswer(status=Status.ERRORED)
        followed.add(below.cell.id)
        root = below
    signature = root.failure.signature if root.failure and root.status not in NO_PLACE else ""
    return CellAnswer(status=root.status, signature=signature, below="" if root is outcome else str(root.cell.check))
