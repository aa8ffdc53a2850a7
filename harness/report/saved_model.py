"""The saved model in the reports: what a checkpoint keeps, resumes and averages, and the text that `decode` gets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.core.cells import Entry, Severity, Status
from harness.core.evidence.checkpoint import CheckpointEvidence
from harness.core.evidence.decode import DecodeEvidence, DecodeMetrics
from harness.core.evidence.questions import Question
from harness.core.evidence.verdicts import DecodedUtterance
from harness.core.versions import Order, Span
from harness.rules.levels import Level
from harness.rules.verdicts import JudgedOutcome

WORDS: Mapping[str, str] = {
    "resumes_at_epoch": "stopped between epochs, training resumes with the next one",
    "resumes_weights": "resumed, the model has the weights of the stop",
    "resumes_optimizer": "resumed, the optimizer has the state of the stop",
    "resumes_schedule": "resumed, the learning rates are those of an uninterrupted run",
    "resumes_losses": "resumed, the losses and the last weights are those of an uninterrupted run",
    "resumes_within_epoch": "stopped within an epoch, training resumes with the next batch",
    "resumes_within_sorted_epoch": "the same, with sorted batches by length",
    "resumes_twice_within_epoch": "the same, stopped twice in one epoch",
    "saved_whole": "a checkpoint holds every tensor as it was in memory",
    "criterion_is_measured": "the scores that rank checkpoints are those of the validations",
    "best_is_best": "model.pt.best is the best by the criterion",
    "average_is_mean": "the averaged model is the mean of the best",
    "average_survives_pruning": "there is an averaged model where few checkpoints are kept",
    "average_loads": "the averaged model loads",
    "folder_loads": "AutoModel(model=output folder) has the weights that were saved last",
    "bare_folder_loads": "the same, without a configuration.json in it",
    "mismatch_said": "ignore_init_mismatch=true: every tensor that is left out is named",
    "mismatch_refused": "ignore_init_mismatch=false: it stops",
}
"""Each question in words, in the order of the report."""


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """A tensor that was not loaded from a checkpoint of other dimensions."""

    name: str
    model: str
    """Its shape in the model, such as 8404 × 320."""
    checkpoint: str
    """Its shape in the checkpoint; `-` where the checkpoint has none."""


@dataclass(frozen=True, kw_only=True)
class Mismatch:
    """The result of loading a checkpoint of other dimensions with ignore_init_mismatch."""

    kind: str
    """`vocabulary` or `width`."""
    taken: int | None
    dropped: tuple[Dropped, ...]
    """The first of them."""
    dropped_count: int
    says: str
    """The release's own words."""


@dataclass(frozen=True, kw_only=True)
class SavedQuestion:
    """One question, as a group of releases answers it."""

    name: str
    words: str
    status: str
    """`holds`, `fails`, `listed` or `not_tested`."""
    severity: Severity | None
    """Where it fails."""
    message: str
    """Of the newest of the releases."""


@dataclass(frozen=True, kw_only=True)
class SavedGroup:
    """Releases that answer every question alike, with one variant and one trainer."""

    variant: str
    entry: Entry | None
    place: str
    spans: tuple[Span, ...]
    questions: tuple[SavedQuestion, ...]
    mismatches: tuple[Mismatch, ...]
    """Of the newest of the releases."""
    cells: tuple[str, ...]
    """Their ids, oldest release first."""

    @property
    def failing(self) -> tuple[SavedQuestion, ...]:
        """The questions that fail."""
        return tuple(question for question in self.questions if question.status == "fails")


def saved_groups(judged: Iterable[JudgedOutcome], order: Order) -> tuple[SavedGroup, ...]:
    """The `checkpoint` cells of a run that came to an answer, those of the newest release first."""
    groups: dict[tuple[object, ...], list[JudgedOutcome]] = defaultdict(list)
    age = {label: number for number, label in enumerate(order.labels)}
    for item in sorted(judged, key=lambda item: age.get(item.outcome.cell.release, -1)):
        cell, answers = item.outcome.cell, _answers(item)
        if item.outcome.status not in (Status.PASSED, Status.FAILED):
            continue
        if not answers:
            continue
        same_answers = tuple((answer.name, answer.status) for answer in answers)
        groups[cell.variant, cell.dimensions, cell.depth, cell.entry, cell.device, cell.precision, same_answers].append(
            item
        )
    built = [(age.get(items[-1].outcome.cell.release, -1), _group(items, order)) for items in groups.values()]
    return tuple(group for _, group in sorted(built, key=lambda pair: (-pair[0], pair[1].variant, str(pair[1].entry))))


def _group(items: Sequence[JudgedOutcome], order: Order) -> SavedGroup:
    newest = items[-1].outcome
    cell = newest.cell
    return SavedGroup(
        variant=str(cell.variant),
        entry=cell.entry,
        place=f"{cell.dimensions} {cell.depth} {cell.device}-{cell.precision}",
        spans=order.spans({item.outcome.cell.release for item in items}),
        questions=tuple(_question(answer, items[-1]) for answer in _answers(items[-1])),
        mismatches=_mismatches(items[-1]),
        cells=tuple(item.outcome.cell.id for item in items),
    )


def _answers(item: JudgedOutcome) -> tuple[Question, ...]:
    evidence = item.outcome.common
    return (evidence.questions or ()) if isinstance(evidence, CheckpointEvidence) else ()


def _question(answer: Question, item: JudgedOutcome) -> SavedQuestion:
    return SavedQuestion(
        name=answer.name,
        words=WORDS.get(answer.name, answer.name),
        status=str(answer.status),
        severity=item.severity_of(answer.name),
        message=answer.message,
    )


def _mismatches(item: JudgedOutcome) -> tuple[Mismatch, ...]:
    example = next((answer.example for answer in _answers(item) if answer.name == "mismatch_said"), None)
    cases = (example or {}).get("cases") or ()
    return tuple(
        Mismatch(
            kind=str(case.get("kind")),
            taken=case.get("taken"),
            dropped=tuple(_dropped(tensor) for tensor in case.get("left_out") or ()),
            dropped_count=int(case.get("left_out_count") or 0),
            says=str(case.get("says") or ""),
        )
        for case in cases
    )


def _dropped(tensor: Mapping[str, object]) -> Dropped:
    return Dropped(
        name=str(tensor.get("name")), model=_shape(tensor.get("model")), checkpoint=_shape(tensor.get("checkpoint"))
    )


def _shape(sizes: object) -> str:
    return " × ".join(str(size) for size in sizes) if isinstance(sizes, Sequence) else "-"


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """One `decode` cell that came to text."""

    id: str
    release: str
    variant: str
    entry: Entry | None
    place: str
    level: Level
    steps: int | None
    """Of the training before."""
    error_rate: float | None
    untrained_error_rate: float | None
    allowed: float | None
    loaded_as: str
    """`folder`, or `config and checkpoint`."""
    reasons: tuple[str, ...]
    lines: tuple[DecodedUtterance, ...]


def decoded(judged: Iterable[JudgedOutcome], order: Order) -> tuple[Decoded, ...]:
    """The `decode` cells of a run that were judged, those of the newest release first."""
    age = {label: number for number, label in enumerate(order.labels)}
    cells = [cell for item in judged if (cell := _decoded(item)) is not None]
    return tuple(
        sorted(cells, key=lambda cell: (-age.get(cell.release, -1), cell.variant, str(cell.entry), cell.place))
    )


def _decoded(item: JudgedOutcome) -> Decoded | None:
    outcome, cell, evidence = item.outcome, item.outcome.cell, item.outcome.common
    if not isinstance(evidence, DecodeEvidence) or evidence.decoding is None:
        return None
    verdict = evidence.decoding
    return Decoded(
        id=cell.id,
        release=cell.release,
        variant=str(cell.variant),
        entry=cell.entry,
        place=f"{cell.dimensions} {cell.depth} {cell.device}-{cell.precision}",
        level=Level.of(item),
        steps=(outcome.metrics_as(DecodeMetrics) or DecodeMetrics()).steps,
        error_rate=verdict.error_rate,
        untrained_error_rate=verdict.untrained_error_rate,
        allowed=verdict.allowed,
        loaded_as=evidence.loaded_as,
        reasons=verdict.reasons,
        lines=verdict.utterances,
    )
