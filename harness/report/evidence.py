"""Everything that was seen of each cell, written once for all cells of which it is true."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.core.cells import Cell, Check, Outcome, Status, Verdict
from harness.core.versions import Order, Span
from harness.report.cell_details import Fact, facts_of
from harness.report.failures import FailureGroup, GroupKey, TracebackLine, group_key, shared_lines, structure
from harness.report.learning import CurveGroup, CurveKey, Training, curve_key
from harness.rules.levels import Level
from harness.rules.verdicts import JudgedOutcome
from harness.text import units
from harness.text.plain import one_line, plain

_LONGEST_LOG = 2000


@dataclass(frozen=True, kw_only=True)
class Member:
    """One cell."""

    id: str
    release: str
    seconds: float
    reused: bool
    """Whether it was not run, because another showed how it ends."""
    training: Training | None
    """None for a cell that is no fine-tune or came to no step."""


@dataclass(frozen=True, kw_only=True)
class EvidenceRow:
    """Cells of one shape with the same observations, except for times."""

    dimensions: str
    reason: str
    facts: tuple[Fact, ...]
    members: tuple[Member, ...]
    """Oldest release first."""
    spans: tuple[Span, ...]
    curve: CurveGroup | None

    @property
    def seconds(self) -> str:
        """How long a cell took: from the quickest to the slowest."""
        ran = [member.seconds for member in self.members if not member.reused]
        times = [units.duration(seconds) for seconds in sorted(ran)] or ["not run"]
        return times[0] if times[0] == times[-1] else f"{times[0]} – {times[-1]}"


@dataclass(frozen=True, kw_only=True)
class EvidenceCard:
    """Cells of one variant and check that ended alike, with one traceback."""

    check: Check
    variant: str | None
    title: str
    """Check, variant and place."""
    status: Status
    level: Level
    verdict: Verdict
    sentence: str
    """The judge's, where a cell passed against expectation."""
    group: FailureGroup | None
    lines: tuple[TracebackLine, ...]
    shims: tuple[str, ...]
    log: str
    """The end of what the release printed in the newest of the cells, kept only when it did not pass."""
    cells: int
    spans: tuple[Span, ...]
    rows: tuple[EvidenceRow, ...]


def build_cards(
    judged: Iterable[JudgedOutcome],
    order: Order,
    *,
    groups: Sequence[FailureGroup],
    curves: Mapping[CurveKey, CurveGroup],
) -> tuple[EvidenceCard, ...]:
    """All evidence, by check, then variant; every cell is in exactly one row of one card."""
    cards: dict[tuple[object, ...], list[JudgedOutcome]] = defaultdict(list)
    age = {label: number for number, label in enumerate(order.labels)}
    for item in sorted(judged, key=lambda judged: age[judged.outcome.cell.release]):
        cards[_card_key(item)].append(item)
    links = {group.key: group for group in groups}
    built = [_card(items, order, links=links, curves=curves) for items in cards.values()]
    return tuple(
        sorted(built, key=lambda card: (card.check.position, card.title, list(Status).index(card.status), -card.cells))
    )


def _card_key(item: JudgedOutcome) -> tuple[object, ...]:
    outcome, cell = item.outcome, item.outcome.cell
    return (
        *(cell.check, cell.entry, cell.variant, cell.depth, cell.device, cell.precision),
        *(outcome.status, Level.of(item), item.verdict, item.issue.id if item.issue else ""),
        *(outcome.failure.signature if outcome.failure else "", structure(outcome.failure), outcome.shims),
        *(defect.signature for defect in item.defects),
    )


def _card(
    members: Sequence[JudgedOutcome],
    order: Order,
    *,
    links: Mapping[GroupKey, FailureGroup],
    curves: Mapping[CurveKey, CurveGroup],
) -> EvidenceCard:
    first, newest = members[0], members[-1].outcome
    outcome = first.outcome
    rows: dict[tuple[object, ...], list[Outcome]] = defaultdict(list)
    for item in members:
        measured = item.outcome
        rows[_shape_key(measured.cell), _reason(measured), facts_of(measured), curve_key(measured)].append(measured)
    log = newest.evidence.get("log_tail")
    return EvidenceCard(
        check=outcome.cell.check,
        variant=outcome.cell.variant,
        title=_title(outcome.cell),
        status=outcome.status,
        level=Level.of(first),
        verdict=first.verdict,
        sentence=first.sentence if first.verdict in (Verdict.UNEXPECTED_PASS, Verdict.YOURS, Verdict.UNDECIDED) else "",
        group=links.get(group_key(first)),
        lines=shared_lines(item.outcome.failure for item in members if item.outcome.failure),
        shims=outcome.shims,
        log=plain(log)[-_LONGEST_LOG:] if isinstance(log, str) and outcome.status is not Status.PASSED else "",
        cells=len(members),
        spans=order.spans({item.outcome.cell.release for item in members}),
        rows=tuple(_row(rows[key], order, curves) for key in sorted(rows, key=lambda key: str(key[0]))),
    )


def _row(outcomes: Sequence[Outcome], order: Order, curves: Mapping[CurveKey, CurveGroup]) -> EvidenceRow:
    first = outcomes[0]
    key = curve_key(first)
    return EvidenceRow(
        dimensions=str(first.cell.dimensions) if first.cell.dimensions else "",
        reason=_reason(first),
        facts=facts_of(first),
        members=tuple(
            Member(
                id=outcome.cell.id,
                release=outcome.cell.release,
                seconds=outcome.seconds,
                reused=outcome.common.reused is not None,
                training=Training.of(outcome.metrics) if key else None,
            )
            for outcome in outcomes
        ),
        spans=order.spans({outcome.cell.release for outcome in outcomes}),
        curve=curves[key] if key else None,
    )


def _title(cell: Cell) -> str:
    check = f"{cell.check}@{cell.entry}" if cell.entry else str(cell.check)
    if cell.variant is None:
        return check
    return " · ".join(filter(None, (check, cell.variant, cell.depth, f"{cell.device}-{cell.precision}")))


def _shape_key(cell: Cell) -> tuple[int, int]:
    return (cell.dimensions.vocab_size, cell.dimensions.hidden_size) if cell.dimensions else (0, 0)


def _reason(outcome: Outcome) -> str:
    """The reason without the release's own name, so that it can stand for several."""
    return one_line(outcome.reason.replace(f"{outcome.cell.release}/", "…/"), at_most=600)
