"""Reading metrics as they came: a value that is missing or of another kind is None, never a guess.

`number` wants it finite; `any_number` takes NaN and infinity too, which JSON spells as words.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


def number(value: object) -> float | None:
    """A finite number; None for anything else, booleans and the words "nan" and "inf" among it."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        converted = float(value)
    except OverflowError:
        return None
    return converted if math.isfinite(converted) else None


def count(value: object) -> int | None:
    """A number of things, 0 or more."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def sequence(value: object) -> Sequence[object]:
    """A list; empty for anything else."""
    return value if isinstance(value, list | tuple) else ()


def mapping(value: object) -> Mapping[str, object]:
    """An object of JSON; empty for anything else."""
    return value if isinstance(value, Mapping) else {}


def numbers(value: object) -> tuple[float | None, ...]:
    """A list of numbers, None in place of what is none."""
    return tuple(number(item) for item in sequence(value))


def any_number(value: object) -> float | None:
    """A metric as a float; the strings `nan`, `inf`, `-inf` are what JSON cannot say; None if it is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and value not in ("nan", "inf", "-inf"):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def any_numbers(value: object) -> tuple[float | None, ...]:
    """A list of metrics; anything else is an empty one."""
    return tuple(any_number(item) for item in value) if isinstance(value, list | tuple) else ()


def complete_values(values: Sequence[float | None]) -> tuple[float, ...] | None:
    """The values if all of them are known and there is one at least."""
    known = tuple(value for value in values if value is not None)
    return known if known and len(known) == len(values) else None


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean of one value or more."""
    return math.fsum(values) / len(values)
