"""Comparing the rows that arrive in batches with the expected ones, and the result of one comparison."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.core.evidence.questions import AnswerStatus, Question
from harness.worker.checks.data import inputs
from harness.worker.checks.data.inputs import CharTokenization, MadeUtterance
from harness.worker.trainer.reference_features import ReferenceFrontend


def holds(name: str, message: str = "") -> Question:
    """The data is as the user's file and the config state."""
    return Question(name=name, status=AnswerStatus.HOLDS, message=message, example={})


def fails(name: str, message: str, **example: Any) -> Question:
    """The user's data was lost, invented or changed without a message."""
    return Question(name=name, status=AnswerStatus.FAILS, message=message, example=example)


def listed(name: str, message: str, **example: Any) -> Question:
    """Worth knowing, but no silent loss: it was configured, or it stops the training."""
    return Question(name=name, status=AnswerStatus.LISTED, message=message, example=example)


def not_tested(name: str, reason: str) -> Question:
    """The release does not have what the test needs."""
    return Question(name=name, status=AnswerStatus.NOT_TESTED, message=reason, example={})


@dataclass(frozen=True, kw_only=True)
class ReceivedRow:
    """One utterance of a batch, without its padding."""

    ids: tuple[int, ...]
    frames: int
    """Stacked frames, as the batch states."""
    features: Any
    """float32 `[frames, size]`; fewer frames if the batch has fewer than it states."""

    def describe(self) -> str:
        """For a message."""
        return f"{self.frames} frames, tokens: {inputs.token_text(self.ids) or 'none'}"


def rows_of(batch: Mapping[str, Any]) -> list[ReceivedRow]:
    """The rows of a batch in the form of FunASR's collator; an empty batch is an empty mapping."""
    if not batch or "speech" not in batch:
        return []
    frames = [int(length) for length in batch["speech_lengths"].reshape(-1)]
    tokens = [int(length) for length in batch["text_lengths"].reshape(-1)]
    return [
        ReceivedRow(
            ids=tuple(int(number) for number in batch["text"][place][: tokens[place]]),
            frames=frames[place],
            features=batch["speech"][place][: frames[place]].numpy(),
        )
        for place in range(len(batch["speech"]))
    ]


def padding_problem(batch: Mapping[str, Any]) -> str:
    """What is wrong beyond the ends of a batch's rows; empty if nothing is."""
    for place, row in enumerate(rows_of(batch)):
        if len(row.features) < row.frames:
            return f"row {place} should have {row.frames} frames and has {len(row.features)}"
        if bool((batch["speech"][place][row.frames :] != 0).any()):
            return f"row {place} has values other than 0 beyond its {row.frames} frames"
        if bool((batch["text"][place][len(row.ids) :] != -1).any()):
            return f"row {place} has token ids other than -1 beyond its {len(row.ids)} tokens"
    return ""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """The utterances that may arrive and their expected form; texts and lengths are distinct."""

    utterances: Sequence[MadeUtterance]
    reading: CharTokenization
    reference: ReferenceFrontend
    by_ids: Mapping[tuple[int, ...], MadeUtterance] = field(init=False)
    by_frames: Mapping[int, MadeUtterance] = field(init=False)

    def __post_init__(self) -> None:
        """Index the utterances."""
        object.__setattr__(
            self, "by_ids", {self.reading.ids(utterance.text): utterance for utterance in self.utterances}
        )
        object.__setattr__(self, "by_frames", {self.frames(utterance): utterance for utterance in self.utterances})

    def frames(self, utterance: MadeUtterance) -> int:
        """Stacked frames of the utterance."""
        return self.reference.frames(len(utterance.samples))

    def owner(self, row: ReceivedRow) -> tuple[MadeUtterance | None, str]:
        """The utterance of a row, by its text or else by its length, and what is wrong with the row."""
        by_text, by_length = self.by_ids.get(row.ids), self.by_frames.get(row.frames)
        if by_text is not None and by_text is by_length:
            return by_text, ""
        if by_text is not None and by_length is not None:
            return by_text, f"the text of {by_text.key} arrives with speech as long as that of {by_length.key}"
        if by_text is not None:
            return by_text, f"{by_text.key} has {self.frames(by_text)} frames, {row.frames} arrive"
        if by_length is not None:
            expected_text = " ".join(self.reading.tokens(by_length.text))
            return (
                by_length,
                f"{by_length.key} should be {expected_text}; {inputs.token_text(row.ids) or 'nothing'} arrives",
            )
        return None, f"a row arrives that belongs to no utterance: {row.describe()}"

    def describe(self, utterance: MadeUtterance) -> str:
        """The expected row, for a message."""
        tokens = " ".join(self.reading.tokens(utterance.text))
        return f"{self.frames(utterance)} frames, tokens: {tokens or 'none'}"


@dataclass
class LoaderPass:
    """One pass through a loader."""

    batches: list[list[ReceivedRow]] = field(default_factory=list)
    reported_length: int | None = None
    """`len(loader)`, after the pass."""
    failure: Mapping[str, Any] | None = None
    """What ended the pass, in the form of an outcome's failure."""
    lines: list[str] = field(default_factory=list)

    @property
    def rows(self) -> list[ReceivedRow]:
        """The rows of all batches."""
        return [row for batch in self.batches for row in batch]


@dataclass(frozen=True, kw_only=True)
class RowCounts:
    """A pass, or those of several ranks, compared with the expected utterances."""

    counts: Mapping[str, int]
    lost: tuple[MadeUtterance, ...]
    repeated: Mapping[str, int]
    """The count of each utterance that arrived more than once."""
    wrong: tuple[str, ...]
    empty: int
    """Number of batches without a row."""

    @classmethod
    def of(cls, expected: Expected, batches: Sequence[Sequence[ReceivedRow]]) -> RowCounts:
        """Count the rows of these batches."""
        counts: Counter[str] = Counter()
        wrong = []
        for row in (row for batch in batches for row in batch):
            owner, problem = expected.owner(row)
            if owner is not None:
                counts[owner.key] += 1
            if problem:
                wrong.append(problem)
        return cls(
            counts=counts,
            lost=tuple(utterance for utterance in expected.utterances if not counts[utterance.key]),
            repeated={key: count for key, count in counts.items() if count > 1},
            wrong=tuple(wrong),
            empty=sum(not batch for batch in batches),
        )

    @property
    def spare(self) -> int:
        """Number of surplus rows."""
        return sum(self.repeated.values()) - len(self.repeated)
