"""Several GPUs: which of them a process of the tree sees."""

from __future__ import annotations

import os

VISIBLE = "CUDA_VISIBLE_DEVICES"
"""What CUDA reads when a process first asks for a device; the first one named is the process's device 0."""


class Devices:
    """The GPUs of a run, each lent to one process at a time.

    With one GPU nothing is set: its processes see what the user's own would.
    """

    def __init__(self, count: int) -> None:
        named = [name.strip() for name in os.environ.get(VISIBLE, "").split(",") if name.strip()]
        self._several = count > 1
        # By the user's own names where there are any, such as UUIDs; torch counts devices in that order.
        self._all = (named or [str(index) for index in range(count)])[:count]
        self._free = self._all

    def take(self, count: int) -> tuple[str, ...] | None:
        """Lend so many, none where none are asked for; None while there are not enough."""
        if count > len(self._free):
            return None
        taken, self._free = tuple(self._free[:count]), self._free[count:]
        return taken

    def give_back(self, devices: tuple[str, ...]) -> None:
        """Take devices back from a process that has ended."""
        self._free = [device for device in self._all if device in (*self._free, *devices)]

    def show(self, devices: tuple[str, ...]) -> None:
        """Have this process, which has asked for no device yet, see these alone."""
        if self._several and devices:
            os.environ[VISIBLE] = ",".join(devices)
