"""The answer first: which releases one can fine-tune with, which not, and why."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from harness.cells import Check, Status, Verdict
from harness.judge.settle import learned_all_the_same
from harness.judge.verdicts import Judged
from harness.matrix.expansion import native_entry
from harness.report.failures import FailureGroup, GroupKey, group_key, has_failed
from harness.report.order import Order, Span, installable
from harness.report.text import one_line, sentence
from harness.report.words import BREAKS_PROMISE, RUNG_FAILS, STATUS_NAME

_Links = dict[GroupKey, str]


class Standing(StrEnum):
    """What a release is good for, with one variant."""

    TRAINS = "trains"
    """Every cell that was run passed, and a fine-tune is among them; faults that stop nothing are told besides.

    A trainer that broke a promise, the schedule's say, and taught the model all the same has such a fault.
    """
    PASSES = "passes"
    """Every cell that was run passed, but no fine-tune was asked for."""
    PARTLY = "partly"
    """A fine-tune passed and something else failed: another shape, say."""
    FAILS = "fails"
    UNKNOWN = "unknown"
    """Nothing failed, yet nothing was learned: skipped, or a fault of the machine."""


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Why some releases are not in the list of good ones."""

    text: str
    """A sentence, without the releases."""
    spans: tuple[Span, ...]
    anchor: str
    """The failure group that it rests on; empty if there is none."""


@dataclass(frozen=True, kw_only=True)
class VariantAdvice:
    """The answer for one variant."""

    variant: str
    trains: tuple[Span, ...]
    passes: tuple[Span, ...]
    partly: tuple[Reason, ...]
    fails: tuple[Reason, ...]
    unknown: tuple[Reason, ...]
    other_trainer: tuple[Reason, ...]
    """Of releases that are good with their own trainer: what fails with the other one that they ship."""
    silent: tuple[Reason, ...]
    """Of releases that train: what is wrong with them and stops nothing, as a failed property or changed data."""
    newest: str | None
    """The newest published release that trains."""


@dataclass(frozen=True, kw_only=True)
class Advice:
    """The answer."""

    variants: tuple[VariantAdvice, ...]
    newest_for_all: str | None
    """The newest published release with which every variant can be fine-tuned."""
    fine_tuned: bool
    """Whether any fine-tune was asked for at all."""


def advise(judged: Iterable[Judged], groups: Sequence[FailureGroup], order: Order) -> Advice:
    """Draw the answer from all judged outcomes."""
    imports: dict[str, list[Judged]] = defaultdict(list)
    cells: dict[str, dict[str, list[Judged]]] = defaultdict(lambda: defaultdict(list))
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


def standing(cells: Iterable[Judged]) -> Standing:
    """What the cells of one release and variant say.

    The other trainer than its own is left out, and so are rungs that stop nothing when they fail.
    """
    asked = [item.outcome for item in cells if _counts(item) and item.outcome.status is not Status.SKIPPED]
    passed = [outcome for outcome in asked if outcome.status is Status.PASSED or learned_all_the_same(outcome)]
    tuned = any(outcome.cell.check is Check.FINETUNE for outcome in passed)
    if len(passed) == len(asked):
        if tuned:
            return Standing.TRAINS
        return Standing.PASSES if passed else Standing.UNKNOWN
    if not any(_failed_itself(outcome.status) for outcome in asked):
        return Standing.UNKNOWN
    return Standing.PARTLY if tuned else Standing.FAILS


def is_native(item: Judged) -> bool | None:
    """Whether a cell is about the trainer that the release's own recipe calls; None if it was not found out."""
    native = item.outcome.evidence.get("entry_is_native")
    return native if isinstance(native, bool) else None


def _counts(item: Judged) -> bool:
    return item.outcome.cell.check.bears and _is_of_own_trainer(item)


def _is_of_own_trainer(item: Judged) -> bool:
    cell = item.outcome.cell
    seen = is_native(item)
    return seen is not False and (seen or cell.entry in (None, native_entry(cell.release)))


def _failed_itself(status: Status) -> bool:
    return status not in (Status.PASSED, Status.SKIPPED, Status.BLOCKED, Status.ERRORED)


def _variant(variant: str, releases: dict[str, list[Judged]], order: Order, *, links: _Links) -> VariantAdvice:
    standings = {label: standing(items) for label, items in releases.items()}

    def of(wanted: Standing) -> dict[str, list[Judged]]:
        return {label: items for label, items in releases.items() if standings[label] is wanted}

    good = of(Standing.TRAINS)
    others = {label: [item for item in items if not _is_of_own_trainer(item)] for label, items in good.items()}
    silent = (
        {label: [item for item in items if _is_of_own_trainer(item) and item.outcome.cell.check is check]
         for label, items in good.items()}
        for check in Check if not check.bears or check is Check.FINETUNE
    )  # fmt: skip
    return VariantAdvice(
        variant=variant,
        trains=order.spans(good),
        passes=order.spans(of(Standing.PASSES)),
        partly=_reasons(of(Standing.PARTLY), order, links),
        fails=_reasons(of(Standing.FAILS), order, links),
        unknown=_reasons(of(Standing.UNKNOWN), order, links),
        other_trainer=_reasons(_failing(others), order, links),
        silent=tuple(reason for of_one in silent for reason in _reasons(_failing(of_one), order, links)),
        newest=_newest(frozenset(good), order),
    )


def _failing(releases: dict[str, list[Judged]]) -> dict[str, list[Judged]]:
    return {label: items for label, items in releases.items() if any(has_failed(item.outcome) for item in items)}


def _reasons(releases: dict[str, list[Judged]], order: Order, links: _Links) -> tuple[Reason, ...]:
    """One reason per distinct cause, newest releases first."""
    labels: dict[tuple[str, str], set[str]] = defaultdict(set)
    for label, items in releases.items():
        labels[_why(items, links)].add(label)
    found = [Reason(text=text, anchor=link, spans=order.spans(own)) for (text, link), own in labels.items()]
    return tuple(sorted(found, key=lambda reason: order.labels.index(reason.spans[-1].last), reverse=True))


def _why(items: Sequence[Judged], links: _Links) -> tuple[str, str]:
    """The sentence for the lowest rung that failed, and the failure group that it leads to."""
    failed = [item for item in items if has_failed(item.outcome)]
    if not failed:
        return "Nothing was learned: no cell was run to an answer.", ""
    lowest = min(failed, key=lambda item: item.outcome.cell.check.rung)
    check = lowest.outcome.cell.check
    rung = [item for item in items if item.outcome.cell.check is check and item.outcome.status is not Status.SKIPPED]
    alike = [item for item in failed if item.outcome.cell.check is check]
    shapes = sorted({item.outcome.cell.shape for item in alike if item.outcome.cell.shape})
    asked = {item.outcome.cell.shape for item in rung if item.outcome.cell.shape}
    where = f" at {', '.join(map(str, shapes))} only" if len(shapes) < len(asked) else ""
    entries = sorted({item.outcome.cell.entry for item in alike if item.outcome.cell.entry})
    trainers = f" with {' and '.join(entries)}" if entries else ""
    what = BREAKS_PROMISE if all(learned_all_the_same(item.outcome) for item in alike) else RUNG_FAILS[check]
    return sentence(f"{what}{trainers}{where}: {_cause(lowest)}"), links.get(group_key(lowest), "")


def _cause(item: Judged) -> str:
    outcome = item.outcome
    if item.issue and item.verdict is Verdict.KNOWN:
        issues = (item.issue, *item.also)
        told = "; ".join(one_line(issue.title) for issue in issues)
        return told + ("" if all(issue.explained for issue in issues) else " (not yet explained)")
    if item.verdict is Verdict.YOURS:
        return one_line(item.sentence, at_most=300)
    seen = (
        f"{outcome.failure.type} in {_place(outcome.failure.signature)}"
        if outcome.failure
        else STATUS_NAME[outcome.status]
    )
    return f"{one_line(seen, at_most=160)} (not yet explained)"


def _place(signature: str) -> str:
    return signature.partition("@")[2] or signature


def _labels(spans: Iterable[Span], order: Order) -> frozenset[str]:
    return frozenset(
        label
        for span in spans
        for label in order.labels[order.labels.index(span.first) : order.labels.index(span.last) + 1]
    )


def _newest(releases: frozenset[str], order: Order) -> str | None:
    published = [label for label in order.sorted(releases) if installable(label)]
    return published[-1] if published else None
