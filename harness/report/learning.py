"""The metrics of fine-tuning, and the releases that share a loss curve.

On a CPU the same seed gives bit-identical losses, so equal curves are the norm there, and a release whose curve
differs computes something different from its neighbours.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from harness.core.cells import Check, Dimensions, Entry, Outcome, Verdict
from harness.core.numbers import any_number, any_numbers
from harness.core.versions import Order, Span
from harness.report.advice import is_native
from harness.rules.levels import Level
from harness.rules.verdicts import JudgedOutcome
from harness.text import units

CurveKey = tuple[object, ...]
"""Variant, dimensions, depth, device, precision, and every loss, exactly."""


@dataclass(frozen=True, kw_only=True)
class Named:
    """A number with its name."""

    name: str
    value: float | None


@dataclass(frozen=True, kw_only=True)
class Statistic:
    """One of the trainer's own statistics over the steps."""

    name: str
    values: tuple[float | None, ...]


@dataclass(frozen=True, kw_only=True)
class Training:
    """The metrics of a `finetune` cell; None or empty where a metric is missing."""

    steps: int | None
    steps_expected: int | None
    losses: tuple[float | None, ...]
    """One per optimizer step; may hold NaN and infinity."""
    epoch_losses: tuple[float | None, ...]
    step_seconds: float | None
    """The median."""
    samples_per_second: float | None
    audio_seconds_per_second: float | None
    gradient_norms: tuple[float | None, ...]
    learning_rates: tuple[float | None, ...]
    statistics: tuple[Statistic, ...]
    changes: tuple[Named, ...]
    """How much the parameters of each part changed, relative to their own size."""
    peak_resident_bytes: float | None
    peak_allocated_bytes: float | None
    peak_reserved_bytes: float | None
    peak_used_bytes: float | None

    @classmethod
    def of(cls, metrics: Mapping[str, object]) -> Self:
        """Read the metrics as they came; whatever is not of the expected kind counts as not had."""
        steps = units.finite(any_numbers(metrics.get("step_seconds")))
        return cls(
            steps=_whole_number(metrics.get("steps")),
            steps_expected=_whole_number(metrics.get("steps_expected")),
            losses=any_numbers(metrics.get("losses")),
            epoch_losses=any_numbers(metrics.get("epoch_losses")),
            step_seconds=statistics.median(steps) if steps else None,
            samples_per_second=any_number(metrics.get("samples_per_second")),
            audio_seconds_per_second=any_number(metrics.get("audio_seconds_per_second")),
            gradient_norms=any_numbers(metrics.get("gradient_norms")),
            learning_rates=any_numbers(metrics.get("learning_rates")),
            statistics=tuple(
                Statistic(name=name, values=any_numbers(values)) for name, values in _items(metrics.get("stats"))
            ),
            changes=named(metrics.get("relative_change_by_group")),
            peak_resident_bytes=any_number(metrics.get("peak_resident_bytes")),
            peak_allocated_bytes=any_number(metrics.get("peak_allocated_bytes")),
            peak_reserved_bytes=any_number(metrics.get("peak_reserved_bytes")),
            peak_used_bytes=any_number(metrics.get("peak_used_bytes")),
        )


@dataclass(frozen=True, kw_only=True)
class CurveUse:
    """Cells that learned along one curve, with the same trainer and the same end."""

    entry: Entry | None
    native: bool | None
    """Whether this is the trainer that the releases' own recipe calls; None if it was not found out."""
    level: Level
    verdict: Verdict
    spans: tuple[Span, ...]
    example: str
    """The id of a cell of the newest release."""


@dataclass(frozen=True, kw_only=True)
class CurveGroup:
    """All fine-tunes whose losses are bit-identical at every step."""

    number: int
    key: CurveKey
    variant: str | None
    dimensions: Dimensions | None
    place: str
    """Depth, device and precision."""
    losses: tuple[float | None, ...]
    epoch_losses: tuple[float | None, ...]
    releases: tuple[Span, ...]
    cells: int
    uses: tuple[CurveUse, ...]

    @property
    def anchor(self) -> str:
        """The fragment that leads to the curve."""
        return f"curve-{self.number}"

    @property
    def steps(self) -> int:
        """How many optimizer steps the curve shows."""
        return len(self.losses)

    @property
    def title(self) -> str:
        """What the picture shows, for those who cannot see it."""
        first, last = units.loss(self.losses[0]), units.loss(self.losses[-1])
        return f"Loss of {self.variant} {self.dimensions} over {self.steps} optimizer steps: {first} to {last}"


def curve_key(outcome: Outcome) -> CurveKey | None:
    """Equal for cells that share a curve; None for a cell without one. NaN counts as equal to NaN."""
    cell = outcome.cell
    losses = outcome.metrics.get("losses")
    if cell.check is not Check.FINETUNE or not isinstance(losses, list | tuple) or not losses:
        return None
    exact = tuple(map(repr, any_numbers(losses)))
    return (cell.variant, cell.dimensions, cell.depth, cell.device, cell.precision, exact)


def group_curves(judged: Iterable[JudgedOutcome], order: Order) -> dict[CurveKey, CurveGroup]:
    """The curves by `curve_key`; numbered by variant and dimensions, the newest releases first."""
    groups: dict[CurveKey, list[JudgedOutcome]] = defaultdict(list)
    for item in judged:
        key = curve_key(item.outcome)
        if key is not None:
            groups[key].append(item)
    age = {label: number for number, label in enumerate(order.labels)}

    def rank(key: CurveKey) -> tuple[object, ...]:
        newest = max(age[item.outcome.cell.release] for item in groups[key])
        return (*map(str, key[:5]), -newest)

    return {
        key: _group(number, key, groups[key], order) for number, key in enumerate(sorted(groups, key=rank), start=1)
    }


def named(value: object) -> tuple[Named, ...]:
    """A metric that is a number for each part of the model."""
    return tuple(Named(name=name, value=any_number(item)) for name, item in _items(value))


def _group(number: int, key: CurveKey, members: list[JudgedOutcome], order: Order) -> CurveGroup:
    first = members[0].outcome
    training = Training.of(first.metrics)
    uses: dict[tuple[object, ...], list[JudgedOutcome]] = defaultdict(list)
    for item in members:
        uses[item.outcome.cell.entry, is_native(item), Level.of(item), item.verdict].append(item)
    return CurveGroup(
        number=number,
        key=key,
        variant=first.cell.variant,
        dimensions=first.cell.dimensions,
        place=" ".join(filter(None, (first.cell.depth, f"{first.cell.device}-{first.cell.precision}"))),
        losses=training.losses,
        epoch_losses=training.epoch_losses,
        releases=order.spans({item.outcome.cell.release for item in members}),
        cells=len(members),
        uses=tuple(_use(items, order) for _, items in sorted(uses.items(), key=lambda use: str(use[0]))),
    )


def _use(members: list[JudgedOutcome], order: Order) -> CurveUse:
    by_release = {item.outcome.cell.release: item for item in members}
    example = members[0]
    return CurveUse(
        entry=example.outcome.cell.entry,
        native=is_native(example),
        level=Level.of(example),
        verdict=example.verdict,
        spans=order.spans(by_release),
        example=by_release[order.sorted(by_release)[-1]].outcome.cell.id,
    )


def _items(value: object) -> list[tuple[str, object]]:
    return [(str(name), item) for name, item in value.items()] if isinstance(value, Mapping) else []


def _whole_number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
