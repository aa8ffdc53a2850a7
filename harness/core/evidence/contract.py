"""What the checks `construct` and `loss_contract` record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.core.evidence.common import CellEvidence


@dataclass(frozen=True, kw_only=True)
class ConstructMetrics:
    """Size of the model that was built."""

    peak_resident_bytes: int | None = None
    parameters: int | None = None
    parameters_by_group: Mapping[str, int] = field(default_factory=dict)
    """Encoder, predictor, decoder and so on."""


@dataclass(frozen=True, kw_only=True)
class LossModule:
    """A classification loss of the model."""

    name: str
    """Its path in the model."""
    type: str
    classes: int | None = None
    """Number of classes that it is built for."""


@dataclass(frozen=True, kw_only=True)
class Projection:
    """A linear layer that projects to the vocabulary."""

    name: str
    in_features: int
    out_features: int


@dataclass(frozen=True, kw_only=True)
class ConstructEvidence(CellEvidence):
    """What the model is made of."""

    losses: tuple[LossModule, ...] = ()
    projections: tuple[Projection, ...] = ()
    input_size: int | None = None
    """Features of one stacked frame."""
    unregistered: tuple[str, ...] = ()
    """Attributes with modules or parameters that `named_parameters` does not give."""
    frozen: tuple[str, ...] = ()
    """Modules or parameters that do not require a gradient."""
    shared: tuple[Any, ...] = ()
    """Groups of names under which one parameter is registered."""


@dataclass(frozen=True, kw_only=True)
class ContractMetrics:
    """One forward and one backward pass."""

    peak_resident_bytes: int | None = None
    loss: float | None = None
    """None where the forward pass raised."""
    gradient_norm_by_group: Mapping[str, float] | None = None
    """L2 norm over the parameters of each group."""


@dataclass(frozen=True, kw_only=True)
class LossInput:
    """What one call of a loss received."""

    name: str
    classes: int | None = None
    """None for a CTC loss, which is built for no number of classes."""
    input_shape: tuple[int, ...] = ()
    """`[batch, length, width]`."""
    width: int | None = None


@dataclass(frozen=True, kw_only=True)
class FramesHeardRecord:
    """For each utterance `(heard, frames)`: the input frames that a gradient reaches, and how many there are."""

    features: tuple[tuple[int, ...], ...] = ()
    """On any path."""
    predictor: tuple[tuple[int, ...], ...] = ()
    """Through the predictor."""
    decoder: tuple[tuple[int, ...], ...] = ()
    """Through the decoder."""


@dataclass(frozen=True, kw_only=True)
class ContractEvidence(CellEvidence):
    """What entered the losses."""

    loss_inputs: tuple[LossInput, ...] = ()
    projection_calls: Mapping[str, int] = field(default_factory=dict)
    """Calls of each projection to the vocabulary."""
    frames_heard: FramesHeardRecord | None = None
