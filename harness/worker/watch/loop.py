"""The observers in a training loop of somebody's own: a `with` statement around it, and a call after each step."""

from __future__ import annotations

import contextlib
import os
from typing import Any, Iterator, Mapping, Protocol, Union

from .observer import TrainingObserver
from .patches import observe_torch, put_back
from .start import process_fields
from .writing import RecordWriter

RECORDS = "FUNASR_HARNESS_WATCH"
"""The folder that a watching process names."""


class NumberInTensor(Protocol):
    """A `torch.Tensor` with one number."""

    def detach(self) -> Any: ...

    def numel(self) -> int: ...


class TrainedModel(Protocol):
    """A `torch.nn.Module`."""

    training: bool

    def named_parameters(self) -> Iterator[Any]: ...

    def state_dict(self) -> Any: ...


class TrainingOptimizer(Protocol):
    """A `torch.optim.Optimizer`."""

    param_groups: Any
    state: Any


LossValue = Union[NumberInTensor, float]


class LoopObserver:
    """What a loop may say of itself; all of it is optional."""

    def __init__(self, observer: TrainingObserver) -> None:
        self._observer = observer

    def step(
        self,
        loss: LossValue | None = None,
        stats: Mapping[str, LossValue] | None = None,
    ) -> None:
        """After `optimizer.step()`: the loss and statistics of the step, where the model's forward returns no loss.

        A tensor on a GPU is copied without waiting for it.
        """
        self._observer.guard("steps", self._observer.complete_step, loss, dict(stats or {}))

    def epoch(self, number: int) -> None:
        """At the beginning of an epoch, counted from 0."""
        self._observer.guard("epochs", self._observer.epoch_numbered, number)


@contextlib.contextmanager
def watching(
    model: TrainedModel,
    optimizer: TrainingOptimizer,
    folder: str | os.PathLike[str] | None = None,
    *,
    configuration: Mapping[str, Any] | None = None,
) -> Iterator[LoopObserver]:
    """Record the steps of `optimizer`, the forward passes of `model` and what is saved, within the `with` statement.

        with watching(model, optimizer, "records") as observer:
            for speech, text in loader:
                loss = criterion(model(speech), text)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                observer.step(loss)

    Each process of a distributed training records for itself. An observer that fails takes itself out.

    Args:
        model: Also within `DistributedDataParallel`.
        optimizer: Whose steps are the training's.
        folder: Where the file of records is made; by default where a watching `funasr-harness watch` reads, else
            `watch-records`. `funasr-harness watch --read` shows it.
        configuration: Settings to be kept with the records, such as `{"grad_clip": 5.0}`.
    """
    place = os.fspath(folder) if folder is not None else os.environ.get(RECORDS) or "watch-records"
    with contextlib.suppress(OSError):
        os.makedirs(place, exist_ok=True)
    observer = TrainingObserver(RecordWriter(place, process_fields()), own_loop=True)
    observer.guard("configuration", observer.configuration.declared_by_loop, optimizer, configuration)
    observe_torch(observer)
    observer.watch_model(model)
    observer.writer.begin()
    try:
        yield LoopObserver(observer)
    except BaseException as error:
        observer.endings.left_by(error)
        raise
    else:
        observer.endings.left_by(None)
    finally:
        put_back(observer)
