"""What all data tests share: trainer, speech, captured logs, and passes through the loaders that survive exceptions."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.worker.checks.data.answers import Expected, LoaderPass, ReceivedRow, rows_of
from harness.worker.checks.data.inputs import (
    CharTokenization,
    MadeUtterance,
    SpeechSource,
    plain_text,
    write_rows,
    write_wave,
)
from harness.worker.checks.data.loader_capture import DataTrainer, LoaderCapture, as_rank
from harness.worker.process import failures
from harness.worker.trainer import options
from harness.worker.trainer.reference_features import RATE, ReferenceFrontend

PLAIN = 13
"""Number of plain utterances: a prime, so that no batch size and no number of ranks divides it."""
MOST_BATCHES = 200
"""More than any test needs; a loader that exceeds it is endless."""


class ReleaseRaised(Exception):
    """The release raised an exception in a test."""

    def __init__(self, failure: Mapping[str, Any]) -> None:
        super().__init__(f"{failure['type']}: {failure['message'] or 'no message'}")
        self.failure = failure


@dataclass
class DataCheckContext:
    """What the tests of a cell share."""

    trainer: DataTrainer
    dataset_options: options.DatasetOptions
    reading: CharTokenization
    reference: ReferenceFrontend
    speech: SpeechSource
    here: Path
    install_dir: str
    knows_features: bool = True
    """Whether the reference implementation covers this frontend."""
    user_file: dict[str, Any] | None = None
    """The user's file and the rows that the limits in force exclude; None for the harness's own speech."""
    plain: list[MadeUtterance] = field(default_factory=list)
    valid: list[MadeUtterance] = field(default_factory=list)
    epochs: int = 0
    """Passes so far."""
    batches: int = 0
    files: int = 0

    def utterance(self, key: str, text: str, seconds: float, **fields: Any) -> MadeUtterance:
        """A new utterance in a file of its own."""
        samples = self.speech.cut(round(seconds * RATE))
        path = self.here / "wav" / f"{key}.wav"
        write_wave(path, samples)
        return MadeUtterance(key=key, text=text, source=str(path), samples=samples, fields=fields)

    def prepare(self) -> None:
        """Make the plain utterances: 0.3 to 1.2 seconds, each with its own length and text."""
        self.plain = [self.utterance(f"plain{n:02}", plain_text(n), 0.33 + 0.072 * n) for n in range(PLAIN)]
        self.valid = [self.utterance(f"valid{n:02}", plain_text(20 + n), 0.3 + 0.06 * n) for n in range(5)]

    def rows(self, utterances: Iterable[MadeUtterance]) -> str:
        """Write the rows to a new jsonl file; returns its path."""
        self.files += 1
        return write_rows(self.here / f"rows{self.files}.jsonl", utterances)

    def expected(self, utterances: Sequence[MadeUtterance], reading: CharTokenization | None = None) -> Expected:
        """The expected rows of these utterances."""
        return Expected(utterances=utterances, reading=reading or self.reading, reference=self.reference)

    def capture_loaders(
        self, utterances: Sequence[MadeUtterance] | str, *, with_seg_dict: bool = True, **conf: Any
    ) -> LoaderCapture:
        """The trainer's loaders for these utterances, or for a file.

        Raises:
            ReleaseRaised: the release raised.
        """
        train = utterances if isinstance(utterances, str) else self.rows(utterances)
        valid = self.rows(self.valid)
        capture: LoaderCapture = self.run_release(
            lambda: self.trainer.capture_loaders(train, valid, with_seg_dict=with_seg_dict, **conf)
        )
        return capture

    def items(self, utterances: Sequence[MadeUtterance] | str, *, with_seg_dict: bool = True, **conf: Any) -> Items:
        """The rows of the training set itself, without a sampler.

        Raises:
            ReleaseRaised: the release raised when it read the file.
        """
        with capture_logs() as logs:
            loaders = self.run_release(
                self.capture_loaders(utterances, with_seg_dict=with_seg_dict, batch_size=1, **conf).build
            )
        return Items(context=self, dataset=loaders.train.dataset, collate=loaders.train.collate_fn, logs=logs)

    def run_epoch(self, utterances: Sequence[MadeUtterance] | str, *, epoch: int = 1, **conf: Any) -> LoaderPass:
        """One epoch; an exception of the release ends it and is recorded."""
        with capture_logs() as logs:
            try:
                loader_pass = self.iterate(self.capture_loaders(utterances, **conf), epoch=epoch)
            except ReleaseRaised as raised:
                loader_pass = LoaderPass(failure=raised.failure)
        return replace(loader_pass, lines=logs.lines)

    def ranks(self, world: int, utterances: Sequence[MadeUtterance], **conf: Any) -> list[LoaderPass]:
        """One epoch of each of `world` ranks."""
        passes = []
        for rank in range(world):
            with as_rank(rank, world):
                passes.append(self.run_epoch(utterances, **conf))
        return passes

    def iterate(self, feed: LoaderCapture, *, part: str = "train", **place: int) -> LoaderPass:
        """One pass through the training or the validation loader."""
        loader_pass = LoaderPass()
        try:
            self.run_release(lambda: self._walk(loader_pass, getattr(feed.build(**place), part)))
        except ReleaseRaised as raised:
            loader_pass.failure = raised.failure
        self.epochs += 1
        self.batches += len(loader_pass.batches)
        return loader_pass

    def _walk(self, loader_pass: LoaderPass, loader: Any) -> None:
        for batch in loader:
            loader_pass.batches.append(rows_of(batch))
            if len(loader_pass.batches) > MOST_BATCHES:
                break
        loader_pass.reported_length = len(loader)

    def run_release(self, work: Callable[[], Any]) -> Any:
        """Call code of the release.

        Raises:
            ReleaseRaised: the release raised. Exceptions of the harness's own code pass through unchanged.
        """
        try:
            return work()
        except ReleaseRaised:
            raise
        except Exception as error:
            if failures.status_of(error, self.install_dir) != "failed":
                raise
            raise ReleaseRaised(failures.describe(error, self.install_dir)) from error


@dataclass
class Items:
    """The rows of a training set, one by one."""

    context: DataCheckContext
    dataset: Any
    collate: Any
    logs: CapturedLogs

    def __len__(self) -> int:
        """The number of rows that the release has read."""
        return len(self.dataset)

    def row(self, number: int) -> ReceivedRow:
        """The row, in a batch of its own.

        Raises:
            ReleaseRaised: the release raised.
        """
        batch = self.batch(number)
        rows = rows_of(batch)
        if len(rows) != 1:
            message = f"the collator turns one row into {len(rows)}"
            raise ReleaseRaised({"type": "NoRow", "message": message, "signature": "NoRow@collator"})
        return rows[0]

    def batch(self, *numbers: int) -> Mapping[str, Any]:
        """A batch of these rows.

        Raises:
            ReleaseRaised: the release raised.
        """
        with capture_logs() as logs:
            batch: Mapping[str, Any] = self.context.run_release(
                lambda: self.collate([self.dataset[number] for number in numbers])
            )
        self.logs.lines.extend(logs.lines)
        self.context.batches += 1
        return batch


_OF_LEAVING_OUT = re.compile(
    r"\b(skip|dropp?(?!out)|discard|filter(ed|ing)|exceed|remov|ignor|exclud|truncat|too (long|short))", re.IGNORECASE
)


class _Collector(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__(logging.NOTSET)
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(Exception):
            self._lines.extend(record.getMessage().splitlines())


@dataclass
class CapturedLogs:
    """Log records, warnings and printed text, line by line."""

    lines: list[str] = field(default_factory=list)

    def mentions(self, names: Iterable[str]) -> bool:
        """Whether a line mentions one of these names, or that something was left out.

        Printed configurations, as some trainers print them, do not count.
        """
        chosen = tuple(names)
        return any(
            any(name in line for name in chosen) or _OF_LEAVING_OUT.search(line)
            for line in self.lines
            if not line.lstrip().startswith("{")
        )


@contextlib.contextmanager
def capture_logs() -> Iterator[CapturedLogs]:
    """Capture log records, warnings, standard output and standard error of Python code."""
    logs, printed, root = CapturedLogs(), io.StringIO(), logging.getLogger()
    collector, level = _Collector(logs.lines), root.level
    root.addHandler(collector)
    root.setLevel(logging.INFO)
    try:
        with (
            warnings.catch_warnings(record=True) as warned,
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(printed),
        ):
            warnings.simplefilter("always")
            yield logs
    finally:
        root.removeHandler(collector)
        root.setLevel(level)
        logs.lines.extend(str(item.message) for item in warned)
        logs.lines.extend(printed.getvalue().splitlines())
