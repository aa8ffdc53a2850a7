"""What the `data` check records."""

from __future__ import annotations

from dataclasses import dataclass

from harness.core.evidence.common import CellEvidence
from harness.core.evidence.questions import Question


@dataclass(frozen=True, kw_only=True)
class DataMetrics:
    """How much was looked at."""

    peak_resident_bytes: int | None = None
    utterances: int | None = None
    epochs: int | None = None
    batches: int | None = None
    questions: int | None = None
    """Questions that were answered, and below how many of each answer."""
    questions_holds: int | None = None
    questions_fails: int | None = None
    questions_listed: int | None = None
    questions_not_tested: int | None = None


@dataclass(frozen=True, kw_only=True)
class DataEvidence(CellEvidence):
    """The check's questions."""

    questions: tuple[Question, ...] | None = None
