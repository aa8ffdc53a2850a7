"""The `finetune` check: the release's own trainer, driven by the command line that its finetune.sh gives it.

Each seed's training runs in a forked child of the cell's process, which itself computes nothing with torch:
what one training leaves behind in generators, hooks or threads does not reach the next.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from harness.inside import (
    children,
    dialects,
    expectation,
    findings,
    hearing,
    in_force,
    memory,
    out_of_memory,
    precision,
    release,
    speech,
    structure,
)
from harness.inside.arriving import Arriving
from harness.inside.observe import Observer

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
        _enter_whole(overlay, request["model_class"])
    seeds = range(request["seed"], request["seed"] + request["finetune"].get("seeds", 1))
    answers: dict[int, children.Answer] = {}
    for seed in seeds:
        answers[seed] = apart(request, f"seed-{seed}", partial(train, request, seed))
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

    def begin(room: children.Room) -> None:
        from torch.optim.optimizer import register_optimizer_step_post_hook

        register_optimizer_step_post_hook(lambda *_: room.leave())
        train(plain, request["seed"], room)

    failure = apart(request, "control", begin).failure
    return {"failure": failure and failure["signature"]}


def _extra_trainings(request: Mapping[str, Any]) -> dict[str, Any]:
    """Small trainings for promises that the ordinary one does not touch."""
    from harness.inside import accumulation, ranks

    found: dict[str, Any] = {}
    settings = request["finetune"]
    if settings.get("accumulate", 1) > 1:
        found["accumulation"] = accumulation.compare(request, settings["accumulate"])
    if settings.get("processes", 1) > 1:
        found["ranks"] = ranks.compare(request, settings["processes"])
    return found


def train(request: Mapping[str, Any], seed: int, room: children.Room) -> None:
    """One training; its figures are in the room's answer even when it breaks off."""
    overlay = request["release"]["overlay"]
    model_class = _enter_whole(overlay, request["model_class"])
    dialect = dialects.of(overlay, request["release"]["version"], request["entry"])
    training = _lay_out(request, room.path, seed)
    held_out = _held_out(request, Path(training["model_folder"]))
    observer = Observer(meter=memory.meter(request["device"]), heard=None if held_out else hearing.Heard())
    observer.attach(model_class)
    own, arriving = request["data"].get("own"), Arriving()
    if own:
        arriving.attach(model_class)
    words = dialect.overrides(training) | (precision.words(overlay, request["entry"], request["precision"]) or {})
    ending: dict[str, Any] = {}
    ended = True
    training["asked"] = in_force.asked(speech.config(Path(training["model_folder"])), words)
    try:
        run_trainer(request["entry"], words, root=own and own["root"])
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
    observer: Observer, request: Mapping[str, Any], dialect: dialects.Dialect, training: Mapping[str, Any]
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


def _held_out(request: Mapping[str, Any], folder: Path) -> list[hearing.Example]:
    """Built-in utterances that the training never has; none beside a user's speech."""
    source = request["data"].get("held_out")
    return hearing.examples_of(folder, speech.config(folder), speech.read_rows(source)) if source else []


def _hearing(observer: Observer, held_out: list[hearing.Example], overlay: str) -> dict[str, Any]:
    """What the trained model makes of its utterances' speech, and of other speech in its place."""
    if observer.network is None:
        return {"not_observed": "there was no forward pass"}
    heard = observer.heard or hearing.Heard()
    return hearing.compare(observer.network, observer.forward, held_out, heard, overlay=overlay)


def _note_epochs(seen: int, asked: int, dialect: dialects.Dialect) -> None:
    """What is allowed for when epochs and steps are counted: a trainer whose own loop runs one epoch more."""
    if dialect.extra_epoch and seen > asked:
        message = f"With train_conf.max_epoch={asked} the trainer ran {seen} epochs."
        findings.note("one-epoch-too-many", message, dialect.loop, asked=asked, ran=seen)


def _told(metrics: Mapping[str, Any], seed: int) -> dict[str, Any]:
    told = {name: metrics[name] for name in REPORTED if name in metrics}
    stats = {name: values for name, values in metrics.get("stats", {}).items() if name in LEARNED_FROM}
    return {**told, "seed": seed, "stats": stats}


def apart(request: Mapping[str, Any], name: str, work: Callable[[children.Room], None]) -> children.Answer:
    """Do `work` in a child with a folder of its own; where that ended without an answer this process ends likewise.

    The folder goes afterwards: a checkpoint an epoch makes gigabytes over the trainings of a cell.
    """
    path = Path.cwd() / name
    try:
        return children.in_child(path, request["release"]["overlay"], work)
    except children.ChildEnded as ended:
        if ended.status < 0:
            os.kill(os.getpid(), -ended.status)
        os._exit(ended.status or 1)
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _enter_whole(overlay: str, name: str) -> Any:
    """The model's class, in the release as a user's training job has it: imported whole."""
    if release.is_partial() or not release.is_entered(overlay):
        release.enter_wholly(overlay)
    from funasr.register import tables

    model_class = tables.model_classes.get(name)
    if model_class is None:
        raise release.NotInRelease(f"the release has no model {name!r}", f"model_classes/{name}")
    return model_class


def _lay_out(request: Mapping[str, Any], here: Path, seed: int) -> dict[str, Any]:
    """Model folder with a seeded checkpoint, rows, and the output folder, of this training alone."""
    settings, data = request["finetune"], request["data"]
    folder = speech.copy_folder(request["model_folder"], here / "model", seed)
    train: str = data["train"]
    rows: list[dict[str, Any]] = []
    if "rows" in settings:
        rows = speech.repeated(speech.read_rows(train), settings["distinct"], settings["rows"])
        train = str(speech.write_rows(rows, here / "train.jsonl"))
    return {
        **base(request, seed),
        "model_folder": str(folder),
        "train": train,
        "output_dir": str(here / "exp"),
        "in_order": "rows" in settings or "own" in data,
        "rows": rows,
        "gradient_clip": speech.config(folder).get("train_conf", {}).get("grad_clip"),
    }


def base(request: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """What `Dialect.overrides` is told in every training of the cell."""
    return {
        **request["finetune"],
        "device": request["device"],
        "precision": request["precision"],
        "seed": seed,
        "valid": request["data"]["valid"],
    }


def run_trainer(entry: str, overrides: Mapping[str, Any], *, root: str | None = None) -> None:
    """`python funasr/bin/train.py ++model=… …`, in this process so that its hooks can watch.

    `root` is the working directory, where the rows have paths that are relative to a user's; nothing is written there.
    """
    module = importlib.import_module(f"funasr.bin.{entry}")
    sys.argv = [f"{entry}.py", *(f"++{name}={_quoted(value)}" for name, value in overrides.items())]
    if root is None:
        module.main_hydra()
        return
    # Hydra keeps the command line in a folder of its own below the working directory unless it is given another.
    sys.argv.append(f"hydra.run.dir={_quoted(str(Path.cwd() / 'hydra'))}")
    with contextlib.chdir(root):
        module.main_hydra()


_run_trainer = run_trainer


def _quoted(value: Any) -> str:
    """A value as hydra's grammar reads it back unchanged; there a backslash means itself unless a quote follows."""
    if not isinstance(value, str):
        return str(value)
    escaped = re.sub(r"(\\*)('|\Z)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), value)
    return f"'{escaped}'"
