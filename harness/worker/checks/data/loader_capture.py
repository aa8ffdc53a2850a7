"""The release's own loaders: captured where its trainer builds them, and built again for each test.

The trainer's command line runs once. The arguments of its `main`, after the release has read the model folder, are
kept. Then `main` runs with a model of one weight and is stopped where the loaders are made. Up to 1.0.17 `main` makes
them itself and passes them to its trainer, so `main` runs for every test. Since 1.0.18 a class makes them: its
arguments are kept, and the class is called for every test.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.worker.trainer import launch, options

LOADER_CLASS = "DataloaderMapStyle"


class Captured(Exception):
    """Raised in the trainer's `main` once the wanted arguments are known."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__("taken down")
        self.given = config


@dataclass(frozen=True, kw_only=True)
class Loaders:
    """A training and a validation loader."""

    train: Any
    valid: Any


@dataclass(frozen=True, kw_only=True)
class LoaderCapture:
    """The loaders of one set-up."""

    build: Callable[..., Loaders]
    """Takes `epoch`, and `start_step` and `data_split_i` if the release has them."""


class DataTrainer:
    """A release's trainer, run as far as its loaders."""

    def __init__(
        self,
        entry: str,
        model_class: str,
        folder: Path,
        trainer_options: options.TrainerOptions,
        dataset_options: options.DatasetOptions,
        overrides: Mapping[str, Any] | None = None,
    ) -> None:
        self.entry = entry
        self.model_class = model_class
        self.folder = folder
        self.trainer_options = trainer_options
        self.dataset_options = dataset_options
        self.overrides = dict(overrides or {})
        """The variant's own settings, without those that the tests set."""
        self._module = importlib.import_module(f"funasr.bin.{entry}")
        self._config: dict[str, Any] = {}
        self._given: dict[str, Any] = {}

    def start(self, train: str, valid: str) -> None:
        """Run the command line up to the loaders.

        Raises:
            whatever the release raises.
        """
        overrides = self.trainer_options.overrides(
            {
                "model_folder": str(self.folder),
                "train": train,
                "valid": valid,
                "batch_size": 4,
                "epochs": 1,
                "learning_rate": 0.001,
                "warmup_steps": 1,
                "seed": 0,
                "device": "cpu",
                "output_dir": str(self.folder.parent / "exp"),
                "overrides": self.overrides,
            }
        )
        with _replaced(self._module, "main", _raise):
            try:
                launch.run_trainer(self.entry, overrides)
            except Captured as captured:
                self._config = _plain(captured.given)
        if not self._config:
            raise RuntimeError(f"funasr/bin/{self.entry}.py ended without calling its main")
        self._config.pop("init_param", None)
        if not self.dataset_options.loaders_in_main:
            from funasr.register import tables

            with _replaced_item(tables.dataloader_classes, LOADER_CLASS, _raise):
                self._given = dict(self._call_main(self._config))

    def capture_loaders(self, train: str, valid: str, *, with_seg_dict: bool = True, **conf: Any) -> LoaderCapture:
        """A function that builds loaders for these files; `conf` are settings of `dataset_conf`.

        Raises:
            whatever the release raises when it reads the files.
        """
        config = self._config if self.dataset_options.loaders_in_main else self._given
        config = {
            **config,
            "train_data_set_list": train,
            "valid_data_set_list": valid,
            "dataset_conf": {**_plain(config["dataset_conf"]), **conf},
        }
        if self.dataset_options.loaders_in_main:
            return self._feed_of_main(config, with_seg_dict)
        if not with_seg_dict:
            config["tokenizer"] = self._bare_tokenizer()
        return self._feed_of_class(config)

    def _feed_of_main(self, config: dict[str, Any], with_seg_dict: bool) -> LoaderCapture:
        config = copy.deepcopy(config)
        if not with_seg_dict:
            config["tokenizer_conf"] = _without_seg_dict(config["tokenizer_conf"])
        with _replaced(self._module, "Trainer", _raise):
            handed = self._call_main(config)
        loaders = Loaders(train=handed["dataloader_train"], valid=handed["dataloader_val"])
        return LoaderCapture(build=lambda **_: loaders)

    def _feed_of_class(self, config: dict[str, Any]) -> LoaderCapture:
        from funasr.register import tables

        maker = tables.dataloader_classes.get(LOADER_CLASS)(**config)

        def build(*, epoch: int = 0, **place: int) -> Loaders:
            train, valid = maker.build_iter(epoch, **place)
            # As `train_epoch` and `validate_epoch` do at their start.
            for loader in (train, valid):
                loader.batch_sampler.set_epoch(epoch)
            return Loaders(train=train, valid=valid)

        return LoaderCapture(build=build)

    def _bare_tokenizer(self) -> Any:
        from funasr.register import tables

        name = self._config["tokenizer"]
        return tables.tokenizer_classes.get(name)(**_without_seg_dict(self._config["tokenizer_conf"]))

    def _call_main(self, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """The arguments with which `main` was stopped."""
        from funasr.register import tables

        with _replaced_item(tables.model_classes, self.model_class, _one_weight()):
            try:
                self._module.main(**copy.deepcopy(dict(config)))
            except Captured as captured:
                return captured.given
        raise RuntimeError(f"funasr/bin/{self.entry}.py ended without making its loaders")


@contextmanager
def as_rank(rank: int, world: int) -> Iterator[None]:
    """Make torch.distributed report that this process is `rank` of `world`."""
    import torch.distributed

    answers = {"get_rank": rank, "get_world_size": world, "is_initialized": True, "is_available": True}
    before = {name: getattr(torch.distributed, name) for name in answers}
    try:
        for name, answer in answers.items():
            setattr(torch.distributed, name, lambda *_, answer=answer, **__: answer)
        yield
    finally:
        for name, original in before.items():
            setattr(torch.distributed, name, original)


def _raise(*_args: Any, **kwargs: Any) -> Any:
    raise Captured(kwargs)


@contextmanager
def _replaced(holder: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(holder, name)
    setattr(holder, name, value)
    try:
        yield
    finally:
        setattr(holder, name, before)


@contextmanager
def _replaced_item(table: Any, name: str, value: Any) -> Iterator[None]:
    before = table[name]
    table[name] = value
    try:
        yield
    finally:
        table[name] = before


def _one_weight() -> Any:
    """A model class with one weight: the loaders need no more."""
    import torch

    class OneWeight(torch.nn.Module):  # type: ignore[misc]
        def __init__(self, *_args: Any, **_kwargs: Any) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)

    return OneWeight


def _without_seg_dict(tokenizer_conf: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in tokenizer_conf.items() if name not in ("seg_dict", "seg_dict_file")}


def _plain(config: Any) -> Any:
    """OmegaConf's containers as Python's own."""
    from omegaconf import OmegaConf

    if OmegaConf.is_config(config):
        return OmegaConf.to_container(config, resolve=True)
    return {name: _plain(value) for name, value in config.items()} if isinstance(config, dict) else config
