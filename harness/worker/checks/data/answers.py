"""What a question about the data came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class AnswerStatus(StrEnum):
    """`fails` is a loss, an invention or a change of the user's data without a word; `listed` is worth knowing."""

    HOLDS = "holds"
    FAILS = "fails"
    LISTED = "listed"
    NOT_ASKED = "not_asked"


@dataclass(frozen=True, kw_only=True)
class DataAnswer:
    """One question, and what was found."""

    name: str
    standing: AnswerStatus
    message: str = ""
    example: Mapping[str, Any] = field(default_factory=dict)
    """`utterance`, what the `file` says, what `arrived`; whatever of it there is."""

    def plain(self) -> dict[str, Any]:
        """As the evidence of an outcome holds it."""
        said = asdict(self)
        return {"name": self.name, "status": str(said.pop("standing")), **said}


def holds(name: str, message: str = "") -> DataAnswer:
    """All is as the user's file and the config say."""
    return DataAnswer(name=name, standing=AnswerStatus.HOLDS, message=message)


def fails(name: str, message: str, **example: Any) -> DataAnswer:
    """The user's data was lost, invented or changed, and nothing was said of it."""
    return DataAnswer(name=name, standing=AnswerStatus.FAILS, message=message, example=example)


def listed(name: str, message: str, **example: Any) -> DataAnswer:
    """What a user should know and what is no loss in silence: it was asked for, or it stops the training."""
    return DataAnswer(name=name, standing=AnswerStatus.LISTED, message=message, example=example)


def not_asked(name: str, reason: str) -> DataAnswer:
    """The release has no words for the question."""
    return DataAnswer(name=name, standing=AnswerStatus.NOT_ASKED, message=reason)
