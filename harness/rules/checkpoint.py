"""Does what was saved do what it is for? One question each, answered from what was seen.

A question holds, fails, is listed, or was not tested. It fails where an interrupted training differs from the
uninterrupted one, where a file is not what its name says, and where something goes wrong silently. What a release
refuses, or reports before it continues, is listed: its user knows. What a release does not offer is not tested.

Runs are compared on the same machine. On a CPU equal weights and an equal batch give an equal loss, because every
forward pass is seeded from its batch (`harness.worker.trainer.training_trace`); `LOSS_TOLERANCE` allows for
rounding only.
Where the device does not repeat itself, the uninterrupted run is made twice, and `NOISE_FACTOR` times the largest
difference of the two is allowed instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

from harness.core.cells import Failure, Outcome, Status
from harness.core.evidence.checkpoint import CheckpointMetrics, LoadedModel, MismatchCase
from harness.core.evidence.questions import AnswerStatus, Question, fails, holds, listed, not_tested
from harness.rules import checkpoint_resuming, checkpoint_saving
from harness.text.plain import some

QUESTIONS = "questions"
"""The key in the evidence of a `checkpoint` cell that holds them, answered."""


def judge_checkpoint(metrics: CheckpointMetrics) -> tuple[Question, ...]:
    """Every question of the check, answered from the metrics of a `checkpoint` cell."""
    return (
        *checkpoint_resuming.questions(metrics),
        *checkpoint_saving.questions(metrics),
        *_about_loading(metrics),
    )


def apply_checkpoint_rule(outcome: Outcome) -> Outcome:
    """The outcome with every question answered in it; it fails when one of them does."""
    questions = judge_checkpoint(outcome.metrics_as(CheckpointMetrics) or CheckpointMetrics())
    evidence = {**outcome.evidence, QUESTIONS: [asdict(question) for question in questions]}
    failing = [question for question in questions if question.status is AnswerStatus.FAILS]
    if not failing:
        return replace(outcome, evidence=evidence)
    reason = "; ".join(f"{question.name}: {question.message}" for question in failing)
    signature = "CheckpointBroken@" + "+".join(question.name for question in failing)
    failure = Failure(type="CheckpointBroken", message=reason, signature=signature)
    return replace(outcome, status=Status.FAILED, reason=reason, failure=failure, evidence=evidence)


def _about_loading(metrics: CheckpointMetrics) -> list[Question]:
    """About loading a fine-tuned model, and about starting from a checkpoint of other dimensions."""
    loading = metrics.loading
    return [
        _loads("average_loads", loading.average, "model.pt.avg"),
        _loads("folder_loads", loading.folder, "model.pt", configured=bool(loading.folder_has_configuration)),
        _loads("bare_folder_loads", loading.bare, "model.pt"),
        _mismatch(metrics.mismatch, ignore=True),
        _mismatch(metrics.mismatch, ignore=False),
    ]


def _loads(name: str, loaded: LoadedModel | None, expected: str, *, configured: bool = True) -> Question:
    bare = name == "bare_folder_loads"
    if loaded is None:
        return not_tested(name, "there is no such file")
    if not configured:
        return not_tested(name, "the trainer leaves no configuration.json; see bare_folder_loads")
    matching, messages = loaded.equals or (), loaded.said
    example = {
        "is": None if loaded.equals is None else list(matching),
        "said": list(messages),
        "tensors": None if loaded.differs is None else list(loaded.differs),
    }
    if loaded.failure:
        text = f"it stops: {loaded.failure.reason}"
        return listed(name, text) if bare else fails(name, text)
    if any(file == expected or (name == "average_loads" and file.startswith(expected)) for file in matching):
        return holds(name, f"what is in memory is {expected}, tensor by tensor", example)
    contents = " and ".join(matching) or "none of the checkpoints"
    if messages and bare and not matching:
        text = f"what is in memory is {contents}; it says: {messages[0]}"
        return listed(name, text, example)
    words = f"; it says: {messages[0]}" if messages else ", and nothing is said"
    return fails(name, f"what is in memory is {contents}, not what was saved last{words}", example)


def _mismatch(tried: Sequence[MismatchCase], *, ignore: bool) -> Question:
    name = "mismatch_said" if ignore else "mismatch_refused"
    cases = [case for case in tried if case.ignore is ignore]
    if not cases:
        return not_tested(name, "no checkpoint of another shape was tried")
    wrong = [text for case in cases for text in [_wrong_with(case)] if text]
    example = {"cases": [_shown(case) for case in cases]}
    if wrong:
        return fails(name, "; ".join(wrong), example)
    stopped = [case for case in cases if not case.began]
    if ignore and stopped:
        reason = stopped[0].failure.reason if stopped[0].failure else "it does not say why"
        return listed(name, f"with ignore_init_mismatch it stops all the same: {reason}", example)
    if not ignore:
        return holds(name, "it stops and says why", example)
    counts = ", ".join(f"{len(case.left_out)} of {case.kind}" for case in cases)
    return holds(name, f"it names every tensor left out: {counts}", example)


def _wrong_with(case: MismatchCase) -> str:
    if not case.began:
        return ""
    if case.lost:
        return f"of a checkpoint of another {case.kind}, tensors that fit were not taken over: {some(case.lost)}"
    if not case.ignore:
        names = some([entry.name for entry in case.left_out])
        return f"of a checkpoint of another {case.kind}, it leaves out {names} although the setting forbids it"
    if case.unsaid:
        return f"of a checkpoint of another {case.kind}, it leaves out {some(case.unsaid)} without a word"
    return ""


def _shown(case: MismatchCase) -> dict[str, object]:
    tensors = [
        {"name": tensor.name, "model": list(tensor.model), "checkpoint": tensor.checkpoint and list(tensor.checkpoint)}
        for tensor in case.left_out
    ]
    return {
        "kind": case.kind,
        "began": case.began,
        "taken": case.taken,
        "left_out": tensors[:20],
        "left_out_count": len(tensors),
        "says": case.line or (case.failure.reason if case.failure else None),
    }
