"""Reading metrics as they came: a value that is missing, of another kind, or not finite is None, never a guess."""

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


def whole(values: Sequence[float | None]) -> tuple[float, ...] | None:
    """The values if all of them are known and there is one at least."""
    known = tuple(value for value in values if value is not None)
    return known if known and len(known) == len(values) else None


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean of one value or more."""
    return math.fsum(values) / len(values)
