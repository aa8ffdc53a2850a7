"""Starting a release's own trainer: rows, model folder, command line, and a child process of its own."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.worker.release import importer, model
from harness.worker.trainer import children


def run_trainer(entry: str, overrides: Mapping[str, Any], *, root: str | None = None) -> None:
    """`python funasr/bin/train.py ++model=… …`, in this process so that hooks can observe it.

    `root` is the working directory if the rows' paths are relative to a user's; nothing is written there.
    """
    module = importlib.import_module(f"funasr.bin.{entry}")
    sys.argv = [f"{entry}.py", *(f"++{name}={quoted(value)}" for name, value in overrides.items())]
    if root is None:
        module.main_hydra()
        return
    # Hydra writes the command line to a folder below the working directory unless it is given another.
    sys.argv.append(f"hydra.run.dir={quoted(str(Path.cwd() / 'hydra'))}")
    with contextlib.chdir(root):
        module.main_hydra()


def quoted(value: Any) -> str:
    """A value that hydra's grammar reads back unchanged; a backslash is literal there unless a quote follows."""
    if value is None:
        return "null"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(quoted, value))}]"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{name}:{quoted(item)}' for name, item in value.items())}}}"
    if not isinstance(value, str):
        return str(value)
    escaped = re.sub(r"(\\*)('|\Z)", lambda match: match[1] * 2 + ("\\'" if match[2] else ""), value)
    return f"'{escaped}'"


def base_training(request: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """The input of `TrainerOptions.overrides` that all trainings of the cell share."""
    return {
        **request["finetune"],
        "device": request["device"],
        "precision": request["precision"],
        "seed": seed,
        "valid": request["data"]["valid"],
    }


def prepare_training(request: Mapping[str, Any], work_folder: Path, seed: int) -> dict[str, Any]:
    """Write the model folder with a seeded checkpoint and the rows of one training; returns its settings."""
    settings, data = request["finetune"], request["data"]
    folder = copy_folder(request["model_folder"], work_folder / "model", seed)
    train: str = data["train"]
    rows: list[dict[str, Any]] = []
    if "rows" in settings:
        rows = repeated(read_rows(train), settings["distinct"], settings["rows"])
        train = str(write_rows(rows, work_folder / "train.jsonl"))
    return {
        **base_training(request, seed),
        "model_folder": str(folder),
        "train": train,
        "output_dir": str(work_folder / "exp"),
        "in_order": "rows" in settings or "own" in data,
        "rows": rows,
        "gradient_clip": model.read_config(folder, resolve=False).get("train_conf", {}).get("grad_clip"),
    }


def import_model_class(install_dir: str, name: str) -> Any:
    """The model's class, after importing the whole release as a user's training job does."""
    if importer.is_partial() or not importer.is_imported(install_dir):
        importer.import_all(install_dir)
    from funasr.register import tables

    model_class = tables.model_classes.get(name)
    if model_class is None:
        raise importer.NotInRelease(f"the release has no model {name!r}", f"model_classes/{name}")
    return model_class


def run_in_child(
    request: Mapping[str, Any], name: str, work: Callable[[children.ChildContext], None]
) -> children.ChildResult:
    """Run `work` in a child with its own folder; if that ends without a result, this process ends alike.

    The folder is deleted afterwards: a checkpoint per epoch adds up to gigabytes over the trainings of a cell.
    """
    path = Path.cwd() / name
    try:
        return children.in_child(path, request["release"]["install_dir"], work)
    except children.ChildEnded as ended:
        if ended.status < 0:
            os.kill(os.getpid(), -ended.status)
        os._exit(ended.status or 1)
    finally:
        shutil.rmtree(path, ignore_errors=True)


WITHOUT_DITHER = {"frontend_conf": {"dither": 0.0}}
"""Config changes for trainings that are compared: dither is drawn at random while the data is loaded."""


def read_rows(source: str) -> list[dict[str, Any]]:
    """The rows of a jsonl file."""
    # Not `splitlines`, which would also split a text at U+2028.
    return [json.loads(line) for line in Path(source).read_text(encoding="utf-8").split("\n") if line.strip()]


def few_rows(request: Mapping[str, Any]) -> str:
    """The file for trainings that need only a few sound rows with absolute paths, and not the user's."""
    data = request["data"]
    return str(data.get("small", data["train"]))


def write_rows(rows: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """Write a jsonl file in the form of FunASR's datasets; returns its path."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def shortest_rows(source: str, path: Path, count: int) -> list[dict[str, Any]]:
    """Write the `count` shortest utterances of a jsonl file to `path`, in their order in the file, and return them.

    The shortest, because a step takes as long as its longest utterance.
    """
    rows = read_rows(source)
    chosen = sorted(sorted(range(len(rows)), key=lambda row: rows[row].get("source_len", 0))[:count])
    write_rows([rows[row] for row in chosen], path)
    return [rows[row] for row in chosen]


def repeated(rows: Sequence[Mapping[str, Any]], distinct: int, count: int) -> list[dict[str, Any]]:
    """The first `distinct` rows repeated until there are `count`, each with its own key.

    Saving and validating after each epoch takes as long as several steps, so short epochs are avoided.
    """
    chosen = rows[: min(distinct, count)]
    numbered = ((number, chosen[number % len(chosen)]) for number in range(count))
    return [{**row, "key": f"{row.get('key', 'row')}-{number}"} for number, row in numbered]


def copy_folder(source: str, folder: Path, seed: int, changes: Mapping[str, Mapping[str, Any]] | None = None) -> Path:
    """Copy a model folder and write its start checkpoint: the user's weights, or see `model.write_start`.

    Args:
        changes: New values by config section and key.
    """
    from omegaconf import OmegaConf

    shutil.copytree(source, folder, ignore=shutil.ignore_patterns(START))
    if changes:
        changed = model.read_config(folder, resolve=False)
        for section, values in changes.items():
            changed[section] = {**(changed.get(section) or {}), **values}
        OmegaConf.save(OmegaConf.create(changed), folder / "config.yaml")
    if (Path(source) / START).is_file():
        write_users_start(Path(source) / START, folder / "model.pt")
    else:
        model.write_start(str(folder), folder / "model.pt", seed)
    return folder


START = "start.pt"
"""A user's own weights, as `harness.variants.model_folder` links to them."""


def write_users_start(users_file: Path, path: Path) -> None:
    """Write a copy of a user's checkpoint: what a release loads then holds tensors and no code."""
    import torch

    torch.save(torch.load(users_file, map_location="cpu", weights_only=True), path)
