"""What a user's own variant sets otherwise than the harness's: the keys that a failure may be theirs for."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from harness.variants.catalogue import available, load_variant
from harness.variants.variant import Variant

_MOST = 60
_OF_TRAINERS = (
    *("optim", "scheduler", "freeze_param", "init_param", "lora_only", "ignore_init_mismatch", "seed", "device"),
    *("optim_conf.lr", "optim_conf.weight_decay", "optim_conf.betas", "optim_conf.eps"),
    *("scheduler_conf.warmup_steps", "dataset", "dataset_conf.batch_size", "dataset_conf.batch_type"),
    *("dataset_conf.max_token_length", "dataset_conf.max_source_length", "dataset_conf.num_workers"),
    *("dataset_conf.sort_size", "dataset_conf.shuffle", "dataset_conf.buffer_size", "dataset_conf.index_ds"),
    *("train_conf.max_epoch", "train_conf.accum_grad", "train_conf.grad_clip", "train_conf.log_interval"),
    *("train_conf.resume", "train_conf.validate_interval", "train_conf.save_checkpoint_interval"),
    *("train_conf.keep_nbest_models", "train_conf.avg_nbest_model", "train_conf.use_bf16", "train_conf.use_fp16"),
)
"""Keys that recipes of FunASR give its trainers; only suggested, never required."""


def own_settings(variant: Variant) -> dict[str, Any]:
    """By dotted path, what differs from the harness's variant of the same model; all of it where there is none.

    Beside `settings`, `near` has the nearest known key to each that no variant and no recipe has.
    """
    others = [other for other in map(load_variant, available()) if other.config["model"] == variant.config["model"]]
    known = {path: value for other in others for path, value in _leaves(other.config)}
    stock = dict(_leaves(others[0].config)) if others else {}
    own = {path: value for path, value in _leaves(variant.config) if path not in stock or stock[path] != value}
    settings = {**own, **variant.training}
    legal = {*known, *_OF_TRAINERS}
    near = {
        path: match[0]
        for path in settings
        if path not in legal and (match := difflib.get_close_matches(path, legal, n=1, cutoff=0.8))
    }
    return {"file": variant.path.name, "settings": dict(list(settings.items())[-_MOST:]), "near": near}


def _leaves(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
