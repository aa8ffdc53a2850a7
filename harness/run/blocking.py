"""Cells that are not run, because a earlier check them did not pass."""

from __future__ import annotations

from collections.abc import Sequence

from harness.core import wire
from harness.core.cells import Cell, Outcome, Status


def blocked(cell: Cell, below: Sequence[Outcome]) -> Outcome:
    """The outcome of a cell whose earlier checks are `below`, of which at least one did not pass.

    It names the lowest that did not pass by itself. What was skipped skips all that stands on it, for the same reason.
    """
    causes = [outcome for outcome in below if outcome.status is not Status.PASSED]
    roots = [outcome for outcome in causes if outcome.status is not Status.BLOCKED] or causes
    cause = min(roots, key=lambda outcome: outcome.cell.check.position)
    if cause.status is Status.SKIPPED:
        evidence = {**cause.evidence, "skipped_with": cause.evidence.get("skipped_with", cause.cell.id)}
        kept = {key: value for key, value in evidence.items() if key in ("absent", "skipped_with")}
        return Outcome(cell=cell, status=Status.SKIPPED, reason=cause.reason, evidence=kept, started=wire.now())
    words = cause.status.replace("_", " ")
    return Outcome(
        cell=cell,
        status=Status.BLOCKED,
        reason=f"stands on {cause.cell.id}, which {_VERB.get(cause.status, 'ended as ' + words)}",
        evidence={"blocked_by": cause.cell.id},
        started=wire.now(),
    )


_VERB = {
    Status.FAILED: "failed",
    Status.CRASHED: "crashed",
    Status.TIMED_OUT: "timed out",
    Status.OUT_OF_MEMORY: "ran out of memory",
    Status.BLOCKED: "is blocked itself",
    Status.ERRORED: "was not answered, by a fault of the harness or the machine",
}
