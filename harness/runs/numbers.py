"""Numbers as outcomes spell them: what JSON cannot say is a word."""

from __future__ import annotations

from typing import Any


def number(value: Any) -> float | None:
    """A metric as a float; the strings `nan`, `inf`, `-inf` are what JSON cannot say; None if it is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and value not in ("nan", "inf", "-inf"):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def numbers(value: Any) -> tuple[float | None, ...]:
    """A list of metrics; anything else is an empty one."""
    return tuple(number(item) for item in value) if isinstance(value, list | tuple) else ()
