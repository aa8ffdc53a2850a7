"""Batches as FunASR's collators make them, with the further inputs that some architectures take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

FRAMES = (40, 33, 28, 21)
"""Stacked (LFR) frames of each utterance in the contract's batch, 60 ms each."""
TOKENS = (8, 7, 5, 3)
"""Tokens of each utterance: as dense as everyday Mandarin."""
PADDING = -1
"""The padding of FunASR's collator for token ids (`int_pad_value` of its `AudioDataset`)."""
SHORTEST_HOTWORD = 2
"""`hotword_min_length` of FunASR's `AudioDatasetHotword`."""

_STACKED_SECONDS = 0.06
_SPECIAL = 3
"""Blank, start and end of sentence are the first ids."""


def make_batch(
    input_size: int, vocab_size: int, seed: int, device: str, batch_options: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Features `[batch, frames, input]`, token ids `[batch, tokens]` padded with -1, lengths `[batch, 1]`.

    The first and the last id of the vocabulary are among the tokens, so that a loss that cannot take one of them
    raises. For a CTC loss the first id is the blank, which no text contains; there the first token is the first after
    the special ones.

    Args:
        wanted: `frame_seconds` of the model's frames, default 0.06 (shorter ones are more); further `inputs`;
            `labels_before_text`, the ids that may be at each position before the text; `no_hotword`; `ctc`; `frames`
            and `tokens` of each utterance instead of `FRAMES` and `TOKENS`.
    """
    import torch

    batch_options = batch_options or {}
    stretch = round(_STACKED_SECONDS / batch_options.get("frame_seconds", _STACKED_SECONDS))
    frames = [count * stretch for count in batch_options.get("frames", FRAMES)]
    counts = batch_options.get("tokens", TOKENS)
    generator = torch.Generator().manual_seed(seed)
    speech = torch.randn(len(frames), max(frames), input_size, generator=generator)
    text = torch.randint(_SPECIAL, vocab_size - 1, (len(counts), max(counts)), generator=generator)
    text[0, 0], text[0, 1] = _SPECIAL if batch_options.get("ctc") else 0, vocab_size - 1
    for row, (length, tokens) in enumerate(zip(frames, counts, strict=True)):
        speech[row, length:] = 0.0
        text[row, tokens:] = PADDING
    labels = batch_options.get("labels_before_text", ())
    batch = {
        "speech": speech,
        "speech_lengths": torch.tensor(frames, dtype=torch.int32).unsqueeze(1),
        "text": torch.cat([_labels(labels, len(counts)), text], dim=1) if labels else text,
        "text_lengths": torch.tensor([len(labels) + tokens for tokens in counts], dtype=torch.int32).unsqueeze(1),
    }
    if "hotword_pad" in batch_options.get("inputs", ()):
        batch |= _hotwords(text, counts, batch_options.get("no_hotword"))
    return {name: tensor.to(device) for name, tensor in batch.items()}


def _labels(places: Sequence[Sequence[int]], rows: int) -> Any:
    """`[batch, positions]`: each utterance has the next of the ids that a position may have."""
    import torch

    return torch.tensor([[ids[row % len(ids)] for ids in places] for row in range(rows)])


def _hotwords(text: Any, counts: Sequence[int], no_hotword: int | None) -> dict[str, Any]:
    """Hotwords in the form of FunASR's `AudioDatasetHotword`: pieces of the texts, and a final one that is none.

    `hotword_pad` `[hotwords, tokens]` is padded with 0, `hotword_lengths` is `[hotwords]`. If there is a label for
    tokens outside hotwords (`no_hotword`), `seaco_label_pad` `[batch, tokens]` has it at each such token, the hotwords'
    own tokens at theirs, and -1 beyond the text.
    """
    import torch

    words, lengths = [], []
    labels = torch.where(text == PADDING, PADDING, 0 if no_hotword is None else no_hotword)
    for row, tokens in enumerate(counts):
        # every second utterance has a hotword, of several lengths
        length = min(SHORTEST_HOTWORD + row, tokens)
        if row % 2 == 0:
            words.append(text[row, :length])
            lengths.append(length)
            labels[row, :length] = text[row, :length]
    words.append(torch.tensor([1]))
    lengths.append(1)
    hotwords = {
        "hotword_pad": torch.nn.utils.rnn.pad_sequence(words, batch_first=True, padding_value=0),
        "hotword_lengths": torch.tensor(lengths, dtype=torch.int32),
    }
    return hotwords if no_hotword is None else {**hotwords, "seaco_label_pad": labels}
