"""What a card holds, and which batch fits it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from harness.core.errors import InputError

MARGIN = 0.10
"""Share of a card that is left free for what only a GPU can tell: its context, the libraries' workspaces, what torch's
allocator does otherwise than its published rules say. An assumption, not a measurement."""
LARGEST_BYTES = 2 << 40
_UNITS = {"GB": 10**9, "GIB": 2**30, "MB": 10**6, "MIB": 2**20}
_FORM = re.compile(r"(\d+(?:\.\d+)?)\s*(GB|GiB|MB|MiB)", re.IGNORECASE)
_MOST_UTTERANCES = 1 << 16


@dataclass(frozen=True, kw_only=True)
class GpuCard:
    """A GPU by its memory."""

    name: str
    """As the user wrote it."""
    size: int
    """Bytes; GB are 10⁹ of them, as a vendor's box says, GiB are 2³⁰."""

    @property
    def margin(self) -> int:
        """Bytes that are left free."""
        return round(self.size * MARGIN)

    @classmethod
    def parse(cls, text: str) -> GpuCard:
        """Read `24GB`, `24GiB`, `81559MiB`.

        Raises:
            InputError: it is no such size, or no card has it.
        """
        match = _FORM.fullmatch(text.strip())
        size = round(float(match[1]) * _UNITS[match[2].upper()]) if match else 0
        if not 10**9 <= size <= LARGEST_BYTES:
            raise InputError(
                f'"{text}" is no size of a GPU\'s memory',
                next_step="give a number with its unit, from 1GB to 2048GiB, such as --fit 24GB",
            )
        return cls(name=text.strip(), size=size)


def largest(fits: Callable[[int], bool], guess: int) -> int:
    """The largest number of utterances that fits, 0 when not even one does; near `guess` few are tried."""
    low, high, stride = 0, _MOST_UTTERANCES, 1
    trial = min(max(guess, 1), _MOST_UTTERANCES - 1)
    while high - low > 1:
        if fits(trial):
            low = trial
            trial = min(trial + stride, (low + high) // 2 if high < _MOST_UTTERANCES else trial + stride)
        else:
            high = trial
            trial = max(trial - stride, (low + high) // 2 if low else trial - stride)
        stride *= 2
        trial = min(max(trial, low + 1), high - 1)
    return low
