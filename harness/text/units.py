"""Numbers with units and loss curves as text; the raw figures stay in `outcomes.jsonl`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TypeGuard

UNKNOWN = "–"
"""Shown where a number could not be had: never a made-up one."""


def finite(values: Iterable[float | None]) -> tuple[float, ...]:
    """Those of `values` that can be drawn and averaged."""
    return tuple(value for value in values if value is not None and math.isfinite(value))


def loss(value: float | None) -> str:
    """A loss to five significant digits."""
    if value is None:
        return UNKNOWN
    return f"{value:#.5g}" if math.isfinite(value) else str(value)


def duration(seconds: float | None) -> str:
    """`12 ms`, `3.4 s`, `2 min 05 s`, `1 h 02 min`."""
    if seconds is None or not math.isfinite(seconds):
        return UNKNOWN
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms" if seconds < 0.9995 else "1.0 s"
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    minutes, remaining_seconds = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {remaining_seconds:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def memory(size: float | None) -> str:
    """Bytes as `512 MiB`."""
    if size is None or not math.isfinite(size):
        return UNKNOWN
    return f"{size / 2**20:,.0f} MiB"


def count(value: float | None) -> str:
    """`12,345,678`."""
    return UNKNOWN if value is None or not math.isfinite(value) else f"{value:,.0f}"


def rate(value: float | None) -> str:
    """Something per second, to three significant digits."""
    return UNKNOWN if value is None or not math.isfinite(value) else f"{value:.3g}"


def share(value: float | None) -> str:
    """A relative change as `1.2 %`; a change too small for that is not shown as none."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    return "0" if value == 0 else f"{value * 100:.2g} %"


def percent(value: float | None) -> str:
    """A rate as `12.5 %`."""
    return UNKNOWN if value is None or not math.isfinite(value) else f"{100 * value:.1f} %"


def plural(amount: int, thing: str) -> str:
    """`1 cell`, `2 cells`."""
    return f"{amount:,} {thing}{'' if amount == 1 else 's'}"


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
