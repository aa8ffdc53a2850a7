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
    for indexed in contents:
        match = next(((number, row) for number, row in rows if _is(row, indexed)), None)
        if match is None:
            return KeptRows(numbers=None, changed=[])
        number, row = match
        numbers.append(number)
        if row["source"] != indexed.get("source"):
            changed.append((number, "source", str(indexed.get("source"))))
        if row["target"] != indexed.get("target"):
            changed.append((number, "target", str(indexed.get("target"))))
    return KeptRows(numbers=numbers, changed=changed)


def _is(row: Mapping[str, Any], indexed: Any) -> bool:
    if not isinstance(indexed, Mapping) or "source" not in row or "target" not in row:
        return False
    if row["source"] == indexed.get("source") and row["target"] == indexed.get("target"):
        return bool(row.get("source_len", 1) == indexed.get("source_len", 1))
    # Releases change some paths and spaces; everything else is as in the row.
    paths = [str(fields["source"]).replace("/cpfs01", "/cpfs_speech/data") for fields in (row, indexed)]
    texts = [str(fields["target"]).replace(" ", "") for fields in (row, indexed)]
    lengths = [fields.get("source_len", 1) for fields in (row, indexed)]
    return paths[0] == paths[1] and texts[0] == texts[1] and lengths[0] == lengths[1]
