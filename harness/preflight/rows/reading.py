"""The rows of a jsonl file as written, line by line in bounded memory, and what a release's index cannot read.

Every release reads a file so: UTF-8 without a byte-order mark, `json.loads` of each stripped line
(`funasr/datasets/audio_datasets/index_ds.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.corpus.jsonl import LONGEST_LINE

MOST_ROWS = 1_000_000
"""Rows that are read; a longer file is said to be read in part."""

MOST_PROBLEMS = 2_000
"""Lines with a problem of one kind that are kept; the rest is counted."""

_CHUNK = 1 << 20
_BOMS = {b"\xef\xbb\xbf": "UTF-8", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


@dataclass(frozen=True, slots=True)
class JsonRow:
    """One JSON object of the file, as FunASR's index would take it."""

    line: int
    """Counted from 1."""
    file: int
    """Which of the set's files."""
    key: str
    source: str
    """Empty where the row has none."""
    target: str
    source_len: float | None
    """As stated; None where it is not, or is no number."""
    target_len: float | None

    @property
    def name(self) -> str:
        """How a message names it."""
        return f"line {self.line} ({self.key[:40]})" if self.key else f"line {self.line}"


@dataclass
class LineProblems:
    """Lines by what is wrong with them: the first ones, and how many there are."""

    lines: dict[str, list[tuple[int, int, str]]] = field(default_factory=dict)
    """By rule: file, line and detail."""
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, rule: str, file: int, line: int, detail: str = "") -> None:
        """Keep a line."""
        self.counts[rule] = self.counts.get(rule, 0) + 1
        lines_of_rule = self.lines.setdefault(rule, [])
        if len(lines_of_rule) < MOST_PROBLEMS:
            lines_of_rule.append((file, line, detail))


@dataclass(frozen=True, kw_only=True)
class RowFile:
    """All rows of a set."""

    rows: tuple[JsonRow, ...] = field(repr=False)
    problems: LineProblems
    complete: bool
    """Whether every line was read: no line is longer than memory is for, and there are no more than `MOST_ROWS`."""
    line_ends: frozenset[str] = frozenset()


def read_rows(files: tuple[Path, ...], *, audio_rows: bool = True) -> RowFile:
    """The rows of some files.

    Args:
        files: Regular files.
        audio_rows: Whether a row must have `source` and `target`; the indexes of other datasets read other fields.

    Raises:
        OSError: a file cannot be read.
    """
    rows: list[JsonRow] = []
    problems = LineProblems()
    complete = True
    ends: set[str] = set()
    for number, path in enumerate(files):
        for line, content in lines_of(path):
            if len(rows) >= MOST_ROWS:
                complete = False
                break
            if content is None:
                problems.add("jsonl-line-too-long", number, line)
                complete = False
                continue
            if content.endswith(b"\r\n") or b"\r" in content[:-2]:
                ends.add("CR LF" if content.endswith(b"\r\n") else "CR")
            row = _row(number, line, content, problems, audio_rows)
            if row is not None:
                rows.append(row)
    return RowFile(rows=tuple(rows), problems=problems, complete=complete, line_ends=frozenset(ends))


def lines_of(path: Path) -> Iterator[tuple[int, bytes | None]]:
    """Number and bytes of each line; None for one that is too long, which is passed over in pieces."""
    number = 0
    with path.open("rb", buffering=_CHUNK) as file:
        while content := file.readline(LONGEST_LINE + 1):
            number += 1
            if len(content) <= LONGEST_LINE:
                yield number, content
                continue
            while content and not content.endswith(b"\n"):
                content = file.readline(_CHUNK)
            yield number, None


def _row(file: int, line: int, content: bytes, problems: LineProblems, audio_rows: bool) -> JsonRow | None:
    bom = next((name for mark, name in _BOMS.items() if content.startswith(mark)), None) if line == 1 else None
    if bom is not None:
        problems.add("jsonl-byte-order-mark" if bom == "UTF-8" else "jsonl-encoding", file, line, bom)
        content = content[3:] if bom == "UTF-8" else content
    try:
        text = content.decode("utf-8").strip()
        if not text:
            problems.add("jsonl-blank-line", file, line)
            return None
        fields = json.loads(text)
    except UnicodeDecodeError as error:
        problems.add("jsonl-encoding", file, line, f"byte 0x{content[error.start]:02x} at {error.start}")
        return None
    except (ValueError, RecursionError) as error:
        problems.add("jsonl-not-json", file, line, str(error)[:120])
        return None
    if not isinstance(fields, dict):
        problems.add("jsonl-not-json", file, line, f"a JSON object is expected, found {type(fields).__name__}")
        return None
    return _checked(file, line, fields, problems, audio_rows)


def _checked(file: int, line: int, fields: Mapping[str, Any], problems: LineProblems, audio_rows: bool) -> JsonRow:
    source, target = fields.get("source"), fields.get("target")
    if audio_rows:
        if source is None:
            problems.add("row-without-source", file, line, ", ".join(map(str, fields))[:80])
        elif "target" not in fields:
            problems.add("row-without-target", file, line, ", ".join(map(str, fields))[:80])
        for name, value in (("source", source), ("target", target)):
            if name in fields and not isinstance(value, str):
                problems.add("row-field-type", file, line, f"`{name}` is {_kind(value)}, a text is expected")
        for name in ("source_len", "target_len"):
            value = fields.get(name, 0)
            if isinstance(value, bool) or not isinstance(value, int | float):
                problems.add("row-field-type", file, line, f"`{name}` is {_kind(value)}, a number is expected")
    key = fields.get("key", "")
    return JsonRow(
        line,
        file,
        key if isinstance(key, str) else str(key)[:80],
        source if isinstance(source, str) else "",
        target if isinstance(target, str) else "",
        _number(fields.get("source_len")),
        _number(fields.get("target_len")),
    )


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return float("inf")


def _kind(value: Any) -> str:
    return f"{json.dumps(value, ensure_ascii=False, default=str)[:40]} ({type(value).__name__})"
