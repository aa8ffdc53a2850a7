"""What all questions share: the trainer, the speech, and ways through the loaders that survive what they raise."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.worker.checks.data.arrivals import Expected, LoaderPass, ReceivedRow, rows_of
from harness.worker.checks.data.feed import DataTrainer, LoaderCapture, as_rank
from harness.worker.checks.data.listening import CapturedLogs, listening
from harness.worker.checks.data.speech import MadeUtterance, SpeechSource, write_rows, write_wave
from harness.worker.checks.data.vocabulary import Reading, plain_text
from harness.worker.process import failures
from harness.worker.trainer import options
from harness.worker.trainer.reference_features import RATE, Reference

PLAIN = 13
"""Plain utterances: a prime number, so that no batch size and no number of ranks divides it."""
MOST_BATCHES = 200
"""No question asks for more; a loader that goes on has no end."""


class ReleaseRaised(Exception):
    """What the release raised where a question was put to it."""

    def __init__(self, failure: Mapping[str, Any]) -> None:
        super().__init__(f"{failure['type']}: {failure['message'] or 'no message'}")
        self.failure = failure


@dataclass
class DataCheckContext:
    """The setting of a cell's questions."""

    trainer: DataTrainer
    feeding: options.DatasetOptions
    reading: Reading
    reference: Reference
    voice: SpeechSource
    here: Path
    overlay: str
    knows_features: bool = True
    """Whether the frontend is one whose features the reference computes."""
    own: dict[str, Any] | None = None
    """The user's file, and what the limits in force leave out of it; None where the speech is the harness's."""
    plain: list[MadeUtterance] = field(default_factory=list)
    valid: list[MadeUtterance] = field(default_factory=list)
    epochs: int = 0
    """Passes so far."""
    batches: int = 0
    files: int = 0

    def utterance(self, key: str, text: str, seconds: float, **fields: Any) -> MadeUtterance:
        """A new piece of speech in a file of its own."""
        samples = self.voice.cut(round(seconds * RATE))
        path = self.here / "wav" / f"{key}.wav"
        write_wave(path, samples)
        return MadeUtterance(key=key, text=text, source=str(path), samples=samples, fields=fields)

    def prepare(self) -> None:
        """Make the plain utterances: of 0.3 to 1.2 seconds, no two of one length or text."""
        self.plain = [self.utterance(f"plain{n:02}", plain_text(n), 0.33 + 0.072 * n) for n in range(PLAIN)]
        self.valid = [self.utterance(f"valid{n:02}", plain_text(20 + n), 0.3 + 0.06 * n) for n in range(5)]

    def rows(self, utterances: Iterable[MadeUtterance]) -> str:
        """A jsonl file of these rows."""
        self.files += 1
        return write_rows(self.here / f"rows{self.files}.jsonl", utterances)

    def expected(self, utterances: Sequence[MadeUtterance], reading: Reading | None = None) -> Expected:
        """What should arrive of them."""
        return Expected(utterances=utterances, reading=reading or self.reading, reference=self.reference)

    def feed(
        self, utterances: Sequence[MadeUtterance] | str, *, with_seg_dict: bool = True, **conf: Any
    ) -> LoaderCapture:
        """The trainer's loaders for these utterances, or for a file of them.

        Raises:
            ReleaseRaised: the release raised.
        """
        train = utterances if isinstance(utterances, str) else self.rows(utterances)
        valid = self.rows(self.valid)
        found: LoaderCapture = self.guarded(
            lambda: self.trainer.feed(train, valid, with_seg_dict=with_seg_dict, **conf)
        )
        return found

    def items(self, utterances: Sequence[MadeUtterance] | str, *, with_seg_dict: bool = True, **conf: Any) -> Items:
        """The rows of the training set itself, without a sampler.

        Raises:
            ReleaseRaised: the release raised when it read the file.
        """
        with listening() as heard:
            loaders = self.guarded(self.feed(utterances, with_seg_dict=with_seg_dict, batch_size=1, **conf).build)
        return Items(scene=self, dataset=loaders.train.dataset, collate=loaders.train.collate_fn, heard=heard)

    def go(self, utterances: Sequence[MadeUtterance] | str, *, epoch: int = 1, **conf: Any) -> LoaderPass:
        """One epoch in the ordinary way; what the release raises ends it."""
        with listening() as heard:
            try:
                found = self.through(self.feed(utterances, **conf), epoch=epoch)
            except ReleaseRaised as raised:
                found = LoaderPass(failure=raised.failure)
        return replace(found, lines=heard.lines)

    def ranks(self, world: int, utterances: Sequence[MadeUtterance], **conf: Any) -> list[LoaderPass]:
        """One epoch of each of `world` ranks."""
        found = []
        for rank in range(world):
            with as_rank(rank, world):
                found.append(self.go(utterances, **conf))
        return found

    def through(self, feed: LoaderCapture, *, part: str = "train", **place: int) -> LoaderPass:
        """One way through the training or the validation loader."""
        found = LoaderPass()
        try:
            self.guarded(lambda: self._walk(found, getattr(feed.build(**place), part)))
        except ReleaseRaised as raised:
            found.failure = raised.failure
        self.epochs += 1
        self.batches += len(found.batches)
        return found

    def _walk(self, found: LoaderPass, loader: Any) -> None:
        for batch in loader:
            found.batches.append(rows_of(batch))
            if len(found.batches) > MOST_BATCHES:
                break
        found.said_length = len(loader)

    def guarded(self, work: Callable[[], Any]) -> Any:
        """Do what runs the release's code.

        Raises:
            ReleaseRaised: it raised, and that was the release's doing.
        """
        try:
            return work()
        except ReleaseRaised:
            raise
        except Exception as error:
            if failures.status_of(error, self.overlay) != "failed":
                raise
            raise ReleaseRaised(failures.describe(error, self.overlay)) from error


@dataclass
class Items:
    """A training set's rows, one by one."""

    scene: DataCheckContext
    dataset: Any
    collate: Any
    heard: CapturedLogs

    def __len__(self) -> int:
        """How many rows the release has read."""
        return len(self.dataset)

    def row(self, number: int) -> ReceivedRow:
        """The row as it arrives in a batch of its own.

        Raises:
            ReleaseRaised: the release raised.
        """
        batch = self.batch(number)
        rows = rows_of(batch)
        if len(rows) != 1:
            message = f"the collator makes {len(rows)} rows of one"
            raise ReleaseRaised({"type": "NoRow", "message": message, "signature": "NoRow@collator"})
        return rows[0]

    def batch(self, *numbers: int) -> Mapping[str, Any]:
        """A batch of these rows.

        Raises:
            ReleaseRaised: the release raised.
        """
        with listening() as heard:
            batch: Mapping[str, Any] = self.scene.guarded(
                lambda: self.collate([self.dataset[number] for number in numbers])
            )
        self.heard.lines.extend(heard.lines)
        self.scene.batches += 1
        return batch
