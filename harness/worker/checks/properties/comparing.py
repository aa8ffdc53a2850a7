"""When two computations count as the same.

Figures that are equal on paper differ by rounding, because sums are taken in another order. The comparisons below are
made in double precision, where that is some 1e-15 of them; but parts of some releases' predictors stay in single
precision (`cif` adds up in float32, `cif_v1` rounds its sums to it), which leaves some 1e-7 for each token.
`TOLERANCE` is a hundred times more. What a fault does (a frame of padding that counts, a frame of the future that is
seen) changes the figures by about as much as the frame is worth in them, a hundredth and more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from harness.worker.checks.properties.running import ForwardPass, Undecided, Violation

TOLERANCE = 1e-5
"""Of the figure itself or of 1, whichever is more."""


def same(what: str, one: float | None, other: float | None, *, tolerance: float = TOLERANCE) -> None:
    """Hold two figures against each other; two that are missing are the same.

    Raises:
        Violation: they differ by more than the tolerance, or only one is there, or one is not finite.
    """
    if one is None and other is None:
        return
    if one is None or other is None:
        raise Violation(f"{what}: {one} and {other}")
    if not (math.isfinite(one) and math.isfinite(other)):
        raise Violation(f"{what}: {one:.9g} and {other:.9g}, not finite")
    if abs(one - other) > tolerance * max(1.0, abs(one), abs(other)):
        raise Violation(f"{what}: {one:.9g} and {other:.9g}, {abs(one - other):.3g} apart")


def same_gradients(what: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    """Hold the gradients of all parameters against each other, relative to the largest of them.

    Raises:
        Violation: naming the parameter whose gradients are furthest apart.
    """
    if one.keys() != other.keys():
        names = sorted(one.keys() ^ other.keys())
        raise Violation(f"{what}: only one of the two has a gradient of {', '.join(names[:4])}")
    size = max((float(gradient.abs().max()) for gradient in one.values() if gradient.numel()), default=0.0)
    worst, distance = "", 0.0
    for name, gradient in one.items():
        if not bool(gradient.isfinite().all() and other[name].isfinite().all()):
            raise Violation(f"{what}: the gradient of {name} is not finite")
        apart = float((gradient - other[name]).abs().max()) if gradient.numel() else 0.0
        if apart > distance:
            worst, distance = name, apart
    # A gradient adds up many products, so its rounding is relative to the largest one and not to its own size.
    if distance > TOLERANCE * max(1.0, size):
        raise Violation(
            f"{what}: the gradients of {worst} are {distance:.3g} apart, the largest gradient is {size:.3g}"
        )


def same_edges(one: ForwardPass, other: ForwardPass, pairs: Sequence[tuple[int, int]], targets: Sequence[int]) -> None:
    """Give up where rounding decided about an utterance's last token, in one of the two otherwise than in the other.

    The weights of an utterance add up to the number of its tokens, and the last token is there when the sum reaches
    that number: a matter of the last bit. `predictor_fires` and `every_token_sees_frames` tell of that by themselves;
    here it would pass for whatever else is asked.

    Args:
        pairs: Which utterance of the one is which of the other.
        targets: Tokens of each utterance of the one.

    Raises:
        Undecided: the last token of an utterance was found, or sees frames, in one of the passes only.
    """
    for here, there in pairs:
        last = targets[here] - 1
        if _edge(one, here, last) != _edge(other, there, last):
            raise Undecided


def _edge(seen: ForwardPass, row: int, last: int) -> tuple[bool, ...]:
    found: list[bool] = []
    if seen.seen.predictor is not None:
        embeddings = seen.seen.predictor[0]
        if last >= embeddings.shape[1]:
            raise Undecided
        found.append(bool((embeddings[row, last] != 0).any()))
    for args, kwargs in seen.seen.decoder:
        mask = args[4] if len(args) > 4 else kwargs.get("chunk_mask")
        if mask is not None:
            found.extend((mask[row, last] != 0).tolist() if last < mask.shape[1] else [False])
    # Masks of batches of other lengths end in zeros.
    while found and not found[-1]:
        found.pop()
    return tuple(found)
