"""What a release contains: components that it lacks, and classes that a check did not run on.

A check is skipped where the release lacks what it tests: a component of the architecture, an entry point, mixed
precision. Where the release is older than that, this is as expected. Where an older release has it, it was removed:
whoever trains with it cannot upgrade, so the cell counts as failed.

The `import` check records which class each key of the registry stands for after a full import. The other checks import
less, and record the classes that they built. Where these differ, the check did not measure the release as its users
have it: the harness is to blame, and nothing was learned about the release.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from packaging.version import Version

from harness.core.cells import Cell, Check, Failure, Outcome, Status
from harness.core.evidence import BLOCKED_BY
from harness.core.evidence.imports import ImportEvidence
from harness.core.versions import version_of
from harness.releases.first_releases import FIRST

ABSENT = "Absent"
"""The type of the failure; its signature is `Absent@model_classes/Paraformer`."""

_RAN = (Status.PASSED, Status.FAILED, Status.TIMED_OUT, Status.CRASHED, Status.OUT_OF_MEMORY)


def apply_absence_rule(outcomes: Sequence[Outcome]) -> tuple[Outcome, ...]:
    """The outcomes; one that was skipped because the release lacks what an older one has becomes `failed`.

    Cells that were skipped with it become `blocked` by it.
    """
    ran: dict[Cell, list[Version]] = defaultdict(list)
    for outcome in outcomes:
        version = version_of(outcome.cell.release)
        if version is not None and outcome.status in _RAN:
            ran[_question(outcome.cell)].append(version)
    resolved = [_resolved(outcome, ran) for outcome in outcomes]
    failed = {outcome.cell.id for outcome in resolved if outcome.failure is not None and outcome.failure.type == ABSENT}
    return tuple(_with_its_root(outcome, failed) for outcome in resolved)


def _resolved(outcome: Outcome, ran: Mapping[Cell, Sequence[Version]]) -> Outcome:
    version = version_of(outcome.cell.release)
    if outcome.status is not Status.SKIPPED or version is None:
        return outcome
    name = outcome.common.absent
    first = Version(FIRST[name]) if name in FIRST else None
    if first is not None and first <= version:
        return _absent(outcome, name, f"releases have it since {first}")
    older = max((other for other in ran.get(_question(outcome.cell), ()) if other < version), default=None)
    if older is not None:
        return _absent(outcome, name, f"{older} has it")
    if first is not None:
        return replace(outcome, reason=f"{outcome.reason}: not yet, {first} is the first that has it")
    return outcome


def _absent(outcome: Outcome, name: str, who: str) -> Outcome:
    reason = f"{outcome.reason}, though {who}: it was taken away"
    failure = Failure(type=ABSENT, message=reason, signature=f"{ABSENT}@{name or outcome.cell.check}")
    return replace(outcome, status=Status.FAILED, reason=reason, failure=failure)


def _with_its_root(outcome: Outcome, failed: set[str]) -> Outcome:
    root = outcome.common.skipped_with
    if root not in failed:
        return outcome
    evidence = {**outcome.evidence, BLOCKED_BY: root}
    reason = f"depends on {root}, which failed"
    return replace(outcome, status=Status.BLOCKED, reason=reason, failure=None, evidence=evidence)


def _question(cell: Cell) -> Cell:
    """The cell without its release."""
    return replace(cell, release="")


def apply_registry_rule(outcomes: Sequence[Outcome]) -> tuple[Outcome, ...]:
    """The outcomes; one whose check ran on another class than a full import leaves becomes `errored`.

    An outcome that records no classes stays, and so do all without the `import` cell of their release.
    """
    winners = {
        outcome.cell.release: evidence.registry.winners
        for outcome in outcomes
        if outcome.cell.check is Check.IMPORT and outcome.status is Status.PASSED
        if isinstance(evidence := outcome.common, ImportEvidence) and evidence.registry
    }
    return tuple(_verified(outcome, winners.get(outcome.cell.release, {})) for outcome in outcomes)


def _verified(outcome: Outcome, winners: Mapping[str, str]) -> Outcome:
    if outcome.status not in _RAN:
        return outcome
    for key, used in outcome.common.classes.items():
        if key in winners and winners[key] != used:
            reason = (
                f"the check ran on another class than `import funasr` leaves: {key} is {winners[key]} there, "
                f"and was {used} here"
            )
            return replace(outcome, status=Status.ERRORED, reason=reason, failure=None)
    return outcome
