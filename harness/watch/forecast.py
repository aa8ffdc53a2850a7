"""What is to come in a training, computed from what was recorded of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """One forecast, as a line of the display and the report shows it."""

    label: str
    """Of what: `this epoch`, `the card`, `the disk`."""
    value: str
    """With its unit: `ends at 14:05`, `full in about 1,200 steps`."""
    detail: str = ""
    """What it rests on, in a few words."""
