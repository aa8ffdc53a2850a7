"""`drift.json` beside a run's outcomes: what recordings of its partings gave, so that its report can tell it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.compare.drift.recordings import DivergenceRecording, RecordedEdit, RecordedPlace, TrainingStage
from harness.core.cells import with_present_ids
from harness.core.durable import replace_file, storage_error
from harness.core.errors import StoreError

DRIFT = "drift.json"
SCHEMA = 1


def load_recordings(folder: Path) -> dict[str, DivergenceRecording]:
    """The recordings of a run's partings, by the parting's key; none where nothing was recorded.

    Raises:
        StoreError: the file is damaged.
    """
    path = folder / DRIFT
    try:
        data = json.loads(with_present_ids(path.read_text("utf-8")))
        return _recordings(data)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise storage_error(error, path, "read") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StoreError(
            f"{path} does not say where curves part: {error}",
            cause="the file was edited, or written by another version of the harness",
            next_step="remove it, and record anew with: funasr-harness drift RUN --trace all",
        ) from error


def add_recording(folder: Path, recording: DivergenceRecording) -> Path:
    """Keep a recording, in the place of an earlier one of the same parting.

    Raises:
        StoreError: the file cannot be read or written.
    """
    known = load_recordings(folder) | {recording.key: recording}
    path = folder / DRIFT
    text = json.dumps(
        {"schema": SCHEMA, "recordings": [asdict(known[key]) for key in sorted(known)]},
        indent=1,
        ensure_ascii=False,
        allow_nan=False,
    )
    try:
        replace_file(path, f"{text}\n".encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise storage_error(error, path, "written") from error
    return path


def _recordings(data: Mapping[str, Any]) -> dict[str, DivergenceRecording]:
    if data["schema"] != SCHEMA:
        raise ValueError(f"schema {data['schema']}, this harness reads {SCHEMA}")
    return {one["key"]: _recording(one) for one in data["recordings"]}


def _recording(data: Mapping[str, Any]) -> DivergenceRecording:
    changes = tuple(
        RecordedEdit(**{**one, "older": tuple(one["older"]), "newer": tuple(one["newer"])}) for one in data["changes"]
    )
    places = {name: RecordedPlace(**data[name]) if data[name] else None for name in ("first", "within")}
    return DivergenceRecording(**{**data, **places, "stage": TrainingStage(data["stage"]), "changes": changes})
