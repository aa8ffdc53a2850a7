"""Where the time of a step goes: a stamp begins a phase, which lasts until the next one.

The phases of a step add up to it, from the end of the previous step to its own. On a GPU a stamp is an event in its
stream, read when the GPU has passed it; nothing waits for that.
"""

from __future__ import annotations

import time
from typing import Any, Callable, Tuple

DATA, FORWARD, BACKWARD, OPTIMIZER = "data", "forward", "backward", "optimizer"
VALIDATION, CHECKPOINT, OTHER, OBSERVERS = "validation", "checkpoint", "other", "observers"
BEFORE = "before the first step"

TimeStamp = Tuple[str, float, Any]
"""Phase, `time.perf_counter()`, and the event in a GPU's stream or None."""


class StepPhases:
    """The time stamps of the current step."""

    def __init__(self) -> None:
        self._stamps: list[TimeStamp] = []
        self._new_event: Callable[[], Any] | None = None
        self.current = BEFORE

    def begin(self, new_event: Callable[[], Any] | None) -> None:
        """Begin the first step; `new_event` makes an event with timing on a GPU."""
        self._new_event = new_event
        self._stamps = []
        self._stamp(OTHER)

    def enter(self, phase: str) -> None:
        """Begin a phase; nothing happens before the first step."""
        if self._stamps:
            self._stamp(phase)

    def end_step(self) -> list[TimeStamp]:
        """The stamps of the step; the last one is the first of the next."""
        self._stamp(OBSERVERS)
        stamps, self._stamps = self._stamps, self._stamps[-1:]
        return stamps

    def _stamp(self, phase: str) -> None:
        event = None
        if self._new_event is not None:
            event = self._new_event()
            event.record()
        self.current = phase
        self._stamps.append((phase, time.perf_counter(), event))


def seconds(stamps: list[TimeStamp], *, on_device: bool = True) -> dict[str, float]:
    """Seconds by phase; with `on_device` by the GPU's events where there are any, which must be over."""
    seconds_by_phase: dict[str, float] = {}
    for (phase, began, first), (_, ended, last) in zip(stamps, stamps[1:]):
        spent = ended - began if first is None or last is None or not on_device else first.elapsed_time(last) * 1e-3
        seconds_by_phase[phase] = seconds_by_phase.get(phase, 0.0) + spent
    return {phase: round(spent, 7) for phase, spent in seconds_by_phase.items()}
