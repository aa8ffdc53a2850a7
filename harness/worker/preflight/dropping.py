"""Rows that a dataset replaces by others or cuts off, measured with its own code on silent features of the right size.

`SenseVoiceDataset` reads a row up to `retry` times, each time but the first another one that it draws at random, and
its collator halves a batch that is too large. Audio is opened by nobody: the features are as long as the recording's
would be, and hold the row's number.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from harness.worker.preflight import text_tokens
from harness.worker.preflight.loaders import Pass
from harness.worker.preflight.row_numbers import KeptRows

MOST_ROWS = 4_000
"""Rows of the first epoch that are read so."""

_FRAMES_OF_10_MS = 6
_LOAD, _FEATURES = "load_audio_text_image_video", "extract_fbank"


def measure(
    request: Mapping[str, Any], passes: Sequence[Pass], kept_rows_of: Callable[[Any], KeptRows]
) -> dict[str, Any]:
    """`dropping`: what becomes of the rows of the first epoch's first batches; nothing for datasets that drop none."""
    if not passes or not hasattr(passes[0].dataset, "retry"):
        return {}
    dataset = passes[0].dataset
    numbers = kept_rows_of(dataset).numbers
    module = sys.modules[type(dataset).__module__]
    if numbers is None or not all(hasattr(module, name) for name in (_LOAD, _FEATURES)):
        return {}
    counts = {"rows": 0, "batches": 0, "replaced": 0, "cut": 0, "dummies": 0}
    lost: dict[int, None] = {}
    tokenizer = text_tokens.tokenizer_of(request["config"])
    with _silent(dataset, module, _frames(request, numbers), tokenizer) as consulted:
        for batch in passes[0].batches:
            if counts["rows"] >= MOST_ROWS:
                break
            _read(dataset, batch, consulted, counts, lost)
    return {"dropping": {**counts, "lost": [numbers[place] for place in lost], "with_tokenizer": tokenizer is not None}}


def _frames(request: Mapping[str, Any], numbers: Sequence[int]) -> list[int]:
    """Stacked frames of each row; 0 for audio that cannot be read."""
    stacked = request.get("stacked_frames")
    return [int(stacked[number]) if stacked else _FRAMES_OF_10_MS for number in numbers]


@contextmanager
def _silent(dataset: Any, module: Any, frames: Sequence[int], tokenizer: Any) -> Iterator[list[int]]:
    """Replace what opens audio; gives the list to which every row that is looked at is added."""
    import logging

    import torch

    consulted: list[int] = []
    index = dataset.index_ds
    look_up = type(index).__getitem__

    def noted(self: Any, number: Any) -> Any:
        consulted.append(int(number))
        return look_up(self, number)

    def load(*_args: Any, **_kwargs: Any) -> int:
        place = consulted[-1]
        if not frames[place]:
            raise FileNotFoundError("the recording cannot be read")
        return place

    def features(place: int, **_kwargs: Any) -> tuple[Any, Any]:
        size = frames[place]
        return torch.full((1, size, 1), float(place)), torch.tensor([size], dtype=torch.int32)

    before = {name: getattr(module, name) for name in (_LOAD, _FEATURES)}
    state = {name: getattr(dataset, name, None) for name in ("preprocessor_speech", "tokenizer")}
    level = logging.root.manager.disable
    try:
        logging.disable(logging.CRITICAL)
        type(index).__getitem__ = noted
        setattr(module, _LOAD, load)
        setattr(module, _FEATURES, features)
        dataset.preprocessor_speech = None
        dataset.tokenizer = tokenizer or _Characters()
        yield consulted
    finally:
        logging.disable(level)
        type(index).__getitem__ = look_up
        for name, value in before.items():
            setattr(module, name, value)
        for name, value in state.items():
            setattr(dataset, name, value)


def _read(
    dataset: Any, batch: Sequence[int], consulted: list[int], counts: dict[str, int], lost: dict[int, None]
) -> None:
    samples, arrived = [], []
    for place in batch:
        consulted.clear()
        sample = dataset[place]
        samples.append(sample)
        if sample is not None:
            arrived.append(consulted[-1])
            counts["replaced"] += consulted[-1] != place
    counts["rows"] += len(batch)
    counts["batches"] += 1
    outputs = dataset.collator(samples)
    if not arrived:
        counts["dummies"] += 1
        lost.update(dict.fromkeys(batch))
        return
    left = {int(number) for number in outputs["speech"][:, 0, 0].tolist()}
    counts["cut"] += len(arrived) - len(outputs["speech"])
    lost.update(dict.fromkeys(place for place in batch if place not in left))


class _Characters:
    """Stands in for a tokenizer that cannot be built: a token for each character."""

    def encode(self, text: str, **_kwargs: Any) -> list[int]:
        return [0] * len(text)
