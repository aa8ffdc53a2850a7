"""Questions that a check asks, and reading what was seen without trusting it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class RuleAnswer(StrEnum):
    """What became of a question."""

    HOLDS = "holds"
    FAILS = "fails"
    LISTED = "listed"
    NOT_ASKED = "not_asked"


@dataclass(frozen=True, kw_only=True)
class RuleQuestion:
    """One promise, and whether it was kept."""

    name: str
    status: RuleAnswer
    message: str
    """One sentence."""
    example: Mapping[str, Any] | None = None
    """The figures of it."""


def figures(run: Mapping[str, Any], key: str) -> list[float]:
    """The numbers of a list; NaN for what is none."""
    return [math.nan if (known := finite(value)) is None else known for value in sequence(run, key)]


def finite(value: Any) -> float | None:
    """The number; None for what is none, NaN and infinity among it."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def sequence(values: Mapping[str, Any], key: str) -> Sequence[Any]:
    """The list that is held under a key; empty where there is none."""
    found = values.get(key)
    return found if isinstance(found, Sequence) and not isinstance(found, str) else ()


def mapping(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The object that is held under a key; empty where there is none."""
    found = values.get(key)
    return found if isinstance(found, Mapping) else {}


def some(names: Any) -> str:
    """The first three of many names, and how many more there are."""
    shown = [str(name) for name in names]
    more = f" and {len(shown) - 3} more" if len(shown) > 3 else ""
    return ", ".join(shown[:3]) + more


def holds(name: str, message: str, example: Mapping[str, Any] | None = None) -> RuleQuestion:
    """The promise was kept."""
    return RuleQuestion(name=name, status=RuleAnswer.HOLDS, message=message, example=example)


def fails(name: str, message: str, example: Mapping[str, Any] | None = None) -> RuleQuestion:
    """It was not."""
    return RuleQuestion(name=name, status=RuleAnswer.FAILS, message=message, example=example)


def listed(name: str, message: str, example: Mapping[str, Any] | None = None) -> RuleQuestion:
    """It was not, and the user is told so."""
    return RuleQuestion(name=name, status=RuleAnswer.LISTED, message=message, example=example)


def not_asked(name: str, message: str) -> RuleQuestion:
    """It was not put to the test, and why."""
    return RuleQuestion(name=name, status=RuleAnswer.NOT_ASKED, message=message)
