"""What the dry run starts the release's trainer with: the user's settings, and what is changed of them here."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.cells import Device
from harness.preflight.dry_run.dry_run_sample import Sample
from harness.preflight.inputs import Inputs

SMALL_PARAMETERS = 60_000_000
"""A model of at most so many parameters is trained at its own depth."""
BLOCKS = 2
"""Blocks of each stack of a deeper model."""
MOST_ELEMENTS_AT_DEPTH = 400_000_000
"""Up to so many parameters the first loss at the model's own depth is computed: four copies of them must fit."""
STEPS_SECONDS = 180.0
TRIES = 3
"""How often a row that ends the training is left out to see whether the others train."""
_LARGEST_FILE = 64 << 20
_LARGEST_JSON = 1 << 20
_USUAL_FILES = ("tokens.json", "tokens.txt", "seg_dict", "am.mvn", "bpe.model", "jieba_usr_dict", "configuration.json")
_CODE = re.compile(r"\.(?:py|sh|so|pyc)$|requirements", re.IGNORECASE)
_PATH = re.compile(r"[A-Za-z_][\w.-]*")
_NOT_GIVEN = ("model", "model_path", "config", "train_data_set_list", "valid_data_set_list", "output_dir", "init_param")
"""Settings whose values are places of the copy."""
_RUNS_CODE = {"trust_remote_code": False, "debug": False}
_EPOCHS = 2
_HALF_PRECISION = ("use_fp16", "use_bf16")
_SEVERAL_PROCESSES = ("use_fsdp", "use_deepspeed", "use_ddp")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The weights that the training is to start from."""

    path: Path | None
    """The file of the user's; None where there is none."""
    named: str = ""
    """As `init_param` names it; empty where it does not."""
    in_copy: str = "model.pt"
    """Its place in the copy of the folder."""

    @property
    def missing(self) -> bool:
        """Whether `init_param` names a file that is not there."""
        return bool(self.named) and self.path is None


@dataclass(frozen=True, kw_only=True)
class Changes:
    """Settings that the dry run gives other values than the user."""

    forced: Mapping[str, Any]
    said: tuple[str, ...]
    """The same for a reader, where it matters to what is measured."""


def checkpoint_of(inputs: Inputs) -> Checkpoint:
    """Where `init_param` leads: the command's, the one of configuration.json, the one of config.yaml, model.pt."""
    setting = inputs.settings.by_path.get("init_param")
    metas = configuration(inputs.model).get("file_path_metas")
    meta = metas.get("init_param") if isinstance(metas, Mapping) else None
    inside = meta if isinstance(meta, str) and _inside(inputs.model, meta) else "model.pt"
    usual = inputs.model / inside
    if setting is not None and (setting.from_command or not _regular(usual)):
        named = setting.value if isinstance(setting.value, str) else ""
        path = inputs.root / named
        if named and _regular(path):
            return Checkpoint(path=path.absolute(), named=named, in_copy="started_from.pt")
        return Checkpoint(path=None, named=named or str(setting.value), in_copy=inside)
    return Checkpoint(path=usual if _regular(usual) else None, in_copy=inside)


def configuration(folder: Path) -> Mapping[str, Any]:
    """configuration.json; empty where it cannot be read."""
    path = folder / "configuration.json"
    try:
        if not _regular(path) or path.stat().st_size > _LARGEST_JSON:
            return {}
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, Mapping) else {}


def config_name(folder: Path) -> str:
    """The config's place in the folder."""
    metas = configuration(folder).get("file_path_metas")
    name = metas.get("config") if isinstance(metas, Mapping) else None
    return name if isinstance(name, str) and _inside(folder, name) else "config.yaml"


def files_of(folder: Path) -> list[str]:
    """The small files that a release reads from a model folder, and no code."""
    named = dict.fromkeys((*_USUAL_FILES, *_metas(configuration(folder).get("file_path_metas"))))
    return [
        name
        for name in named
        if _inside(folder, name)
        and not _CODE.search(name)
        and not name.endswith((".pt", ".pb", ".pth", ".yaml"))
        and _regular(folder / name)
        and (folder / name).stat().st_size <= _LARGEST_FILE
    ]


def _metas(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _metas(item)


def _inside(folder: Path, name: str) -> bool:
    normalised = os.path.normpath(folder / name)
    return bool(name) and "\0" not in name and normalised.startswith(f"{os.path.normpath(folder)}{os.sep}")


def _regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def shallow(config: Mapping[str, Any]) -> dict[str, int]:
    """By path, the depths that are reduced; empty where no stack has more blocks than are kept."""
    depths: dict[str, int] = {}
    for section, conf in config.items():
        if not isinstance(conf, Mapping) or not isinstance(conf.get("num_blocks"), int):
            continue
        blocks, attending = conf["num_blocks"], conf.get("att_layer_num")
        few = {"num_blocks": min(blocks, BLOCKS)}
        if isinstance(attending, int) and attending <= blocks:
            few["att_layer_num"] = min(attending, BLOCKS)
            few["num_blocks"] = few["att_layer_num"] + min(blocks - attending, 1)
        if isinstance(conf.get("tp_blocks"), int):
            few["tp_blocks"] = min(conf["tp_blocks"], BLOCKS)
        depths |= {f"{section}.{key}": value for key, value in few.items() if value < conf[key]}
    return depths


def gpu_name(inputs: Inputs) -> str:
    """The GPU of a dry run, by its name: torch's first."""
    return next(iter(inputs.environment.gpu_names), "a GPU")


def changes_of(inputs: Inputs, rows: int) -> Changes:
    """What is set otherwise: what a CPU or a single process cannot do, and what would take long."""
    settings = inputs.settings
    data, train = settings.section("dataset_conf"), settings.section("train_conf")
    on_gpu = inputs.device is Device.CUDA
    forced: dict[str, Any] = {
        "device": str(inputs.device),
        "dataset_conf.num_workers": 0,
        "train_conf.max_epoch": _EPOCHS,
    }
    remarks = [f"{_EPOCHS} epochs", f"on {gpu_name(inputs)}" if on_gpu else "on the CPU"]
    for name in _SEVERAL_PROCESSES if on_gpu else (*_HALF_PRECISION, *_SEVERAL_PROCESSES):
        if train.get(name):
            forced[f"train_conf.{name}"] = False
            remarks.append(f"without {name}")
        if settings.get(name):
            forced[name] = False
    size, kind = data.get("batch_size"), data.get("batch_type", "example")
    # A SenseVoice data set drops rows of more frames than batch_size, whatever that counts.
    by_rows = kind == "example" and "SenseVoice" not in str(settings.get("dataset"))
    accumulated = train.get("accum_grad")
    batches = 1
    if isinstance(accumulated, int) and accumulated > 1:
        # So few rows make few batches, and a step needs all of its own.
        batches = 2 if by_rows and rows >= 4 else 1
        if batches < accumulated:
            forced["train_conf.accum_grad"] = batches
            remarks.append(f"accum_grad {batches} for {accumulated}")
    fitting = max(1, rows // (2 * batches))
    if by_rows and isinstance(size, int) and size > fitting:
        forced["dataset_conf.batch_size"] = fitting
        remarks.append(f"batch_size {fitting} for {size}")
    split = data.get("data_split_num")
    if isinstance(split, int) and split > 1:
        forced["dataset_conf.data_split_num"] = 1
    return Changes(forced={**forced, **_RUNS_CODE}, said=tuple(remarks))


def request_for(
    inputs: Inputs, entry: str, train: Sample, valid: Sample | None, checkpoint: Checkpoint, changes: Changes
) -> dict[str, object]:
    """The measurement's request."""
    config = {name: value for name, value in inputs.config.section("").items() if name != "remote_code"}
    unknown = {setting.path for setting in inputs.command.unvalued}
    overrides = {
        setting.path: setting.value
        for setting in inputs.command.overrides
        if _PATH.fullmatch(setting.path) and setting.path not in unknown
    }
    overrides = {
        path: value
        for path, value in overrides.items()
        if path.partition(".")[0] not in ("hydra", "remote_code") and path not in _NOT_GIVEN
    }
    if valid is None and any(setting.path == "valid_data_set_list" for setting in inputs.command.overrides):
        overrides["valid_data_set_list"] = inputs.settings.get("valid_data_set_list")
    if checkpoint.missing:
        overrides["init_param"] = checkpoint.named
    elements = checkpoint.path.stat().st_size / 4 if checkpoint.path else 0
    return {
        "folder": str(inputs.model),
        "files": files_of(inputs.model),
        "config_name": config_name(inputs.model),
        "shallow": shallow(config) if inputs.device is Device.CPU else {},
        "blocks": BLOCKS,
        "small": SMALL_PARAMETERS,
        "deep": 0 < elements <= MOST_ELEMENTS_AT_DEPTH and 20 * elements < _free_memory(),
        "checkpoint": {
            "path": str(checkpoint.path) if checkpoint.path else None,
            "in_copy": checkpoint.in_copy,
            "by_key": bool(checkpoint.named) and checkpoint.path is not None,
        },
        # As text: strict JSON has no word for the numbers that are not finite.
        "settings": json.dumps({"config": config, "overrides": overrides}),
        "forced": dict(changes.forced),
        "train": [row.text for row in train.rows],
        "valid": None if valid is None else [row.text for row in valid.rows],
        "root": str(inputs.root),
        "entry": entry,
        "seconds": STEPS_SECONDS,
        "tries": TRIES,
    }


def _free_memory() -> float:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        return 0.0
