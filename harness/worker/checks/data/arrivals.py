"""What arrives in a batch, and whose it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.worker.checks.data import vocabulary
from harness.worker.checks.data.speech import MadeUtterance
from harness.worker.checks.data.vocabulary import Reading
from harness.worker.trainer.reference_features import Reference


@dataclass(frozen=True, kw_only=True)
class ReceivedRow:
    """One utterance of a batch, without its padding."""

    ids: tuple[int, ...]
    frames: int
    """Stacked frames, as the batch says."""
    features: Any
    """float32 `[frames, size]`; fewer frames where the batch has fewer than it says."""

    def describe(self) -> str:
        """As a person reads it."""
        return f"{self.frames} frames, tokens: {vocabulary.names(self.ids) or 'none'}"


def rows_of(batch: Mapping[str, Any]) -> list[ReceivedRow]:
    """The rows of a batch as FunASR's collator makes it; of an empty batch it makes an empty mapping."""
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
    """What is wrong beyond the ends of a batch's rows; empty when nothing is."""
    for place, row in enumerate(rows_of(batch)):
        if len(row.features) < row.frames:
            return f"row {place} is said to have {row.frames} frames and has {len(row.features)}"
        if bool((batch["speech"][place][row.frames :] != 0).any()):
            return f"row {place} holds numbers other than 0 beyond its {row.frames} frames"
        if bool((batch["text"][place][len(row.ids) :] != -1).any()):
            return f"row {place} holds token ids other than -1 beyond its {len(row.ids)} tokens"
    return ""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """Whose rows may arrive, and what each should look like; texts and lengths are distinct."""

    utterances: Sequence[MadeUtterance]
    reading: Reading
    reference: Reference
    by_ids: Mapping[tuple[int, ...], MadeUtterance] = field(init=False)
    by_frames: Mapping[int, MadeUtterance] = field(init=False)

    def __post_init__(self) -> None:
        """Index the utterances."""
        object.__setattr__(self, "by_ids", {self.reading.ids(one.text): one for one in self.utterances})
        object.__setattr__(self, "by_frames", {self.frames(one): one for one in self.utterances})

    def frames(self, utterance: MadeUtterance) -> int:
        """Stacked frames that the utterance has."""
        return self.reference.frames(len(utterance.samples))

    def owner(self, row: ReceivedRow) -> tuple[MadeUtterance | None, str]:
        """Whose row it is, by its text or else by its length, and what is wrong with it."""
        by_text, by_length = self.by_ids.get(row.ids), self.by_frames.get(row.frames)
        if by_text is not None and by_text is by_length:
            return by_text, ""
        if by_text is not None and by_length is not None:
            return by_text, f"the text of {by_text.key} arrives with speech as long as that of {by_length.key}"
        if by_text is not None:
            return by_text, f"{by_text.key} has {self.frames(by_text)} frames, {row.frames} arrive"
        if by_length is not None:
            wanted = " ".join(self.reading.tokens(by_length.text))
            return by_length, f"{by_length.key} should be {wanted}; {vocabulary.names(row.ids) or 'nothing'} arrives"
        return None, f"a row arrives that no utterance explains: {row.describe()}"

    def describe(self, utterance: MadeUtterance) -> str:
        """What should arrive, as a person reads it."""
        tokens = " ".join(self.reading.tokens(utterance.text))
        return f"{self.frames(utterance)} frames, tokens: {tokens or 'none'}"


@dataclass
class LoaderPass:
    """One way through a loader."""

    batches: list[list[ReceivedRow]] = field(default_factory=list)
    said_length: int | None = None
    """`len(loader)`, asked when all was through."""
    failure: Mapping[str, Any] | None = None
    """What ended it, as an outcome has it."""
    lines: list[str] = field(default_factory=list)

    @property
    def rows(self) -> list[ReceivedRow]:
        """Of all batches."""
        return [row for batch in self.batches for row in batch]


@dataclass(frozen=True, kw_only=True)
class RowCounts:
    """A pass, or those of several ranks, held against what should arrive."""

    counts: Mapping[str, int]
    lost: tuple[MadeUtterance, ...]
    repeated: Mapping[str, int]
    """How often, where it is more than once."""
    wrong: tuple[str, ...]
    empty: int
    """Batches without a row."""

    @classmethod
    def of(cls, expected: Expected, batches: Sequence[Sequence[ReceivedRow]]) -> RowCounts:
        """Count these batches."""
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
            lost=tuple(one for one in expected.utterances if not counts[one.key]),
            repeated={key: count for key, count in counts.items() if count > 1},
            wrong=tuple(wrong),
            empty=sum(not batch for batch in batches),
        )

    @property
    def spare(self) -> int:
        """Rows too many."""
        return sum(self.repeated.values()) - len(self.repeated)
