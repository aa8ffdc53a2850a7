"""Which rows of the user's files a release's index keeps, and in what form."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class KeptRows:
    """What an index made of the files; rows are numbered over all files, from 0, counting JSON objects only."""

    numbers: list[int] | None
    """Of each row that it kept; None where its rows are not the files'."""
    changed: list[tuple[int, str, str]]
    """Rows whose `source` or `target` it changed: number, field and the new value."""


def rows_of(files: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    """The JSON objects of the files, in order."""
    for path in files:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123 - as the releases do
            for line in file:
                data = json.loads(line.strip())
                if isinstance(data, dict):
                    yield data


def kept_rows(contents: Any, files: Sequence[str]) -> KeptRows:
    """Find an index's rows in the files; it keeps their order."""
    numbers: list[int] = []
    changed: list[tuple[int, str, str]] = []
    if not isinstance(contents, list):
        return KeptRows(numbers=None, changed=[])
    rows = enumerate(rows_of(files))
    for kept in contents:
        found = next(((number, row) for number, row in rows if _is(row, kept)), None)
        if found is None:
            return KeptRows(numbers=None, changed=[])
        number, row = found
        numbers.append(number)
        if row["source"] != kept.get("source"):
            changed.append((number, "source", str(kept.get("source"))))
        if row["target"] != kept.get("target"):
            changed.append((number, "target", str(kept.get("target"))))
    return KeptRows(numbers=numbers, changed=changed)


def _is(row: Mapping[str, Any], kept: Any) -> bool:
    if not isinstance(kept, Mapping) or "source" not in row or "target" not in row:
        return False
    if row["source"] == kept.get("source") and row["target"] == kept.get("target"):
        return bool(row.get("source_len", 1) == kept.get("source_len", 1))
    # Releases change some paths and spaces; everything else is as in the row.
    paths = [str(one["source"]).replace("/cpfs01", "/cpfs_speech/data") for one in (row, kept)]
    texts = [str(one["target"]).replace(" ", "") for one in (row, kept)]
    lengths = [one.get("source_len", 1) for one in (row, kept)]
    return paths[0] == paths[1] and texts[0] == texts[1] and lengths[0] == lengths[1]
