"""In which unit a file's `source_len` is, found from the lengths of its recordings.

FunASR counts frames of 10 ms (`funasr/datasets/audio_datasets/scp2jsonl.py`), compares them with the limits of
`dataset_conf` and makes batches of them. Nothing in a release looks whether they are that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from harness.corpus.jsonl import frames_of

RELATIVE = 0.05
"""How far a stated length may be from the recording's and still be it: 5 %, and not less than `ABSOLUTE`."""

ABSOLUTE = 5.0
"""In frames of 10 ms: windows at the end are counted in several ways, and times are rounded."""

MOST_OF = 0.9
"""A file is in a unit when so large a share of its measured rows is."""


class Unit(StrEnum):
    """What a `source_len` counts; of two that fit, the first is taken."""

    FRAMES = "frames of 10 ms"
    SAMPLES = "samples"
    BYTES = "bytes"
    MILLISECONDS = "milliseconds"
    SECONDS = "seconds"
    STACKED = "stacked frames of 60 ms"


@dataclass(frozen=True, kw_only=True)
class Length:
    """A row's stated length and its recording's."""

    stated: float
    seconds: float
    """Of the recording."""
    rate: int
    """Samples a second."""
    channels: int

    @property
    def frames(self) -> int:
        """What `source_len` should be."""
        return frames_of(self.seconds * 1000)

    @property
    def unit(self) -> Unit | None:
        """The first unit in which the stated length is the recording's; None where it is in none."""
        return next((unit for unit in Unit if self.is_in(unit)), None)

    def is_in(self, unit: Unit) -> bool:
        """Whether the stated length is the recording's in this unit."""
        a_second = self._in_a_second(unit)
        tolerance = max(RELATIVE * self.seconds, ABSOLUTE / 100)
        if unit is Unit.SECONDS and self.stated == int(self.stated):
            # A whole number of them is all that is left of the fraction.
            tolerance = max(tolerance, 1.0)
        return abs(self.stated / a_second - self.seconds) <= tolerance

    def _in_a_second(self, unit: Unit) -> float:
        return {
            Unit.FRAMES: 100.0,
            Unit.SAMPLES: float(self.rate),
            Unit.BYTES: 2.0 * self.rate * self.channels,
            Unit.MILLISECONDS: 1000.0,
            Unit.SECONDS: 1.0,
            Unit.STACKED: 100 / 6,
        }[unit]


def unit_of(lengths: Sequence[Length]) -> Unit | None:
    """The unit that nearly all of these are in; None where there is no such unit, or no length."""
    fitting = Counter(unit for length in lengths for unit in Unit if length.is_in(unit))
    return next((unit for unit in Unit if lengths and fitting[unit] >= MOST_OF * len(lengths)), None)


def wrong(lengths: Iterable[tuple[int, Length]]) -> list[tuple[int, Length]]:
    """Those, each with the line that it stands in, that are not the recording's in frames of 10 ms."""
    return [(line, length) for line, length in lengths if not length.is_in(Unit.FRAMES)]
