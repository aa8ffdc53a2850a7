"""The effective configuration of a training, read from the release's own stack frames while it trains.

The rules' expectations follow from it, not from what the harness requested. It is read once, at the first forward pass:
`main` of `funasr/bin` holds the merged configuration, and a method of the trainer holds the trainer. If neither is on
the stack, the `config.yaml` that the trainer saved is read.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from harness.worker.release import model

_FOLDERS = ("funasr/bin/", "funasr/train_utils/")
_MAINS = ("main", "main_hydra")
SECTIONS = ("optim_conf", "scheduler_conf", "train_conf", "dataset_conf")
TOP = (
    *("optim", "scheduler", "dataset", "freeze_param", "init_param", "lora_only", "lora_bias"),
    *("ignore_init_mismatch", "excludes", "scope_map"),
)
HELD = ("max_epoch", "accum_grad", "grad_clip", "grad_clip_type", "use_fp16", "use_bf16")
"""Settings of `train_conf` that trainers keep as attributes of the same name."""
_MOST_NAMES = 20


@dataclass
class InForce:
    """The effective configuration of one training."""

    trainer: Any = None
    config: dict[str, Any] = field(default_factory=dict)
    source: str | None = None
    """Where it was read: `trainer`, `main` or `config.yaml`; None if nowhere."""

    def read_frames(self) -> None:
        """Read the configuration; call it within the first forward pass."""
        for frame in _frames():
            holder = frame.f_locals.get("self")
            if self.trainer is None and hasattr(holder, "max_epoch"):
                self.trainer = holder
            kwargs = frame.f_locals.get("kwargs")
            if frame.f_code.co_name in _MAINS and isinstance(kwargs, Mapping) and "train_conf" in kwargs:
                self.config = _section(kwargs)
                break
        if self.config:
            self.source = "trainer" if self.trainer is not None else "main"

    def read_saved(self, output: Path) -> None:
        """If nothing was on the stack, read what the trainer saved."""
        if self.config or not (output / "config.yaml").exists():
            return
        from omegaconf import OmegaConf

        self.config, self.source = _section(OmegaConf.load(output / "config.yaml")), "config.yaml"

    def to_dict(self) -> dict[str, Any]:
        """Names, settings and sections as JSON-serialisable data; empty if nothing was found."""
        if not self.config:
            return {}
        train = self.config.get("train_conf") or {}
        in_force = {name: train[name] for name in HELD if name in train}
        for name in HELD:
            if name not in in_force and hasattr(self.trainer, name):
                in_force[name] = _plain(getattr(self.trainer, name))
        return {"source": self.source, **self.config, **in_force}

    def differs(self, configured: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Settings whose effective value differs from the command line and the model folder.

        Args:
            configured: Values by dotted path; they are compared with `main`'s configuration and the trainer's
                attributes.
        """
        differences = []
        for path, value in configured.items():
            section, _, name = path.partition(".")
            # Releases rewrite the checkpoint's path; the comparison of start weights covers it.
            if section not in (*SECTIONS, *TOP) or section == "init_param" or not self.config:
                continue
            in_force: object = self.config.get(section)
            if name:
                in_force = in_force.get(name) if isinstance(in_force, Mapping) and "." not in name else value
            if _other(value, in_force):
                differences.append({"key": path, "asked": _plain(value), "in_force": in_force})
            elif section == "train_conf" and name in HELD and _other(value, getattr(self.trainer, name, value)):
                differences.append(
                    {"key": path, "asked": _plain(value), "in_force": _plain(getattr(self.trainer, name))}
                )
        return differences


def configured(folder: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The configured values by dotted path: the model folder's config, overridden by the command line."""
    values = {name: folder[name] for name in TOP if name in folder}
    for section in SECTIONS:
        values |= {f"{section}.{name}": value for name, value in (folder.get(section) or {}).items()}
    return {**values, **overrides}


def section(configured: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The values of one section, by their names without the section."""
    return {path.removeprefix(f"{name}."): value for path, value in configured.items() if path.startswith(f"{name}.")}


def epoch() -> int | None:
    """The trainer's own number of the current epoch; None if it has no such variable."""
    for frame in _frames():
        number = frame.f_locals.get("epoch")
        if isinstance(number, int):
            return number
    return None


def frozen_by(config: Mapping[str, Any], names: Sequence[str], not_trainable: Collection[str] = ()) -> list[str]:
    """The parameters that a configuration freezes.

    With `lora_only` those are the weights with an adapter, and what else the release has marked as not trainable
    (`not_trainable`): it leaves further parts trainable than the adapters, such as Paraformer's predictor.
    """
    configured = config.get("freeze_param")
    prefixes = configured.strip("[]() ").split(",") if isinstance(configured, str) else configured or ()
    prefixes = [str(prefix).strip(" '\"") for prefix in prefixes]
    frozen = [name for name in names if any(model.has_prefix(name, [prefix]) for prefix in prefixes if prefix)]
    if config.get("lora_only"):
        adapted = {f"{name.rpartition('.lora_')[0]}.weight" for name in names if ".lora_" in name}
        frozen += [name for name in names if name in adapted or name in not_trainable]
    return list(dict.fromkeys(frozen))


def trained(
    network: Any, before: Mapping[str, Any], config: Mapping[str, Any], groups: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """Which parameters the configuration freezes, which of those changed nevertheless, and what the loss leaves out.

    SeacoParaformer alone has `train_decoder`; without it the loss is over hotwords, and `criterion_att` is not called.
    """
    import torch

    named = dict(network.named_parameters())
    not_trainable = [name for name, parameter in named.items() if not parameter.requires_grad]
    frozen = frozen_by(config, list(named), not_trainable)
    moved = [name for name in frozen if name in before and not torch.equal(named[name].detach().cpu(), before[name])]
    others = sorted(set(not_trainable) - set(frozen))
    below = {group: {name for name in named if model.group_of(name, groups) == group} for group in groups}
    return {
        "frozen_groups": [group for group, members in below.items() if members and members <= set(frozen)],
        "frozen": len(frozen),
        "frozen_names": frozen[:_MOST_NAMES],
        "frozen_but_moved": moved[:_MOST_NAMES],
        "not_trainable_besides": others[:_MOST_NAMES],
        "hotwords_alone": getattr(network, "train_decoder", None) is False,
    }


def _frames() -> Iterator[FrameType]:
    """The frames of the release's entry point and trainer, innermost first."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        place = frame.f_code.co_filename.replace("\\", "/")
        if any(folder in place for folder in _FOLDERS):
            yield frame
        frame = frame.f_back


def _section(kwargs: Any) -> dict[str, Any]:
    top_level = {name: _plain(kwargs.get(name)) for name in TOP if kwargs.get(name) is not None}
    return top_level | {name: _plain(kwargs.get(name) or {}) for name in SECTIONS}


def _plain(value: Any) -> Any:
    """JSON-serialisable: containers of OmegaConf as Python's own, other objects by their type's name."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping) or hasattr(value, "items"):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple) or (hasattr(value, "__iter__") and hasattr(value, "__len__")):
        return [_plain(item) for item in value]
    return type(value).__name__


def _other(configured: object, in_force: object) -> bool:
    """Whether a scalar differs; `1e-3` given as text equals the number."""
    if isinstance(configured, str) or isinstance(in_force, str):
        return isinstance(configured, str) and isinstance(in_force, str) and configured != in_force
    if isinstance(configured, bool | int | float):
        return not isinstance(in_force, bool | int | float) or float(configured) != float(in_force)
    return False
