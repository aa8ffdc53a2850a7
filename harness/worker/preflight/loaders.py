"""The batches of a user's rows, made by the release's own index, dataset and sampler; no audio is opened.

Up to 1.0.17 `bin/train.py` makes the loaders itself, once for all epochs. Since 1.0.18 a class of
`dataloader_classes` makes them for each epoch, and since 1.0.25 for each slice of a list of files.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.worker.checks.data.loader_capture import as_rank
from harness.worker.trainer import options

DEFAULTS = ("IndexDSJsonl", "BatchSampler", "DynamicBatchLocalShuffleSampler", "DataloaderMapStyle")
"""Indexes, samplers and makers of loaders that a trainer takes where the config names none."""

_DEFAULT_SAMPLER = re.compile(r'get\(\s*"batch_sampler",\s*"(\w+)"\s*\)')


@dataclass(frozen=True, kw_only=True)
class LoaderRequest:
    """What the trainer's `main` would be called with, as far as its loaders need it."""

    install_dir: str
    entry: str
    config: Mapping[str, Any]
    """`dataset`, `dataset_conf`, `train_data_set_list`, `valid_data_set_list` and what else the config has."""
    options: options.TrainerOptions

    @property
    def dataset_conf(self) -> dict[str, Any]:
        """A copy: datasets change it."""
        return dict(self.config.get("dataset_conf") or {})


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One slice of one epoch, as one rank gets it."""

    dataset: Any
    batches: list[list[int]]
    """Numbers of the dataset's rows."""
    ended_by: int | None
    """The number of a row that the sampler gives in place of a batch, at which a loader raises TypeError."""
    length: int | None
    """What the loader says its length is, after the pass; None where it has none."""


class RankLoaders:
    """The loaders of one rank."""

    def __init__(self, request: LoaderRequest, rank: int, world: int) -> None:
        """Read the files, as the rank does at its start.

        Raises:
            whatever the release raises.
        """
        self.request, self.rank, self.world = request, rank, world
        with as_rank(rank, world):
            self._maker = _Maker(request) if _has_maker(request.install_dir) else _MainLoaders(request)

    def train(self, epoch: int) -> Iterator[Pass]:
        """The training batches of an epoch, a slice at a time."""
        for slice_number in range(self._maker.slices):
            with as_rank(self.rank, self.world):
                dataset, sampler = self._maker.build(epoch, slice_number)[0]
                yield _run(dataset, sampler, epoch)

    def valid(self, epoch: int) -> Pass:
        """The validation batches."""
        with as_rank(self.rank, self.world):
            dataset, sampler = self._maker.build(epoch, 0)[1]
            return _run(dataset, sampler, epoch)


class _Maker:
    """Since 1.0.18: the class that makes the loaders of each epoch."""

    def __init__(self, request: LoaderRequest) -> None:
        from funasr.register import tables

        conf = request.dataset_conf
        name = conf.get("dataloader", "DataloaderMapStyle")
        kwargs = {**request.config, "dataset_conf": conf, "frontend": None, "tokenizer": None}
        self._maker = tables.dataloader_classes.get(name)(**kwargs)
        self.slices = int(getattr(self._maker, "data_split_num", 1))

    def build(self, epoch: int, slice_number: int) -> list[tuple[Any, Any]]:
        accepted = inspect.signature(self._maker.build_iter).parameters
        offered = {"data_split_i": slice_number, "start_step": 0}
        kwargs = {name: value for name, value in offered.items() if name in accepted}
        return [(loader.dataset, loader.batch_sampler) for loader in self._maker.build_iter(epoch, **kwargs)]


class _MainLoaders:
    """Up to 1.0.17: what `bin/train.py` does."""

    slices = 1

    def __init__(self, request: LoaderRequest) -> None:
        from funasr.register import tables

        config, conf = request.config, request.dataset_conf
        make = tables.dataset_classes.get(config.get("dataset", "AudioDataset"))
        train, valid = (
            make(config.get(f"{name}_data_set_list"), frontend=None, tokenizer=None, is_training=training, **conf)
            for name, training in (("train", True), ("valid", False))
        )
        text = (Path(request.install_dir) / f"funasr/bin/{request.entry}.py").read_text(encoding="utf-8")
        default = _DEFAULT_SAMPLER.search(text)
        sampler = tables.batch_sampler_classes.get(conf.get("batch_sampler", default[1] if default else "BatchSampler"))
        over = train if request.options.validates_on_training_set else valid
        self._made = [(train, sampler(train, **conf)), (valid, sampler(over, is_training=False, **conf))]

    def build(self, _epoch: int, _slice_number: int) -> list[tuple[Any, Any]]:
        return self._made


def _has_maker(install_dir: str) -> bool:
    return not options.dataset_options(install_dir).loaders_in_main


def _run(dataset: Any, sampler: Any, epoch: int) -> Pass:
    if hasattr(sampler, "set_epoch"):
        sampler.set_epoch(epoch)
    batches, ended_by = [], None
    for batch in sampler:
        if not isinstance(batch, Iterable):
            ended_by = int(batch)
            break
        batches.append([int(number) for number in batch])
    try:
        length = len(sampler)
    except TypeError:
        length = None
    return Pass(dataset=dataset, batches=batches, ended_by=ended_by, length=length)
