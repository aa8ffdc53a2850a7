"""What a training must do according to its configuration: epochs, steps, rows, schedule and start checkpoint."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.worker.trainer import options
from harness.worker.trainer.options import TrainerOptions

_LIMITS = ("max_source_length", "min_source_length", "max_target_length", "min_target_length", "max_token_length")
_DATASETS = "funasr/datasets/audio_datasets"


def row_limits(install_dir: str, dataset_conf: Mapping[str, Any]) -> dict[str, float]:
    """The limits on a row's length: as configured, else the strictest default in the release's code."""
    folder = Path(install_dir) / _DATASETS
    text = "".join(
        path.read_text(encoding="utf-8", errors="replace")
        for path in (folder / "index_ds.py", folder / "samplers.py")
        if path.exists()
    )
    limits: dict[str, float] = {}
    for name in _LIMITS:
        defaults = [float(default) for default in re.findall(rf'get\(\s*"{name}",\s*([0-9.]+)\s*\)', text)]
        if name in dataset_conf and isinstance(dataset_conf[name], int | float):
            limits[name] = float(dataset_conf[name])
        elif defaults:
            limits[name] = max(defaults) if name.startswith("min_") else min(defaults)
    return limits


def left_out(row: Mapping[str, Any], limits: Mapping[str, float]) -> str:
    """The limits by which a release may leave a row out, as text; empty if there is none.

    Releases apply `max_token_length` to the source's length, or to the sum of source and target. A row that exceeds it
    in only one of these senses may be missing or not.
    """
    source, target = float(row.get("source_len", 1) or 0), float(row.get("target_len", 0) or 0)
    measured = {
        "max_source_length": source,
        "min_source_length": source,
        "max_target_length": target,
        "min_target_length": target,
        "max_token_length": source + target,
    }
    over = [
        f"{name} {limit:g} < {measured[name]:g}"
        if name.startswith("max_")
        else f"{name} {limit:g} > {measured[name]:g}"
        for name, limit in limits.items()
        if (measured[name] > limit if name.startswith("max_") else measured[name] < limit)
    ]
    return ", ".join(over)


def expected_rows(rows: Sequence[Mapping[str, Any]], limits: Mapping[str, float]) -> dict[str, Any]:
    """How often each utterance is listed: those that must arrive, and those that a limit may exclude."""
    reasons = [left_out(row, limits) for row in rows]
    certain = Counter(str(row.get("target")) for row, why in zip(rows, reasons, strict=True) if not why)
    optional = Counter(str(row.get("target")) for row, why in zip(rows, reasons, strict=True) if why)
    return {
        "listed": list(certain.values()),
        "listed_optional": list(optional.values()),
        "rows_beyond_limits": list(dict.fromkeys(why for why in reasons if why))[:5],
    }


@dataclass(frozen=True, kw_only=True)
class EpochSize:
    """The amount of speech of an epoch, if `expected_rows` was given no rows."""

    utterances: int = 0
    batches: Sequence[int] | None = None
    """Of a user's own file: the fewest and the most batches of an epoch at the matrix's batch size."""
    steps: int = 0
    """Optimizer steps taken: if several numbers are valid, this one is expected."""


def expected_steps(
    trainer_options: TrainerOptions,
    config: Mapping[str, Any],
    settings: Mapping[str, Any],
    rows: Mapping[str, Any],
    counted: EpochSize,
) -> dict[str, Any]:
    """Epochs and optimizer steps: configured, expected and the lowest valid; None if they are unknown.

    `settings` are used if the effective configuration is unknown.
    """
    dataset = config.get("dataset_conf") or {}
    epochs = _whole_number(config.get("max_epoch"), settings["epochs"])
    size = _whole_number(dataset.get("batch_size"), settings["batch_size"])
    gathered = max(1, _whole_number(config.get("accum_grad"), 1))
    optional = sum(rows.get("listed_optional", ()))
    most = counted.utterances or sum(rows.get("listed", ())) + optional
    run = trainer_options.epochs_run(epochs)
    epoch_counts: dict[str, Any] = {"epochs_asked": epochs, "epochs_expected": run}
    if dataset.get("batch_type", "example") != "example":
        why = f"batches are made by {dataset.get('batch_type')}"
        return {**epoch_counts, "steps_asked": None, "steps_expected": None, "steps_unknown": why}
    least, per_epoch = math.ceil((most - optional) / size), math.ceil(most / size)
    if counted.batches is not None:
        if size != settings["batch_size"]:
            unknown = f"a user's rows in batches of {size}"
            return {**epoch_counts, "steps_asked": None, "steps_expected": None, "steps_unknown": unknown}
        least, per_epoch = counted.batches
    # The remainder of an epoch may be a step of its own or not.
    fewest, greatest = least // gathered * run, math.ceil(per_epoch / gathered) * run
    return {
        **epoch_counts,
        "steps_asked": math.ceil(per_epoch / gathered) * epochs,
        "steps_expected": min(max(counted.steps, fewest), greatest),
        "steps_expected_least": fewest,
        # The last batches of an epoch then belong to the next one's first step.
        "epochs_end_within_steps": gathered > 1 and (per_epoch % gathered != 0 or least != per_epoch),
    }


def recipe(trainer_options: TrainerOptions, settings: Mapping[str, Any], utterances: int) -> dict[str, Any]:
    """The matrix's own recipe, for which the thresholds of learning were measured."""
    steps = options.optimizer_steps(
        settings.get("rows", utterances), settings["batch_size"], trainer_options.epochs_run(settings["epochs"])
    )
    return {"learning_rate": settings["learning_rate"], "warmup_steps": settings["warmup_steps"], "steps": steps}


def expected_schedule(config: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Effective learning rate, warm-up and clipping; None if their rule does not apply.

    Without a configuration, `settings` are those of the command line.
    """
    if not config:
        return {name: settings.get(name) for name in ("learning_rate", "warmup_steps", "gradient_clip")}
    scheduler, optim = config.get("scheduler_conf") or {}, config.get("optim_conf") or {}
    by_warmup = config.get("scheduler", "warmuplr") == "warmuplr"
    clips = config.get("grad_clip_type", 2.0) in (2, 2.0)
    return {
        "learning_rate": optim.get("lr"),
        "warmup_steps": scheduler.get("warmup_steps", 25000) if by_warmup else None,
        "gradient_clip": config.get("grad_clip") if clips else None,
    }


def start_checkpoint(config: Mapping[str, Any], folder: Path) -> tuple[Path | None, str]:
    """The checkpoint that the weights must come from, and a message if the configured one does not exist.

    None if it is unknown: several files, or a mapping between names.
    """
    usual = folder / "model.pt"
    named = config.get("init_param")
    if config.get("scope_map") or isinstance(named, list) or (isinstance(named, str) and "," in named):
        return None, ""
    if not isinstance(named, str):
        return usual, ""
    if not Path(named).exists():
        return usual, f"`init_param` {Path(named).name} does not exist"
    return Path(named), ""


def _whole_number(value: object, default: Any) -> int:
    known = isinstance(value, int | float) and not isinstance(value, bool) and value >= 1
    return int(value) if known else int(default)  # type: ignore[call-overload]
