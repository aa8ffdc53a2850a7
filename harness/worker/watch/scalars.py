"""Numbers in tensors, read without waiting for a GPU.

On a CPU a number is read at once. On a GPU it is copied to page-locked memory in the stream's own order; an event after
it tells when it is there.
"""

from __future__ import annotations

from typing import Any

_MOST_SLOTS = 8192


class Slot:
    """A number that is on its way from a GPU."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number


class ScalarCopies:
    """Copies of numbers on a GPU."""

    def __init__(self) -> None:
        self._buffer: Any = None
        self._free: list[int] = []

    def note(self, value: Any) -> Any:
        """A number, None, or a `Slot` that `read` turns into one."""
        if value is None or isinstance(value, (int, float)):
            return value
        if not hasattr(value, "detach"):
            try:
                return float(value)
            except (TypeError, ValueError):
                return None
        value = value.detach()
        if value.numel() == 0 or value.is_complex():
            return None
        if value.device.type == "cpu":
            return float(value) if value.numel() == 1 else float(value.double().mean())
        return self._copy(value if value.numel() == 1 else value.float().mean())

    def _copy(self, value: Any) -> Slot | None:
        import torch

        if self._buffer is None:
            self._buffer = torch.zeros(_MOST_SLOTS, dtype=torch.float32, pin_memory=value.device.type == "cuda")
            self._free = list(range(_MOST_SLOTS))
        if not self._free:
            return None
        number = self._free.pop()
        self._buffer[number].copy_(value.reshape(()), non_blocking=True)
        return Slot(number)

    def read(self, value: Any) -> Any:
        """The number, once the event after its copy is over. A slot is read once."""
        if not isinstance(value, Slot):
            return value
        self._free.append(value.number)
        return float(self._buffer[value.number])

    def discard(self, value: Any) -> Any:
        """None for a number that has not come; its place is not used again, as it may still arrive there."""
        return None if isinstance(value, Slot) else value
