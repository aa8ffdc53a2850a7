"""Baselines on disk: one file of strict JSON for each key, laid out to be read and compared line by line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from harness.core.documents import LARGEST_JSON, parse_json, read_bytes
from harness.core.durable import storage_error, write_file
from harness.core.errors import DamagedFileError
from harness.performance.baselines.records import Baseline
from harness.text.plain import plain_json


def load_baselines(folder: Path) -> tuple[Baseline, ...]:
    """All baselines of a folder; none where there is no such folder.

    Raises:
        DamagedFileError: a file is no baseline, or not the one that its name says.
        OSError: a file cannot be read.
    """
    try:
        paths = sorted(folder.glob("*.json"))
        return tuple(_read(path) for path in paths)
    except OSError as error:
        raise storage_error(error, folder, "read") from error


def write_baseline(baseline: Baseline, folder: Path) -> Path:
    """Write a baseline in the place of an older one, whole or not at all.

    Raises:
        StoreError: it could not be written; the older one is still there.
    """
    path = folder / f"{baseline.key.name}.json"
    write_file(path, text_of(baseline))
    return path


def text_of(baseline: Baseline) -> str:
    """The file's text; numbers of one figure stand in one line."""
    return _laid_out(baseline.to_json(), "") + "\n"


def _laid_out(value: object, indent: str) -> str:
    """JSON, a field a line, but lists of plain values in one."""
    deeper = indent + "  "
    if isinstance(value, Mapping) and value:
        fields = [f"{deeper}{json.dumps(key)}: {_laid_out(item, deeper)}" for key, item in value.items()]
        return "{\n" + ",\n".join(fields) + f"\n{indent}}}"
    if isinstance(value, list | tuple) and any(isinstance(item, Mapping | list | tuple) for item in value):
        return "[\n" + ",\n".join(deeper + _laid_out(item, deeper) for item in value) + f"\n{indent}]"
    return plain_json(json.dumps(value, allow_nan=False, ensure_ascii=False))


def _read(path: Path) -> Baseline:
    try:
        return _parsed(path)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DamagedFileError(
            f"{path} is not a baseline: {error}",
            cause="the file was edited, damaged, renamed, or written by another version of the harness",
            next_step=f"take it back from git (git checkout -- {path}), "
            "or remove it and accept runs again: funasr-harness baseline accept RUN RUN RUN",
        ) from error


def _parsed(path: Path) -> Baseline:
    baseline = Baseline.from_json(parse_json(read_bytes(path, LARGEST_JSON)))
    if path.stem != baseline.key.name:
        raise ValueError(f"its key is that of {baseline.key.name}.json")
    return baseline
