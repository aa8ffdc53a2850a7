"""The `finetune` check: the release's own trainer, with the command line of its finetune.sh.

Each seed's training runs in a forked child of the cell's process, which itself computes nothing with torch: state that
a training leaves in generators, hooks or threads does not reach the next one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from harness.worker.release import findings, importer, model
from harness.worker.trainer import children, expectation, hearing, in_force, launch, memory, memory_parts, options
from harness.worker.trainer.received_rows import ReceivedRowsRecorder
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
"""The metrics that are reported for each seed; the first seed's are reported completely."""
HIGHEST_LOSS = 1e4
"""As in `harness.rules.training`: what lies above is no loss of a training."""
LEARNED_FROM = ("loss_att", "acc")
"""The trainer's statistics that the verdict uses."""


def check(request: Mapping[str, Any]) -> dict[str, Any]:
    """Fine-tune a seeded checkpoint and report the observations; whether it learned is judged outside."""
    install_dir, entry = request["release"]["install_dir"], request["entry"]
    importer.require_entry(install_dir, entry)
    if options.precision_overrides(install_dir, entry, request["precision"]) is None:
        missing = options.missing_precision(entry, request["precision"])
        raise importer.NotInRelease(missing, f"precision/{entry}-{request['precision']}")
    if request["device"] == "cpu":
        # Once for all children. On a GPU each child imports by itself: a process that initialised CUDA cannot fork.
        launch.import_model_class(install_dir, request["model_class"])
    seeds = range(request["seed"], request["seed"] + request["finetune"].get("seeds", 1))
    answers: dict[int, children.ChildResult] = {}
    for seed in seeds:
        answers[seed] = launch.run_in_child(request, f"seed-{seed}", partial(train, request, seed))
        if answers[seed].failure:
            break
    trainings = [_training_summary(answer.value.get("metrics", {}), seed) for seed, answer in answers.items()]
    # A training that raised is reported completely; else the first one.
    reported = next((answer for answer in answers.values() if answer.failure), answers[seeds[0]])
    result = {"status": "passed", "reason": "", **reported.value}
    extra = {} if reported.failure else _extra_trainings(request)
    if request["finetune"].get("own") and (control := _control(request, reported)):
        result["evidence"] = {**result.get("evidence", {}), "control": control}
    if reported.failure:
        ending = {name: reported.failure.pop(name) for name in ("status", "reason")}
        if ending["status"] == "out_of_memory":
            ending["reason"] = f"{ending['reason'].rstrip('. ')}. {memory_parts.ADVICE[request['device']]}"
        result |= {**ending, "failure": reported.failure}
    return {**result, "metrics": {**result.get("metrics", {}), "trainings": trainings, **extra}}


def _control(request: Mapping[str, Any], reported: children.ChildResult) -> dict[str, Any] | None:
    """How the same training ends without the user's settings, where with them it broke off or diverged.

    `failure` is None if it takes its first step; where the other took steps, it is trained to its end, and `finite`
    says whether its losses are those of a training.
    """
    losses = reported.value.get("metrics", {}).get("losses") or []
    plain = {**request, "finetune": {**request["finetune"], "overrides": {}}}
    if not losses:
        return _first_step(plain) if reported.failure else None
    if not reported.failure and _are_finite(losses):
        return None
    complete = launch.run_in_child(plain, "control", partial(train, plain, request["seed"]))
    finite = complete.failure is None and _are_finite(complete.value.get("metrics", {}).get("losses") or [None])
    return {"failure": complete.failure and complete.failure["signature"], "finite": finite}


def _first_step(plain: Mapping[str, Any]) -> dict[str, Any]:
    def begin(context: children.ChildContext) -> None:
        from torch.optim.optimizer import register_optimizer_step_post_hook

        register_optimizer_step_post_hook(lambda *_: context.leave())
        train(plain, plain["seed"], context)

    failure = launch.run_in_child(plain, "control", begin).failure
    return {"failure": failure and failure["signature"]}


def _are_finite(losses: Sequence[object]) -> bool:
    # What is no finite number is recorded as a text.
    return all(isinstance(loss, int | float) and math.isfinite(loss) and loss <= HIGHEST_LOSS for loss in losses)


def _extra_trainings(request: Mapping[str, Any]) -> dict[str, Any]:
    """Small trainings for trainer invariants that the ordinary training does not test."""
    from harness.worker.checks import accumulation, ranks

    metrics: dict[str, Any] = {}
    settings = request["finetune"]
    if settings.get("accumulate", 1) > 1:
        metrics["accumulation"] = accumulation.compare(request, settings["accumulate"])
    if settings.get("processes", 1) > 1:
        metrics["ranks"] = ranks.compare(request, settings["processes"])
    return metrics


def train(request: Mapping[str, Any], seed: int, context: children.ChildContext) -> None:
    """One training; its metrics are in the context's answer even if it raises."""
    install_dir = request["release"]["install_dir"]
    model_class = launch.import_model_class(install_dir, request["model_class"])
    trainer_options = options.trainer_options(install_dir, request["release"]["version"], request["entry"])
    training = launch.prepare_training(request, context.path, seed)
    held_out = _held_out(request, Path(training["model_folder"]))
    recorder = TrainingRecorder(
        meter=memory.meter(request["device"]), speech_inputs=None if held_out else hearing.SpeechInputs()
    )
    recorder.attach(model_class)
    user_file, rows_recorder = request["data"].get("own"), ReceivedRowsRecorder()
    if user_file:
        rows_recorder.attach(model_class)
    overrides = trainer_options.overrides(training) | (
        options.precision_overrides(install_dir, request["entry"], request["precision"]) or {}
    )
    ending: dict[str, Any] = {}
    completed = True
    training["configured"] = in_force.configured(model.read_config(training["model_folder"], resolve=False), overrides)
    try:
        launch.run_trainer(request["entry"], overrides, root=user_file and user_file["root"])
    except Exception as error:
        completed = False
        ending = memory_parts.out_of_memory_metrics(error, install_dir, recorder.meter, recorder.phases)
        raise
    finally:
        recorded = _metrics_and_evidence(recorder, request, trainer_options, training)
        recorded["metrics"] |= ending
        if user_file:
            recorded["metrics"] |= _user_rows(
                rows_recorder, user_file, overrides["train_data_set_list"], recorded["metrics"]
            )
        if completed:
            recorded["metrics"]["hearing"] = _hearing(recorder, held_out, install_dir)
        context.answer |= recorded


def _metrics_and_evidence(
    recorder: TrainingRecorder,
    request: Mapping[str, Any],
    trainer_options: options.TrainerOptions,
    training: Mapping[str, Any],
) -> dict[str, Any]:
    data, settings, install_dir = request["data"], request["finetune"], request["release"]["install_dir"]
    metrics = recorder.metrics(request["groups"], data["frame_seconds"])
    unchanged = metrics.pop("parameters_unchanged")
    recorder.in_force.read_saved(Path(training["output_dir"]))
    config = recorder.in_force.to_dict()
    dataset = config.get("dataset_conf") or in_force.section(training["configured"], "dataset_conf")
    rows = expectation.expected_rows(training["rows"], expectation.row_limits(install_dir, dataset))
    counted = expectation.EpochSize(
        utterances=0 if training["rows"] else data["utterances"],
        batches=data.get("own", {}).get("steps"),
        steps=metrics["steps"],
    )
    metrics |= expectation.expected_steps(trainer_options, config, settings, rows, counted)
    _note_epochs(metrics["epochs"], metrics["epochs_asked"], trainer_options)
    metrics["config_in_force"] = {**config, **recorder.changes.frozen(config, request["groups"])} if config else {}
    metrics["recipe"] = expectation.recipe(trainer_options, settings, data["utterances"])
    start, missing = expectation.start_checkpoint(config, Path(training["model_folder"]))
    metrics["invariants"] |= {
        **expectation.expected_schedule(config, {**settings, "gradient_clip": training["gradient_clip"]}),
        **rows,
        "configuration": recorder.in_force.differs(training["configured"]),
        "configuration_source": recorder.in_force.source,
        "start_missing": missing,
    }
    if start is not None:
        # A user's weights may lack tensors of the model that their config and tokens describe.
        of_user = (Path(request["model_folder"]) / launch.START).is_file()
        own = start.parent == Path(training["model_folder"])
        metrics["invariants"]["not_from_checkpoint"] = recorder.changes.differing_from(
            start, config.get("excludes"), complete=own and not of_user
        )
        if of_user and own:
            metrics["invariants"]["not_in_users_weights"] = recorder.changes.not_in(start)
    evidence = {
        "entry_is_native": request["entry"] == trainer_options.native_entry,
        "trainer_options": list(trainer_options.notes),
        "parameters_unchanged": unchanged[:20],
        "saved": sorted(path.name for path in Path(training["output_dir"]).glob("model.pt*")),
        "code": model.code(recorder.network) if recorder.network is not None else [],
    }
    return {"metrics": metrics, "evidence": evidence}


def _user_rows(
    rows_recorder: ReceivedRowsRecorder, user_file: Mapping[str, Any], train: str, metrics: Mapping[str, Any]
) -> dict[str, Any]:
    """Which of the user's rows reached training."""
    return {"user_rows": rows_recorder.metrics(train, user_file["lines"], user_file["expected"], metrics.get("epochs"))}


def _held_out(request: Mapping[str, Any], folder: Path) -> list[hearing.HeldOutExample]:
    """Built-in utterances that the training never sees; none for a user's own speech."""
    source = request["data"].get("held_out")
    return (
        hearing.examples_of(folder, model.read_config(folder, resolve=False), launch.read_rows(source))
        if source
        else []
    )


def _hearing(recorder: TrainingRecorder, held_out: list[hearing.HeldOutExample], install_dir: str) -> dict[str, Any]:
    """The trained model's scores with each utterance's own speech, and with other speech."""
    if recorder.network is None:
        return {"not_observed": "there was no forward pass"}
    speech_inputs = recorder.speech_inputs or hearing.SpeechInputs()
    return hearing.compare(recorder.network, recorder.forward, held_out, speech_inputs, install_dir=install_dir)


def _note_epochs(epochs_run: int, configured: int, trainer_options: options.TrainerOptions) -> None:
    """Note a finding if the trainer ran one epoch too many; expected epochs and steps allow for it."""
    if trainer_options.extra_epoch and epochs_run > configured:
        message = f"With train_conf.max_epoch={configured} the trainer ran {epochs_run} epochs."
        findings.note("one-epoch-too-many", message, trainer_options.loop, asked=configured, ran=epochs_run)


def _training_summary(metrics: Mapping[str, Any], seed: int) -> dict[str, Any]:
    reported = {name: metrics[name] for name in REPORTED if name in metrics}
    stats = {name: values for name, values in metrics.get("stats", {}).items() if name in LEARNED_FROM}
    return {**reported, "seed": seed, "stats": stats}
