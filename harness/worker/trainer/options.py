"""What each release's trainer, dataset and samplers accept, read from the release's own code.

An option that a release does not know would be the harness's fault and not the release's.
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
class TrainerOptions:
    """How to configure the cell's training for this release."""

    native_entry: str
    """`train` or `train_ds`: the entry point that the release's own finetune.sh calls."""
    batch_sampler: str
    extra_epoch: bool
    """Whether the trainer runs from epoch 0 up to and including `max_epoch`: one more than configured."""
    loop: str
    """The file with the loop over the epochs."""
    validates_on_training_set: bool
    """Whether validation needs the training set: its sampler is built over the training set's rows."""
    notes: tuple[str, ...]
    """Each difference from the newest release, with its source."""

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
            **self.in_order(training),
            "train_conf.max_epoch": training["epochs"],
            "train_conf.log_interval": 1,
            "train_conf.keep_nbest_models": 20,
            "train_conf.avg_nbest_model": 10,
            "optim_conf.lr": training["learning_rate"],
            "scheduler_conf.warmup_steps": training["warmup_steps"],
            "seed": training["seed"],
            "device": training["device"],
            "output_dir": training["output_dir"],
            **training.get("overrides", {}),
        }

    def in_order(self, training: Mapping[str, Any]) -> dict[str, Any]:
        """Overrides for batches of rows in the file's order, if the training needs it.

        Samplers up to 1.0.17 sort their buffer by length, so the buffer holds one batch.
        """
        if not training.get("in_order"):
            return {}
        return {"dataset_conf.shuffle": False, "dataset_conf.buffer_size": training["batch_size"]}

    def epochs_run(self, epochs: int) -> int:
        """How many epochs the trainer runs if `epochs` are configured."""
        return epochs + self.extra_epoch


MADE_BY_CHECKS = frozenset(
    {
        *("model", "train_data_set_list", "valid_data_set_list", "seed", "device", "output_dir"),
        *("dataset_conf.batch_type", "dataset_conf.batch_size", "dataset_conf.shuffle", "dataset_conf.buffer_size"),
        *("dataset_conf.num_workers", "dataset_conf.sort_size"),
        *("optim_conf.lr", "scheduler_conf.warmup_steps"),
        *("train_conf.max_epoch", "train_conf.log_interval", "train_conf.accum_grad", "train_conf.resume"),
        *("train_conf.save_checkpoint_interval", "train_conf.validate_interval"),
        *("train_conf.keep_nbest_models", "train_conf.avg_nbest_model", "train_conf.avg_keep_nbest_models_type"),
    }
)
"""Settings that all checks but `finetune` set themselves: duration, saving, batches."""


def shared_overrides(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The variant's own settings that apply in every check with a trainer."""
    return {path: value for path, value in overrides.items() if path not in MADE_BY_CHECKS}


def optimizer_steps(utterances: int, batch_size: int, epochs: int) -> int:
    """Optimizer steps of a run in which every utterance arrives once per epoch."""
    return math.ceil(utterances / batch_size) * epochs


def trainer_options(install_dir: str, version: str, entry: str) -> TrainerOptions:
    """The trainer options of the release in `install_dir`, read from its own code."""
    package = Path(install_dir) / "funasr"
    notes = []
    samplers = _text(package / "datasets/audio_datasets/samplers.py")
    sampler = "BatchSampler"
    if '"BatchSampler"' not in samplers:
        sampler = "DynamicBatchLocalShuffleSampler"
        notes.append(f"batch_sampler is called {sampler}: datasets/audio_datasets/samplers.py registers no other")
    trainer = "trainer_ds.py" if entry == "train_ds" else "trainer.py"
    loops = (f"bin/{entry}.py", f"train_utils/{trainer}")
    with_one_more = [file for file in loops if _ONE_MORE_EPOCH.search(_text(package / file))]
    extra = bool(with_one_more)
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
    return TrainerOptions(
        native_entry="train_ds" if has_ds and numbers >= NATIVE_DS_SINCE else "train",
        batch_sampler=sampler,
        extra_epoch=extra,
        loop=f"funasr/{(with_one_more or loops)[0]}",
        validates_on_training_set=on_training_set,
        notes=tuple(notes),
    )


@dataclass(frozen=True, kw_only=True)
class DatasetOptions:
    """What a release's dataset, samplers and tokenizer support; the rest is not tested."""

    loaders_in_main: bool
    """Whether `bin/train.py` builds the loaders itself, once for all epochs; later releases have a class that builds
    them for each epoch."""
    required_fields: bool
    """Whether a row must have `prompt`, `source_len` and `target_len`."""
    seg_dict: bool
    space_is_token: bool
    token_batches: bool
    """Whether there is `batch_type: token`; earlier releases have `example` and `length`."""
    sorted_batches: bool
    """Whether `sort_size` gives batches of utterances of similar length."""
    espnet_batches: bool
    row_limits: bool
    """Whether `max_source_length` and similar settings exclude rows."""
    start_step: bool
    list_files: bool
    """Whether a text file that lists jsonl files is accepted, to be read in `data_split_num` slices."""
    notes: tuple[str, ...]


def dataset_options(install_dir: str) -> DatasetOptions:
    """The dataset options of the release in `install_dir`, read from its own code."""
    package = Path(install_dir) / "funasr"
    folder = package / "datasets/audio_datasets"
    index, samplers = _text(folder / "index_ds.py"), _text(folder / "samplers.py")
    entry, tokenizer = _text(package / "datasets/dataloader_entry.py"), _text(package / "tokenizer/char_tokenizer.py")
    in_main = "def build_iter" not in entry
    required = 'data.get("source_len"' not in index
    spaces = re.search(r'^\s*t = "<space>"', tokenizer, re.MULTILINE) is not None and "seg_dict" not in tokenizer
    notes = []
    if in_main:
        notes.append("bin/train.py builds the loaders itself, once for all epochs")
    if required:
        notes.append("a row must have prompt, source_len and target_len: datasets/audio_datasets/index_ds.py")
    if spaces:
        notes.append("a space is the token <space>, and there is no seg_dict: tokenizer/char_tokenizer.py")
    return DatasetOptions(
        loaders_in_main=in_main,
        required_fields=required,
        seg_dict="seg_dict" in tokenizer,
        space_is_token=spaces,
        token_batches=not in_main,
        sorted_batches='"sort_size"' in samplers,
        espnet_batches='"EspnetStyleBatchSampler"' in _text(folder / "espnet_samplers.py"),
        row_limits="max_source_length" in index,
        start_step="start_step" in entry,
        list_files="data_split_num" in entry and "data_split_num" in index,
        notes=tuple(notes),
    )


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


FP32 = "fp32"


def precision_overrides(install_dir: str, entry: str, precision: str) -> dict[str, bool] | None:
    """The `++key=value` pairs for a precision at this entry point; None if its trainer lacks it.

    `train_utils/trainer.py` has `use_fp16` since 1.0.11 and `use_bf16` since 1.3.4, `train_utils/trainer_ds.py` both
    from its beginning. A trainer ignores unknown settings silently, so an unsupported precision would train, and be
    measured, in fp32.
    """
    if precision == FP32:
        return {}
    name = f"use_{precision}"
    path = trainer_file(install_dir, entry)
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return {f"train_conf.{name}": True} if re.search(rf"\b{name}: bool\b", text) else None


def trainer_file(install_dir: str, entry: str) -> Path:
    """The module with the trainer of an entry point."""
    return Path(install_dir) / "funasr" / "train_utils" / ("trainer_ds.py" if entry == "train_ds" else "trainer.py")


def missing_precision(entry: str, precision: str) -> str:
    """Why a cell of this precision is skipped."""
    return (
        f"the release's {trainer_file('', entry).name} has no use_{precision}: it trains in fp32 whatever is configured"
    )
