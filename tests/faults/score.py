"""Whether a fault was seen where it must be, and whether the sound release was accused of one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any

from harness.core.cells import Cell, Check, Outcome, Severity, Status, Verdict
from harness.rules.defects import defects_of
from harness.rules.known_issues import FAILURES, KnownIssues
from harness.rules.severity import gravest
from harness.rules.verdicts import JudgedOutcome, judge

from .configurations import VARIANTS
from .records import Fault

SHARE_ASKED = 0.95
"""Of the planted faults, caught with the expected check and status."""


class Sight(StrEnum):
    """How a fault was seen."""

    CAUGHT = "caught"
    """On the expected check, with the expected status and evidence."""
    EARLY = "caught early"
    """On a earlier check the expected one."""
    WRONG = "wrong"
    """On the expected check with another status or other evidence, or the check could not be asked."""
    ESCAPED = "escaped"
    """On no check."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What came of one fault."""

    fault: Fault
    sight: Sight
    check: Check | None = None
    """Where it was seen; None when it was not, or by the command line."""
    status: str = ""
    signature: str = ""
    reason: str = ""
    severity: Severity | None = None
    """The gravest of what its cells show and the sound release's do not; None where they show nothing."""
    seconds: float = 0.0
    """Of all its cells together."""

    @property
    def graded(self) -> bool:
        """Whether it was caught, and called as grave as it is."""
        return self.counts and self.fault.expected.accepts(self.severity)

    @property
    def counts(self) -> bool:
        """Whether the harness did its duty."""
        return self.sight in (Sight.CAUGHT, Sight.EARLY)


@dataclass(frozen=True, kw_only=True)
class Soundness:
    """What came of the sound release, asked again and again."""

    repeats: Mapping[str, int]
    """Cells by check."""
    configured: int
    """Of them, those in configurations other than the default."""
    accused: tuple[JudgedOutcome, ...]
    """Failures that no known issue of the release explains."""
    unmeasured: tuple[JudgedOutcome, ...]
    """Cells from which nothing was learned."""
    known: int
    """Cells that fail with a known issue of the release, as listed."""


def share(seen: Sequence[Seen]) -> float:
    """Of the faults, those that were caught; 0 when none was planted."""
    return sum(one.counts for one in seen) / len(seen) if seen else 0.0


def share_graded(seen: Sequence[Seen]) -> float:
    """Of the faults, those that were caught and called as grave as they are; 0 when none was planted."""
    return sum(one.graded for one in seen) / len(seen) if seen else 0.0


def sight_of(fault: Fault, outcomes: Mapping[Cell, Outcome], sound: Mapping[tuple[object, ...], Outcome]) -> Seen:
    """Hold the outcomes of a faulty copy against what was expected, the lowest check first.

    Args:
        outcomes: Of the copy's cells.
        sound: The sound release's outcomes, by `question`: what it says of itself is no sign of the fault.
    """
    chain = sorted(outcomes.values(), key=lambda outcome: outcome.cell.check.position)
    seconds = sum(outcome.seconds for outcome in chain)
    severity = gravest(_severities(chain, sound))
    expected = fault.expected
    for outcome in chain:
        if not _accuses(outcome, sound.get(question(outcome.cell)), expected.status):
            continue
        check = outcome.cell.check
        told = {**_told(outcome, seconds), "severity": severity}
        if expected.check is not None and check.position < expected.check.position:
            return Seen(fault=fault, sight=Sight.EARLY, **told)
        fits = outcome.status is expected.status and fnmatchcase(str(told["signature"]), expected.signature)
        return Seen(fault=fault, sight=Sight.CAUGHT if fits else Sight.WRONG, **told)
    highest = next((outcome for outcome in chain if outcome.cell.check is expected.check), None)
    if highest is None:
        return Seen(fault=fault, sight=Sight.WRONG, reason="the expected check was not asked", seconds=seconds)
    if highest.status in (Status.PASSED, Status.SKIPPED):
        return Seen(fault=fault, sight=Sight.ESCAPED, reason=highest.reason, seconds=seconds)
    if highest.status in FAILURES:
        reason = f"as the sound release: {highest.reason}"
        return Seen(fault=fault, sight=Sight.ESCAPED, reason=reason, seconds=seconds)
    return Seen(fault=fault, sight=Sight.WRONG, **_told(highest, seconds))


def question(cell: Cell) -> tuple[object, ...]:
    """What a cell asks, whichever the release."""
    return (cell.variant, cell.dimensions, cell.depth, cell.check, cell.entry, cell.device, cell.precision)


def soundness(outcomes: Iterable[Outcome], issues: KnownIssues) -> Soundness:
    """Hold the outcomes of the sound release against what is known of it."""
    judged = judge(tuple(outcomes), issues)
    return Soundness(
        repeats=dict(Counter(str(one.outcome.cell.check) for one in judged)),
        configured=sum(one.outcome.cell.variant not in VARIANTS for one in judged),
        accused=tuple(one for one in judged if one.verdict is Verdict.REGRESSION),
        unmeasured=tuple(one for one in judged if one.verdict in (Verdict.FAULT, Verdict.FOLLOWS)),
        known=sum(one.verdict is Verdict.KNOWN for one in judged),
    )


def _severities(chain: Iterable[Outcome], sound: Mapping[tuple[object, ...], Outcome]) -> Iterator[Severity]:
    """Of everything that is wrong with these cells and not with the sound release's."""
    for outcome in chain:
        own = sound.get(question(outcome.cell))
        known = {defect.signature for defect in defects_of(own, ())} if own else set()
        yield from (defect.severity for defect in defects_of(outcome, ()) if defect.signature not in known)


def _accuses(outcome: Outcome, sound: Outcome | None, also: Status) -> bool:
    if outcome.status not in (*FAILURES, also):
        return False
    return sound is None or (outcome.status, _signature(outcome)) != (sound.status, _signature(sound))


def _signature(outcome: Outcome) -> str:
    return outcome.failure.signature if outcome.failure else ""


def _told(outcome: Outcome, seconds: float) -> dict[str, Any]:
    return {
        "check": outcome.cell.check,
        "status": str(outcome.status),
        "signature": _signature(outcome),
        "reason": outcome.reason,
        "seconds": seconds,
    }
