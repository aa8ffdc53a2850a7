"""Stopping and going on: the runs of which the judge compares one that was interrupted with one that was not.

The uninterrupted run's output folder is copied at the moments at which a run could have been killed. Each copy is then
what that killed run would have left, and the same command goes on in it: only what comes after is run twice.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.worker.trainer.children import ChildContext, ChildResult
from harness.worker.trainer.training_run import ReleaseTrainer, TrainingTrace, weights

Ask = Callable[[str, Callable[[ChildContext], None]], ChildResult]

OUTPUT = "exp"
SAVED_EVERY = {"train_conf.save_checkpoint_interval": 2, "train_conf.validate_interval": 2}
"""Steps; with three batches an epoch, each is saved once within."""


_OF_EPOCH = re.compile(r"model\.pt\.ep\d+")
"""The name of a checkpoint at the end of an epoch; within one, a dot and the step follow."""


def uninterrupted(trainer: ReleaseTrainer, here: Path, room: ChildContext) -> None:
    """All epochs in one run, with copies of its output after the first save within an epoch and at the end of one."""
    watch, output = TrainingTrace(), room.path / OUTPUT

    def set_aside() -> None:
        saved = watch.just_saved()
        folder = here / ("between" if _OF_EPOCH.fullmatch(saved) else "within")
        if saved and not folder.exists():
            _set_aside(watch, output, folder)

    watch.before_forward = set_aside
    room.answer = watch.seen
    trainer.run(output, watch, **_best_of_two(trainer), **SAVED_EVERY)
    if watch.network is not None:
        watch.seen["last_weights"] = weights(watch.network)


def again(trainer: ReleaseTrainer, room: ChildContext) -> None:
    """The uninterrupted run once more: where a device does not repeat itself, this is by how much."""
    watch = TrainingTrace()
    room.answer = watch.seen
    trainer.run(room.path / OUTPUT, watch, **_best_of_two(trainer), **SAVED_EVERY)


def between_epochs(trainer: ReleaseTrainer, here: Path, ask: Ask) -> dict[str, Any]:
    """Go on from the end of the last epoch but one."""
    return _go_on(trainer, here / "between", ask, {**_best_of_two(trainer), **SAVED_EVERY})


def within_epochs(trainer: ReleaseTrainer, here: Path, ask: Ask) -> dict[str, Any]:
    """Go on from the middle of an epoch, with batches by number of utterances and as the recipe makes them."""
    found: dict[str, Any] = {}
    if _has(trainer, "save_checkpoint_interval"):
        found["within"] = _go_on(trainer, here / "within", ask, {**_best_of_two(trainer), **SAVED_EVERY}, stop_after=1)
    if "sort_size" in (Path(trainer.overlay) / "funasr/datasets/audio_datasets/samplers.py").read_text("utf-8"):
        found |= _by_recipe(trainer, here, ask)
    return found


def _by_recipe(trainer: ReleaseTrainer, here: Path, ask: Ask) -> dict[str, Any]:
    """Batches by total length, sorted within a buffer, as finetune.sh asks for: stopped after one step, then another.

    Only the best checkpoint is kept here, so that what is averaged has been thinned out.
    """
    words = {
        "dataset_conf.batch_type": "token",
        "dataset_conf.sort_size": 1024,
        "dataset_conf.batch_size": _frames_of_a_batch(trainer),
        "train_conf.save_checkpoint_interval": 1,
        "train_conf.validate_interval": 1,
        "train_conf.keep_nbest_models": 1,
        "train_conf.avg_nbest_model": 1,
        "train_conf.max_epoch": 1 - trainer.dialect.extra_epoch,
    }

    def run(room: ChildContext) -> None:
        watch = TrainingTrace()
        output = room.path / OUTPUT

        def set_aside() -> None:
            if watch.forwards == 1:
                _set_aside(watch, output, here / "once")

        watch.before_forward = set_aside
        room.answer = watch.seen
        trainer.run(output, watch, **words)

    whole = ask("recipe", run)
    found = {"recipe": _seen(whole), "recipe_files": _names(here / "recipe" / OUTPUT)}
    if (here / "once").exists():
        found["once"] = _go_on(trainer, here / "once", ask, words, stop_after=1, aside=here / "twice")
    if (here / "twice").exists():
        found["twice"] = _go_on(trainer, here / "twice", ask, words, stop_after=1)
    return found


def _go_on(
    trainer: ReleaseTrainer,
    folder: Path,
    ask: Ask,
    words: Mapping[str, Any],
    *,
    stop_after: int = 0,
    aside: Path | None = None,
) -> dict[str, Any]:
    """The same command with the output that a stopped run left; None of it if there is none.

    Args:
        stop_after: So many steps are enough, 0 for all; they are saved before the run ends.
        aside: Where the output of the run that was stopped so goes.
    """
    if not folder.exists():
        return {"failure": None, "left": None}
    left = json.loads((folder / "left.json").read_text(encoding="utf-8"))

    def run(room: ChildContext) -> None:
        watch = TrainingTrace(takes_first_weights=True)
        room.answer = watch.seen

        def stop() -> None:
            if stop_after and watch.forwards == stop_after:
                if aside is not None:
                    _set_aside(watch, folder / OUTPUT, aside)
                room.leave()

        watch.before_forward = stop
        trainer.run(folder / OUTPUT, watch, **words)
        if watch.network is not None:
            watch.seen["last_weights"] = weights(watch.network)

    answer = ask(f"{folder.name}_goes_on", run)
    # a checkpoint with the optimizer's state is large, and this folder is no longer needed
    shutil.rmtree(folder)
    return {**_seen(answer), "left": left}


def _set_aside(watch: TrainingTrace, output: Path, folder: Path) -> None:
    """Copy the output folder as it is now, and take down what the run that is stopped here had in memory."""
    shutil.copytree(output, folder / OUTPUT)
    left = {"forwards": watch.forwards, "weights": weights(watch.network), "moments": watch.moments()}
    (folder / "left.json").write_text(json.dumps(left), encoding="utf-8")


def _best_of_two(trainer: ReleaseTrainer) -> dict[str, Any]:
    """Two are averaged; the loss ranks them where a release can be told so: accuracies are alike after few steps."""
    ranking = {"train_conf.avg_keep_nbest_models_type": "loss"} if _has(trainer, "avg_keep_nbest_models_type") else {}
    return {"train_conf.avg_nbest_model": 2, **ranking}


def _has(trainer: ReleaseTrainer, word: str) -> bool:
    name = "trainer_ds.py" if trainer.entry == "train_ds" else "trainer.py"
    return word in (Path(trainer.overlay) / "funasr/train_utils" / name).read_text("utf-8")


def _frames_of_a_batch(trainer: ReleaseTrainer) -> int:
    """So many that the longest utterances go by as many as in the other runs."""
    rows = [json.loads(line) for line in trainer.train.read_text(encoding="utf-8").splitlines() if line]
    return int(trainer.batch_size * max(row.get("source_len", 1) for row in rows))


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("model.pt*"))


def _seen(answer: ChildResult) -> dict[str, Any]:
    return {**answer.value, "failure": answer.failure, "said_of_averaging": _about_averaging(answer.said)}


def _about_averaging(said: str) -> list[str]:
    return [line[-300:] for line in said.splitlines() if "averag" in line.lower() or "not found" in line.lower()][-5:]
