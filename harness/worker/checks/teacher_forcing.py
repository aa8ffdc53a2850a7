"""Does a decoder that is shown the tokens before each (teacher forcing) see the token itself?

Its scores for a token are to depend on the tokens before it. One that sees the token brings its loss down by copying,
learns nothing about speech, and says nothing sensible once no text is given. Two forward passes in evaluation mode
differ in the last token of each text alone: whatever the decoder puts out for that token and for those before it has to
be the same.

Paraformers are left out: their decoder's first pass is shown no tokens, and of their second the loss leaves out those
that it was shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TOLERANCE = 1e-4
"""Relative to the largest score. The two passes have the same shapes, so that sound decoders differ by nothing."""

CODE = "decoder-sees-its-token"


def difference(network: Any, batch: Mapping[str, Any], vocab_size: int) -> float | None:
    """How far the scores for the last token and those before move with that token, relative to the largest score.

    None where the model has no such decoder, or where its forward pass cannot be made in evaluation mode.
    """
    import torch

    decoder = getattr(network, "decoder", None)
    if not isinstance(decoder, torch.nn.Module) or callable(getattr(network, "sampler", None)):
        return None
    text, lengths = batch["text"], batch["text_lengths"].reshape(-1).tolist()
    changed = text.clone()
    for row, length in enumerate(lengths):
        changed[row, length - 1] = _another(int(text[row, length - 1]), vocab_size)
    scores = [_scores(network, decoder, {**batch, "text": one}) for one in (text, changed)]
    # With the begin of sentence before the text there is one place more than tokens.
    if any(one is None or one.ndim != 3 or one.shape[1] != max(lengths) + 1 for one in scores):
        return None
    first, second = scores
    apart = max(float((first[row, :length] - second[row, :length]).abs().max()) for row, length in enumerate(lengths))
    return apart / max(float(first.abs().max()), 1e-12)


def _scores(network: Any, decoder: Any, batch: Mapping[str, Any]) -> Any:
    """What the decoder puts out when it is called first; None where it is not reached."""
    import torch

    seen: list[Any] = []

    def decoded(_module: Any, _args: Any, output: Any) -> None:
        seen.append((output[0] if isinstance(output, tuple) else output).detach())

    handle, was = decoder.register_forward_hook(decoded), network.training
    try:
        network.eval()
        with torch.no_grad():
            network(**batch)
    except Exception:
        # What comes after the decoder is another matter: some releases cannot evaluate.
        return seen[0] if seen else None
    finally:
        handle.remove()
        network.train(was)
    return seen[0] if seen else None


def _another(token: int, vocab_size: int) -> int:
    """An ordinary token that is not this one."""
    return vocab_size // 2 if token != vocab_size // 2 else vocab_size // 2 - 1
