"""How long a run will still take, estimated by check: a fine-tune takes a hundred times as long as a construct.

What is left is laid out over the jobs as the process tree lays it out: batch by batch, a batch's cells one after the
other, so that one long batch at the end counts with its whole length. A cell is expected to take

- the mean of the cells of its check that have run; before there are any, what such cells took in the committed runs,
  times how much slower or faster this machine has been until now;
- times the share of cells of its check that run at all. That some were blocked says little about the others at first,
  because releases run oldest first and failures come in stretches, and more the more of them are done;
- nothing, where a dependency did not pass, or the release has no such trainer.

The estimate is pure: it receives the time, and looks at no clock.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from harness.config.expansion import native_entry
from harness.config.matrix import Matrix
from harness.config.settings import DecodeSettings, PropertiesSettings
from harness.core.cells import Cell, Check, Entry, Outcome, Status
from harness.core.evidence import REUSED

USUAL_SECONDS: Mapping[Check, float] = MappingProxyType({check: check.facts.usual_seconds for check in Check})

_STEPS, _EXAMPLES, _DECODE_STEPS = 75, 240, 200
"""What a cell of `finetune` (three trainings of 25 steps), `properties` and `decode` did there."""
_OWN = 20.0
"""Seconds of the committed runs' kind that count for their machine's speed before this one's is known."""
_STRETCH = 0.25
"""The share of a check's cells that are taken to run, beside those that are done, in the share that runs."""
_NOTHING = frozenset({Status.BLOCKED, Status.SKIPPED})
_STILL = 0.25
"""What a cell that runs for longer than was expected still needs, as a share of what it has run: the longer it has
taken, the longer it will take."""


@dataclass
class _Seen:
    """The cells of one check that are done."""

    cells: int = 0
    ran: int = 0
    seconds: float = 0.0


class TimeLeft:
    """What is left of a run; it is called when something starts and when it is done."""

    def __init__(
        self, batches: Iterable[Sequence[Cell]], jobs: int, usual: Mapping[Check, float] = USUAL_SECONDS
    ) -> None:
        """See `harness.run.plan.Batch` for the batches, in the order in which they start.

        Args:
            usual: What a cell of each check takes in a run like this, for the time until that is known.
        """
        self._batches = [list(batch) for batch in batches]
        self._place = {cell: number for number, batch in enumerate(self._batches) for cell in batch}
        self._ladders: dict[str, list[Cell]] = defaultdict(list)
        for cell in self._place:
            self._ladders[cell.release].append(cell)
        self._jobs = max(1, jobs)
        self._usual = usual
        self._seen: dict[Check, _Seen] = defaultdict(_Seen)
        self._began: dict[Cell, float] = {}
        self._begun: set[int] = set()
        self._all = Counter(cell.check for cell in self._place)
        self._decided = {cell for cell in self._place if _has_no_such_trainer(cell)}
        """Cells that need no time any more: done, without a dependency that passed, or without a trainer."""

    def started(self, cell: Cell, now: float) -> None:
        """A cell has started."""
        self._began[cell] = now
        self._begun.add(self._place.get(cell, -1))

    def settled(self, outcome: Outcome) -> None:
        """A cell has its outcome."""
        cell, tally = outcome.cell, self._seen[outcome.cell.check]
        self._began.pop(cell, None)
        if cell not in self._place:
            return
        foreseen = cell in self._decided
        self._decided.add(cell)
        if outcome.status not in _NOTHING and REUSED not in outcome.evidence:
            tally.cells, tally.ran, tally.seconds = tally.cells + 1, tally.ran + 1, tally.seconds + outcome.seconds
        elif not foreseen:
            tally.cells += 1
        if outcome.status is not Status.PASSED and cell.check.blocks_dependents:
            self._decided.update(other for other in self._ladders[cell.release] if other.depends_on(cell))

    def seconds(self, now: float) -> float:
        """How long the cells that have no outcome yet will take from now on."""
        means = {check: self._mean(check) for check in Check}
        seconds_of_begun: list[float] = []
        waiting: list[float] = []
        for number, batch in enumerate(self._batches):
            left = sum(self._cell(cell, means, now) for cell in batch if cell not in self._decided)
            (seconds_of_begun if number in self._begun else waiting).append(left)
        # Those that have begun hold a job each; what is done with its batch holds none.
        busy = sorted((left for left in seconds_of_begun if left), reverse=True)
        ends: list[float] = [*busy[: self._jobs], *[0.0] * (self._jobs - len(busy))]
        heapq.heapify(ends)
        for left in [*busy[self._jobs :], *waiting]:
            heapq.heapreplace(ends, ends[0] + left)
        return max(ends)

    def _cell(self, cell: Cell, means: Mapping[Check, float], now: float) -> float:
        mean = means[cell.check]
        if cell not in self._began:
            return mean
        spent = max(0.0, now - self._began[cell])
        return max(mean - spent, _STILL * spent)

    def _mean(self, check: Check) -> float:
        """What a cell of the check is expected to take: what is usual weighs as much as one that was seen."""
        tally, others = self._seen[check], _STRETCH * self._all[check]
        mean = (self._usual[check] * self._speed() + tally.seconds) / (1 + tally.ran)
        return mean * (tally.ran + others) / (tally.cells + others) if tally.cells else mean

    def _speed(self) -> float:
        """How many times as long as usual cells have taken here."""
        usual = sum(tally.ran * self._usual[check] for check, tally in self._seen.items())
        return (_OWN + sum(tally.seconds for tally in self._seen.values())) / (_OWN + usual)


def usual_seconds(matrix: Matrix) -> Mapping[Check, float]:
    """What a cell of each check takes, in proportion to what this matrix has a cell do."""
    training, checks = matrix.finetune, matrix.check_settings
    factors = {Check.FINETUNE: training.steps * training.seeds / _STEPS}
    if isinstance(searching := checks.get(Check.PROPERTIES), PropertiesSettings):
        factors[Check.PROPERTIES] = searching.examples / _EXAMPLES
    if isinstance(decoding := checks.get(Check.DECODE), DecodeSettings):
        factors[Check.DECODE] = decoding.steps / _DECODE_STEPS
    return {check: seconds * factors.get(check, 1.0) for check, seconds in USUAL_SECONDS.items()}


def _has_no_such_trainer(cell: Cell) -> bool:
    """Releases whose own recipe calls `train` do not have `train_ds` yet: the cell is skipped at once."""
    return cell.entry is Entry.TRAIN_DS and native_entry(cell.release) is Entry.TRAIN
