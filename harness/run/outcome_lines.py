"""Outcomes as lines of strict JSON, and back."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.core.cells import Outcome
from harness.core.documents import parse_json
from harness.core.earlier_schemas import upgraded
from harness.core.errors import DamagedFileError
from harness.core.wire import strict
from harness.run.archive import read_outcomes
from harness.text.plain import plain_json

_ID = re.compile(rb'\{"schema": \d+, "id": "([^"\\]*)"')
"""How a line begins."""


@dataclass(frozen=True, kw_only=True)
class Content:
    """What a file of outcomes holds."""

    outcomes: tuple[Outcome, ...]
    """One for each cell, the last written, in the order in which the cells were first written."""
    truncated: bool
    """Whether the last line was cut short."""


def line_of(outcome: Outcome) -> bytes:
    """One line, its end included.

    NaN and the infinities, which strict JSON cannot spell, become the strings "nan", "inf" and "-inf";
    a half of a surrogate pair, which UTF-8 cannot spell, is escaped as JSON does and comes back as it was.
    """
    text = plain_json(json.dumps(strict(outcome.to_json()), allow_nan=False, ensure_ascii=False))
    return text.encode("utf-8", "backslashreplace") + b"\n"


def read_lines(path: Path, only: Callable[[str], bool] | None = None) -> Content:
    """Read a file of outcomes, packed or not.

    Args:
        only: Whether the outcome of a cell of this id is wanted; the others are not checked.

    Raises:
        DamagedFileError: a whole line is not an outcome, and the message names its number; or the packed file is
            damaged.
        OSError: the file cannot be read.
    """
    raw = read_outcomes(path)
    complete_bytes = raw.rfind(b"\n") + 1
    outcomes: dict[str, Outcome] = {}
    # Split as bytes: `str.splitlines` would also break at U+2028, which a text may hold.
    for number, line in enumerate(raw[:complete_bytes].split(b"\n")[:-1], 1):
        outcome = _outcome(line, path, number, only)
        if outcome is not None:
            outcomes[outcome.cell.id] = outcome
    return Content(outcomes=tuple(outcomes.values()), truncated=complete_bytes < len(raw))


def _outcome(line: bytes, path: Path, number: int, only: Callable[[str], bool] | None) -> Outcome | None:
    try:
        return _parsed(line, only)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        problem = f"no field {error}" if isinstance(error, KeyError) else str(error)
        raise DamagedFileError(
            f"line {number} of {path} is not an outcome: {problem}",
            cause="the file was edited, damaged, or written by another version of the harness",
            next_step="remove the line to have its cell run again, or start afresh with --fresh",
        ) from error


def _parsed(line: bytes, only: Callable[[str], bool] | None) -> Outcome | None:
    if only is not None and (named := _ID.match(line)) and not only(named[1].decode("utf-8", "replace")):
        return None
    data = upgraded(parse_json(line))
    outcome = Outcome.from_json(data)
    if outcome.to_json()["cell"] != data["cell"]:
        raise ValueError("its id and its cell contradict each other")
    return outcome.as_declared()
