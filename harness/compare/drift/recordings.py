"""What two recordings of a parting say, as it is kept beside a run's outcomes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class TrainingStage(StrEnum):
    """Where in a training step two releases part."""

    START = "start"
    """The model began with other weights."""
    DATA = "data"
    """Something else entered the model."""
    DRAWS = "draws"
    """The model was given the same, and drew other random numbers."""
    MODEL = "model"
    """From the same input, weights and random numbers the forward pass made something else."""
    GRADIENT = "gradient"
    """The forward pass was the same, the gradients are not."""
    UPDATE = "update"
    """Forward pass and gradients were the same, the next weights are not."""
    NONE = "none"
    """The recordings do not differ, as far as they were recorded."""


@dataclass(frozen=True, kw_only=True)
class RecordedPlace:
    """One difference between two recorded passes."""

    kind: str
    name: str
    """Of the module or function, as it is called in texts."""
    code: str
    """File and line of the code that runs there, in the newer release; empty where there is none."""
    detail: str


@dataclass(frozen=True, kw_only=True)
class RecordedEdit:
    """A function that ran and differs between the two releases."""

    file: str
    function: str
    older: tuple[str, ...]
    """Statements that only the older has."""
    newer: tuple[str, ...]
    more: int
    """How many statements are not shown."""


@dataclass(frozen=True, kw_only=True)
class DivergenceRecording:
    """What two recordings of a parting say."""

    key: str
    """Of the parting, see `evidence.Parting.key`."""
    passes: int
    """How many forward passes of training were recorded, from the first."""
    repeated: bool
    """Whether both trainings took the very losses that the run has on record, as far as they were recorded."""
    stage: TrainingStage
    at: int | None
    """The optimizer step, counted from 1, at which they part; None where they do not."""
    first: RecordedPlace | None
    """The first module that parts."""
    same_targets: bool | None
    """Whether the model was to say the same in that step; None where it is not asked, or not seen."""
    within: RecordedPlace | None
    """The first function of the release that gave something else from the same arguments, within that module."""
    changes: tuple[RecordedEdit, ...]
    """Functions that ran in either and differ in their statements."""
    same_functions: bool
    """Whether no function that ran differs."""
