"""What a release does not have: not yet, never, or no longer.

A check is skipped where the release lacks what its question is about: a component of the architecture, an entry point,
mixed precision. Where the release is older than that, this is as expected. Where an older release has it, it was taken
away: whoever trains with it cannot upgrade, so the cell counts as failed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from packaging.version import InvalidVersion, Version

from harness.core.cells import Cell, Failure, Outcome, Status
from harness.releases.first_releases import FIRST

ABSENT = "absent"
"""The key in the evidence of a skipped cell: what the release lacks, as in `FIRST`."""
SKIPPED_WITH = "skipped_with"
"""The key in the evidence of a cell that was skipped with another: that one's id."""
KIND = "Absent"
"""The type of the failure; its signature is `Absent@model_classes/Paraformer`."""

_RAN = (Status.PASSED, Status.FAILED, Status.TIMED_OUT, Status.CRASHED, Status.OUT_OF_MEMORY)


def apply_absence_rule(outcomes: Sequence[Outcome]) -> tuple[Outcome, ...]:
    """The outcomes; what was skipped for want of something that an older release has becomes `failed`.

    What was skipped with it is `blocked` by it then.
    """
    ran: dict[Cell, list[Version]] = defaultdict(list)
    for outcome in outcomes:
        version = _version(outcome.cell)
        if version is not None and outcome.status in _RAN:
            ran[_question(outcome.cell)].append(version)
    settled = [_settled(outcome, ran) for outcome in outcomes]
    gone = {one.cell.id for one in settled if one.failure is not None and one.failure.type == KIND}
    return tuple(_with_its_root(one, gone) for one in settled)


def _settled(outcome: Outcome, ran: Mapping[Cell, Sequence[Version]]) -> Outcome:
    version = _version(outcome.cell)
    if outcome.status is not Status.SKIPPED or version is None:
        return outcome
    name = str(outcome.evidence.get(ABSENT, ""))
    first = Version(FIRST[name]) if name in FIRST else None
    if first is not None and first <= version:
        return _gone(outcome, name, f"releases have it since {first}")
    older = max((one for one in ran.get(_question(outcome.cell), ()) if one < version), default=None)
    if older is not None:
        return _gone(outcome, name, f"{older} has it")
    if first is not None:
        return replace(outcome, reason=f"{outcome.reason}: not yet, {first} is the first that has it")
    return outcome


def _gone(outcome: Outcome, name: str, who: str) -> Outcome:
    reason = f"{outcome.reason}, though {who}: it was taken away"
    failure = Failure(type=KIND, message=reason, signature=f"{KIND}@{name or outcome.cell.check}")
    return replace(outcome, status=Status.FAILED, reason=reason, failure=failure)


def _with_its_root(outcome: Outcome, gone: set[str]) -> Outcome:
    root = outcome.evidence.get(SKIPPED_WITH)
    if root not in gone:
        return outcome
    # By the name that blocked cells have for it: harness/run/blocking.py.
    evidence = {**outcome.evidence, "blocked_by": root}
    reason = f"stands on {root}, which failed"
    return replace(outcome, status=Status.BLOCKED, reason=reason, failure=None, evidence=evidence)


def _question(cell: Cell) -> Cell:
    """The cell without its release."""
    return replace(cell, release="")


def _version(cell: Cell) -> Version | None:
    """The release's version; a local release comes after the published one of its version."""
    try:
        return Version(cell.release)
    except InvalidVersion:
        return None
