"""Text given back: what each release's models, trained until they know a few utterances, make of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.core.cells import Check, Entry
from harness.core.release_order import Order
from harness.rules.decode import DECODING
from harness.rules.levels import Level
from harness.rules.verdicts import JudgedOutcome


@dataclass(frozen=True, kw_only=True)
class DecodedLine:
    """One utterance: what was said and what came back."""

    key: str
    reference: str
    hypothesis: str
    error_rate: float | None


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """One `decode` cell that came to text."""

    id: str
    release: str
    variant: str
    entry: Entry | None
    place: str
    level: Level
    steps: int | None
    """Of the training before."""
    error_rate: float | None
    untrained_error_rate: float | None
    allowed: float | None
    loaded_as: str
    """`folder`, or `config and checkpoint`."""
    reasons: tuple[str, ...]
    lines: tuple[DecodedLine, ...]


def decoded(judged: Iterable[JudgedOutcome], order: Order) -> tuple[Decoded, ...]:
    """The `decode` cells of a run that were judged, those of the newest release first."""
    age = {label: number for number, label in enumerate(order.labels)}
    found = [one for item in judged if (one := _decoded(item)) is not None]
    return tuple(sorted(found, key=lambda one: (-age.get(one.release, -1), one.variant, str(one.entry), one.place)))


def _decoded(item: JudgedOutcome) -> Decoded | None:
    outcome, cell = item.outcome, item.outcome.cell
    verdict = outcome.evidence.get(DECODING)
    if cell.check is not Check.DECODE or not isinstance(verdict, Mapping):
        return None
    return Decoded(
        id=cell.id,
        release=cell.release,
        variant=str(cell.variant),
        entry=cell.entry,
        place=f"{cell.dimensions} {cell.depth} {cell.device}-{cell.precision}",
        level=Level.of(item),
        steps=outcome.metrics.get("steps"),
        error_rate=verdict.get("error_rate"),
        untrained_error_rate=verdict.get("untrained_error_rate"),
        allowed=verdict.get("allowed"),
        loaded_as=str(outcome.evidence.get("loaded_as") or ""),
        reasons=tuple(str(reason) for reason in verdict.get("reasons") or ()),
        lines=tuple(_line(one) for one in _sequence(verdict.get("utterances"))),
    )


def _line(one: Mapping[str, Any]) -> DecodedLine:
    return DecodedLine(
        key=str(one.get("key")),
        reference=str(one.get("reference")),
        hypothesis=str(one.get("hypothesis")),
        error_rate=one.get("error_rate"),
    )


def _sequence(value: Any) -> Sequence[Any]:
    return value if isinstance(value, Sequence) and not isinstance(value, str) else ()
