"""Two clocks for the borders within a training step: the processor's, and that of the GPU's own work.

A processor only hands work to a GPU and goes on, so its clock says when work was ordered, not when it was done. An
event is put among the work and gets its time when the GPU comes to it; it is read after the training, and nobody waits.
"""

from __future__ import annotations

import time
from typing import Any, Protocol


class Clock(Protocol):
    """Marks moments, and tells afterwards how far they are apart."""

    name: str
    """As the outcome gives it."""

    def mark(self, at: float | None = None) -> Any:
        """This moment; `at` is what `time.perf_counter` said of it, where somebody asked before."""

    def settle(self) -> bool:
        """Whether all marks can be read now; called once, after the training."""

    def seconds(self, begin: Any, end: Any) -> float:
        """From one mark to a later one."""


class HostClock:
    """`time.perf_counter`: for work that is done when the call returns."""

    name = "perf_counter"

    def mark(self, at: float | None = None) -> float:
        return time.perf_counter() if at is None else at

    def settle(self) -> bool:
        return True

    def seconds(self, begin: float, end: float) -> float:
        return end - begin


class StreamClock:
    """Events in the GPU's current stream (`torch.cuda.Event`), which has them in milliseconds."""

    name = "CUDA events"

    def __init__(self, cuda: Any) -> None:
        self._cuda = cuda

    def mark(self, at: float | None = None) -> Any:  # noqa: ARG002 - the processor's time is not the GPU's
        event = self._cuda.Event(enable_timing=True)
        event.record()
        return event

    def settle(self) -> bool:
        try:
            self._cuda.synchronize()
        except Exception:  # a GPU that has come to grief answers nothing any more
            return False
        return True

    def seconds(self, begin: Any, end: Any) -> float:
        return float(begin.elapsed_time(end)) * 1e-3
