"""The substance of the reports: everything that they say, before any of it is laid out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from harness.compare.drift.analysis import Drift, drift_of
from harness.compare.drift.recordings import load_recordings
from harness.compare.transitions.commit_notes import load_commits
from harness.compare.transitions.recorded import RecordedTransitions, recorded_transitions
from harness.core.cells import Check, Outcome, Status, Verdict
from harness.core.versions import Order
from harness.performance.baselines.comparison import RunComparison
from harness.report.advice import Advice, advise
from harness.report.baselines import BaselineView, view
from harness.report.cell_details import Fact
from harness.report.data import DataQuestion, data_questions
from harness.report.evidence import EvidenceCard, build_cards
from harness.report.failures import FailureGroup, group_failures
from harness.report.grid import Grid, build_grid
from harness.report.learning import CurveGroup, curve_key, group_curves
from harness.report.memory import MemoryGroup, memory_groups
from harness.report.properties import VariantProperties, variant_properties
from harness.report.run_info import RunInfo, ShimUse, Undeclared, read_run_info, shims_used, undeclared_modules
from harness.report.saved_model import Decoded, SavedGroup, decoded, saved_groups
from harness.rules.levels import Level
from harness.rules.verdicts import JudgedOutcome
from harness.run.repeat_commands import Repeating
from harness.run.store import LoadedRun

TITLE = "Which FunASR releases can be fine-tuned?"

Word = TypeVar("Word", Status, Verdict, Level)


@dataclass(frozen=True, kw_only=True)
class VerdictCounts(Generic[Word]):
    """How many cells ended with a status, a verdict or a level."""

    word: Word
    cells: int


@dataclass(frozen=True, kw_only=True)
class Summary:
    """All that is known, from the answer down to the single cell."""

    title: str
    setting: RunInfo
    cells: int
    releases: int
    checks: tuple[Check, ...]
    """The checks of the run, lowest first."""
    statuses: tuple[VerdictCounts[Status], ...]
    levels: tuple[VerdictCounts[Level], ...]
    verdicts: tuple[VerdictCounts[Verdict], ...]
    advice: Advice
    grid: Grid
    failures: tuple[FailureGroup, ...]
    transitions: RecordedTransitions | None
    """None where no question was measured in two releases."""
    curves: tuple[CurveGroup, ...]
    without_curve: int
    """How many fine-tunes of the run took no step."""
    memory: tuple[MemoryGroup, ...]
    drift: Drift | None
    """None where no two releases have a loss curve at the same question."""
    baselines: BaselineView | None
    """None where there was nothing to compare."""
    properties: tuple[VariantProperties, ...]
    data: tuple[DataQuestion, ...]
    saved: tuple[SavedGroup, ...]
    decoded: tuple[Decoded, ...]
    cards: tuple[EvidenceCard, ...]
    undeclared: tuple[Undeclared, ...]
    shims: tuple[ShimUse, ...]
    example: str
    """The id of some cell, for the commands that repeat one."""

    repeat: Repeating

    def curve(self, outcome: Outcome) -> CurveGroup:
        """The curve of a fine-tune that has one."""
        key = curve_key(outcome)
        return next(group for group in self.curves if group.key == key)

    @property
    def commands(self) -> tuple[Fact, ...]:
        """How to see and repeat what the report says: a command under what it does."""
        commands = (
            Fact(name="everything known about one cell", text=self.repeat.show(self.example)),
            Fact(name="that cell, run again", text=self.repeat.again(self.example)),
            Fact(name="all of this run, on this machine", text=self.repeat.whole_run()),
        )
        return (Fact(name=self.repeat.hint, text=""), *commands) if self.repeat.hint else commands


def summarise(
    run: LoadedRun,
    judged: Sequence[JudgedOutcome],
    *,
    title: str = TITLE,
    published: Sequence[str] = (),
    against: RunComparison | None = None,
) -> Summary:
    """Draw everything that the reports say from a run's judged outcomes.

    Args:
        run: Where the outcomes come from.
        judged: The outcomes; a cell that occurs twice counts with the last.
        title: The heading.
        published: All releases that exist; ranges of releases end where one of these was not run.
        against: The outcomes, compared with the baseline of their machine.
    """
    judged = tuple({item.outcome.cell.id: item for item in judged}.values())
    releases = {item.outcome.cell.release for item in judged}
    order = Order.of(releases, published)
    failures = group_failures(judged, order)
    curves = group_curves(judged, order)
    checks = {item.outcome.cell.check for item in judged}
    return Summary(
        title=title,
        setting=read_run_info(run.provenance, judged, run.notices),
        cells=len(judged),
        releases=len(releases),
        checks=tuple(check for check in Check if check in checks),
        statuses=_tally(Status, [item.outcome.status for item in judged]),
        levels=tuple(reversed(_tally(Level, [Level.of(item) for item in judged]))),
        verdicts=_tally(Verdict, [item.verdict for item in judged]),
        advice=advise(judged, failures, order),
        grid=build_grid(judged, order),
        failures=failures,
        transitions=recorded_transitions(judged, order, load_commits(run.folder) if run.folder else ()),
        curves=tuple(curves.values()),
        without_curve=sum(_has_no_curve(item.outcome) for item in judged),
        memory=memory_groups(judged, order),
        drift=drift_of(
            [item.outcome for item in judged],
            order,
            load_recordings(run.folder) if run.folder else {},
            fewest_releases=2,
        ),
        properties=variant_properties(judged, order),
        data=data_questions(judged, order),
        saved=saved_groups(judged, order),
        baselines=view(against),
        decoded=decoded(judged, order),
        cards=build_cards(judged, order, groups=failures, curves=curves),
        undeclared=undeclared_modules(judged, order),
        shims=shims_used(judged, order),
        repeat=Repeating.of(run.provenance, run.folder),
        example=failures[0].example if failures else next((item.outcome.cell.id for item in judged), "CELL_ID"),
    )


def _has_no_curve(outcome: Outcome) -> bool:
    tuned = outcome.cell.check is Check.FINETUNE and outcome.status is not Status.SKIPPED
    return tuned and curve_key(outcome) is None


def _tally(kind: type[Word], words: Sequence[Word]) -> tuple[VerdictCounts[Word], ...]:
    counts = Counter(words)
    return tuple(VerdictCounts(word=word, cells=counts[word]) for word in kind if counts[word])
