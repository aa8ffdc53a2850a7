"""What can be said of a parting: only what its figures, or a recording of both sides, support."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from harness.compare.drift.evidence import Apart, CurveDivergence
from harness.compare.drift.recordings import DivergenceRecording, RecordedEdit, TrainingStage

FEEDING = (
    *("funasr/datasets/", "funasr/frontends/", "funasr/tokenizer/", "funasr/utils/", "funasr/bin/"),
    *("funasr/auto/", "funasr/download/"),
)
"""Where a release's code lies that prepares what enters the model."""
TRAINING = ("funasr/train_utils/", "funasr/optimizers/", "funasr/schedulers/", "funasr/bin/")
"""Where the code lies that makes the next weights of the gradients."""
MOST_NAMED = 4


class Sort(StrEnum):
    """What sort of change it is; the value is how it is told."""

    STEPS = "another number of steps"
    BROKE_OFF = "the training breaks off"
    SCHEDULE = "another learning rate"
    ROWS = "other utterances in the batch"
    INPUT = "another input of the model"
    RANDOM = "other random numbers"
    START = "other weights to begin with"
    MODEL = "the model computes otherwise"
    GRADIENT = "other gradients"
    UPDATE = "another update of the weights"
    UNKNOWN = "not yet explained"


MEANT = frozenset({Sort.STEPS, Sort.SCHEDULE, Sort.ROWS, Sort.INPUT})
"""Changes of what the model is fed or for how long it is trained: the model itself computes as before, as far as is
known. The others change what it computes."""


@dataclass(frozen=True, kw_only=True)
class DriftCause:
    """What is known of why two curves part."""

    sort: Sort
    sentences: tuple[str, ...]
    changes: tuple[RecordedEdit, ...] = ()
    """Executed functions that changed where the two part."""

    @property
    def explained(self) -> bool:
        """Whether more is known than that they part."""
        return self.sort is not Sort.UNKNOWN

    @property
    def weight(self) -> str:
        """In one word or two, what it is a change of."""
        if not self.explained:
            return "unknown"
        if self.sort is Sort.BROKE_OFF:
            return "a failure"
        return "feeding or schedule" if self.sort in MEANT else "computation"


def cause_of(parting: CurveDivergence, recording: DivergenceRecording | None) -> DriftCause:
    """What the evidence supports, a recording of both sides before the figures alone."""
    told = tuple(_apart(parting))
    dialect = tuple(_dialect(parting))
    if parting.same_beginning:
        return _same_beginning(parting, (*told, *dialect))
    if recording and recording.stage is not TrainingStage.NONE:
        sort, sentences, changes = _recorded(parting, recording)
        return DriftCause(sort=sort, sentences=(*told, *_broken(parting), *sentences, *dialect), changes=changes)
    sort, more = _from_figures(parting)
    if recording:
        more = (*more, f"Recorded for {_count(recording.passes)}, the two do not differ.")
    return DriftCause(sort=sort, sentences=(*told, *_broken(parting), *more, *dialect))


def _apart(parting: CurveDivergence) -> Iterator[str]:
    loss = parting.loss
    if loss is None:
        shorter = min(parting.steps)
        yield f"The losses are equal to the last digit for {_steps(shorter)} that both take."
        return
    equal = f"equal to the last digit for {_count(loss.step - 1)}, and " if loss.step > 1 else ""
    yield f"The losses are {equal}{_against(loss)} at step {loss.step}."


def _count(steps: int) -> str:
    return "1 step" if steps == 1 else f"{steps} steps"


def _steps(count: int) -> str:
    return "the one step" if count == 1 else f"all {count} steps"


def _against(apart: Apart) -> str:
    values = f"{_digits(apart.mine)} against {_digits(apart.other)}"
    return f"{values} ({apart.relative:.1e} of it)" if apart.relative is not None else values


def _digits(value: float | None) -> str:
    return "–" if value is None else f"{value:.9g}"


def _same_beginning(parting: CurveDivergence, sentences: Sequence[str]) -> DriftCause:
    if any(parting.broke_off):
        return DriftCause(sort=Sort.BROKE_OFF, sentences=(*sentences, *_broken(parting)))
    one, other = parting.steps
    more = f"{parting.before} takes {_count(one)}, {parting.after} {other}."
    return DriftCause(sort=Sort.STEPS, sentences=(*sentences[:1], more, *sentences[1:]))


def _broken(parting: CurveDivergence) -> Iterator[str]:
    for release, signature, steps in zip(
        (parting.before, parting.after), parting.broke_off, parting.steps, strict=True
    ):
        if signature:
            yield f"The training of {release} breaks off after {_count(steps)} ({signature})."


def _dialect(parting: CurveDivergence) -> Iterator[str]:
    for release, notes in ((parting.before, parting.dialect_gone), (parting.after, parting.dialect_new)):
        for note in notes:
            yield f"Only {release}: {note}."


def _from_figures(parting: CurveDivergence) -> tuple[Sort, tuple[str, ...]]:
    loss = parting.loss
    assert loss is not None
    if parting.same_rows is False:
        return Sort.ROWS, (f"The batch of step {loss.step} holds other utterances, or other tokens for them.",)
    first = parting.figures[0] if parting.figures else None
    earlier = [apart for apart in parting.figures if apart.step < loss.step]
    if first is not None and first.figure == "learning rate" and earlier == [first]:
        sentence = (
            f"Of all that was measured the learning rate differs first, at step {first.step} ({_against(first)}), and "
            f"nothing else before the loss of step {loss.step}."
        )
        return Sort.SCHEDULE, (sentence,)
    if loss.step > 1 and first is not None and first.figure == "gradient norm" and first.step == loss.step - 1:
        sentence = (
            f"In step {first.step} everything that was measured of the forward pass is equal, and the norm of the "
            f"gradients is not ({_against(first)})."
        )
        return Sort.GRADIENT, (sentence,)
    known = [f"{apart.figure} at step {apart.step}" for apart in parting.figures[:MOST_NAMED]]
    differing = f" Besides the loss differ first: {', '.join(known)}." if known else ""
    return Sort.UNKNOWN, (f"The figures alone do not say why.{differing}",)


def _recorded(
    parting: CurveDivergence, recording: DivergenceRecording
) -> tuple[Sort, tuple[str, ...], tuple[RecordedEdit, ...]]:
    place = recording.first
    assert place is not None
    at = f"in step {recording.at}"
    code = f" ({place.code})" if place.code else ""
    sort, sentence, folders = {
        TrainingStage.START: (Sort.START, f"`{place.name}` begins the training with other weights.", ()),
        TrainingStage.DATA: (
            Sort.ROWS if parting.same_rows is False or recording.same_targets is False else Sort.INPUT,
            f"Something else enters the model {at}, before any of its modules ran: {place.detail}. "
            + _TARGETS[recording.same_targets],
            FEEDING,
        ),
        TrainingStage.DRAWS: (
            Sort.RANDOM,
            f"`{place.name}`{code} is the first to part {at}: it is given the same, and draws other random numbers.",
            (),
        ),
        TrainingStage.MODEL: (
            Sort.MODEL,
            f"`{place.name}`{code} is the first module to part {at}, from the same input and the same weights: "
            f"{place.kind.replace('_', ' ')}, {place.detail}.",
            (place.code.rpartition(":")[0],) if place.code else (),
        ),
        TrainingStage.GRADIENT: (
            Sort.GRADIENT,
            f"The forward pass {at} is the same in every module; going back from the loss, the gradient of "
            f"`{place.name}` is the first that differs.",
            (),
        ),
        TrainingStage.UPDATE: (
            Sort.UPDATE,
            f"Step {recording.at} is the same up to the gradients, and leaves other weights in `{place.name}`.",
            TRAINING,
        ),
    }[recording.stage]
    schedule, more = _from_figures(parting)
    if recording.stage is TrainingStage.UPDATE and schedule is Sort.SCHEDULE:
        sort, sentence = Sort.SCHEDULE, f"{sentence} {more[0]}"
    sentences = [sentence]
    if recording.within:
        sentences.append(f"Within it, {recording.within.name} ({recording.within.code}) is the first to differ.")
    changes = _among(recording.changes, folders)
    sentences += _of_changes(recording, changes, folders)
    if not recording.repeated:
        sentences.append("Recorded on another machine or with other settings than the run: its losses were others.")
    return sort, tuple(filter(None, map(str.strip, sentences))), changes[:MOST_NAMED]


_TARGETS = {
    True: "The tokens that it is to say are the same, so the utterances are.",
    False: "It is to say other tokens, so the batch holds other utterances, or they are tokenized otherwise.",
    None: "",
}


def _among(changes: Sequence[RecordedEdit], folders: Sequence[str]) -> tuple[RecordedEdit, ...]:
    """The functions that changed in some folders, in the order of the folders; what only imports names left out."""
    found = [
        (place, change)
        for change in changes
        for place, folder in enumerate(folders)
        if change.file.startswith(folder) and change.function != "<module>"
    ]
    return tuple(change for _, change in sorted(found, key=lambda one: one[0]))


def _of_changes(
    recording: DivergenceRecording, changes: Sequence[RecordedEdit], folders: Sequence[str]
) -> Iterator[str]:
    """What changed where they part; without a claim that it is the cause where there are several."""
    if recording.same_functions:
        yield "No function of the release that ran differs between the two."
    elif changes:
        names = ", ".join(f"{change.function} ({change.file})" for change in changes[:MOST_NAMED])
        more = f" and {len(changes) - MOST_NAMED} more" if len(changes) > MOST_NAMED else ""
        which = "one function changed" if len(changes) == 1 else f"{len(changes)} functions changed"
        yield f"Of what ran there {which}: {names}{more}."
    elif folders:
        yield f"None of the functions that ran there changed; {len(recording.changes)} changed elsewhere."
