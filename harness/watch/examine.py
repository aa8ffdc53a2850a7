"""All rules on the state of a watched training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from harness.core.cells import Severity
from harness.watch.findings import WatchFinding
from harness.watch.rules.ending import about_ending
from harness.watch.rules.loss import about_loss
from harness.watch.rules.ranks import about_ranks
from harness.watch.rules.resources import about_resources
from harness.watch.rules.saving import about_saving
from harness.watch.rules.steps import about_steps
from harness.watch.state import TrainingState

RULES: tuple[Callable[[TrainingState, bool], Iterator[WatchFinding]], ...] = (
    about_ending,
    about_loss,
    about_steps,
    about_ranks,
    about_saving,
    about_resources,
)

_GRAVEST_FIRST = tuple(Severity)


@dataclass
class WatchFindings:
    """What was found so far: a finding stays, and is replaced by a graver one of its rule."""

    found: dict[str, WatchFinding] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    """Rules that ended by a fault of the harness, with its message."""

    def update(self, state: TrainingState, *, ended: bool) -> list[WatchFinding]:
        """Apply all rules; returns what is new or graver than before."""
        news: list[WatchFinding] = []
        for training in state.trainings():
            for rule in RULES:
                try:
                    news.extend(filter(self._take, rule(training, ended or training.has_ended)))
                except Exception as error:  # a fault of a rule must not end the watching of somebody's training
                    self.faults.setdefault(rule.__name__, f"{type(error).__name__}: {error}")
        return news

    def _take(self, finding: WatchFinding) -> bool:
        """Whether it is new. The same rule in several ranks is said once, with the rank where it was seen first."""
        before = self.found.get(finding.rule)
        if before is not None and _rank(before) <= _rank(finding):
            return False
        self.found[finding.rule] = finding
        return True

    @property
    def ordered(self) -> list[WatchFinding]:
        """The gravest first; within a severity in the order in which they were found."""
        return sorted(self.found.values(), key=_rank)

    @property
    def worst(self) -> Severity | None:
        """The gravest severity; None where nothing was found."""
        return self.ordered[0].severity if self.found else None


def _rank(finding: WatchFinding) -> int:
    return _GRAVEST_FIRST.index(finding.severity)
