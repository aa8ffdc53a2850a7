"""The memory of all GPUs as NVML says it, read in the watching process: the training is not asked."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from harness.watch.records import CardSample


@dataclass
class Cards:
    """NVML, and why there is nothing to read where it cannot be had."""

    nvml: Any | None
    reason: str = ""

    @classmethod
    def open(cls) -> Cards:
        """NVML where a driver answers."""
        try:
            import pynvml

            pynvml.nvmlInit()
        except Exception as error:  # NVML's errors are of many classes; each means that there is nothing to read
            return cls(nvml=None, reason=f"no GPU: {error}")
        return cls(nvml=pynvml)

    def sample(self) -> Iterator[CardSample]:
        """One reading of each GPU; those that do not answer are left out."""
        nvml = self.nvml
        if nvml is None:
            return
        for index in range(_count(nvml)):
            with contextlib.suppress(Exception):
                yield _sample(nvml, index)

    def close(self) -> None:
        """Release NVML."""
        if self.nvml is not None:
            with contextlib.suppress(Exception):
                self.nvml.nvmlShutdown()


def _count(nvml: Any) -> int:
    try:
        return int(nvml.nvmlDeviceGetCount())
    except Exception:
        return 0


def _sample(nvml: Any, index: int) -> CardSample:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    name = nvml.nvmlDeviceGetName(handle)
    processes: dict[str, int] = {}
    # A container may not see them.
    with contextlib.suppress(Exception):
        for process in nvml.nvmlDeviceGetComputeRunningProcesses(handle):
            if process.usedGpuMemory is not None:
                processes[str(process.pid)] = int(process.usedGpuMemory)
    utilisation: int | None = None
    with contextlib.suppress(Exception):
        utilisation = int(nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
    return CardSample(
        at=time.time(),
        index=index,
        name=name.decode() if isinstance(name, bytes) else str(name),
        total=int(memory.total),
        used=int(memory.used),
        by_process=processes,
        utilisation=utilisation,
    )
