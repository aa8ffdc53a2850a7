"""Faults in what a release feeds to its trainer, planted in memory; called in children that have torch."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from harness.worker.checks import data
from harness.worker.checks.data import batch_sizes, contents, epochs, limits, rows
from harness.worker.release import shims
from harness.worker.trainer import options

Plant = Callable[[Any], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Fault:
    """What is planted, who should find it, and under which name."""

    test: Any
    question: str
    plant: Plant


def ask(request: dict[str, Any], paths: list[str], faults: bool) -> dict[str, Any]:
    """The check's result on the release as it is; where asked for, what each planted fault makes of its question."""
    sys.path[:0] = paths
    shims.apply("cpu")
    result = data.check(request)
    if not faults:
        return {"result": result}
    Path("again").mkdir()
    trainer_options = options.trainer_options(
        request["release"]["install_dir"], request["release"]["version"], request["entry"]
    )
    context = data.set_up(request, trainer_options, Path("again").absolute())
    return {"result": result, "faults": {name: _found(context, fault) for name, fault in FAULTS.items()}}


def _found(context: Any, fault: Fault) -> dict[str, Any]:
    with fault.plant(context):
        for answer in fault.test(context):
            if answer.name == fault.question:
                plain: dict[str, Any] = asdict(answer)
                return plain
    raise AssertionError(f"nobody asked {fault.question}")


def _batches(change: Callable[[Any, list[Any]], list[Any]]) -> Plant:
    """The sampler's batches, changed."""

    def plant(_scene: Any) -> AbstractContextManager[Any]:
        from funasr.datasets.audio_datasets import samplers

        sampler = samplers.CustomDistributedBatchSampler
        original = sampler.__iter__
        return mock.patch.object(sampler, "__iter__", lambda self: iter(change(self, list(original(self)))))

    return plant


def _item(change: Callable[[Any, int, dict[str, Any], Callable[..., Any]], dict[str, Any]]) -> Plant:
    """The dataset's items, changed."""

    def plant(_scene: Any) -> AbstractContextManager[Any]:
        from funasr.datasets.audio_datasets import datasets

        original = datasets.AudioDataset.__getitem__
        return mock.patch.object(
            datasets.AudioDataset,
            "__getitem__",
            lambda self, index: change(self, index, original(self, index), original),
        )

    return plant


def _text_of_the_next(dataset: Any, index: int, item: Mapping[str, Any], original: Any) -> dict[str, Any]:
    other = original(dataset, (index + 1) % len(dataset))
    return {**item, "text": other["text"], "text_lengths": other["text_lengths"]}


def _one_frame_less(_dataset: Any, _index: int, item: Mapping[str, Any], _original: Any) -> dict[str, Any]:
    return {**item, "speech": item["speech"][:-1], "speech_lengths": item["speech_lengths"] - 1}


def _quieter(_dataset: Any, _index: int, item: Mapping[str, Any], _original: Any) -> dict[str, Any]:
    return {**item, "speech": item["speech"] * 0.5}


@contextlib.contextmanager
def _without_cmvn(context: Any) -> Iterator[None]:
    frontend = context.trainer._given["frontend"]
    with mock.patch.multiple(frontend, cmvn_file=None, cmvn=None):
        yield


def _all_unknown(_scene: Any) -> AbstractContextManager[Any]:
    from funasr.tokenizer.char_tokenizer import CharTokenizer

    return mock.patch.object(CharTokenizer, "tokens2ids", lambda self, tokens: [self.unk_id for _ in tokens])


def _padded_with_one(_scene: Any) -> AbstractContextManager[Any]:
    from funasr.datasets.audio_datasets import datasets

    original = datasets.AudioDataset.collator

    def collator(self: Any, samples: Any = None) -> Any:
        self.float_pad_value = 1.0
        return original(self, samples)

    return mock.patch.object(datasets.AudioDataset, "collator", collator)


def _rows_filtered(keep: Callable[[Mapping[str, Any]], bool]) -> Plant:
    def plant(_scene: Any) -> AbstractContextManager[Any]:
        from funasr.datasets.audio_datasets import index_ds

        original = index_ds.IndexDSJsonlRankFull.__init__

        def init(self: Any, *args: Any, **kwargs: Any) -> None:
            original(self, *args, **kwargs)
            self.contents = [row for row in self.contents if keep(row)]

        return mock.patch.object(index_ds.IndexDSJsonlRankFull, "__init__", init)

    return plant


def _epoch_is_not_told(_scene: Any) -> AbstractContextManager[Any]:
    from funasr.datasets.audio_datasets import samplers

    return mock.patch.object(samplers.CustomDistributedBatchSampler, "set_epoch")


def _another_file(context: Any) -> AbstractContextManager[Any]:
    from funasr.datasets.audio_datasets import datasets

    original = datasets.load_audio_text_image_video
    stand_in = context.plain[2].source

    def load(source: str, **kwargs: Any) -> Any:
        return original(source if Path(source).exists() else stand_in, **kwargs)

    return mock.patch.object(datasets, "load_audio_text_image_video", load)


def _longer_batches(_scene: Any) -> AbstractContextManager[Any]:
    from funasr.datasets.audio_datasets import samplers

    sampler = samplers.CustomDistributedBufferDynamicBatchSampler
    original = sampler.__init__

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self.batch_size *= 3

    return mock.patch.object(sampler, "__init__", init)


FAULTS: Mapping[str, Fault] = {
    "the last batch is dropped": Fault(epochs.check_epochs, "once", _batches(lambda _, batches: batches[:-1])),
    "a batch comes twice": Fault(epochs.check_epochs, "once", _batches(lambda _, batches: [*batches, batches[0]])),
    "a batch is empty": Fault(epochs.check_epochs, "once", _batches(lambda _, batches: [[], *batches])),
    "a batch is missing and the count is not": Fault(
        epochs.check_epochs, "steps", _batches(lambda sampler, batches: batches[: -1 if sampler.shuffle else None])
    ),
    "every epoch has the same order": Fault(epochs.check_epochs, "shuffle", _epoch_is_not_told),
    "validation keeps an utterance back": Fault(
        epochs.check_epochs,
        "validation",
        _batches(lambda sampler, batches: batches if sampler.is_training else [batches[0]]),
    ),
    "the last rank has a batch less": Fault(
        batch_sizes.check_batch_sizes,
        "ranks",
        _batches(lambda sampler, batches: batches[: -1 if sampler.rank else None]),
    ),
    "batches by frames are three times too large": Fault(
        batch_sizes.check_batch_sizes, "batches_sorted", _longer_batches
    ),
    "every token is unknown": Fault(contents.check_contents, "text_plain", _all_unknown),
    "the text is that of the next row": Fault(contents.check_contents, "text_plain", _item(_text_of_the_next)),
    "a frame is cut off": Fault(contents.check_contents, "frames", _item(_one_frame_less)),
    "the features are halved": Fault(contents.check_contents, "features", _item(_quieter)),
    "am.mvn is not applied": Fault(contents.check_contents, "cmvn", _without_cmvn),
    "padding is not silence": Fault(contents.check_contents, "padding", _padded_with_one),
    "a row is left out": Fault(
        contents.check_contents, "rows_read", _rows_filtered(lambda row: row["source_len"] != 33)
    ),
    "long utterances are left out": Fault(
        limits.check_limits, "long_within_limit", _rows_filtered(lambda row: row["source_len"] < 1000)
    ),
    "another file stands in for one that is missing": Fault(rows.check_rows, "path_missing", _another_file),
}
