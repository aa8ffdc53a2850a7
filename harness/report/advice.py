"""The answer first: which releases one can fine-tune with, which not and why, and what is wrong with those that can."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from harness.config.expansion import native_entry
from harness.core.cells import Check, Severity, Status
from harness.core.versions import Order, Span, installable
from harness.report.failures import FailureGroup
from harness.report.labels import LEVEL_NAME
from harness.report.reasons import Links, Reason, Releases, faults, unknown
from harness.rules.levels import Level, gravest
from harness.rules.verdicts import JudgedOutcome

__all__ = ["Advice", "Reason", "ReleaseAnswer", "ReleaseStanding", "Tested", "VariantAdvice", "advise", "standing_of"]

SHORT_OF_BROKEN = (Severity.WRONG, Severity.MINOR)


class ReleaseStanding(StrEnum):
    """What a release is good for, with one variant."""

    TRAINS = "trains"
    """A fine-tune trained the model, and nothing is broken; what is wrong besides is listed with it."""
    PASSES = "passes"
    """Nothing is broken, but no fine-tune was in the matrix."""
    PARTLY = "partly"
    """A fine-tune trained the model and something is broken: another shape, say, or what was saved."""
    FAILS = "fails"
    """Something is broken, and nothing was trained."""
    UNKNOWN = "unknown"
    """Nothing is broken, yet nothing was learned: skipped, blocked, a fault of the machine, or the user's input."""


@dataclass(frozen=True, kw_only=True)
class Tested:
    """Releases of which the checks came out the same."""

    spans: tuple[Span, ...]
    levels: tuple[tuple[Check, Level], ...]
    """Of every check, the gravest level among its cells; `not_run` where there is none."""

    def checks(self, level: Level) -> tuple[Check, ...]:
        """The checks of one level."""
        return tuple(check for check, level_of_check in self.levels if level_of_check is level)

    @property
    def in_words(self) -> str:
        """`passed: import, construct; wrong: finetune; not run: decode`."""
        checks_by_level = ((LEVEL_NAME[level], ", ".join(self.checks(level))) for level in reversed(Level))
        return "; ".join(f"{name}: {checks}" for name, checks in checks_by_level if checks)


@dataclass(frozen=True, kw_only=True)
class ReleaseAnswer:
    """What was found with one variant in one release."""

    release: str
    standing: ReleaseStanding
    tested: Tested
    reasons: tuple[Reason, ...]
    """Everything that is wrong with it, the gravest first."""


@dataclass(frozen=True, kw_only=True)
class VariantAdvice:
    """The answer for one variant."""

    variant: str
    trains: tuple[Span, ...]
    tested: tuple[Tested, ...]
    """The checks behind `trains` and `passes`, newest releases first."""
    passes: tuple[Span, ...]
    partly: tuple[Reason, ...]
    fails: tuple[Reason, ...]
    unknown: tuple[Reason, ...]
    besides: tuple[Reason, ...]
    """What is `wrong` or `minor` in releases that train or pass, the gravest first."""
    other_trainer: tuple[Reason, ...]
    """Of the same releases: what is wrong with the other trainer that they ship."""
    newest: str | None
    """The newest published release that trains."""
    latest: ReleaseAnswer
    """The newest release of the run."""
    answers: tuple[ReleaseAnswer, ...]
    """Of every release, newest first."""

    def of(self, release: str) -> ReleaseAnswer:
        """The answer for one release of the run.

        Raises:
            KeyError: the variant was not asked in this release.
        """
        for answer in self.answers:
            if answer.release == release:
                return answer
        raise KeyError(release)


@dataclass(frozen=True, kw_only=True)
class Advice:
    """The answer."""

    variants: tuple[VariantAdvice, ...]
    newest_for_all: str | None
    """The newest published release with which every variant can be fine-tuned."""
    fine_tuned: bool
    """Whether the matrix has any fine-tune."""


def advise(judged: Iterable[JudgedOutcome], groups: Sequence[FailureGroup], order: Order) -> Advice:
    """Draw the answer from all judged outcomes.

    Args:
        judged: The outcomes of a run.
        groups: Where its failures are described; `()` where nothing is linked to.
        order: All releases that exist, those of the run among them.
    """
    imports: dict[str, list[JudgedOutcome]] = defaultdict(list)
    cells: dict[str, dict[str, list[JudgedOutcome]]] = defaultdict(lambda: defaultdict(list))
    tuned = False
    for item in judged:
        cell = item.outcome.cell
        tuned |= cell.check is Check.FINETUNE
        if cell.variant is None:
            imports[cell.release].append(item)
        else:
            cells[cell.variant][cell.release].append(item)
    links = {group.key: group.anchor for group in groups}
    variants = tuple(
        _variant(variant, {label: imports[label] + items for label, items in releases.items()}, order, links=links)
        for variant, releases in sorted(cells.items())
    )
    good = [_labels(entry.trains, order) for entry in variants]
    everywhere = frozenset.intersection(*good) if good else frozenset()
    return Advice(variants=variants, newest_for_all=_newest(everywhere, order), fine_tuned=tuned)


def standing_of(cells: Iterable[JudgedOutcome]) -> ReleaseStanding:
    """What the cells of one release and variant say; those of the other trainer than its own are left out."""
    considered = _considered(cells)
    trained = any(item.outcome.cell.check is Check.FINETUNE and _answered(item) for item in considered)
    if any(item.severity is Severity.BROKEN for item in considered):
        return ReleaseStanding.PARTLY if trained else ReleaseStanding.FAILS
    bearing = [item for item in considered if item.outcome.cell.check.blocks_dependents]
    # That a release imports says nothing of a model that it does not have.
    if not any(_answered(item) for item in considered if item.outcome.cell.variant) or not all(map(_answered, bearing)):
        return ReleaseStanding.UNKNOWN
    return ReleaseStanding.TRAINS if trained else ReleaseStanding.PASSES


def is_native(item: JudgedOutcome) -> bool | None:
    """Whether a cell is about the trainer that the release's own recipe calls; None if it was not found out."""
    native = item.outcome.evidence.get("entry_is_native")
    return native if isinstance(native, bool) else None


def _considered(cells: Iterable[JudgedOutcome]) -> list[JudgedOutcome]:
    """Cells about the release's own trainer that the release had to answer."""
    return [
        item
        for item in cells
        if _is_of_own_trainer(item) and (item.outcome.status is not Status.SKIPPED or item.severity)
    ]


def _answered(item: JudgedOutcome) -> bool:
    return Level.of(item).answers


def _is_of_own_trainer(item: JudgedOutcome) -> bool:
    cell = item.outcome.cell
    native = is_native(item)
    return native is not False and (native or cell.entry in (None, native_entry(cell.release)))


def _variant(variant: str, releases: Releases, order: Order, *, links: Links) -> VariantAdvice:
    own_trainer = {label: [item for item in items if _is_of_own_trainer(item)] for label, items in releases.items()}
    standings = {label: standing_of(items) for label, items in releases.items()}

    def of(*standings_wanted: ReleaseStanding) -> Releases:
        return {label: items for label, items in own_trainer.items() if standings[label] in standings_wanted}

    good = of(ReleaseStanding.TRAINS, ReleaseStanding.PASSES)
    others = {label: [item for item in releases[label] if not _is_of_own_trainer(item)] for label in good}
    answers = tuple(
        ReleaseAnswer(
            release=label,
            standing=standings[label],
            tested=_tested(own_trainer[label], order.spans([label])),
            reasons=faults({label: own_trainer[label]}, order, links, Severity),
        )
        for label in reversed(order.sorted(own_trainer))
    )
    return VariantAdvice(
        variant=variant,
        trains=order.spans(of(ReleaseStanding.TRAINS)),
        tested=_together(answers, order),
        passes=order.spans(of(ReleaseStanding.PASSES)),
        partly=faults(of(ReleaseStanding.PARTLY), order, links, (Severity.BROKEN,)),
        fails=faults(of(ReleaseStanding.FAILS), order, links, (Severity.BROKEN,)),
        unknown=unknown(of(ReleaseStanding.UNKNOWN), order),
        besides=faults(good, order, links, SHORT_OF_BROKEN),
        other_trainer=faults(others, order, links, Severity, trainer=True),
        newest=_newest(frozenset(of(ReleaseStanding.TRAINS)), order),
        latest=answers[0],
        answers=answers,
    )


def _tested(items: Sequence[JudgedOutcome], spans: tuple[Span, ...]) -> Tested:
    levels: dict[Check, list[Level]] = defaultdict(list)
    for item in _considered(items):
        levels[item.outcome.cell.check].append(Level.of(item))
    return Tested(spans=spans, levels=tuple((check, gravest(levels[check])) for check in Check))


def _together(answers: Iterable[ReleaseAnswer], order: Order) -> tuple[Tested, ...]:
    """The checks of releases that train or pass, those that came out the same taken together."""
    labels: dict[tuple[tuple[Check, Level], ...], list[str]] = defaultdict(list)
    for answer in answers:
        if answer.standing in (ReleaseStanding.TRAINS, ReleaseStanding.PASSES):
            labels[answer.tested.levels].append(answer.release)
    return tuple(Tested(spans=order.spans(same_labels), levels=levels) for levels, same_labels in labels.items())


def _labels(spans: Iterable[Span], order: Order) -> frozenset[str]:
    return frozenset(
        label
        for span in spans
        for label in order.labels[order.labels.index(span.first) : order.labels.index(span.last) + 1]
    )


def _newest(releases: frozenset[str], order: Order) -> str | None:
    published = [label for label in order.sorted(releases) if installable(label)]
    return published[-1] if published else None
