"""The release's own loaders: captured where its trainer builds them, and built anew for each question.

The trainer's command line is run once. What its `main` is called with, after the release has read the model folder,
is taken down; then `main` itself is called, with a model that has one weight, and stopped where the loaders are made:
up to 1.0.17 `main` makes them itself and hands them to its `DataTrainer`, so `main` is called for every question;
since 1.0.18 a class makes them, so what it is given is taken down, and the class is called for every question.
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
    """Raised in the trainer's `main` where it has given what is wanted."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        super().__init__("taken down")
        self.given = given


@dataclass(frozen=True, kw_only=True)
class Loaders:
    """A training and a validation loader."""

    train: Any
    valid: Any


@dataclass(frozen=True, kw_only=True)
class LoaderCapture:
    """What the trainer reads from, in one set-up."""

    build: Callable[..., Loaders]
    """Takes `epoch`, and `start_step` and `data_split_i` where the release knows them."""


class DataTrainer:
    """A release's trainer, as far as its loaders go."""

    def __init__(
        self,
        entry: str,
        model_class: str,
        folder: Path,
        dialect: options.TrainerOptions,
        feeding: options.DatasetOptions,
        overrides: Mapping[str, Any] | None = None,
    ) -> None:
        self.entry = entry
        self.model_class = model_class
        self.folder = folder
        self.dialect = dialect
        self.feeding = feeding
        self.overrides = dict(overrides or {})
        """The variant's own settings, without those that the questions make themselves."""
        self._module = importlib.import_module(f"funasr.bin.{entry}")
        self._config: dict[str, Any] = {}
        self._given: dict[str, Any] = {}

    def start(self, train: str, valid: str) -> None:
        """Run the command line up to the loaders.

        Raises:
            whatever the release raises on the way.
        """
        words = self.dialect.overrides(
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
                launch.run_trainer(self.entry, words)
            except Captured as captured:
                self._config = _plain(captured.given)
        if not self._config:
            raise RuntimeError(f"funasr/bin/{self.entry}.py ended without calling its main")
        self._config.pop("init_param", None)
        if not self.feeding.loaders_in_main:
            from funasr.register import tables

            with _replaced_item(tables.dataloader_classes, LOADER_CLASS, _raise):
                self._given = dict(self._call_main(self._config))

    def feed(self, train: str, valid: str, *, with_seg_dict: bool = True, **conf: Any) -> LoaderCapture:
        """The loaders' maker for these files; `conf` are settings of `dataset_conf`.

        Raises:
            whatever the release raises when it reads the files.
        """
        given = self._config if self.feeding.loaders_in_main else self._given
        given = {
            **given,
            "train_data_set_list": train,
            "valid_data_set_list": valid,
            "dataset_conf": {**_plain(given["dataset_conf"]), **conf},
        }
        if self.feeding.loaders_in_main:
            return self._feed_of_main(given, with_seg_dict)
        if not with_seg_dict:
            given["tokenizer"] = self._bare_tokenizer()
        return self._feed_of_class(given)

    def _feed_of_main(self, given: dict[str, Any], with_seg_dict: bool) -> LoaderCapture:
        given = copy.deepcopy(given)
        if not with_seg_dict:
            given["tokenizer_conf"] = _without_seg_dict(given["tokenizer_conf"])
        with _replaced(self._module, "Trainer", _raise):
            handed = self._call_main(given)
        loaders = Loaders(train=handed["dataloader_train"], valid=handed["dataloader_val"])
        return LoaderCapture(build=lambda **_: loaders)

    def _feed_of_class(self, given: dict[str, Any]) -> LoaderCapture:
        from funasr.register import tables

        maker = tables.dataloader_classes.get(LOADER_CLASS)(**given)

        def build(*, epoch: int = 0, **place: int) -> Loaders:
            train, valid = maker.build_iter(epoch, **place)
            # As `train_epoch` and `validate_epoch` do before they begin.
            for loader in (train, valid):
                loader.batch_sampler.set_epoch(epoch)
            return Loaders(train=train, valid=valid)

        return LoaderCapture(build=build)

    def _bare_tokenizer(self) -> Any:
        from funasr.register import tables

        name = self._config["tokenizer"]
        return tables.tokenizer_classes.get(name)(**_without_seg_dict(self._config["tokenizer_conf"]))

    def _call_main(self, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """What `main` gave where it was stopped."""
        from funasr.register import tables

        with _replaced_item(tables.model_classes, self.model_class, _one_weight()):
            try:
                self._module.main(**copy.deepcopy(dict(config)))
            except Captured as captured:
                return captured.given
        raise RuntimeError(f"funasr/bin/{self.entry}.py ended without making its loaders")


@contextmanager
def as_rank(rank: int, world: int) -> Iterator[None]:
    """In the meantime torch.distributed says that this is process `rank` of `world`."""
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


def read_config(folder: Path) -> dict[str, Any]:
    """What a model folder's config says."""
    from omegaconf import OmegaConf

    config: dict[str, Any] = _plain(OmegaConf.load(folder / "config.yaml"))
    return config


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
    """A model class that stands for any: the loaders do not ask for more."""
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
