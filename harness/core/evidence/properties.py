"""What the `properties` check records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.core.evidence.common import CellEvidence


@dataclass(frozen=True, kw_only=True)
class PropertyMetrics:
    """How much was tried."""

    peak_resident_bytes: int | None = None
    examples: int | None = None
    examples_by_property: Mapping[str, int] = field(default_factory=dict)
    seconds_by_property: Mapping[str, float] = field(default_factory=dict)
    """Processor seconds."""


@dataclass(frozen=True, kw_only=True)
class PropertyResult:
    """What the search for a counter-example gave."""

    name: str
    status: str
    """`holds`, `fails`, `known`, `does_not_apply` or `not_tested`."""
    message: str = ""
    examples: int = 0
    """Examples that decided something."""
    planned: int = 0
    """Examples that were to be drawn."""


@dataclass(frozen=True, kw_only=True)
class Counterexample:
    """An example on which a property fails."""

    property: str
    config: str
    """The model's configuration and the example, as YAML."""
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class PropertyEvidence(CellEvidence):
    """What each property gave."""

    properties: tuple[PropertyResult, ...] | None = None
    counterexamples: tuple[Counterexample, ...] = ()
    accepted_labels: tuple[int, ...] = ()
    """Labels outside the vocabulary that the model accepted."""
    stopped_by_the_time_limit: tuple[str, ...] = ()
    """Properties whose search did not finish."""
