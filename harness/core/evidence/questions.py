"""One question of a check and its answer, as `data` and `checkpoint` record them.

Both worlds build it: `data` inside a release, `checkpoint` in the rules. Only the standard library is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class AnswerStatus(StrEnum):
    """What became of a question."""

    HOLDS = "holds"
    FAILS = "fails"
    """Something is lost, invented, changed or broken, and the release says nothing."""
    LISTED = "listed"
    """Worth knowing, and no failure: the release says so, or it was configured."""
    NOT_TESTED = "not_tested"
    """The release does not offer it, or it could not be observed."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question and its answer."""

    name: str
    status: AnswerStatus
    message: str = ""
    """One sentence; may be empty where it holds."""
    example: Mapping[str, Any] | None = None
    """What was observed; its keys depend on the question."""


def holds(name: str, message: str = "", example: Mapping[str, Any] | None = None) -> Question:
    """It is as promised."""
    return Question(name=name, status=AnswerStatus.HOLDS, message=message, example=example)


def fails(name: str, message: str, example: Mapping[str, Any] | None = None) -> Question:
    """It is not."""
    return Question(name=name, status=AnswerStatus.FAILS, message=message, example=example)


def listed(name: str, message: str, example: Mapping[str, Any] | None = None) -> Question:
    """It is not, and the user can know."""
    return Question(name=name, status=AnswerStatus.LISTED, message=message, example=example)


def not_tested(name: str, message: str) -> Question:
    """It was not tested; the message says why."""
    return Question(name=name, status=AnswerStatus.NOT_TESTED, message=message)
