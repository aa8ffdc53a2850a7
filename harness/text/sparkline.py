"""A curve as a line of block characters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeGuard

_BARS = "▁▂▃▄▅▆▇█"
_HIGHEST = 1e300


def bars(losses: Sequence[float | None]) -> str:
    """The curve as block characters, for Markdown; a loss that is not finite is `×`."""
    known = [loss for loss in losses if is_drawable(loss)]
    if not known:
        return "×" * len(losses)
    low, span = min(known), (max(known) - min(known)) or 1.0
    return "".join(
        _BARS[round((loss - low) / span * (len(_BARS) - 1))] if is_drawable(loss) else "×" for loss in losses
    )


def is_drawable(loss: float | None) -> TypeGuard[float]:
    """Whether a chart can show the loss: it is finite, and so are differences of such."""
    return loss is not None and math.isfinite(loss) and abs(loss) < _HIGHEST
