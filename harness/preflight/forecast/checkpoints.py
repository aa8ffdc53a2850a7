"""The checkpoints that a training writes: when, how many are kept, what is averaged, and the space that they take."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.core.cells import Severity
from harness.preflight.findings import PreflightFact, PreflightFinding
from harness.preflight.folder.file_kinds import CHECKPOINTS, content_of
from harness.preflight.inputs import Inputs
from harness.preflight.rows.measured import Steps, entry_of, output_folder
from harness.text.units import memory, plural
from harness.worker.trainer import options

SECTION = "schedule"

_STATES = {"sgd": 1, "rmsprop": 1, "adagrad": 1, "asgd": 2}
"""Numbers that an optimizer keeps for each parameter; Adam and most others keep two."""

_MOST_PICKLE_BYTES = 32 << 20
"""Of the part of a checkpoint that names its tensors."""


@dataclass(frozen=True, kw_only=True)
class CheckpointPlan:
    """What is on the disk at the end of the training."""

    written: int
    """Checkpoints, one after each epoch and those within."""
    within: int
    """Of these, within the epochs."""
    kept: int
    """Of these, at the end: `keep_nbest_models`, or all."""
    averaged: int
    bytes_each: int | None
    """None where the size of the model is not known."""

    @property
    def bytes(self) -> int | None:
        """With `model.pt`, `model.pt.best`, and the average without an optimizer."""
        return None if self.bytes_each is None else self.bytes_each * (self.kept + 2) + self.bytes_each // 3

    def fitting(self, free: int) -> int:
        """How many checkpoints can be kept on so many free bytes, with the same three files besides."""
        return max(0, (free - (self.bytes_each or 0) // 3) // (self.bytes_each or 1) - 2)


def plan(inputs: Inputs, steps: Steps) -> CheckpointPlan:
    """What this release's trainer writes with these settings."""
    path = options.trainer_file(str(inputs.install_dir), entry_of(inputs))
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    interval = (
        _integer_setting(inputs, "train_conf.save_checkpoint_interval", 5000)
        if "save_checkpoint_interval" in text
        else 0
    )
    mean = steps.total * steps.accumulation // max(1, steps.epochs)
    within = steps.epochs * (mean // interval) if interval > 0 else 0
    written = max(0, steps.epochs) + within
    keep = _integer_setting(inputs, "train_conf.keep_nbest_models", 500) if "keep_nbest_models" in text else 0
    remaining = min(written, keep) if keep > 0 else written
    average = _integer_setting(inputs, "train_conf.avg_nbest_model", 10 if "avg_keep_nbest" in text else 5)
    return CheckpointPlan(
        written=written,
        within=within,
        kept=remaining,
        averaged=max(0, min(remaining, average)),
        bytes_each=_bytes_each(inputs),
    )


def checkpoint_facts(inputs: Inputs, steps: Steps) -> Iterator[PreflightFact]:
    """Validation, saving, averaging, space."""
    known = plan(inputs, steps)
    within = f", {known.within} of them within epochs" if known.within else ", one after each epoch"
    kept_in_words = "all" if known.kept == known.written else f"{known.kept} best"
    yield PreflightFact(section=SECTION, label="checkpoints", value=f"{known.written}{within}; {kept_in_words} kept")
    average = f"of {plural(known.averaged, 'checkpoint')} at the end"
    yield PreflightFact(section=SECTION, label="average", value=average, detail=True)
    if known.bytes is not None and known.bytes_each is not None:
        value = f"{memory(known.bytes)} (predicted: {memory(known.bytes_each)} each, with the optimizer)"
        yield PreflightFact(section=SECTION, label="disk", value=value)


def about_disk(inputs: Inputs, steps: Steps) -> Iterator[PreflightFinding]:
    """Checkpoints that do not fit on the disk."""
    known = plan(inputs, steps)
    folder = output_folder(inputs)
    existing_folder = next((parent for parent in (folder, *folder.parents) if parent.is_dir()), None)
    if known.bytes is None or existing_folder is None:
        return
    try:
        free = shutil.disk_usage(existing_folder).free
    except OSError:
        return
    if known.bytes <= free:
        return
    yield PreflightFinding(
        # Only an output folder that exists shows that the training runs on this machine's disk.
        severity=Severity.BROKEN if folder.is_dir() else Severity.MINOR,
        rule="disk-too-small",
        message=f"the checkpoints take {memory(known.bytes)}, and {memory(free)} are free here: saving fails with "
        "`No space left on device`, and the training with it",
        place=inputs.settings.place("train_conf.keep_nbest_models"),
        evidence=(
            f"{known.kept} checkpoints of {memory(known.bytes_each or 0)} with the optimizer's state (predicted)",
        ),
        remedy=_smaller(known, known.fitting(free)),
    )


def _smaller(known: CheckpointPlan, fitting: int) -> str:
    other_disk = f"++output_dir=FOLDER, on a disk with {memory(known.bytes)} free"
    if not fitting:
        return other_disk
    average = max(1, min(fitting, known.averaged))
    return f"++train_conf.keep_nbest_models={fitting} ++train_conf.avg_nbest_model={average}, or {other_disk}"


def _integer_setting(inputs: Inputs, path: str, default: int) -> int:
    value = inputs.settings.get(path)
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else default


def _bytes_each(inputs: Inputs) -> int | None:
    """One checkpoint: the weights, and the optimizer's numbers for each."""
    path = _weights(inputs)
    if path is None:
        return None
    weights = path.stat().st_size
    if _has_optimizer(path):
        return weights
    return weights * (1 + _STATES.get(str(inputs.settings.get("optim", "adam")).lower(), 2))


def _weights(inputs: Inputs) -> Path | None:
    init_param = inputs.settings.get("init_param")
    places = [inputs.root / init_param] if isinstance(init_param, str) and init_param else []
    places += [inputs.model / name for name in ("model.pt", "model.pb")] if inputs.model.is_dir() else [inputs.model]
    first = next((place for place in places if place.is_file()), None)
    # Of a pointer or of a download that was cut off, the size says nothing.
    return first if first and content_of(first).kind in CHECKPOINTS else None


def _has_optimizer(path: Path) -> bool:
    """Whether a checkpoint is a trainer's; nothing of it is unpickled."""
    try:
        with zipfile.ZipFile(path) as archive:
            name = next((member for member in archive.namelist() if member.endswith("/data.pkl")), None)
            if name is None:
                return False
            with archive.open(name) as file:
                return b"param_groups" in file.read(_MOST_PICKLE_BYTES)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False
