"""The configuration in force, read from the trainer's own stack frames when an epoch begins."""

from __future__ import annotations

import os
import sys
from types import FrameType
from typing import Any, Iterator

from .writing import plain

_FOLDERS = ("funasr/bin/", "funasr/train_utils/")
_MAINS = ("main", "main_hydra")
_SECTIONS = ("optim_conf", "scheduler_conf", "train_conf", "dataset_conf", "frontend_conf")
_TOP = (
    *("optim", "scheduler", "dataset", "freeze_param", "init_param", "lora_only", "lora_bias"),
    *("ignore_init_mismatch", "excludes", "scope_map"),
)
_HELD = (
    *("max_epoch", "accum_grad", "grad_clip", "grad_clip_type", "use_fp16", "use_bf16"),
    "avg_keep_nbest_models_type",
)
"""Settings of `train_conf` that trainers keep as attributes of the same name."""
_CO_OPTIMIZED = 1
_NEAR = 8
"""Frames between a trainer and torch's `Module.train`: wrappers for several processes."""


def trainer_frame() -> FrameType | None:
    """The frame of FunASR's trainer that made the current call; None for a call of anybody else's."""
    frame: FrameType | None = sys._getframe(2)
    for _ in range(_NEAR):
        if frame is None:
            return None
        if _is_trainers(frame):
            return frame
        frame = frame.f_back
    return None


def is_within_epoch(frame: FrameType | None) -> bool:
    """Whether a trainer is in the middle of its training batches; `frame` and those that called it are looked at."""
    return any(caller.f_code.co_name in ("train_epoch", "_train_epoch") for caller in _trainer_frames(frame))


def local(frame: FrameType, name: str) -> Any:
    """A local variable of a frame; None if there is none of this name.

    Up to Python 3.12 a frame keeps the dictionary that shows its variables, and with it whatever they held: a batch
    would outlive its step. So it is emptied again, which leaves the variables themselves alone.
    """
    shown = frame.f_locals
    value = shown.get(name)
    if type(shown) is dict and frame.f_code.co_flags & _CO_OPTIMIZED:
        shown.clear()
    return value


class ConfigurationInForce:
    """The configuration of one training, with the objects that the trainer works with."""

    def __init__(self) -> None:
        self.trainer: Any = None
        self.config: dict[str, Any] = {}
        self.loader: Any = None
        self.optimizer = ""
        self.scheduler = ""
        self.entry = ""
        self.output_dir = ""

    def read(self, frame: FrameType) -> None:
        """Read from the frame of a trainer that begins an epoch, and from those that called it."""
        for caller in _trainer_frames(frame):
            holder = local(caller, "self")
            if self.trainer is None and hasattr(holder, "max_epoch"):
                self.trainer = holder
            if not self.scheduler:
                self.scheduler = _class_name(local(caller, "scheduler") or getattr(holder, "scheduler", None))
            if not self.optimizer:
                self.optimizer = _class_name(local(caller, "optim") or getattr(holder, "optim", None))
            self.loader = self.loader or local(caller, "dataloader_train") or getattr(holder, "dataloader_train", None)
            kwargs = local(caller, "kwargs")
            if caller.f_code.co_name in _MAINS and hasattr(kwargs, "get") and "train_conf" in kwargs:
                self.config = _sections(kwargs)
                self.entry = _from_package(caller.f_code.co_filename)
                self.output_dir = str(kwargs.get("output_dir") or "")
                break
        self.output_dir = os.path.abspath(getattr(self.trainer, "output_dir", None) or self.output_dir or ".")

    def declared_by_loop(self, optimizer: Any, settings: Any) -> None:
        """What a loop of somebody's own says of itself."""
        self.optimizer = _class_name(optimizer)
        self.config = {"source": "given", **plain(dict(settings or {}))}
        self.entry = os.path.basename(sys.argv[0]) if getattr(sys, "argv", None) else ""

    def in_force(self) -> dict[str, Any]:
        """As `harness.worker.trainer.in_force.InForce.to_dict`: empty if nothing was found."""
        if not self.config:
            return {}
        train = self.config.get("train_conf") or {}
        values = {name: train[name] for name in _HELD if name in train}
        for name in _HELD:
            if name not in values and hasattr(self.trainer, name):
                values[name] = plain(getattr(self.trainer, name))
        return {"source": "main" if self.trainer is None else "trainer", **values, **self.config}

    def batches(self) -> int | None:
        """Of this rank in an epoch, by the loader's length."""
        return _size(self.loader)

    def rows(self) -> int | None:
        """Of the loader's data set."""
        return _size(getattr(self.loader, "dataset", None))

    def release(self) -> None:
        """Let go of what the trainer works with: it may replace and free it."""
        self.trainer = self.loader = None

    def trainer_name(self) -> str:
        """`module.Class`."""
        kind = type(self.trainer)
        return "" if self.trainer is None else f"{kind.__module__}.{kind.__qualname__}"


def epoch_number(frame: FrameType) -> int | None:
    """The trainer's own number of the epoch; None if it has no such variable."""
    for caller in _trainer_frames(frame):
        number = local(caller, "epoch")
        if isinstance(number, int):
            return number
    return None


def _trainer_frames(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        if _is_trainers(frame):
            yield frame
        frame = frame.f_back


def _is_trainers(frame: FrameType) -> bool:
    place = frame.f_code.co_filename.replace("\\", "/")
    return any(folder in place for folder in _FOLDERS)


def _from_package(path: str) -> str:
    place = path.replace("\\", "/")
    return place[place.rfind("funasr/") :] if "funasr/" in place else os.path.basename(place)


def _size(value: Any) -> int | None:
    try:
        return len(value)
    except (TypeError, NotImplementedError):
        return None


def _class_name(value: Any) -> str:
    return "" if value is None else type(value).__name__


def _sections(kwargs: Any) -> dict[str, Any]:
    top_level = {name: plain(kwargs.get(name)) for name in _TOP if kwargs.get(name) is not None}
    top_level.update({name: plain(kwargs.get(name) or {}) for name in _SECTIONS})
    return top_level
