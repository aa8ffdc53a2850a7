"""What the `decode` check records."""

from __future__ import annotations

from dataclasses import dataclass

from harness.core.evidence.common import CellEvidence
from harness.core.evidence.training import ConfigInForce, Recipe
from harness.core.evidence.verdicts import DecodeVerdict


@dataclass(frozen=True, kw_only=True)
class DecodeMetrics:
    """What was said, and what the model, trained and untrained, makes of it."""

    peak_resident_bytes: int | None = None
    steps: int | None = None
    """Optimizer steps of the training."""
    losses: tuple[float | None, ...] = ()
    """Of each forward pass."""
    config_in_force: ConfigInForce | None = None
    schedule: Recipe | None = None
    """Learning rate and warm-up of the check's own training."""
    keys: tuple[str, ...] | None = None
    """Of the utterances."""
    references: tuple[str, ...] | None = None
    hypotheses: tuple[str, ...] | None = None
    """Of the trained model."""
    untrained_hypotheses: tuple[str, ...] | None = None
    error_rate_allowed: float | None = None
    """Highest character error rate that passes."""
    weights_tensors: int | None = None
    """Tensors of the model."""
    weights_differ_count: int | None = None
    """Tensors that differ after loading from those at the end of the training."""
    weights_differ: tuple[str, ...] | None = None
    """The first of them."""


@dataclass(frozen=True, kw_only=True)
class DecodeEvidence(CellEvidence):
    """How the model was loaded, and the verdict."""

    loaded_as: str = ""
    """`folder`, or `config and checkpoint`."""
    decoding: DecodeVerdict | None = None
    """The verdict of `harness.rules.decode`."""
