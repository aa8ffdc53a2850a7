"""FunASR's jsonl form: a row per utterance, read with all its problems and written as every release reads it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.tables import Problems, did_you_mean

FIELDS = ("key", "source", "target")
"""What a row must have. `source_len` and `target_len` are counted again; other fields are not handed on."""

# What FunASR's releases up to 1.0.5 require of a row, and what later ones assume where it is missing.
_PROMPT = "<ASR>"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a user's file that has all it needs."""

    line: int
    """Counted from 1."""
    key: str
    source: str
    """As written: absolute, or relative to the file's folder."""
    target: str
    """Without spaces at its ends or next to one another."""


def read_rows(path: Path, problems: Problems) -> tuple[Row, ...]:
    """The usable rows of a file; what is wrong with the others, or with all of them, goes to `problems`."""
    rows: list[Row] = []
    lines: dict[str, int] = {}
    for number, line in _lines(path, problems):
        row = _read_row(number, line, problems)
        if row is None:
            continue
        first = lines.setdefault(row.key, number)
        if first != number:
            problems.add(f"line {number}", f"the key {row.key!r} is already that of line {first}")
            continue
        rows.append(row)
    if not rows and not problems.found:
        problems.add("line 1", f"no rows; expected a JSON object with {', '.join(FIELDS)} on each line")
    return tuple(rows)


def row(key: str, source: Path, milliseconds: float, target: str) -> str:
    """One line of a file, with its end.

    `source_len` is in frames of 10 ms; `target_len` in characters, or in words where the text has spaces:
    so `funasr/datasets/audio_datasets/scp2jsonl.py` counts them since 1.1.8.

    `milliseconds` is the number of samples × 1000 ÷ the sampling rate, in this order of operations.
    """
    fields: dict[str, str | int] = {
        "key": key,
        "prompt": _PROMPT,
        "source": str(source),
        "source_len": int(milliseconds / 10),
        "target": target,
        "target_len": len(target.split()) if " " in target else len(target),
    }
    return json.dumps(fields, ensure_ascii=False) + "\n"


def _lines(path: Path, problems: Problems) -> Iterator[tuple[int, str]]:
    try:
        content = path.read_bytes()
    except OSError as error:
        problems.add("file", f"cannot be read: {error.strerror}")
        return
    # Only "\n" ends a line: `splitlines` would also break inside a text that holds U+2028.
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        try:
            decoded = line.decode("utf-8").strip()
        except UnicodeDecodeError:
            problems.add(f"line {number}", "not UTF-8")
            continue
        if decoded:
            yield number, decoded


def _read_row(number: int, line: str, problems: Problems) -> Row | None:
    place = f"line {number}"
    try:
        fields = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        problems.add(place, f"not JSON: {error}")
        return None
    if not isinstance(fields, dict):
        problems.add(place, f"expected a JSON object, found {type(fields).__name__}")
        return None
    values = {field: _text_field(fields, field, place, problems) for field in FIELDS}
    key, source, target = (values[field] for field in FIELDS)
    if target is not None:
        target = _clean_target(target, place, problems)
    if key is None or source is None or target is None:
        return None
    return Row(line=number, key=key, source=source, target=target)


def _text_field(fields: dict[str, Any], field: str, place: str, problems: Problems) -> str | None:
    value = fields.get(field)
    if field not in fields:
        others = [name for name in fields if name not in FIELDS]
        hint = f" ({did_you_mean(field, others)})" if others else ""
        problems.add(place, f"no `{field}`{hint}")
        return None
    if not isinstance(value, str):
        problems.add(place, f"`{field}` must be a text, found {json.dumps(value)[:60]}")
        return None
    if not value.strip():
        problems.add(place, f"`{field}` is empty")
        return None
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        problems.add(place, f"`{field}` holds half a character (a lone surrogate), which no file can hold")
        return None
    return value


def _clean_target(target: str, place: str, problems: Problems) -> str | None:
    # FunASR splits at the ordinary space alone, and makes <unk> of what is between two of them.
    odd = sorted({letter for letter in target.strip() if letter.isspace() and letter != " "})
    if odd:
        names = ", ".join(f"U+{ord(letter):04X}" for letter in odd)
        problems.add(place, f"`target` holds white space other than the ordinary space ({names})")
        return None
    return " ".join(target.split())
