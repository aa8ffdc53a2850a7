"""The `checkpoint` check: what the release's own trainer saves, resumes from, averages and loads.

The check only measures. `harness/rules/checkpoint.py` judges the measurements outside.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.worker.checks.checkpoint import files, loading, resuming, trials
from harness.worker.checks.checkpoint.files import summarise
from harness.worker.release import importer
from harness.worker.trainer import launch
from harness.worker.trainer.children import ChildContext, ChildResult, in_child
from harness.worker.trainer.training_trace import ReleaseTrainer

DEFAULTS: Mapping[str, Any] = {
    "utterances": 6,
    "batch_size": 2,
    "epochs": 2,
    "learning_rate": 0.001,
    "warmup_steps": 4,
}
"""Two epochs of three batches: the fewest with which a run can stop between epochs, and twice within one."""


def check(request: Mapping[str, Any]) -> dict[str, Any]:
    """Train, stop, resume, average and load; the metrics hold the observations of each run and file."""
    install_dir, entry = request["release"]["install_dir"], request["entry"]
    importer.require_entry(install_dir, entry)
    work_folder = Path.cwd()
    trainer = _trainer(request, work_folder)
    if request["device"] == "cpu":
        # Once for all children. On a GPU each child imports by itself: a process that initialised CUDA cannot fork.
        launch.import_model_class(install_dir, request["model_class"])
    run_child = functools.partial(_run_child, work_folder, trainer)
    base = run_child("base", functools.partial(_write_base, request, trainer))
    if base.failure:
        return _ended_early(base)
    uninterrupted = run_child("whole", functools.partial(resuming.uninterrupted, trainer, work_folder))
    trainer_options = trainer.trainer_options
    evidence = {
        "entry_is_native": entry == trainer_options.native_entry,
        "trainer_options": list(trainer_options.notes),
    }
    if uninterrupted.failure:
        return {**_ended_early(uninterrupted), "evidence": evidence}
    metrics: dict[str, Any] = {
        "whole": _to_dict(uninterrupted),
        "resumed": resuming.between_epochs(trainer, work_folder, run_child),
        **resuming.within_epochs(trainer, work_folder, run_child),
        "files": files.read(work_folder / "whole" / resuming.OUTPUT, run_child),
        "mismatch": loading.mismatch_cases(trainer, request, work_folder, run_child),
        "loading": loading.loading_cases(trainer, work_folder, run_child),
        "trials": trials.trial_cases(trainer, work_folder, run_child),
    }
    if request["device"] != "cpu":
        metrics["again"] = _to_dict(run_child("again", functools.partial(resuming.repeat, trainer)))
    return {"status": "passed", "reason": "", "metrics": summarise(metrics), "evidence": evidence}


def _write_base(request: Mapping[str, Any], trainer: ReleaseTrainer, _context: ChildContext) -> None:
    launch.copy_folder(request["model_folder"], trainer.folder, request["seed"], launch.WITHOUT_DITHER)


def _trainer(request: Mapping[str, Any], work_folder: Path) -> ReleaseTrainer:
    settings = {**DEFAULTS, **request.get("settings", {})}
    recipe = {name: settings[name] for name in ("epochs", "batch_size", "learning_rate", "warmup_steps")}
    trainer = ReleaseTrainer.of(request, work_folder, **recipe)
    launch.shortest_rows(launch.few_rows(request), trainer.train, settings["utterances"])
    launch.shortest_rows(str(trainer.train), trainer.valid, settings["batch_size"])
    return trainer


def _run_child(
    work_folder: Path, trainer: ReleaseTrainer, name: str, work: Callable[[ChildContext], None]
) -> ChildResult:
    def work_with_model(context: ChildContext) -> None:
        launch.import_model_class(trainer.install_dir, trainer.model_class)
        work(context)

    return in_child(work_folder / name, trainer.install_dir, work_with_model)


def _to_dict(answer: ChildResult) -> dict[str, Any]:
    return {**answer.value, "failure": answer.failure}


def _ended_early(answer: ChildResult) -> dict[str, Any]:
    failure = dict(answer.failure or {})
    return {"status": failure.pop("status"), "reason": failure.pop("reason"), "failure": failure}
