"""The rows that a training is given, and the model folder that it starts from, in a folder of its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.worker.release import model


def read_rows(source: str) -> list[dict[str, Any]]:
    """The rows of a jsonl file."""
    # Not by `splitlines`, which would also break inside a text that holds U+2028.
    return [json.loads(line) for line in Path(source).read_text(encoding="utf-8").split("\n") if line.strip()]


def few_rows(request: Mapping[str, Any]) -> str:
    """The file for trainings that need a few rows and are not about a user's: sound ones, with absolute paths."""
    data = request["data"]
    return str(data.get("small", data["train"]))


def write_rows(rows: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """Write a jsonl file as FunASR's datasets read it, and give its path back."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def repeated(rows: Sequence[Mapping[str, Any]], distinct: int, count: int) -> list[dict[str, Any]]:
    """The first `distinct` rows over and over until there are `count`, each under a key of its own.

    Saving and validating after each epoch costs as much as several steps, so an epoch of four utterances would.
    """
    chosen = rows[: min(distinct, count)]
    numbered = ((number, chosen[number % len(chosen)]) for number in range(count))
    return [{**row, "key": f"{row.get('key', 'row')}-{number}"} for number, row in numbered]


def config(folder: Path) -> dict[str, Any]:
    """The config of a model folder, as plain data."""
    from omegaconf import OmegaConf

    read: Any = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
    return dict(read)


def copy_folder(source: str, here: Path, seed: int, changes: Mapping[str, Mapping[str, Any]] | None = None) -> Path:
    """A copy of a model folder with a checkpoint to start from, see `model.write_start`.

    `changes` go into the sections of its config.
    """
    from omegaconf import OmegaConf

    shutil.copytree(source, here)
    if changes:
        changed = config(here)
        for section, values in changes.items():
            changed[section] = {**(changed.get(section) or {}), **values}
        OmegaConf.save(OmegaConf.create(changed), here / "config.yaml")
    model.write_start(str(here), here / "model.pt", seed)
    return here
