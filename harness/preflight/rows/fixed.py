"""A corrected copy of a jsonl: lengths in FunASR's units, absolute paths, no byte-order mark, no blank lines."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.durable import storage_error
from harness.core.errors import InputError
from harness.corpus.jsonl import frames_of, target_length
from harness.preflight.inputs import Inputs
from harness.preflight.rows.audio import AudioHeader
from harness.preflight.rows.gathered import Gathered
from harness.preflight.rows.lengths import wrong_lengths
from harness.preflight.rows.measured import gathered
from harness.preflight.rows.reading import lines_of
from harness.text.units import plural


@dataclass(frozen=True, kw_only=True)
class Corrections:
    """What was changed in the copy."""

    path: Path
    rows: int
    lengths: int
    """Rows with another `source_len`."""
    target_lengths: int
    paths: int
    """Rows with an absolute path instead of a relative one."""
    lines: int
    """Blank lines that were left out, and byte-order marks."""

    def __str__(self) -> str:
        changes = (
            ("source_len", self.lengths), ("target_len", self.target_lengths), ("relative paths", self.paths),
            ("blank lines and byte-order marks", self.lines),
        )  # fmt: skip
        named = ", ".join(f"{name} {count:,} times" for name, count in changes if count)
        return f"{self.path}: {plural(self.rows, 'row')}; corrected: {named or 'nothing'}"


def write_fixed(inputs: Inputs, to: Path) -> Corrections:
    """Write the training rows, corrected, into a new file.

    Rows that cannot be read are left out; what no program can correct (a wrong text, a missing recording) stays.

    Raises:
        InputError: there are no rows, or the file is there already.
        StoreError: it cannot be written.
    """
    rows = gathered(inputs).train
    if rows is None or not rows.file.rows:
        raise InputError("no training rows can be read, so there is nothing to correct")
    if to.exists() or to.is_symlink():
        raise InputError(f"{to} exists; nothing is overwritten", next_step="name a new file")
    try:
        with to.open("x", encoding="utf-8", newline="\n") as file:
            return _write(rows, inputs, to, file)
    except OSError as error:
        raise storage_error(error, to, "written") from error


def _write(rows: Gathered, inputs: Inputs, to: Path, file: Any) -> Corrections:
    off = set(wrong_lengths(rows))
    counts = {"lengths": 0, "target_lengths": 0, "paths": 0}
    number = 0
    dropped = sum(rows.file.problems.counts.get(rule, 0) for rule in ("jsonl-blank-line", "jsonl-byte-order-mark"))
    for path in rows.data.files:
        for line, content in lines_of(path):
            fields = _fields(line, content)
            if fields is None:
                continue
            header = rows.headers_by_row[number]
            _correct(fields, header, inputs, counts, length=number in off or "source_len" not in fields)
            file.write(json.dumps(fields, ensure_ascii=False) + "\n")
            number += 1
    return Corrections(path=to, rows=number, lines=dropped, **counts)


def _fields(line: int, content: bytes | None) -> dict[str, Any] | None:
    """The row of a line; None exactly where `reading` finds none."""
    try:
        text = (content or b"").removeprefix(b"\xef\xbb\xbf" if line == 1 else b"").decode("utf-8").strip()
        fields = json.loads(text) if text else None
    except (ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None


def _correct(
    fields: dict[str, Any], header: AudioHeader, inputs: Inputs, counts: dict[str, int], *, length: bool
) -> None:
    source, target = fields.get("source"), fields.get("target")
    if isinstance(source, str) and source and "://" not in source and not Path(source).is_absolute():
        fields["source"] = os.path.normpath(inputs.root / source)
        counts["paths"] += 1
    if length and header.rate:
        fields["source_len"] = frames_of(header.samples * 1000 / header.rate)
        counts["lengths"] += 1
    if isinstance(target, str):
        stated_length = fields.get("target_len")
        near = isinstance(stated_length, int | float) and abs(stated_length - target_length(target)) <= max(
            2, 0.3 * len(target)
        )
        if not near:
            fields["target_len"] = target_length(target)
            counts["target_lengths"] += 1
