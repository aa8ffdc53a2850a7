"""What watching finds in a training: each finding has a severity, the step, evidence and what to do."""

from __future__ import annotations

from dataclasses import dataclass

from harness.core.cells import Severity


@dataclass(frozen=True, kw_only=True)
class WatchFinding:
    """One problem of a training, of its data or of its command."""

    severity: Severity
    """`broken`: it cannot learn, or the result is not the model; `wrong`: it trains something other than configured;
    `minor`: what is learned is the same."""
    rule: str
    """Short, unique, as in the docs' table: `loss-not-finite`."""
    message: str
    """What happens and what follows from it, in one sentence."""
    step: int | None = None
    """The optimizer step at which it could be said first; None for what no step shows."""
    rank: int | None = None
    """The rank in which it was seen; None for all of them."""
    evidence: tuple[str, ...] = ()
    """What was recorded, a line each. Data from outside: whoever prints it escapes it."""
    remedy: str = ""
    """What to do, if possible the line to type."""
