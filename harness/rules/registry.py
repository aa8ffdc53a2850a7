"""Whether a check ran on the classes that a full `import funasr` leaves in the release's registry.

The `import` check records which class each key stands for after a full import. The other checks import less, and
record the classes that they built from. Where they differ, what was measured is not the release as its users have it:
the harness is to blame, and nothing was learned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from harness.core.cells import Check, Outcome, Status
from harness.core.numbers import mapping

REGISTRY = "registry"
"""The key in the evidence of an `import` cell; under `winners` it has a class for each key."""
CLASSES = "classes"
"""The key in the evidence of the other cells: the class for each key that the config names."""

_RUN = (Status.PASSED, Status.FAILED, Status.TIMED_OUT, Status.CRASHED, Status.OUT_OF_MEMORY)


def apply_registry_rule(outcomes: Sequence[Outcome]) -> tuple[Outcome, ...]:
    """The outcomes; one that was measured on another class than a full import leaves becomes `errored`.

    Nothing is said of an outcome that records no classes, and none without the `import` cell of its release.
    """
    winners = {
        outcome.cell.release: mapping(mapping(outcome.evidence.get(REGISTRY)).get("winners"))
        for outcome in outcomes
        if outcome.cell.check is Check.IMPORT and outcome.status is Status.PASSED
    }
    return tuple(_verified(outcome, winners.get(outcome.cell.release, {})) for outcome in outcomes)


def _verified(outcome: Outcome, winners: Mapping[str, object]) -> Outcome:
    if outcome.status not in _RUN:
        return outcome
    for key, used in mapping(outcome.evidence.get(CLASSES)).items():
        if key in winners and winners[key] != used:
            reason = (
                f"the check ran on another class than `import funasr` leaves: {key} is {winners[key]} there, "
                f"and was {used} here"
            )
            return replace(outcome, status=Status.ERRORED, reason=reason, failure=None)
    return outcome
