"""Does a decoder with teacher forcing see the token that it has to predict?

Its scores for a token should depend on the previous tokens only. A decoder that sees the token lowers its loss by
copying, learns nothing about speech, and fails once no text is given. Two forward passes in evaluation mode differ only
in the last token of each text: the decoder's outputs for that token and for those before it must be equal.

Paraformers are excluded: their decoder's first pass receives no tokens, and the loss of the second leaves out the
tokens that it received.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TOLERANCE = 1e-4
"""Relative to the largest score. The two passes have equal shapes, so sound decoders do not differ at all."""

CODE = "decoder-sees-its-token"


def difference(network: Any, batch: Mapping[str, Any], vocab_size: int) -> float | None:
    """The largest change of scores up to the last token when that token changes, relative to the largest score.

    None if the model has no such decoder, or if its forward pass fails in evaluation mode.
    """
    import torch

    decoder = getattr(network, "decoder", None)
    if not isinstance(decoder, torch.nn.Module) or callable(getattr(network, "sampler", None)):
        return None
    text, lengths = batch["text"], batch["text_lengths"].reshape(-1).tolist()
    changed = text.clone()
    for row, length in enumerate(lengths):
        changed[row, length - 1] = _another(int(text[row, length - 1]), vocab_size)
    scores = [_scores(network, decoder, {**batch, "text": ids}) for ids in (text, changed)]
    # With the start of sentence there is one position more than tokens.
    if any(score is None or score.ndim != 3 or score.shape[1] != max(lengths) + 1 for score in scores):
        return None
    first, second = scores
    change = max(float((first[row, :length] - second[row, :length]).abs().max()) for row, length in enumerate(lengths))
    return change / max(float(first.abs().max()), 1e-12)


def _scores(network: Any, decoder: Any, batch: Mapping[str, Any]) -> Any:
    """The output of the decoder's first call, `[batch, length, vocab]`; None if it is not called."""
    import torch

    outputs: list[Any] = []

    def decoded(_module: Any, _args: Any, output: Any) -> None:
        outputs.append((output[0] if isinstance(output, tuple) else output).detach())

    handle, was_training = decoder.register_forward_hook(decoded), network.training
    try:
        network.eval()
        with torch.no_grad():
            network(**batch)
    except Exception:
        # Exceptions after the decoder do not matter here: some releases cannot evaluate.
        return outputs[0] if outputs else None
    finally:
        handle.remove()
        network.train(was_training)
    return outputs[0] if outputs else None


def _another(token: int, vocab_size: int) -> int:
    """An ordinary token other than this one."""
    return vocab_size // 2 if token != vocab_size // 2 else vocab_size // 2 - 1
