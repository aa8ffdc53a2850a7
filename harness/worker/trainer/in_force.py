"""The configuration that a training runs with, read from the release's own frames while it trains.

What a rule expects of a training follows from this, and not from what the harness wished for. It is looked up once, at
the first forward pass, on the stack: `main` of `funasr/bin` holds the merged configuration, and the trainer's method
holds the trainer. Where neither is found, the `config.yaml` that the trainer saved is read instead.
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
    """What was found on the stack of one training."""

    trainer: Any = None
    config: dict[str, Any] = field(default_factory=dict)
    source: str | None = None
    """Where it was read: `trainer`, `main` or `config.yaml`; None where it could not be."""

    def look(self) -> None:
        """Called within the first forward pass: take the configuration down."""
        for frame in _frames():
            holder = frame.f_locals.get("self")
            if self.trainer is None and hasattr(holder, "max_epoch"):
                self.trainer = holder
            given = frame.f_locals.get("kwargs")
            if frame.f_code.co_name in _MAINS and isinstance(given, Mapping) and "train_conf" in given:
                self.config = _section(given)
                break
        if self.config:
            self.source = "trainer" if self.trainer is not None else "main"

    def read_saved(self, output: Path) -> None:
        """Where nothing was found on the stack: what the trainer saved."""
        if self.config or not (output / "config.yaml").exists():
            return
        from omegaconf import OmegaConf

        self.config, self.source = _section(OmegaConf.load(output / "config.yaml")), "config.yaml"

    def plain(self) -> dict[str, Any]:
        """Names, settings and sections, each as JSON can say it; empty where nothing was found."""
        if not self.config:
            return {}
        train = self.config.get("train_conf") or {}
        found = {name: train[name] for name in HELD if name in train}
        for name in HELD:
            if name not in found and hasattr(self.trainer, name):
                found[name] = _plain(getattr(self.trainer, name))
        return {"source": self.source, **self.config, **found}

    def differs(self, asked: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Settings that the release works with otherwise than the command line and the model folder say.

        `asked` is by dotted path. The configuration that `main` works with is compared, and the trainer's attributes.
        """
        found = []
        for path, value in asked.items():
            section, _, name = path.partition(".")
            # Where a release looks for the checkpoint is its own affair; `start` compares what it holds.
            if section not in (*SECTIONS, *TOP) or section == "init_param" or not self.config:
                continue
            seen: object = self.config.get(section)
            if name:
                seen = seen.get(name) if isinstance(seen, Mapping) and "." not in name else value
            if _other(value, seen):
                found.append({"key": path, "asked": _plain(value), "in_force": seen})
            elif section == "train_conf" and name in HELD and _other(value, getattr(self.trainer, name, value)):
                found.append({"key": path, "asked": _plain(value), "in_force": _plain(getattr(self.trainer, name))})
        return found


def asked(folder: Mapping[str, Any], words: Mapping[str, Any]) -> dict[str, Any]:
    """What the model folder's config and the command line say, by dotted path; the command line counts."""
    found = {name: folder[name] for name in TOP if name in folder}
    for section in SECTIONS:
        found |= {f"{section}.{name}": value for name, value in (folder.get(section) or {}).items()}
    return {**found, **words}


def section(asked: Mapping[str, Any], name: str) -> dict[str, Any]:
    """One section of what was asked, by the last part of its paths."""
    return {path.removeprefix(f"{name}."): value for path, value in asked.items() if path.startswith(f"{name}.")}


def epoch() -> int | None:
    """The number of the epoch that the trainer is in, by its own count; None where it has no such variable."""
    for frame in _frames():
        number = frame.f_locals.get("epoch")
        if isinstance(number, int):
            return number
    return None


def frozen_by(config: Mapping[str, Any], names: Sequence[str], still: Collection[str] = ()) -> list[str]:
    """The parameters that a configuration asks to keep as they are.

    With `lora_only` those are the weights that have an adapter beside them, and what else the release has marked as not
    trainable (`still`): it leaves other parts trainable than the adapters, such as Paraformer's predictor.
    """
    asked = config.get("freeze_param")
    prefixes = asked.strip("[]() ").split(",") if isinstance(asked, str) else asked or ()
    prefixes = [str(prefix).strip(" '\"") for prefix in prefixes]
    frozen = [name for name in names if any(model.below(name, [prefix]) for prefix in prefixes if prefix)]
    if config.get("lora_only"):
        adapted = {f"{name.rpartition('.lora_')[0]}.weight" for name in names if ".lora_" in name}
        frozen += [name for name in names if name in adapted or name in still]
    return list(dict.fromkeys(frozen))


def trained(
    network: Any, before: Mapping[str, Any], config: Mapping[str, Any], groups: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """Which parameters the configuration freezes, and which of those moved all the same."""
    import torch

    named = dict(network.named_parameters())
    still = [name for name, one in named.items() if not one.requires_grad]
    frozen = frozen_by(config, list(named), still)
    moved = [name for name in frozen if name in before and not torch.equal(named[name].detach().cpu(), before[name])]
    others = sorted(set(still) - set(frozen))
    below = {group: {name for name in named if model.group_of(name, groups) == group} for group in groups}
    return {
        "frozen_groups": [group for group, members in below.items() if members and members <= set(frozen)],
        "frozen": len(frozen),
        "frozen_names": frozen[:_MOST_NAMES],
        "frozen_but_moved": moved[:_MOST_NAMES],
        "not_trainable_besides": others[:_MOST_NAMES],
    }


def _frames() -> Iterator[FrameType]:
    """The frames of the release's entry point and trainer, innermost first."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        place = frame.f_code.co_filename.replace("\\", "/")
        if any(folder in place for folder in _FOLDERS):
            yield frame
        frame = frame.f_back


def _section(given: Any) -> dict[str, Any]:
    taken = {name: _plain(given.get(name)) for name in TOP if given.get(name) is not None}
    return taken | {name: _plain(given.get(name) or {}) for name in SECTIONS}


def _plain(value: Any) -> Any:
    """As JSON can say it: OmegaConf's containers as Python's own, what is no number, text or container by its type."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping) or hasattr(value, "items"):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple) or (hasattr(value, "__iter__") and hasattr(value, "__len__")):
        return [_plain(one) for one in value]
    return type(value).__name__


def _other(asked: object, seen: object) -> bool:
    """Whether a scalar is another; `1e-3` given as text is the number."""
    if isinstance(asked, str) or isinstance(seen, str):
        return isinstance(asked, str) and isinstance(seen, str) and asked != seen
    if isinstance(asked, bool | int | float):
        return not isinstance(seen, bool | int | float) or float(asked) != float(seen)
    return False
