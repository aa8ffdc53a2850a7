"""The rows of a user's jsonl that the dry run trains on: few, the longest among them, as in the file."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROWS = 12
LONGEST_LINE = 1 << 20
"""Bytes; no row of a jsonl is longer."""
MOST_LINES = 1_000_000
LARGEST_RECORDING = 512 << 20
USUAL_LIMIT = 2000.0
"""`source_len` that every default limit of FunASR lets pass: 20 s in frames of 10 ms."""


@dataclass(frozen=True, kw_only=True)
class SampledRow:
    """One row."""

    file: Path
    line: int
    text: str
    """The line without its end; bytes that are no UTF-8 are escaped as Python's `surrogateescape` does."""
    key: str = ""
    source: str = ""
    target: str = ""
    length: float = 0.0
    """`source_len`; 0 where there is none."""
    readable: bool = True
    """Whether the line is a JSON object with a recording that exists."""
    usable: bool = True
    """Whether it can be tried here: no address of the network, no pipe, no recording of gigabytes."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The rows that are tried, in the files' order."""

    listed: int
    rows: tuple[SampledRow, ...]
    passed_over: int
    """Rows that are not tried because they cannot be read safely here."""

    def named(self, source: str, target: str) -> SampledRow | None:
        """The row that a release read; some change spaces and parts of paths."""
        same_target = [row for row in self.rows if _bare(row.target) == _bare(target)]
        exact = [row for row in same_target if row.source == source]
        return next(iter(exact or same_target), None)


def read_sample(files: Sequence[Path], root: Path, *, most: int = ROWS) -> Sample:
    """Choose from whole files; relative recordings start at `root`.

    Raises:
        OSError: one cannot be read, or is no regular file.
    """
    rows = [_row(path, number, line, root) for path in files for number, line in _lines(path)]
    usable = [row for row in rows if row.usable]
    return Sample(listed=len(rows), rows=_chosen(usable, most), passed_over=sum(not row.usable for row in rows))


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(f"{path.name} is no regular file")
    with path.open("rb") as file:
        for number in range(1, MOST_LINES + 1):
            line = file.readline(LONGEST_LINE + 1)
            if not line:
                return
            yield number, line
            while len(line) > LONGEST_LINE and not line.endswith(b"\n"):
                line = file.readline(LONGEST_LINE)


def _row(path: Path, number: int, line: bytes, root: Path) -> SampledRow:
    if len(line) > LONGEST_LINE:
        return SampledRow(file=path, line=number, text="", readable=False, usable=False)
    text = line.decode("utf-8", "surrogateescape").rstrip("\r\n")
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        return SampledRow(file=path, line=number, text=text, readable=False)
    if not isinstance(row, Mapping) or not isinstance(row.get("source"), str):
        return SampledRow(file=path, line=number, text=text, readable=False)
    readable, usable = _recording(row["source"], root)
    return SampledRow(
        file=path,
        line=number,
        text=text,
        key=str(row.get("key", "")),
        source=row["source"],
        target=str(row.get("target", "")),
        length=_number(row.get("source_len")),
        readable=readable,
        usable=usable,
    )


def _recording(source: str, root: Path) -> tuple[bool, bool]:
    if "://" in source or "\0" in source:
        return False, False
    try:
        status = os.stat(root / source)  # noqa: PTH116 - of many rows, and without a path's normalisation
    except (OSError, ValueError):
        return False, True
    regular = stat.S_ISREG(status.st_mode) and status.st_size <= LARGEST_RECORDING
    return regular, regular


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0


def _chosen(rows: Sequence[SampledRow], most: int) -> tuple[SampledRow, ...]:
    """The longest, the longest below the usual limits, the shortest, one that cannot be read, and others evenly."""
    sound = [row for row in rows if row.readable]
    if not sound:
        return tuple(rows[:most])
    by_length = sorted(sound, key=lambda row: row.length)
    first = [by_length[-1], by_length[0], max(sound, key=lambda row: len(row.target))]
    first += [row for row in reversed(by_length) if row.length <= USUAL_LIMIT][:1]
    first += [row for row in rows if not row.readable][:1]
    chosen = {(row.file, row.line): row for row in first}
    for place in range(most):
        row = sound[place * len(sound) // most]
        if len(chosen) < most:
            chosen.setdefault((row.file, row.line), row)
    for row in sound:
        if len(chosen) >= most:
            break
        chosen.setdefault((row.file, row.line), row)
    return tuple(row for row in rows if (row.file, row.line) in chosen)


def _bare(text: str) -> str:
    return "".join(text.split())
