"""Stopping and resuming: runs that let the rules compare an interrupted training with an uninterrupted one.

The uninterrupted run's output folder is copied at the moments at which a run could have been killed. Each copy is what
the killed run would have left. The same command resumes in it, so only what comes after the copy runs twice.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.worker.trainer import launch, options
from harness.worker.trainer.children import ChildContext, ChildResult, RunChild
from harness.worker.trainer.training_trace import ReleaseTrainer, TrainingTrace, parameter_hashes

OUTPUT = "exp"
SAVED_EVERY = {"train_conf.save_checkpoint_interval": 2, "train_conf.validate_interval": 2}
"""In steps; with three batches per epoch, each epoch saves once before its end."""


_OF_EPOCH = re.compile(r"model\.pt\.ep\d+")
"""The name of a checkpoint at the end of an epoch; within an epoch a dot and the step follow."""


def uninterrupted(trainer: ReleaseTrainer, work_folder: Path, context: ChildContext) -> None:
    """All epochs in one run; copies its output after the first save within an epoch and at the end of one."""
    trace, output = TrainingTrace(), context.path / OUTPUT

    def set_aside() -> None:
        saved = trace.just_saved()
        folder = work_folder / ("between" if _OF_EPOCH.fullmatch(saved) else "within")
        if saved and not folder.exists():
            _copy_output(trace, output, folder)

    trace.before_forward = set_aside
    context.answer = trace.seen
    trainer.run(output, trace, **_best_of_two(trainer), **SAVED_EVERY)
    if trace.network is not None:
        trace.seen["last_weights"] = parameter_hashes(trace.network)


def repeat(trainer: ReleaseTrainer, context: ChildContext) -> None:
    """The uninterrupted run once more: how much a device that is not deterministic differs from itself."""
    trace = TrainingTrace()
    context.answer = trace.seen
    trainer.run(context.path / OUTPUT, trace, **_best_of_two(trainer), **SAVED_EVERY)


def between_epochs(trainer: ReleaseTrainer, work_folder: Path, run_child: RunChild) -> dict[str, Any]:
    """Resume from the end of the last epoch but one."""
    return _resume(trainer, work_folder / "between", run_child, {**_best_of_two(trainer), **SAVED_EVERY})


def within_epochs(trainer: ReleaseTrainer, work_folder: Path, run_child: RunChild) -> dict[str, Any]:
    """Resume within an epoch, with batches by number of utterances and as the recipe makes them."""
    runs: dict[str, Any] = {}
    if _has_setting(trainer, "save_checkpoint_interval"):
        runs["within"] = _resume(
            trainer, work_folder / "within", run_child, {**_best_of_two(trainer), **SAVED_EVERY}, stop_after=1
        )
    if "sort_size" in (Path(trainer.install_dir) / "funasr/datasets/audio_datasets/samplers.py").read_text("utf-8"):
        runs |= _by_recipe(trainer, work_folder, run_child)
    return runs


def _by_recipe(trainer: ReleaseTrainer, work_folder: Path, run_child: RunChild) -> dict[str, Any]:
    """Batches by total length, sorted within a buffer, as finetune.sh sets them; stopped after each of two steps.

    Only the best checkpoint is kept here, so that averaging meets deleted files.
    """
    overrides = {
        "dataset_conf.batch_type": "token",
        "dataset_conf.sort_size": 1024,
        "dataset_conf.batch_size": _frames_of_a_batch(trainer),
        "train_conf.save_checkpoint_interval": 1,
        "train_conf.validate_interval": 1,
        "train_conf.keep_nbest_models": 1,
        "train_conf.avg_nbest_model": 1,
        "train_conf.max_epoch": 1 - trainer.trainer_options.extra_epoch,
    }

    def run(context: ChildContext) -> None:
        trace = TrainingTrace()
        output = context.path / OUTPUT

        def set_aside() -> None:
            if trace.forwards == 1:
                _copy_output(trace, output, work_folder / "once")

        trace.before_forward = set_aside
        context.answer = trace.seen
        trainer.run(output, trace, **overrides)

    uninterrupted_run = run_child("recipe", run)
    runs = {"recipe": _to_dict(uninterrupted_run), "recipe_files": _names(work_folder / "recipe" / OUTPUT)}
    if (work_folder / "once").exists():
        runs["once"] = _resume(
            trainer, work_folder / "once", run_child, overrides, stop_after=1, aside=work_folder / "twice"
        )
    if (work_folder / "twice").exists():
        runs["twice"] = _resume(trainer, work_folder / "twice", run_child, overrides, stop_after=1)
    return runs


def _resume(
    trainer: ReleaseTrainer,
    folder: Path,
    run_child: RunChild,
    overrides: Mapping[str, Any],
    *,
    stop_after: int = 0,
    aside: Path | None = None,
) -> dict[str, Any]:
    """The same command in the output folder of a stopped run; without observations if there is no such folder.

    Args:
        stop_after: Stop after this number of steps, 0 for never; they are saved before the run ends.
        aside: The folder for a copy of the output at that stop.
    """
    if not folder.exists():
        return {"failure": None, "left": None}
    left = json.loads((folder / "left.json").read_text(encoding="utf-8"))

    def run(context: ChildContext) -> None:
        trace = TrainingTrace(records_start=True)
        context.answer = trace.seen

        def stop() -> None:
            if stop_after and trace.forwards == stop_after:
                if aside is not None:
                    _copy_output(trace, folder / OUTPUT, aside)
                context.leave()

        trace.before_forward = stop
        trainer.run(folder / OUTPUT, trace, **overrides)
        if trace.network is not None:
            trace.seen["last_weights"] = parameter_hashes(trace.network)

    answer = run_child(f"{folder.name}_goes_on", run)
    # checkpoints with optimizer state are large, and this folder is no longer needed
    shutil.rmtree(folder)
    return {**_to_dict(answer), "left": left}


def _copy_output(trace: TrainingTrace, output: Path, folder: Path) -> None:
    """Copy the output folder as it is now, and record the hashes of the state in memory."""
    shutil.copytree(output, folder / OUTPUT)
    left = {
        "forwards": trace.forwards,
        "weights": parameter_hashes(trace.network),
        "moments": trace.optimizer_state_hashes(),
    }
    (folder / "left.json").write_text(json.dumps(left), encoding="utf-8")


def _best_of_two(trainer: ReleaseTrainer) -> dict[str, Any]:
    """Average two checkpoints, ranked by loss if the release has that option: accuracies tie after few steps."""
    ranking = (
        {"train_conf.avg_keep_nbest_models_type": "loss"} if _has_setting(trainer, "avg_keep_nbest_models_type") else {}
    )
    return {"train_conf.avg_nbest_model": 2, **ranking}


def _has_setting(trainer: ReleaseTrainer, word: str) -> bool:
    return word in options.trainer_file(trainer.install_dir, trainer.entry).read_text("utf-8")


def _frames_of_a_batch(trainer: ReleaseTrainer) -> int:
    """A batch size in frames at which the longest utterances form batches of the usual number."""
    rows = launch.read_rows(str(trainer.train))
    return int(trainer.batch_size * max(row.get("source_len", 1) for row in rows))


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("model.pt*"))


def _to_dict(answer: ChildResult) -> dict[str, Any]:
    return {**answer.value, "failure": answer.failure, "said_of_averaging": _about_averaging(answer.output)}


def _about_averaging(output: str) -> list[str]:
    return [line[-300:] for line in output.splitlines() if "averag" in line.lower() or "not found" in line.lower()][-5:]
