"""From a log to what is said of it."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from harness.explain.errors_of_log import PREFLIGHT, ErrorExplainer, ended_by_signal
from harness.explain.explanation import LogExplanation, LogReport, merged
from harness.explain.lines import BLOCK, kind_of_binary
from harness.explain.own_texts import OwnTexts
from harness.explain.reading import LogRecord, read_log
from harness.explain.release_index import ReleaseIndex, load_index
from harness.explain.silent_learning import faults_of_steps
from harness.explain.silent_start import rows_not_trained, rows_replaced, weights_not_loaded
from harness.explain.silent_texts import facts_of_texts, notes_of_texts, texts_of_one_token
from harness.explain.tracebacks import LoggedError
from harness.explain.training_lines import TrainingRecord
from harness.explain.which_release import LogRelease, find_release, spans
from harness.text.units import count, plural

_LONGEST_TEXT = 4000
_SAID_BY = {"empty-batches": "sense-voice-empty-batch"}
"""By rule, the error that says the same."""
_IN_A_LINE = re.compile(
    r"(?P<code>.*?)\b(?:[a-z_]\w*\.)*(?P<type>[A-Z]\w*(?:Error|Exception|Interrupt))\b:?(?P<message>.*)", re.DOTALL
)


class UnreadableLogError(ValueError):
    """What was handed in is no log; the text says what it is."""


def explain_text(text: str, *, named: str | None, cache: Path, texts: OwnTexts | None = None) -> LogReport:
    """Explain what somebody pasted on the command line."""
    # A page's marks for code and bold.
    text = text.strip().strip("*`")
    record = read_log(io.BytesIO(text.encode("utf-8", "replace")))
    if not record.errors and not record.training.is_training and text:
        record.errors.append(_pasted(text[:_LONGEST_TEXT]))
    return report_of(record, source="the command line", named=named, cache=cache, texts=texts)


def _pasted(text: str) -> LoggedError:
    """An error as a title has it: `assert x.size(2) == self.size AssertionError`, or a message without its class."""
    match = _IN_A_LINE.match(text)
    if match is None:
        kind = "AssertionError" if text.startswith("assert ") else ""
        return LoggedError(type=kind, message=text, frames=(), rank="", at=1)
    message = match["message"].strip() or match["code"].strip()
    return LoggedError(type=match["type"], message=message, frames=(), rank="", at=1)


def explain_stream(
    stream: BinaryIO, *, source: str, named: str | None, cache: Path, texts: OwnTexts | None = None
) -> LogReport:
    """Explain a log.

    Raises:
        UnreadableLogError: it is no text, or empty.
    """
    first = stream.read(BLOCK)
    if kind := kind_of_binary(first):
        raise UnreadableLogError(f"it is {kind}, and not a log")
    record = read_log(stream, first=first)
    if record.empty:
        raise UnreadableLogError("it is empty")
    return report_of(record, source=source, named=named, cache=cache, texts=texts)


def report_of(
    record: LogRecord, *, source: str, named: str | None, cache: Path, texts: OwnTexts | None = None
) -> LogReport:
    """All that is said of what a log has.

    Args:
        record: The log.
        source: Where it is from, in a few words.
        named: The release that the user names.
        cache: Where releases lie, so that their code can be quoted.
        texts: The texts that were trained on, if they were given.
    """
    index = load_index()
    release = find_release(record, index, named)
    preflight = f"{PREFLIGHT} --release {release.only}" if release.only else PREFLIGHT
    explanations = list(ErrorExplainer(release=release, index=index, cache=cache).explanations(record))
    if signal := ended_by_signal(record, explanations):
        explanations = [signal]
    explained_rules = {explanation.rule for explanation in explanations}
    explanations += [
        fault for fault in _silent_faults(record.training, texts) if _SAID_BY.get(fault.rule) not in explained_rules
    ]
    return LogReport(
        source=source,
        release=_release(release, index),
        facts=(*_facts(record), *(facts_of_texts(record.training, texts) if texts else ())),
        explanations=tuple(_ordered(merged([_with_release(explanation, preflight) for explanation in explanations]))),
        notes=(*_notes(record, release, explanations), *(notes_of_texts(record.training, texts) if texts else ())),
        of_a_training=record.training.is_training,
    )


def _with_release(explanation: LogExplanation, preflight: str) -> LogExplanation:
    """`preflight` with the log's release, where that is known."""
    return replace(
        explanation, commands=tuple(preflight if line == PREFLIGHT else line for line in explanation.commands)
    )


def _ordered(explanations: tuple[LogExplanation, ...]) -> Iterator[LogExplanation]:
    """The gravest first; within a severity the one with a cause first."""
    order = ("broken", "wrong", "minor")
    yield from sorted(
        explanations, key=lambda explanation: (order.index(explanation.severity), not explanation.explained)
    )


def _release(release: LogRelease, index: ReleaseIndex) -> str:
    if not release.known:
        return "FunASR's release is not known: the log does not show it (--release names it)"
    return f"FunASR {spans(release.versions, index.releases)} ({release.how})"


def _facts(record: LogRecord) -> Iterator[str]:
    yield f"{plural(record.lines, 'line')}"
    training = record.training
    if training.steps:
        yield f"{plural(training.steps, 'training step')} logged in {plural(len(training.train), 'epoch')}" + (
            f" of {training.epochs}" if training.epochs else ""
        )
        yield from _losses(training)
    if training.saved:
        yield f"{plural(training.saved, 'checkpoint')} saved"


def _losses(training: TrainingRecord) -> Iterator[str]:
    first, last = next(iter(training.train.values())), list(training.train.values())[-1]
    if first.loss is None or last.loss is None:
        return
    loss = f"mean loss {first.loss:.3f} → {last.loss:.3f}" if first is not last else f"mean loss {last.loss:.3f}"
    accuracy = f", accuracy {last.accuracy:.3f}" if last.accuracy is not None else ""
    yield f"{loss}{accuracy}"


def _notes(record: LogRecord, release: LogRelease, explanations: list[LogExplanation]) -> Iterator[str]:
    if release.contradicts:
        yield f"the release does not fit the log: {release.contradicts}"
    if release.edited:
        places = ", ".join(release.edited[:3])
        yield f"no published release has this line and code together: {places}: the file was edited, or the log cut"
    if record.dropped_errors:
        yield f"{count(record.dropped_errors)} further errors are not shown"
    training = record.training
    caught = [error for error in record.errors if training.steps > record.steps_after.get(error.at, training.steps)]
    if caught:
        yield f"{plural(len(caught), 'error')} earlier in the log did not end the training ({caught[0].type})"
    if not explanations and training.steps and not training.averaged and not _at_end(training):
        last = list(training.train.values())[-1]
        yield (
            f"the log ends in epoch {last.number} of {training.epochs} without an error: the training still "
            "runs, or was "
            "ended from outside"
        )
    if not explanations and training.is_training and not training.steps:
        yield "the log shows no training step; train_conf.log_interval steps pass between two lines"


def _at_end(training: TrainingRecord) -> bool:
    return training.epochs is not None and max(training.train, default=0) >= training.epochs - 1


def _silent_faults(record: TrainingRecord, texts: OwnTexts | None) -> Iterator[LogExplanation]:
    """What is wrong with a training although nothing was raised, or besides."""
    if texts:
        yield from texts_of_one_token(texts)
    if not (record.is_training or record.missing_start or record.reshaped or record.missing):
        return
    yield from weights_not_loaded(record)
    rows = list(rows_not_trained(record))
    yield from rows
    yield from rows_replaced(record)
    # An empty validation set hides nothing of the steps.
    if not rows or record.steps:
        yield from faults_of_steps(record, texts)
