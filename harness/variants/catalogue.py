"""The variants that there are: the built-in ones by name, a user's by its path."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.config.toml_tables import did_you_mean
from harness.core.cells import Dimensions
from harness.core.errors import VariantError
from harness.variants.from_folder import dimensions_of, same_class, variant_of_folder
from harness.variants.reading import read
from harness.variants.variant import Variant

_FOLDER = Path(__file__).parent
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def available() -> tuple[str, ...]:
    """The names of the variants that the harness brings along."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


def load_variant(name_or_path: str) -> Variant:
    """One of the harness' variants by its name; a user's own by the path of its YAML file or of its model folder.

    Raises:
        VariantError: there is no such variant, or its file is wrong (with all that is).
    """
    if not _is_path(name_or_path):
        if name_or_path not in available():
            raise VariantError(
                f'there is no variant "{name_or_path}"; {did_you_mean(name_or_path, available())}',
                next_step=f"choose one of {', '.join(available())}, or give the path of a YAML file",
            )
        return read(_FOLDER / f"{name_or_path}.yaml", source=name_or_path)
    path = Path(name_or_path).absolute()
    if path.is_dir():
        return variant_of_folder(path, [load_variant(name) for name in available()])
    if path.stem in available() and path.resolve().parent != _FOLDER.resolve():
        raise VariantError(
            f'{name_or_path} has the name of the harness\' own variant "{path.stem}"',
            cause="a variant's name is part of the ids of its cells",
            next_step="give the file another name",
        )
    if not _NAME.fullmatch(path.stem):
        raise VariantError(
            f'"{path.stem}" cannot be part of a cell\'s id',
            next_step="give the file a name of letters, digits, dots, dashes and underscores",
        )
    return read(path, source=name_or_path)


def folder_dimensions(path: Path) -> Dimensions:
    """The dimensions of a model folder.

    Raises:
        VariantError: it is none that a variant can be made of.
    """
    return dimensions_of(load_variant(str(path)))


def _is_path(name_or_path: str) -> bool:
    if "/" in name_or_path or "\\" in name_or_path or name_or_path.endswith((".yaml", ".yml")):
        return True
    return name_or_path not in available() and Path(name_or_path).is_dir()


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

    `settings` has them; `near` has the nearest known key to each that no variant and no recipe has; `stock` is the name
    of the harness's variant, and `shared` has the paths that it sets as well, to another value.
    """
    others = same_class(variant.config, [load_variant(name) for name in available()])
    known = {path: value for other in others for path, value in _leaves(other.config)}
    stock = dict(_leaves(others[0].config)) if others else {}
    differing = {path: value for path, value in _leaves(variant.config) if path not in stock or stock[path] != value}
    settings = {**differing, **variant.training}
    legal = {*known, *_OF_TRAINERS}
    near = {
        path: match[0]
        for path in settings
        if path not in legal and (match := difflib.get_close_matches(path, legal, n=1, cutoff=0.8))
    }
    return {
        "file": f"{variant.folder.name}/{variant.path.name}" if variant.folder else variant.path.name,
        "settings": dict(list(settings.items())[-_MOST:]),
        "near": near,
        "stock": others[0].name if others else "",
        "shared": [path for path in settings if path in stock],
    }


def _leaves(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
