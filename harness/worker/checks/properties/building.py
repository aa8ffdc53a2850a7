"""From an example to the model and the batch that it tells of."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.worker.checks.properties.drawing import PADDING, Example
from harness.worker.release import model

INPUTS = ("speech", "speech_lengths", "text", "text_lengths")


def build(example: Example, *, double: bool = False) -> Any:
    """The model, in training mode, from the class that `AutoModel` would take and with what it would hand over.

    In double precision, two computations that are equal on paper differ by less than what any fault changes.
    """
    from funasr.register import tables

    config = copy.deepcopy(dict(example.config))
    conf = config.pop("model_conf")
    model.seed_everything(example.seed)
    network = tables.model_classes[config.pop("model")](**config, **conf)
    return network.double().train() if double else network.train()


def make_batch(example: Example, *, double: bool = False) -> dict[str, Any]:
    """A batch as FunASR's collator makes them: zeros after the features, -1 after the token ids, lengths `[batch, 1]`.

    Blank is no token of a text; the ids that no text has, start and end of sentence, are among the others.
    """
    import torch

    generator = torch.Generator().manual_seed(example.seed)
    rows, longest = len(example.frames), max(example.frames)
    speech = torch.randn(rows, longest, example.config["input_size"], generator=generator)
    text = torch.randint(1, example.vocab_size, (rows, max(example.tokens)), generator=generator)
    for row, (frames, tokens) in enumerate(zip(example.frames, example.tokens, strict=True)):
        speech[row, frames:] = 0.0
        text[row, tokens:] = PADDING
    # The last id of the vocabulary is the one that a loss of one class less cannot take.
    text[0, 0] = example.vocab_size - 1
    return {
        "speech": speech.double() if double else speech,
        "speech_lengths": torch.tensor(example.frames, dtype=torch.int32).unsqueeze(1),
        "text": text,
        "text_lengths": torch.tensor(example.tokens, dtype=torch.int32).unsqueeze(1),
    }


def batches(example: Example, count: int, *, double: bool = False) -> Iterator[dict[str, Any]]:
    """Several batches of the example's lengths, for what depends on the rounding of their features' sums."""
    for number in range(count):
        yield make_batch(replace(example, seed=example.seed + number), double=double)


def select(batch: Mapping[str, Any], rows: Sequence[int]) -> dict[str, Any]:
    """These utterances alone, in this order, padded as the collator would pad them."""
    chosen = {name: tensor[list(rows)] for name, tensor in batch.items()}
    chosen["speech"] = chosen["speech"][:, : int(chosen["speech_lengths"].max())]
    chosen["text"] = chosen["text"][:, : int(chosen["text_lengths"].max())]
    return chosen


def fill_padding(batch: Mapping[str, Any], value: float, seed: int) -> dict[str, Any]:
    """The same batch with something else than zeros in the frames after each utterance's end."""
    import torch

    filled = dict(batch)
    speech = batch["speech"].clone()
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(speech.shape, generator=generator).to(speech.dtype)
    for row, frames in enumerate(batch["speech_lengths"][:, 0].tolist()):
        speech[row, frames:] = value * (1.0 + noise[row, frames:])
    filled["speech"] = speech
    return filled
