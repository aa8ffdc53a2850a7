"""What two recordings of a divergence say, and `drift.json` next to a run's outcomes, which keeps it for the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from harness.core.documents import LARGEST_JSON, parse_json, read_bytes
from harness.core.durable import storage_error, write_json
from harness.core.earlier_schemas import with_present_ids
from harness.core.errors import DamagedFileError
from harness.core.evidence.parsing import parse

DRIFT = "drift.json"
SCHEMA = 1


class TrainingStage(StrEnum):
    """Where in a training step two releases diverge."""

    START = "start"
    """The model had other initial weights."""
    DATA = "data"
    """The model got another input."""
    DRAWS = "draws"
    """The model got the same input, and drew other random numbers."""
    MODEL = "model"
    """With the same input, weights and random numbers the forward pass gave something else."""
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
    """What two recordings of a divergence say."""

    key: str
    """Of the divergence, see `divergences.CurveDivergence.key`."""
    passes: int
    """How many forward passes of training were recorded, from the first."""
    repeated: bool
    """Whether both trainings took the very losses that the run has on record, as far as they were recorded."""
    stage: TrainingStage
    at: int | None
    """The optimizer step, counted from 1, at which they diverge; None where they do not."""
    first: RecordedPlace | None
    """The first module that differs."""
    same_targets: bool | None
    """Whether the target tokens of that step are equal; None where that is no question, or not seen."""
    within: RecordedPlace | None
    """The first function of the release that gave something else from the same arguments, within that module."""
    changes: tuple[RecordedEdit, ...]
    """Functions that ran in either and differ in their statements."""
    same_functions: bool
    """Whether no function that ran differs."""


def load_recordings(folder: Path) -> dict[str, DivergenceRecording]:
    """The recordings of a run's divergences, by the divergence's key; none where nothing was recorded.

    Raises:
        DamagedFileError: the file is damaged.
    """
    path = folder / DRIFT
    try:
        data = parse_json(with_present_ids(read_bytes(path, LARGEST_JSON).decode("utf-8")))
        return _recordings(data)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise storage_error(error, path, "read") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DamagedFileError(
            f"{path} is no record of divergences: {error}",
            cause="the file was edited, or written by another version of the harness",
            next_step="remove it, and record again with: funasr-harness drift RUN --trace all",
        ) from error


def add_recording(folder: Path, recording: DivergenceRecording) -> Path:
    """Keep a recording, in the place of an earlier one of the same divergence.

    Raises:
        StoreError: the file cannot be read or written.
    """
    known = load_recordings(folder) | {recording.key: recording}
    path = folder / DRIFT
    write_json(path, {"schema": SCHEMA, "recordings": [asdict(known[key]) for key in sorted(known)]})
    return path


def _recordings(data: Mapping[str, Any]) -> dict[str, DivergenceRecording]:
    if data["schema"] != SCHEMA:
        raise ValueError(f"schema {data['schema']}, this harness reads {SCHEMA}")
    recordings = parse(tuple[DivergenceRecording, ...], data["recordings"], place="recordings", strict=True)
    return {recording.key: recording for recording in recordings}
