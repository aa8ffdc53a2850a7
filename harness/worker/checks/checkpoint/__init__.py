"""The `checkpoint` check: what the release's own trainer saves, resumes from, averages and loads.

It only measures. What is promised, and whether it was kept, is decided outside, in `harness/rules/checkpoint.py`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.worker.checks.checkpoint import files, loading, mismatch, resuming, trials
from harness.worker.checks.checkpoint.condensing import summarised
from harness.worker.release import entry as release
from harness.worker.trainer import launch
from harness.worker.trainer.children import ChildContext, ChildResult, in_child
from harness.worker.trainer.speech import few_rows
from harness.worker.trainer.training_run import ReleaseTrainer, lay_out_base, lay_out_speech

DEFAULTS: Mapping[str, Any] = {
    "utterances": 6,
    "batch_size": 2,
    "epochs": 2,
    "learning_rate": 0.001,
    "warmup_steps": 4,
}
"""Two epochs of three batches: the least in which a run can be stopped between epochs, and twice within one."""


def check(request: Mapping[str, Any]) -> dict[str, Any]:
    """Train, stop, resume, average, load; the outcome's metrics hold what was seen of each run and file."""
    overlay, entry = request["release"]["overlay"], request["entry"]
    release.require_entry(overlay, entry)
    here = Path.cwd()
    trainer = _trainer(request, here)
    if request["device"] == "cpu":
        # Once for all children. On a GPU each child imports for itself: what has looked for one cannot be forked from.
        launch.enter_whole(overlay, request["model_class"])
    ask = functools.partial(_ask, here, trainer)
    base = ask("base", lambda _room: lay_out_base(request["model_folder"], trainer.folder, request["seed"]))
    if base.failure:
        return _broken(base)
    whole = ask("whole", functools.partial(resuming.uninterrupted, trainer, here))
    dialect = trainer.dialect
    evidence = {"entry_is_native": entry == dialect.native_entry, "dialect": list(dialect.notes)}
    if whole.failure:
        return {**_broken(whole), "evidence": evidence}
    metrics: dict[str, Any] = {
        "whole": _seen(whole),
        "resumed": resuming.between_epochs(trainer, here, ask),
        **resuming.within_epochs(trainer, here, ask),
        "files": files.read(here / "whole" / resuming.OUTPUT, ask),
        "mismatch": mismatch.cases(trainer, request, here, ask),
        "loading": loading.cases(trainer, here, ask),
        "trials": trials.cases(trainer, here, ask),
    }
    if request["device"] != "cpu":
        metrics["again"] = _seen(ask("again", functools.partial(resuming.again, trainer)))
    return {"status": "passed", "reason": "", "metrics": summarised(metrics), "evidence": evidence}


def _trainer(request: Mapping[str, Any], here: Path) -> ReleaseTrainer:
    settings = {**DEFAULTS, **request.get("settings", {})}
    recipe = {name: settings[name] for name in ("epochs", "batch_size", "learning_rate", "warmup_steps")}
    trainer = ReleaseTrainer.of(request, here, **recipe)
    lay_out_speech(few_rows(request), trainer.train, settings["utterances"])
    lay_out_speech(str(trainer.train), trainer.valid, settings["batch_size"])
    return trainer


def _ask(here: Path, trainer: ReleaseTrainer, name: str, work: Callable[[ChildContext], None]) -> ChildResult:
    def entered(room: ChildContext) -> None:
        launch.enter_whole(trainer.overlay, trainer.model_class)
        work(room)

    return in_child(here / name, trainer.overlay, entered)


def _seen(answer: ChildResult) -> dict[str, Any]:
    return {**answer.value, "failure": answer.failure}


def _broken(answer: ChildResult) -> dict[str, Any]:
    failure = dict(answer.failure or {})
    return {"status": failure.pop("status"), "reason": failure.pop("reason"), "failure": failure}
