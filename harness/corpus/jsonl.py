"""FunASR's jsonl form: what every release's `IndexDSJsonl` makes of a file, line by line, and rows as it writes them.

The rules of reading are FunASR's (`funasr/datasets/audio_datasets/index_ds.py`): a file is UTF-8 without a byte-order
mark, each line is one JSON object, and `json.loads` raises on anything else, a blank line too. What FunASR raises on is
a problem here; what it accepts is a row, whatever else is odd about it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.config.toml_tables import Problems, did_you_mean

FIELDS = ("key", "source", "target")
"""What a row is about; FunASR itself reads no `key`."""

REQUIRED_AT_FIRST = ("prompt", "source_len", "target_len")
"""What releases up to 1.0.5 require of a row besides; later ones have a default for each."""

LONGEST_LINE = 256 * 1024
"""Bytes. A row of 20 seconds of speech has some hundreds; reading stops at a line that is longer."""

MOST_PROBLEMS = 1000
"""Lines that are no rows, after which a file is none of rows."""

SUFFIXES = (".jsonl", ".json")
"""Since 1.0.25 FunASR takes a file of another name for a list of jsonl files."""

# What FunASR's releases up to 1.0.5 require of a row, and what later ones assume where it is missing.
_PROMPT = "<ASR>"

_BOMS = {b"\xef\xbb\xbf": "UTF-8", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
_SPACE = re.compile(r"[ \t\n\r]*")


@dataclass(frozen=True, kw_only=True, slots=True)
class JsonlRow:
    """A row that FunASR reads, with its bytes in the file."""

    line: int
    """Counted from 1."""
    content: bytes
    """The line's bytes, its end among them."""
    key: str
    """Empty where the row has none."""
    source: str
    """As written; empty where the row has none, and FunASR passes over it."""
    target: str
    source_len: float | None
    target_len: float | None
    text_language: str
    lacking: tuple[str, ...]
    """Those of `REQUIRED_AT_FIRST` that the row has not."""

    @property
    def name(self) -> str:
        """How a message names the row."""
        return f"line {self.line} ({self.key[:40]})" if self.key else f"line {self.line}"


def read_rows(path: Path, problems: Problems) -> tuple[JsonlRow, ...]:
    """The rows of a file; what FunASR could not read goes to `problems`, with its line."""
    if path.suffix not in SUFFIXES:
        problems.add(
            "file", f"its name must end in {' or '.join(SUFFIXES)}: since 1.0.25 FunASR takes another for a list"
        )
    rows = []
    for number, content in _lines(path, problems):
        if row := _read_row(number, content, problems):
            rows.append(row)
        elif len(problems.found) >= MOST_PROBLEMS:
            problems.add(f"line {number}", f"reading stopped here, after {MOST_PROBLEMS} lines that are no rows")
            break
    if not rows and not problems.found:
        problems.add("line 1", f"no rows; expected a JSON object with {', '.join(FIELDS)} on each line")
    elif rows and not any(row.source for row in rows):
        problems.add("line 1", "no row has a `source`: FunASR would pass over all of them")
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
        "source_len": frames_of(milliseconds),
        "target": target,
        "target_len": target_length(target),
    }
    return json.dumps(fields, ensure_ascii=False) + "\n"


def frames_of(milliseconds: float) -> int:
    """The `source_len` that FunASR's `scp2jsonl.py` writes: frames of 10 ms."""
    return int(milliseconds / 10)


def target_length(target: str) -> int:
    """The `target_len` that FunASR's `scp2jsonl.py` writes."""
    return len(target.split()) if " " in target else len(target)


def completed(row: JsonlRow, source: Path, milliseconds: float) -> str:
    """The row with an absolute path, and with the fields that some release requires; all else as it is."""
    fields = json.loads(row.content)
    usual = {
        "key": f"line{row.line}",
        "prompt": _PROMPT,
        "source_len": frames_of(milliseconds),
        "target_len": target_length(row.target),
    }
    return json.dumps({**usual, **fields, "source": str(source)}, ensure_ascii=False) + "\n"


def with_value(row: JsonlRow, field: str, value: object) -> bytes:
    """The row's bytes with another value in one field that it has; every other byte stays."""
    text = row.content.decode("utf-8")
    begin, end = value_span(text, field)
    return (text[:begin] + json.dumps(value, ensure_ascii=False) + text[end:]).encode("utf-8")


def value_span(text: str, field: str) -> tuple[int, int]:
    """The place of a field's value in a JSON object; of several of one name the last, which `json.loads` takes.

    Raises:
        KeyError: the object has no such field.
    """
    decoder, span = json.JSONDecoder(), None
    place = _past_space(text, text.index("{") + 1)
    while text[place] != "}":
        name, place = decoder.raw_decode(text, place)
        begin = _past_space(text, _past_space(text, place) + 1)
        _, end = decoder.raw_decode(text, begin)
        if name == field:
            span = (begin, end)
        place = _past_space(text, end)
        if text[place] == ",":
            place = _past_space(text, place + 1)
    if span is None:
        raise KeyError(field)
    return span


def _past_space(text: str, place: int) -> int:
    match = _SPACE.match(text, place)
    return match.end() if match else place


def _lines(path: Path, problems: Problems) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of each line, as Python's text files end them: LF, CR LF or CR."""
    number = 0
    try:
        with path.open("rb") as file:
            while chunk := file.readline(LONGEST_LINE + 1):
                if not number and (encoding := next((_BOMS[bom] for bom in _BOMS if chunk.startswith(bom)), None)):
                    problems.add("line 1", _about_mark(encoding))
                    if encoding != "UTF-8":
                        return
                    chunk = chunk.removeprefix(b"\xef\xbb\xbf")
                for content in chunk.splitlines(keepends=True) or [chunk]:
                    number += 1
                    if len(content) > LONGEST_LINE:
                        problems.add(f"line {number}", f"longer than {LONGEST_LINE} bytes: no row of speech")
                        return
                    yield number, content
    except OSError as error:
        problems.add("file", f"cannot be read: {error.strerror}")


def _about_mark(encoding: str) -> str:
    if encoding == "UTF-8":
        return "a byte-order mark, on which FunASR's json.loads raises: save the file as UTF-8 without one"
    return f"the file is {encoding}: FunASR reads UTF-8"


class _UnreadableError(Exception):
    """FunASR would raise on the row; the text says why."""


def _read_row(number: int, content: bytes, problems: Problems) -> JsonlRow | None:
    try:
        fields = _parse(content)
        # Without a source FunASR passes over the row before it looks at anything else.
        has_source = "source" in fields
        return JsonlRow(
            line=number,
            content=content,
            key=_as_text(fields.get("key", "")),
            source=_text(fields, "source") if has_source else "",
            target=_text(fields, "target") if has_source else "",
            source_len=_length(fields, "source_len") if has_source else None,
            target_len=_length(fields, "target_len") if has_source else None,
            text_language=_as_text(fields.get("text_language", "")),
            lacking=tuple(name for name in REQUIRED_AT_FIRST if name not in fields),
        )
    except _UnreadableError as error:
        problems.add(f"line {number}", str(error))
        return None


def _parse(content: bytes) -> dict[str, Any]:
    try:
        line = content.decode("utf-8").strip()
        fields = json.loads(line) if line else None
    except UnicodeDecodeError:
        raise _UnreadableError("not UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise _UnreadableError(f"not JSON: {error}") from None
    if not line:
        raise _UnreadableError("a blank line, on which FunASR's json.loads raises: take it out")
    if not isinstance(fields, dict):
        raise _UnreadableError(f"expected a JSON object, found {type(fields).__name__}")
    if "text" in fields:
        raise _UnreadableError("has a field `text`, which FunASR takes for a row of its own and cannot train on")
    return fields


def _text(fields: dict[str, Any], field: str) -> str:
    if field not in fields:
        others = [name for name in fields if name not in FIELDS]
        raise _UnreadableError(f"no `{field}`" + (f" ({did_you_mean(field, others)})" if others else ""))
    value = fields[field]
    if not isinstance(value, str):
        raise _UnreadableError(f"`{field}` must be a text, found {_shown(value)}")
    if field == "source" and not value.strip():
        raise _UnreadableError("`source` is empty")
    if field == "source" and "\0" in value:
        raise _UnreadableError("`source` holds a NUL, which no path can hold")
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise _UnreadableError(f"`{field}` holds half a character (a lone surrogate), which no file can hold")
    return value


def _length(fields: dict[str, Any], field: str) -> float | None:
    """None where the row has none: FunASR then assumes a source of 1 and a target of 0."""
    value = fields.get(field, 0)
    if not isinstance(value, int | float):
        raise _UnreadableError(f"`{field}` must be a number, found {_shown(value)}")
    try:
        return float(value) if field in fields else None
    except OverflowError:
        return float("inf")


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else _shown(value)


def _shown(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)[:60]
