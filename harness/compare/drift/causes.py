"""The cause of a divergence, as far as its metrics or a recording of both sides support one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from harness.compare.drift.divergences import CurveDivergence, FirstDifference
from harness.compare.drift.recordings import DivergenceRecording, RecordedEdit, TrainingStage

FEEDING = (
    *("funasr/datasets/", "funasr/frontends/", "funasr/tokenizer/", "funasr/utils/", "funasr/bin/"),
    *("funasr/auto/", "funasr/download/"),
)
"""Folders of the code that prepares the input of the model."""
TRAINING = ("funasr/train_utils/", "funasr/optimizers/", "funasr/schedulers/", "funasr/bin/")
"""Folders of the code that computes the next weights from the gradients."""
MOST_NAMED = 4


class DriftKind(StrEnum):
    """What kind of change it is; the value is what texts call it."""

    STEPS = "another number of steps"
    STOPPED_EARLY = "the training stops early"
    SCHEDULE = "another learning rate"
    ROWS = "other utterances in the batch"
    INPUT = "another input of the model"
    RANDOM = "other random numbers"
    START = "other initial weights"
    MODEL = "the model computes something else"
    GRADIENT = "other gradients"
    UPDATE = "another update of the weights"
    UNKNOWN = "not yet explained"


FEEDING_OR_SCHEDULE = frozenset({DriftKind.STEPS, DriftKind.SCHEDULE, DriftKind.ROWS, DriftKind.INPUT})
"""Changes of what the model is fed or for how long it is trained: the model itself computes as before, as far as is
known. The others change what it computes."""


@dataclass(frozen=True, kw_only=True)
class DriftCause:
    """What is known of why two curves diverge."""

    kind: DriftKind
    sentences: tuple[str, ...]
    changes: tuple[RecordedEdit, ...] = ()
    """Executed functions that changed at the divergence."""

    @property
    def explained(self) -> bool:
        """Whether more is known than that they diverge."""
        return self.kind is not DriftKind.UNKNOWN

    @property
    def weight(self) -> str:
        """What the change concerns, in a word or two."""
        if not self.explained:
            return "unknown"
        if self.kind is DriftKind.STOPPED_EARLY:
            return "a failure"
        return "feeding or schedule" if self.kind in FEEDING_OR_SCHEDULE else "computation"


def cause_of(divergence: CurveDivergence, recording: DivergenceRecording | None) -> DriftCause:
    """What the evidence supports; a recording of both sides counts before the metrics alone."""
    first_difference = tuple(_where(divergence))
    options = tuple(_trainer_options(divergence))
    if divergence.same_beginning:
        return _same_beginning(divergence, (*first_difference, *options))
    if recording and recording.stage is not TrainingStage.NONE:
        kind, sentences, changes = _recorded(divergence, recording)
        return DriftCause(
            kind=kind, sentences=(*first_difference, *_broken(divergence), *sentences, *options), changes=changes
        )
    kind, more = _from_figures(divergence)
    if recording:
        more = (*more, f"Recorded for {_count(recording.passes)}, the two do not differ.")
    return DriftCause(kind=kind, sentences=(*first_difference, *_broken(divergence), *more, *options))


def _where(divergence: CurveDivergence) -> Iterator[str]:
    loss = divergence.loss
    if loss is None:
        shorter = min(divergence.steps)
        yield f"The losses are bit-identical for {_steps(shorter)} that both take."
        return
    equal = f"bit-identical for {_count(loss.step - 1)}, and " if loss.step > 1 else ""
    yield f"The losses are {equal}{_against(loss)} at step {loss.step}."


def _count(steps: int) -> str:
    return "1 step" if steps == 1 else f"{steps} steps"


def _steps(count: int) -> str:
    return "the one step" if count == 1 else f"all {count} steps"


def _against(difference: FirstDifference) -> str:
    values = f"{_digits(difference.mine)} against {_digits(difference.other)}"
    return f"{values} ({difference.relative:.1e} of it)" if difference.relative is not None else values


def _digits(value: float | None) -> str:
    return "–" if value is None else f"{value:.9g}"


def _same_beginning(divergence: CurveDivergence, sentences: Sequence[str]) -> DriftCause:
    if any(divergence.stopped_early):
        return DriftCause(kind=DriftKind.STOPPED_EARLY, sentences=(*sentences, *_broken(divergence)))
    steps_before, steps_after = divergence.steps
    more = f"{divergence.before} takes {_count(steps_before)}, {divergence.after} {steps_after}."
    return DriftCause(kind=DriftKind.STEPS, sentences=(*sentences[:1], more, *sentences[1:]))


def _broken(divergence: CurveDivergence) -> Iterator[str]:
    for release, signature, steps in zip(
        (divergence.before, divergence.after), divergence.stopped_early, divergence.steps, strict=True
    ):
        if signature:
            yield f"The training of {release} stops after {_count(steps)} ({signature})."


def _trainer_options(divergence: CurveDivergence) -> Iterator[str]:
    for release, notes in ((divergence.before, divergence.options_gone), (divergence.after, divergence.options_new)):
        for note in notes:
            yield f"Only {release}: {note}."


def _from_figures(divergence: CurveDivergence) -> tuple[DriftKind, tuple[str, ...]]:
    loss = divergence.loss
    assert loss is not None
    if divergence.same_rows is False:
        return DriftKind.ROWS, (
            f"The batch of step {loss.step} holds other utterances, or other tokens for the same ones.",
        )
    first = divergence.figures[0] if divergence.figures else None
    earlier = [difference for difference in divergence.figures if difference.step < loss.step]
    if first is not None and first.figure == "learning rate" and earlier == [first]:
        sentence = (
            f"Of all metrics the learning rate differs first, at step {first.step} ({_against(first)}), and "
            f"nothing else before the loss of step {loss.step}."
        )
        return DriftKind.SCHEDULE, (sentence,)
    if loss.step > 1 and first is not None and first.figure == "gradient norm" and first.step == loss.step - 1:
        sentence = (
            f"In step {first.step} every metric of the forward pass is equal, and the norm of the "
            f"gradients is not ({_against(first)})."
        )
        return DriftKind.GRADIENT, (sentence,)
    known = [f"{difference.figure} at step {difference.step}" for difference in divergence.figures[:MOST_NAMED]]
    differing = f" In addition to the loss, these differ first: {', '.join(known)}." if known else ""
    return DriftKind.UNKNOWN, (f"The metrics alone do not say why.{differing}",)


def _recorded(
    divergence: CurveDivergence, recording: DivergenceRecording
) -> tuple[DriftKind, tuple[str, ...], tuple[RecordedEdit, ...]]:
    place = recording.first
    assert place is not None
    at = f"in step {recording.at}"
    code = f" ({place.code})" if place.code else ""
    kind, sentence, folders = {
        TrainingStage.START: (DriftKind.START, f"`{place.name}` has other initial weights.", ()),
        TrainingStage.DATA: (
            DriftKind.ROWS if divergence.same_rows is False or recording.same_targets is False else DriftKind.INPUT,
            f"The model gets another input {at}, before any of its modules ran: {place.detail}. "
            + _TARGETS[recording.same_targets],
            FEEDING,
        ),
        TrainingStage.DRAWS: (
            DriftKind.RANDOM,
            f"`{place.name}`{code} is the first to differ {at}: from the same input it draws other random numbers.",
            (),
        ),
        TrainingStage.MODEL: (
            DriftKind.MODEL,
            f"`{place.name}`{code} is the first module to differ {at}, with the same input and the same weights: "
            f"{place.kind.replace('_', ' ')}, {place.detail}.",
            (place.code.rpartition(":")[0],) if place.code else (),
        ),
        TrainingStage.GRADIENT: (
            DriftKind.GRADIENT,
            f"The forward pass {at} is the same in every module; in the backward pass, the gradient of "
            f"`{place.name}` is the first that differs.",
            (),
        ),
        TrainingStage.UPDATE: (
            DriftKind.UPDATE,
            f"Step {recording.at} is the same up to the gradients; the update gives other weights in `{place.name}`.",
            TRAINING,
        ),
    }[recording.stage]
    schedule, more = _from_figures(divergence)
    if recording.stage is TrainingStage.UPDATE and schedule is DriftKind.SCHEDULE:
        kind, sentence = DriftKind.SCHEDULE, f"{sentence} {more[0]}"
    sentences = [sentence]
    if recording.within:
        sentences.append(f"Within it, {recording.within.name} ({recording.within.code}) is the first to differ.")
    changes = _among(recording.changes, folders)
    sentences += _of_changes(recording, changes, folders)
    if not recording.repeated:
        sentences.append(
            "Recorded on another machine or with other settings than the run: the losses differ from the run's."
        )
    return kind, tuple(filter(None, map(str.strip, sentences))), changes[:MOST_NAMED]


_TARGETS = {
    True: "The target tokens are the same, so the utterances are the same.",
    False: "The target tokens differ, so the batch holds other utterances, or they are tokenized differently.",
    None: "",
}


def _among(changes: Sequence[RecordedEdit], folders: Sequence[str]) -> tuple[RecordedEdit, ...]:
    """The functions that changed in some folders, in the order of the folders; what only imports names left out."""
    placed = [
        (place, change)
        for change in changes
        for place, folder in enumerate(folders)
        if change.file.startswith(folder) and change.function != "<module>"
    ]
    return tuple(change for _, change in sorted(placed, key=lambda entry: entry[0]))


def _of_changes(
    recording: DivergenceRecording, changes: Sequence[RecordedEdit], folders: Sequence[str]
) -> Iterator[str]:
    """What changed at the divergence; with several changes, none is called the cause."""
    if recording.same_functions:
        yield "No function of the release that ran differs between the two."
    elif changes:
        names = ", ".join(f"{change.function} ({change.file})" for change in changes[:MOST_NAMED])
        more = f" and {len(changes) - MOST_NAMED} more" if len(changes) > MOST_NAMED else ""
        which = "one function changed" if len(changes) == 1 else f"{len(changes)} functions changed"
        yield f"Of what ran there {which}: {names}{more}."
    elif folders:
        yield f"None of the functions that ran there changed; {len(recording.changes)} changed elsewhere."
