"""Running a release's own trainer: what it is given, the command line, and a child of its own."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.worker.release import entry as release
from harness.worker.trainer import children, speech


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


def _quoted(value: Any) -> str:
    """A value as hydra's grammar reads it back unchanged; there a backslash means itself unless a quote follows."""
    if not isinstance(value, str):
        return str(value)
    escaped = re.sub(r"(\\*)('|\Z)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), value)
    return f"'{escaped}'"


def base(request: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """What `Dialect.overrides` is told in every training of the cell."""
    return {
        **request["finetune"],
        "device": request["device"],
        "precision": request["precision"],
        "seed": seed,
        "valid": request["data"]["valid"],
    }


def lay_out(request: Mapping[str, Any], here: Path, seed: int) -> dict[str, Any]:
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


def enter_whole(overlay: str, name: str) -> Any:
    """The model's class, in the release as a user's training job has it: imported whole."""
    if release.is_partial() or not release.is_imported(overlay):
        release.import_all(overlay)
    from funasr.register import tables

    model_class = tables.model_classes.get(name)
    if model_class is None:
        raise release.NotInRelease(f"the release has no model {name!r}", f"model_classes/{name}")
    return model_class


def apart(request: Mapping[str, Any], name: str, work: Callable[[children.ChildContext], None]) -> children.ChildResult:
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
