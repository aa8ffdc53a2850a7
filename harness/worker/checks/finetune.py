"""The `finetune` check: the release's own trainer, driven by the command line that its finetune.sh gives it.

Each seed's training runs in a forked child of the cell's process, which itself computes nothing with torch:
what one training leaves behind in generators, hooks or threads does not reach the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from harness.worker.release import entry as release
from harness.worker.release import findings, structure
from harness.worker.trainer import (
    children,
    expectation,
    hearing,
    in_force,
    launch,
    memory,
    options,
    out_of_memory,
    precision,
    speech,
)
from harness.worker.trainer.received_rows import Arriving
from harness.worker.trainer.recorder import TrainingRecorder

REPORTED = (
    "seed",
    "losses",
    "epoch_losses",
    "steps_of_epochs",
    "stats",
    "accuracy_recomputed",
    "targets",
    "criterion",
    "hearing",
)
"""What is told of every seed's training; of the first all else besides."""
LEARNED_FROM = ("loss_att", "acc")
"""The trainer's statistics that the verdict is about."""


def check(request: Mapping[str, Any]) -> dict[str, Any]:
    """Fine-tune a seeded checkpoint and report what was seen; whether it learned is judged outside."""
    overlay, entry = request["release"]["overlay"], request["entry"]
    release.require_entry(overlay, entry)
    if precision.words(overlay, entry, request["precision"]) is None:
        missing = precision.missing(entry, request["precision"])
        raise release.NotInRelease(missing, f"precision/{entry}-{request['precision']}")
    if request["device"] == "cpu":
        # Once for all children. On a GPU each child imports for itself: what has looked for one cannot be forked from.
        launch.enter_whole(overlay, request["model_class"])
    seeds = range(request["seed"], request["seed"] + request["finetune"].get("seeds", 1))
    answers: dict[int, children.ChildResult] = {}
    for seed in seeds:
        answers[seed] = launch.apart(request, f"seed-{seed}", partial(train, request, seed))
        if answers[seed].failure:
            break
    trainings = [_told(answer.value.get("metrics", {}), seed) for seed, answer in answers.items()]
    # What breaks off is told whole; of those that end well the first is.
    told = next((answer for answer in answers.values() if answer.failure), answers[seeds[0]])
    result = {"status": "passed", "reason": "", **told.value}
    extra = {} if told.failure else _extra_trainings(request)
    if told.failure and request["finetune"].get("own") and not told.value.get("metrics", {}).get("losses"):
        result["evidence"] = {**result.get("evidence", {}), "control": _without_overrides(request)}
    if told.failure:
        ending = {name: told.failure.pop(name) for name in ("status", "reason")}
        if ending["status"] == "out_of_memory":
            ending["reason"] = f"{ending['reason'].rstrip('. ')}. {out_of_memory.ADVICE[request['device']]}"
        result |= {**ending, "failure": told.failure}
    return {**result, "metrics": {**result.get("metrics", {}), "trainings": trainings, **extra}}


def _without_overrides(request: Mapping[str, Any]) -> dict[str, Any]:
    """How the same training ends without the user's settings; `failure` is None where it takes its first step."""
    plain = {**request, "finetune": {**request["finetune"], "overrides": {}}}

    def begin(room: children.ChildContext) -> None:
        from torch.optim.optimizer import register_optimizer_step_post_hook

        register_optimizer_step_post_hook(lambda *_: room.leave())
        train(plain, request["seed"], room)

    failure = launch.apart(request, "control", begin).failure
    return {"failure": failure and failure["signature"]}


def _extra_trainings(request: Mapping[str, Any]) -> dict[str, Any]:
    """Small trainings for promises that the ordinary one does not touch."""
    from harness.worker.checks import accumulation, ranks

    found: dict[str, Any] = {}
    settings = request["finetune"]
    if settings.get("accumulate", 1) > 1:
        found["accumulation"] = accumulation.compare(request, settings["accumulate"])
    if settings.get("processes", 1) > 1:
        found["ranks"] = ranks.compare(request, settings["processes"])
    return found


def train(request: Mapping[str, Any], seed: int, room: children.ChildContext) -> None:
    """One training; its figures are in the room's answer even when it breaks off."""
    overlay = request["release"]["overlay"]
    model_class = launch.enter_whole(overlay, request["model_class"])
    dialect = options.of(overlay, request["release"]["version"], request["entry"])
    training = launch.lay_out(request, room.path, seed)
    held_out = _held_out(request, Path(training["model_folder"]))
    observer = TrainingRecorder(
        meter=memory.meter(request["device"]), heard=None if held_out else hearing.SpeechInputs()
    )
    observer.attach(model_class)
    own, arriving = request["data"].get("own"), Arriving()
    if own:
        arriving.attach(model_class)
    words = dialect.overrides(training) | (precision.words(overlay, request["entry"], request["precision"]) or {})
    ending: dict[str, Any] = {}
    ended = True
    training["asked"] = in_force.asked(speech.config(Path(training["model_folder"])), words)
    try:
        launch.run_trainer(request["entry"], words, root=own and own["root"])
    except Exception as error:
        ended = False
        ending = out_of_memory.moment(error, overlay, observer.meter, observer.phases)
        raise
    finally:
        seen = _seen(observer, request, dialect, training)
        seen["metrics"] |= ending
        if own:
            seen["metrics"] |= _arrived(arriving, own, words["train_data_set_list"], seen["metrics"])
        if ended:
            seen["metrics"]["hearing"] = _hearing(observer, held_out, overlay)
        room.answer |= seen


def _seen(
    observer: TrainingRecorder, request: Mapping[str, Any], dialect: options.TrainerOptions, training: Mapping[str, Any]
) -> dict[str, Any]:
    data, settings, overlay = request["data"], request["finetune"], request["release"]["overlay"]
    metrics = observer.metrics(request["groups"], data["frame_seconds"])
    unchanged = metrics.pop("parameters_unchanged")
    observer.in_force.read_saved(Path(training["output_dir"]))
    config = observer.in_force.plain()
    dataset = config.get("dataset_conf") or in_force.section(training["asked"], "dataset_conf")
    rows = expectation.of_rows(training["rows"], expectation.row_limits(overlay, dataset))
    counted = expectation.Counted(
        utterances=0 if training["rows"] else data["utterances"],
        batches=data.get("own", {}).get("steps"),
        steps=metrics["steps"],
    )
    metrics |= expectation.of_steps(dialect, config, settings, rows, counted)
    _note_epochs(metrics["epochs"], metrics["epochs_asked"], dialect)
    metrics["config_in_force"] = {**config, **observer.trained_by(config, request["groups"])} if config else {}
    metrics["recipe"] = expectation.recipe(dialect, settings, data["utterances"])
    start, missing = expectation.start_of(config, Path(training["model_folder"]))
    metrics["promises"] |= {
        **expectation.promised(config, {**settings, "gradient_clip": training["gradient_clip"]}),
        **rows,
        "configuration": observer.in_force.differs(training["asked"]),
        "configuration_source": observer.in_force.source,
        "start_missing": missing,
    }
    if start is not None:
        metrics["promises"]["not_from_checkpoint"] = observer.started_elsewhere(
            start, config.get("excludes"), whole=start.parent == Path(training["model_folder"])
        )
    evidence = {
        "entry_is_native": request["entry"] == dialect.native_entry,
        "dialect": list(dialect.notes),
        "parameters_unchanged": unchanged[:20],
        "saved": sorted(path.name for path in Path(training["output_dir"]).glob("model.pt*")),
        "code": structure.code(observer.network) if observer.network is not None else [],
    }
    return {"metrics": metrics, "evidence": evidence}


def _arrived(arriving: Arriving, own: Mapping[str, Any], train: str, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What of a user's rows reached training."""
    return {"user_rows": arriving.figures(train, own["lines"], own["expected"], metrics.get("epochs"))}


def _held_out(request: Mapping[str, Any], folder: Path) -> list[hearing.HeldOutExample]:
    """Built-in utterances that the training never has; none beside a user's speech."""
    source = request["data"].get("held_out")
    return hearing.examples_of(folder, speech.config(folder), speech.read_rows(source)) if source else []


def _hearing(observer: TrainingRecorder, held_out: list[hearing.HeldOutExample], overlay: str) -> dict[str, Any]:
    """What the trained model makes of its utterances' speech, and of other speech in its place."""
    if observer.network is None:
        return {"not_observed": "there was no forward pass"}
    heard = observer.heard or hearing.SpeechInputs()
    return hearing.compare(observer.network, observer.forward, held_out, heard, overlay=overlay)


def _note_epochs(seen: int, asked: int, dialect: options.TrainerOptions) -> None:
    """What is allowed for when epochs and steps are counted: a trainer whose own loop runs one epoch more."""
    if dialect.extra_epoch and seen > asked:
        message = f"With train_conf.max_epoch={asked} the trainer ran {seen} epochs."
        findings.note("one-epoch-too-many", message, dialect.loop, asked=asked, ran=seen)


def _told(metrics: Mapping[str, Any], seed: int) -> dict[str, Any]:
    told = {name: metrics[name] for name in REPORTED if name in metrics}
    stats = {name: values for name, values in metrics.get("stats", {}).items() if name in LEARNED_FROM}
    return {**told, "seed": seed, "stats": stats}
