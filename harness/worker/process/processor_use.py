"""How much of a processor some processes got, and how long they waited for one.

It separates a cell that hangs from one that a busy machine kept waiting: a sleeping thread waits for no processor.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from harness.core import processes

LOOK_SECONDS = 1.0
"""Between two looks at the threads; what a thread that ends did since the last one is not known."""
_NANOSECONDS = 1e9


@dataclass(kw_only=True)
class ProcessorUse:
    """Of all threads that were seen, those that have ended too."""

    _seen: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    """By process and thread, nanoseconds that it ran and waited."""
    _before: tuple[int, int] = (0, 0)
    next_look: float = 0.0
    """On the monotonic clock."""

    @classmethod
    def from_now(cls, pids: Iterable[int]) -> ProcessorUse:
        """Of processes that run already: what they did before does not count."""
        use = cls()
        use.look(pids)
        use._before = use._totals()
        return use

    def look(self, pids: Iterable[int]) -> None:
        """Note what the threads of these processes have used until now."""
        self.next_look = time.monotonic() + LOOK_SECONDS
        for pid in pids:
            for thread, times in processes.processor_times(pid).items():
                self._seen[pid, thread] = times

    @property
    def ran_seconds(self) -> float:
        """All threads together."""
        return round((self._totals()[0] - self._before[0]) / _NANOSECONDS, 3)

    @property
    def waited_seconds(self) -> float:
        """In which a thread could have run and no processor was free for it; all threads together."""
        return round((self._totals()[1] - self._before[1]) / _NANOSECONDS, 3)

    def _totals(self) -> tuple[int, int]:
        times_of_threads = self._seen.values()
        return sum(ran for ran, _ in times_of_threads), sum(waited for _, waited in times_of_threads)
