"""How busy the GPU was, as NVML says: the share of its last sampling period in which some kernel ran on it.

That period is a sixth of a second to a second long (nvmlDeviceGetUtilizationRates in NVML's API reference), so asking
oftener tells nothing new. It is the device's: another process on it makes it busy as well, see `clean_at_start`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from harness.worker.trainer import gpu_use

NO_GPU = "not measured on a GPU"
WITHHELD = "NVML does not tell how busy the device is: a partition of one, or no permission"
TOO_SHORT = "the training was over before the first look"

PERIOD_SECONDS = 0.5
WARM_UP_SAMPLES = 4
"""Steps after which the first look is taken, as in the times: those before are no steps of the usual kind."""


@dataclass
class Utilisation:
    """Asked after each optimizer step, it looks from time to time."""

    cuda: Any
    nvml: Any | None
    told: str = TOO_SHORT
    _seen: list[int] = field(default_factory=list)
    """In percent, as NVML has it."""
    _steps: int = 0
    _last: float = float("-inf")
    _handle: Any = None

    def sample(self) -> None:
        """Look, if the last time is long enough ago."""
        self._steps += 1
        now = time.perf_counter()
        if self._steps <= WARM_UP_SAMPLES or now - self._last < PERIOD_SECONDS or self.told == WITHHELD:
            return
        self._last = now
        self.told, percent = self._ask()
        if percent is not None:
            self._seen.append(percent)

    def _ask(self) -> tuple[str, int | None]:
        if self.nvml is None:
            return gpu_use.NO_NVML, None
        if self._handle is None:
            kind, self._handle = gpu_use.handle(self.cuda, self.nvml)
            if kind is None:
                return gpu_use.NO_DEVICE, None
        try:
            return gpu_use.MEASURED, int(self.nvml.nvmlDeviceGetUtilizationRates(self._handle).gpu)
        except Exception:  # NVML's errors are of many classes; each means that it cannot be had
            return WITHHELD, None

    def figures(self) -> dict[str, Any]:
        """`mean` from 0 to 1 or None, the number of `samples`, and what is `told` of them."""
        seen = self._seen
        mean = sum(seen) / len(seen) / 100 if seen else None
        return {"mean": mean, "samples": len(seen), "told": gpu_use.MEASURED if seen else self.told}
