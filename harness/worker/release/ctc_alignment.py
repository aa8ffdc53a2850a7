"""The likeliest CTC path of a text, for a torchaudio that lacks the native library which it finds it with."""

from __future__ import annotations

import itertools
from typing import Any


def forced_align(log_probs: Any, targets: Any, blank: int = 0) -> tuple[Any, Any]:
    """The path of `torchaudio.functional.forced_align`, for a batch of one, by the recursion of Viterbi.

    Through the text with a blank before, between and after its tokens, each frame goes on by none, one, or two places;
    by two only over a blank between different tokens (Graves et al. 2006, section 4.1, with max in place of the sum).

    Args:
        log_probs: `[1, frames, classes]`.
        targets: Token ids `[1, tokens]`, none of them the blank.

    Returns:
        The path `[1, frames]`, and the log probability of each of its places `[1, frames]`.

    Raises:
        RuntimeError: there are too few frames for the tokens and the blanks that must stand between equal ones.
    """
    import torch

    scores, tokens = log_probs[0], [int(token) for token in targets[0]]
    if len(scores) < len(tokens) + sum(one == other for one, other in itertools.pairwise(tokens)):
        raise RuntimeError("targets length is too long for CTC")
    places = torch.full((2 * len(tokens) + 1,), blank)
    places[1::2] = torch.tensor(tokens, dtype=places.dtype)
    skips = torch.zeros(len(places), dtype=torch.bool)
    skips[2:] = (places[2:] != blank) & (places[2:] != places[:-2])
    never = torch.tensor(float("-inf"), dtype=scores.dtype)
    best = torch.full((len(places),), float("-inf"), dtype=scores.dtype)
    best[:2] = scores[0, places[:2]]
    came = []
    for frame in scores[1:]:
        by_one = torch.cat([never[None], best[:-1]])
        by_two = torch.where(skips, torch.cat([never.expand(2), best])[: len(best)], never)
        best, steps = torch.stack([best, by_one, by_two]).max(dim=0)
        best = best + frame[places]
        came.append(steps)
    place = len(places) - 1
    if len(places) > 1 and best[-2] > best[-1]:
        place -= 1
    path = [place]
    for steps in reversed(came):
        place -= int(steps[place])
        path.append(place)
    found = places[path[::-1]]
    return found[None].to(targets.dtype), scores[torch.arange(len(scores)), found][None]
