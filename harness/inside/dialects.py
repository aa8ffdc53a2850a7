"""What each release's trainer accepts, as data: which words it wants for the same wish, and where that is written.

A failure that comes from speaking the wrong dialect would be the harness's fault, not the release's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NATIVE_DS_SINCE = (1, 0, 28)
"""`finetune.sh` of the Paraformer recipes calls `funasr/bin/train_ds.py` since 1.0.28, `funasr/bin/train.py` before."""

_VALIDATES_ON_TRAINING_SET = re.compile(r"batch_sampler_class\(\s*dataset_tr\s*,\s*is_training=False")
_ONE_MORE_EPOCH = re.compile(r"range\(\s*(?:self|trainer)\.start_epoch\s*,\s*(?:self|trainer)\.max_epoch\s*\+\s*1\s*\)")


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """How to ask this release for the training that the cell is about."""

    native_entry: str
    """`train` or `train_ds`: what the release's own finetune.sh calls."""
    batch_sampler: str
    extra_epoch: bool
    """Whether the trainer runs from epoch 0 up to and including `max_epoch`: one more than asked."""
    validates_on_training_set: bool
    """Whether validation has to be given the training set: the sampler for it is made over the training set's rows."""
    notes: tuple[str, ...]
    """Each departure from the newest dialect, with where it was read."""

    def overrides(self, training: Mapping[str, Any]) -> dict[str, Any]:
        """The `++key=value` pairs of the trainer's command line, as finetune.sh gives them."""
        return {
            "model": training["model_folder"],
            "train_data_set_list": training["train"],
            "valid_data_set_list": training["train" if self.validates_on_training_set else "valid"],
            "dataset": "AudioDataset",
            "dataset_conf.index_ds": "IndexDSJsonl",
            "dataset_conf.batch_sampler": self.batch_sampler,
            "dataset_conf.batch_type": "example",
            "dataset_conf.batch_size": training["batch_size"],
            "dataset_conf.num_workers": 0,
            "train_conf.max_epoch": training["epochs"],
            "train_conf.log_interval": 1,
            "train_conf.keep_nbest_models": 20,
            "train_conf.avg_nbest_model": 10,
            "optim_conf.lr": training["learning_rate"],
            "scheduler_conf.warmup_steps": training["warmup_steps"],
            "seed": training["seed"],
            "device": training["device"],
            "output_dir": training["output_dir"],
        }

    def epochs_run(self, epochs: int) -> int:
        """How many epochs the trainer runs when it is asked for `epochs`."""
        return epochs + self.extra_epoch


def steps(utterances: int, batch_size: int, epochs: int) -> int:
    """Optimizer steps of a run in which every utterance arrives once an epoch."""
    return math.ceil(utterances / batch_size) * epochs


def of(overlay: str, version: str, entry: str) -> Dialect:
    """The dialect of the release in `overlay`, read from its own code."""
    package = Path(overlay) / "funasr"
    notes = []
    samplers = _text(package / "datasets/audio_datasets/samplers.py")
    sampler = "BatchSampler"
    if '"BatchSampler"' not in samplers:
        sampler = "DynamicBatchLocalShuffleSampler"
        notes.append(f"batch_sampler is called {sampler}: datasets/audio_datasets/samplers.py registers no other")
    trainer = "trainer_ds.py" if entry == "train_ds" else "trainer.py"
    loops = _text(package / "train_utils" / trainer) + _text(package / "bin" / f"{entry}.py")
    extra = _ONE_MORE_EPOCH.search(loops) is not None
    if extra:
        notes.append("max_epoch is the last epoch's number, counted from 0: one epoch more is run than asked for")
    on_training_set = _VALIDATES_ON_TRAINING_SET.search(_text(package / "bin" / f"{entry}.py")) is not None
    if on_training_set:
        notes.append(
            "validation is given the training set, as this release's finetune.sh does: "
            f"bin/{entry}.py draws validation batches by the training set's length"
        )
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    has_ds = (package / "bin/train_ds.py").exists()
    return Dialect(
        native_entry="train_ds" if has_ds and numbers >= NATIVE_DS_SINCE else "train",
        batch_sampler=sampler,
        extra_epoch=extra,
        validates_on_training_set=on_training_set,
        notes=tuple(notes),
    )


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
