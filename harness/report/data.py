"""What the trainers are fed: each question about the data, and for which releases it holds or fails."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from harness.core.cells import Entry, Severity
from harness.core.evidence.data import DataEvidence
from harness.core.evidence.questions import Question
from harness.core.versions import Order, Span
from harness.rules.verdicts import JudgedOutcome

_ByRelease = Mapping[str, tuple[JudgedOutcome, Question]]
DATA = "data"
"""The check."""
FAILS, LISTED, NOT_TESTED, HOLDS = "fails", "listed", "not_tested", "holds"
_GRAVITY = (FAILS, LISTED, HOLDS, NOT_TESTED)

WORDS: Mapping[str, str] = {
    "rows_read": "the training set has as many rows as the file",
    "text_plain": "Chinese text arrives as its characters",
    "text_spaces": "text with spaces",
    "text_edge_spaces": "text with a space at its ends",
    "text_double_space": "text with two spaces in a row",
    "text_digits": "text with digits",
    "text_latin_word": "a Latin word between spaces",
    "text_latin_inside": "a Latin word next to Chinese",
    "text_dict_word": "a word of the seg_dict",
    "text_mark_inside": "a punctuation mark within the text",
    "text_mark_first": "a punctuation mark at the beginning",
    "text_unknown": "a Chinese character that the token list lacks",
    "text_unknown_symbol": "a symbol that the token list lacks",
    "text_upper": "upper case",
    "text_empty": "an empty text",
    "bare_text": "all these texts without a seg_dict",
    "frames": "as many frames as the audio has",
    "features": "the features are those of the audio",
    "cmvn": "the features are normalised by am.mvn",
    "padding": "padding is padding and cuts nothing off",
    "audio_8khz": "audio of 8 kHz",
    "audio_stereo": "audio of two channels",
    "audio_one_frame": "audio of one frame",
    "audio_below_a_frame": "audio of less than a frame",
    "audio_empty": "audio without a sample",
    "once": "every utterance once an epoch",
    "remainder": "utterances that do not fill the last batch",
    "fewer_than_a_batch": "fewer utterances than a batch has",
    "steps": "the count of steps follows from the config",
    "shuffle": "another order in each epoch, the same when asked again",
    "validation": "every validation utterance arrives",
    "start_step": "a loader that begins within an epoch",
    "start_step_frames": "the same, batches by frames",
    "start_step_sorted": "the same, sorted batches by frames",
    "start_step_espnet": "the same, EspnetStyleBatchSampler",
    "list_file": "a list of jsonl files, in slices",
    "slices_of_one_file": "slices of one jsonl file",
    "batches_frames": "batches by frames",
    "batches_sorted": "batches by frames, sorted (sort_size)",
    "batches_espnet": "batches by frames, EspnetStyleBatchSampler",
    "batches_below": "batches by frames, smaller than one utterance",
    "ranks": "two and three ranks",
    "ranks_frames": "ranks with batches by frames",
    "ranks_sorted": "ranks with sorted batches by frames",
    "ranks_espnet": "ranks with EspnetStyleBatchSampler",
    "row_without_key": "a row without key",
    "row_without_prompt": "a row without prompt",
    "row_without_source_len": "a row without source_len",
    "row_without_target_len": "a row without target_len",
    "row_with_more_fields": "a row with fields of the user's own",
    "row_with_text_field": "a row with a field named text",
    "row_without_target": "a row without target",
    "row_without_source": "a row without source",
    "row_blank_line": "an empty line at the end of the file",
    "path_with_space": "a path with spaces",
    "path_unicode": "a path with other letters than ASCII",
    "path_relative": "a relative path",
    "path_cpfs01": "a path with /cpfs01 in it",
    "path_aishell": "a path with aishell in it",
    "own_rows": "the rows of your own file",
    "path_missing": "a file that does not exist",
    "long_within_limit": "15 seconds of speech",
    "long": "21 seconds of speech, with the published config",
    "long_allowed": "21 seconds of speech, with max_token_length raised",
    "long_allowed_twice": "the same, with max_source_length raised too",
    "limit_max_token_length": "rows beyond max_token_length",
    "limit_max_source_length": "rows beyond max_source_length",
    "limit_min_source_length": "rows below min_source_length",
    "limit_max_target_length": "rows beyond max_target_length",
    "limit_min_target_length": "rows below min_target_length",
}
"""Each question in words, in the order of the report."""


@dataclass(frozen=True, kw_only=True)
class DataExample:
    """One thing that an example says."""

    name: str
    value: str


@dataclass(frozen=True, kw_only=True)
class DataUse:
    """Releases for which a question came to the same, with one trainer."""

    standing: str
    """`fails`, `listed`, `holds` or `not_tested`."""
    severity: Severity | None
    """Where it fails, in the newest of them."""
    entry: Entry | None
    spans: tuple[Span, ...]
    message: str
    """Of the newest of them."""
    example: tuple[DataExample, ...]
    cell: str
    """The id of a cell of the newest release."""


@dataclass(frozen=True, kw_only=True)
class DataQuestion:
    """One question, and what it came to."""

    name: str
    words: str
    standing: str
    """The gravest, over all releases."""
    uses: tuple[DataUse, ...]
    """The gravest first, and of those the trainers by name."""

    @property
    def anchor(self) -> str:
        """The fragment that leads to the question."""
        return f"data-{self.name}"


def data_questions(judged: Iterable[JudgedOutcome], order: Order) -> tuple[DataQuestion, ...]:
    """Every question that the `data` cells asked, in the order of `WORDS`; the unknown ones come last."""
    answers: dict[str, dict[tuple[str, Entry | None], dict[str, tuple[JudgedOutcome, Question]]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for item in judged:
        if str(item.outcome.cell.check) != DATA:
            continue
        for question in _questions(item):
            # Of a release's several variants and shapes one is enough: the model is not part of the question.
            answers[question.name][str(question.status), item.outcome.cell.entry].setdefault(
                item.outcome.cell.release, (item, question)
            )
    place = {name: number for number, name in enumerate(WORDS)}
    names = sorted(answers, key=lambda name: (place.get(name, len(place)), name))
    return tuple(_question(name, answers[name], order) for name in names)


def _question(
    name: str,
    groups: Mapping[tuple[str, Entry | None], _ByRelease],
    order: Order,
) -> DataQuestion:
    keys = sorted(groups, key=lambda key: (_gravity(key[0]), str(key[1])))
    return DataQuestion(
        name=name,
        words=WORDS.get(name, name.replace("_", " ")),
        standing=keys[0][0],
        uses=tuple(_use(key, groups[key], order) for key in keys),
    )


def _use(key: tuple[str, Entry | None], members: _ByRelease, order: Order) -> DataUse:
    newest = order.sorted(members)[-1]
    item, question = members[newest]
    items = (question.example or {}).items()
    return DataUse(
        standing=key[0],
        severity=item.severity_of(question.name),
        entry=key[1],
        spans=order.spans(members),
        message=question.message,
        example=tuple(DataExample(name=str(name), value=str(value)) for name, value in items if str(value)),
        cell=item.outcome.cell.id,
    )


def _questions(item: JudgedOutcome) -> tuple[Question, ...]:
    evidence = item.outcome.common
    return (evidence.questions or ()) if isinstance(evidence, DataEvidence) else ()


def _gravity(standing: str) -> int:
    return _GRAVITY.index(standing) if standing in _GRAVITY else len(_GRAVITY)
