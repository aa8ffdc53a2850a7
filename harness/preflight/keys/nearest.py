"""Which key a user may have meant: by spelling, by another section, by the words of other trainers."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from harness.preflight.keys.reading import Reading

SECTIONS = ("train_conf", "dataset_conf", "optim_conf", "scheduler_conf", "", "tokenizer_conf", "frontend_conf")
"""Where a misplaced key most often belongs, the likeliest first."""

SIMILAR = 0.75
"""difflib's ratio from which two names are taken for one with a typing error."""

SHORTEST = 4

_OTHER_WORDS = {
    "train_conf.accum_grad": ("gradient_accumulation_steps", "grad_accum", "accumulate_grad_batches", "accum_steps"),
    "train_conf.avg_keep_nbest_models_type": ("val_best_metric", "best_metric", "metric_for_best_model", "monitor"),
    "train_conf.early_stopping_patience": ("patience", "early_stop_patience"),
    "train_conf.grad_clip": ("max_grad_norm", "gradient_clip_val", "clip_grad", "clip_grad_norm", "max_norm"),
    "train_conf.keep_nbest_models": ("keep_latest_models", "save_total_limit", "max_to_keep", "keep_last_models"),
    "train_conf.log_interval": ("logging_steps", "log_every_n_steps", "print_interval", "log_steps"),
    "train_conf.max_epoch": ("epochs", "num_epochs", "num_train_epochs", "max_epochs", "n_epochs", "epoch"),
    "train_conf.resume": ("resume_from_checkpoint", "resume_training"),
    "train_conf.save_checkpoint_interval": (
        "save_steps",
        "save_checkpoint_steps",
        "checkpoint_interval",
        "save_interval",
    ),
    "train_conf.use_bf16": ("bf16", "bfloat16"),
    "train_conf.use_fp16": ("fp16", "amp", "use_amp", "half"),
    "train_conf.validate_interval": ("eval_steps", "val_check_interval", "val_interval", "eval_interval"),
    "dataset_conf.batch_size": ("per_device_train_batch_size", "train_batch_size", "micro_batch_size", "batchsize"),
    "dataset_conf.max_source_length": ("max_speech_length", "max_audio_length", "max_duration"),
    "dataset_conf.max_target_length": ("max_text_length",),
    "dataset_conf.num_workers": ("dataloader_num_workers", "workers", "num_worker"),
    "optim": ("optimizer", "optimizer_type"),
    "optim_conf.lr": ("learning_rate", "lr", "base_lr", "max_lr"),
    "scheduler": ("lr_scheduler", "lr_scheduler_type", "scheduler_type"),
    "scheduler_conf.warmup_steps": ("num_warmup_steps", "warmup", "warm_up_steps", "warmup_step"),
    "output_dir": ("save_dir", "exp_dir", "out_dir"),
    "train_data_set_list": ("train_data", "train_set", "train_file", "train_jsonl"),
    "valid_data_set_list": ("valid_data", "valid_set", "val_data", "val_data_set_list", "dev_data_set_list"),
}
"""What other trainers call it."""


@dataclass(frozen=True, kw_only=True)
class Nearest:
    """A key that is read, and why it may be meant."""

    path: str
    exact: bool
    """Whether only the section differs."""


def nearest(reading: Reading, path: str) -> Nearest | None:
    """The key that is read and may be meant by one that is not; None where no key is like it."""
    section, _, leaf = path.rpartition(".")
    trainers = [section_name for section_name in SECTIONS if section_name != section]
    others = [section_name for section_name in _sections(reading) if section_name not in {section, *SECTIONS}]
    return (
        _exact(reading, trainers, leaf)
        or _other_words(reading, path, leaf)
        or _spelt(reading, [section], leaf)
        or _exact(reading, others, leaf)
        or _spelt(reading, [*trainers, *others], leaf)
    )


def called_here(path: str, parameters: Iterable[str]) -> str:
    """The parameter that other trainers call like the last part of a key; empty where there is none."""
    section, _, leaf = path.rpartition(".")
    for candidate, words in _OTHER_WORDS.items():
        owner, _, parameter = candidate.rpartition(".")
        if owner == section and leaf.lower() in words and parameter in parameters:
            return parameter
    return ""


def _sections(reading: Reading) -> list[str]:
    known = {path.rpartition(".")[0] for path in reading.read}
    return sorted(section_name for section_name in known if section_name.endswith("_conf") and "." not in section_name)


def _exact(reading: Reading, sections: list[str], leaf: str) -> Nearest | None:
    for section_name in sections:
        candidate = f"{section_name}.{leaf}" if section_name else leaf
        if candidate in reading.read and reading.is_read(candidate):
            return Nearest(path=candidate, exact=True)
    return None


def _other_words(reading: Reading, path: str, leaf: str) -> Nearest | None:
    for candidate, words in _OTHER_WORDS.items():
        if leaf.lower() in words and candidate in reading.read and candidate != path:
            return Nearest(path=candidate, exact=False)
    return None


def _spelt(reading: Reading, sections: list[str], leaf: str) -> Nearest | None:
    best: tuple[float, str] = (0.0, "")
    for place, section in enumerate(sections):
        for key in reading.keys(section):
            score = similarity(leaf, key) - 0.02 * min(place, 5)
            if score > best[0]:
                best = (score, f"{section}.{key}" if section else key)
    return Nearest(path=best[1], exact=False) if best[0] >= SIMILAR else None


def similarity(first_name: str, second_name: str) -> float:
    """Of two names, from 0 to 1; names that begin or end with one another, or begin with one word, are similar."""
    shorter, longer = sorted((first_name.lower(), second_name.lower()), key=len)
    ratio = difflib.SequenceMatcher(None, shorter, longer).ratio()
    if len(shorter) >= SHORTEST and longer.startswith(f"{shorter}_"):
        return max(ratio, 0.85)
    if len(shorter) >= SHORTEST and longer.endswith(f"_{shorter}"):
        return max(ratio, 0.8)
    first = shorter.split("_")[0]
    return max(ratio, 0.76) if len(first) >= SHORTEST and longer.split("_")[0] == first else ratio


def closest(name: str, known: Iterable[str], least: float) -> str:
    """The most similar name; empty where none is similar enough."""
    best = max(known, key=lambda candidate: similarity(name, candidate), default="")
    return best if best and similarity(name, best) >= least else ""


def nearest_section(reading: Reading, name: str) -> str:
    """The section that may be meant by one that nothing reads; empty where none is like it."""
    known = [key for key in reading.keys("") if key.endswith("_conf")]
    return closest(name, known, SIMILAR)
