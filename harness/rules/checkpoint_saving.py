"""Are the files that a training leaves what their names say: whole, the best, the mean?"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from harness.core.evidence.checkpoint import CheckpointMetrics, SavedFiles, Scores, TrainerRun
from harness.core.evidence.questions import Question, fails, holds, not_tested
from harness.core.numbers import number
from harness.text.plain import some

_OF_EPOCH = re.compile(r"model\.pt\.ep\d+")

SCORE_TOLERANCE = 1e-4
"""Absolute, of accuracies, and relative, of losses: a mean over batches in fp32 may be taken in more than one order."""


def questions(metrics: CheckpointMetrics) -> list[Question]:
    """About checkpoints, their ranking, the best one and the averaged one."""
    training, files = metrics.whole or TrainerRun(), metrics.files
    if not training.failure and not training.saved and any(map(_OF_EPOCH.match, files.names)):
        why = "checkpoints were saved by a function that could not be watched"
        names = ("saved_whole", "criterion_is_measured", "best_is_best", "average_is_mean")
        return [*(not_tested(name, why) for name in names), _average_of_few(metrics)]
    return [
        _saved_whole(training),
        _criterion(training, files),
        _best(training, files),
        _average(training, files),
        _average_of_few(metrics),
    ]


def _saved_whole(training: TrainerRun) -> Question:
    name = "saved_whole"
    saved = [entry for entry in training.saved if entry.differs is not None]
    if not saved:
        return fails(name, "no checkpoint of an epoch could be read")
    for entry in saved:
        if entry.differs:
            text = f"{entry.name} does not hold what was in memory when it was saved: {some(entry.differs)}"
            return fails(name, text, {"tensors": list(entry.differs)})
    text = f"{len(saved)} checkpoints hold every tensor as it was in memory"
    return holds(name, text, {"files": [entry.name for entry in saved]})


def _observed(training: TrainerRun, kind: str) -> dict[str, float | None]:
    """Each checkpoint's score, from what the validation before it gave: the mean over its batches."""
    scores: dict[str, float | None] = {}
    for entry in training.saved:
        before = training.validations[entry.after_validation - 1 : entry.after_validation]
        recorded = [
            value for validation in before for value in (validation.accuracies if kind == "acc" else validation.losses)
        ]
        known = [value for value in map(number, recorded) if value is not None]
        scores[entry.name] = sum(known) / len(known) if recorded and len(known) == len(recorded) else None
    return scores


def _criterion(training: TrainerRun, files: SavedFiles) -> Question:
    name = "criterion_is_measured"
    kinds = {
        kind: table for kind, table in (("acc", files.scores.acc), ("loss", files.scores.loss)) if table is not None
    }
    if not kinds:
        return not_tested(name, "the release writes down no scores of its checkpoints")
    compared = 0
    for kind, table in kinds.items():
        observed = _observed(training, kind)
        for file, recorded in table.items():
            written = number(recorded)
            if file not in observed or written is None:
                continue
            value = observed[file]
            compared += 1
            if value is None or abs(value - written) > SCORE_TOLERANCE * max(1.0, abs(value)):
                measured = "no such figure was computed in its validation" if value is None else f"it was {value:.6g}"
                text = f"{file} is ranked by a validation {kind} of {written:.6g}; {measured}"
                return fails(name, text, {"written": written, "seen": value, "file": file, "kind": kind})
    if not compared:
        return not_tested(name, "of no checkpoint that was seen is a score written down")
    text = f"the scores by which it ranks ({', '.join(kinds)}) are those of its validations"
    return holds(name, text, {"scores": _scores(files.scores)})


def _ranking(training: TrainerRun, files: SavedFiles) -> tuple[str, dict[str, float]] | None:
    """By what the release ranks, and each checkpoint's score, higher being better; None where it does not rank."""
    kind = files.scores.criterion
    if kind not in ("acc", "loss"):
        return None
    observed = _observed(training, kind)
    sign = 1.0 if kind == "acc" else -1.0
    return kind, {file: -math.inf if value is None else sign * value for file, value in observed.items()}


def _best(training: TrainerRun, files: SavedFiles) -> Question:
    name, best = "best_is_best", "model.pt.best"
    if best not in files.names:
        ranking = _ranking(training, files)
        return fails(name, f"there is no {best}") if ranking else not_tested(name, "the release keeps no best one")
    kind, scores = _ranking(training, files) or ("acc", _accuracies(training))
    equal_files = [file for file in files.same_as.get(best, ()) if file in scores]
    example = {"criterion": kind, "scores": _shown(scores), "best_is": equal_files}
    if not scores or max(scores.values()) == -math.inf:
        text = f"the best checkpoint is the best by {kind}, which no validation computed"
        return fails(name, text, {**example, "scores": {}})
    highest = max(scores.values())
    others = [score for file, score in scores.items() if file not in equal_files]
    if (
        equal_files
        and others
        and all(abs(score - highest) <= SCORE_TOLERANCE * max(1.0, abs(highest)) for score in others)
    ):
        return not_tested(name, f"all checkpoints have the same score by {kind}: any of them is the best")
    if any(scores[file] >= highest - SCORE_TOLERANCE * max(1.0, abs(highest)) for file in equal_files):
        text = f"{best} is {equal_files[-1]}, the best by {kind}"
        return holds(name, text, example)
    top = max(scores, key=lambda file: scores[file])
    text = f"{best} is {some(equal_files) if equal_files else 'none of the checkpoints'}; the best by {kind} is {top}"
    return fails(name, text, example)


def _shown(scores: Mapping[str, float]) -> dict[str, float | None]:
    """As they were computed; None for a checkpoint without one."""
    return {file: None if math.isinf(score) else abs(score) for file, score in scores.items()}


def _scores(scores: Scores) -> dict[str, object]:
    """What the release wrote down, as it was recorded."""
    tables = {kind: dict(table) for kind, table in (("acc", scores.acc), ("loss", scores.loss)) if table is not None}
    return {**tables, "criterion": scores.criterion, "best": scores.best}


def _accuracies(training: TrainerRun) -> dict[str, float]:
    return {file: -math.inf if value is None else value for file, value in _observed(training, "acc").items()}


def _average(training: TrainerRun, files: SavedFiles) -> Question:
    name = "average_is_mean"
    if not files.averages:
        return fails(name, "no averaged model was saved")
    file, average = next(iter(files.averages.items()))
    sets, count = average.members, int(re.findall(r"\d+", file)[-1])
    if average.missing:
        return fails(name, f"{file} lacks {some(average.missing)}", {"tensors": list(average.missing)})
    if len(sets) > 1:
        text = f"{len(sets)} different sets of checkpoints have the mean that {file} holds: they are equal"
        return not_tested(name, text)
    if not sets:
        text = f"{file} is not the mean of any of the checkpoints"
        return fails(name, text, {"tensors": list(average.differs)})
    ranking = _ranking(training, files)
    manner = f"the best by {ranking[0]}" if ranking else "the latest"
    scores = ranking[1] if ranking else {entry.name: _epoch(entry.name) for entry in training.saved}
    example = {"members": list(sets[0]), "scores": _shown(scores)}
    if any(_are_top(members, scores, count) for members in sets):
        text = f"{file} is the mean of {' and '.join(sets[0])}, {manner}"
        return holds(name, text, example)
    return fails(name, f"{file} is the mean of {' and '.join(sets[0])}, which are not {count} of {manner}", example)


def _are_top(members: Sequence[str], scores: Mapping[str, float], count: int) -> bool:
    """Whether these are as many as asked for, and none that was left out is better."""
    outside = [score for file, score in scores.items() if file not in members]
    inside = [scores.get(file, -math.inf) for file in members]
    if len(members) != min(count, len(scores)):
        return False
    return not outside or min(inside) >= max(outside) - SCORE_TOLERANCE


def _epoch(file: str) -> float:
    return float(re.findall(r"\d+", file)[0])


def _average_of_few(metrics: CheckpointMetrics) -> Question:
    name, run = "average_survives_pruning", metrics.recipe
    if run is None:
        return not_tested(name, "the release does not thin out its checkpoints")
    averaged = [file for file in metrics.recipe_files if file.startswith("model.pt.avg")]
    example = {"files": list(metrics.recipe_files), "said": list(run.said_of_averaging)}
    if averaged:
        text = f"of the one checkpoint that was kept, {averaged[0]} was made"
        return holds(name, text, example)
    failure = run.failure
    if failure and "average" not in failure.signature:
        return not_tested(name, f"the run broke off: {failure.reason}")
    ending = f"it raised {failure.reason}" if failure else "and it reports success"
    return fails(name, f"with one checkpoint kept, there is no averaged model, {ending}", example)
