"""How much memory a training run took: of the process everywhere, of the GPU where there is one.

The GPU's figures come from torch's allocator (allocated, reserved) and from NVML (what the process holds on the device,
context and all). What cannot be had is None, never a guess.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Meter(Protocol):
    """Measures peaks between `reset` and `peaks`."""

    def reset(self) -> None:
        """Forget what was before."""

    def sample(self) -> None:
        """Called after each optimizer step, for figures that have no peak of their own."""

    def held(self) -> int | None:
        """Bytes held now: of the GPU by tensors, where there is one; else of the machine by this process."""

    def peaks(self) -> dict[str, int | None]:
        """Bytes: `peak_resident_bytes`, `peak_allocated_bytes`, `peak_reserved_bytes`, `peak_used_bytes`."""


class ProcessMeter:
    """Peak resident memory of this process; there is no GPU."""

    def reset(self) -> None:
        # Writing 5 resets the high-water mark (proc(5), clear_refs); a kernel without it keeps the older, higher mark.
        try:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        except OSError:
            return

    def sample(self) -> None:
        return

    def held(self) -> int | None:
        return resident_bytes()

    def peaks(self) -> dict[str, int | None]:
        return {
            "peak_resident_bytes": _high_water_mark(),
            "peak_allocated_bytes": None,
            "peak_reserved_bytes": None,
            "peak_used_bytes": None,
        }


class CudaMeter(ProcessMeter):
    """Adds the GPU's figures, of torch's current device."""

    def __init__(self, cuda: Any, nvml: Any | None) -> None:
        self._cuda = cuda
        self._nvml = nvml
        self._used: int | None = None

    def reset(self) -> None:
        super().reset()
        self._cuda.reset_peak_memory_stats()
        self._used = None

    def sample(self) -> None:
        used = self._process_bytes()
        if used is not None:
            self._used = max(used, self._used or 0)

    def held(self) -> int | None:
        return int(self._cuda.memory_allocated())

    def peaks(self) -> dict[str, int | None]:
        self.sample()
        return {
            **super().peaks(),
            "peak_allocated_bytes": int(self._cuda.max_memory_allocated()),
            "peak_reserved_bytes": int(self._cuda.max_memory_reserved()),
            "peak_used_bytes": self._used,
        }

    def _process_bytes(self) -> int | None:
        """What NVML says this process holds; None without NVML or permission, or where a container renumbers pids."""
        if self._nvml is None:
            return None
        try:
            handle = self._nvml.nvmlDeviceGetHandleByUUID(f"GPU-{self._cuda.get_device_properties(0).uuid}")
            processes = self._nvml.nvmlDeviceGetComputeRunningProcesses(handle)
        except Exception:  # any NVML error means the figure cannot be had; nothing else depends on it
            return None
        return next((process.usedGpuMemory for process in processes if process.pid == os.getpid()), None)


def resident_bytes() -> int | None:
    """What this process holds in memory now, shared pages included; None where there is no /proc."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE_BYTES
    except (OSError, ValueError):
        return None


def meter(device: str) -> Meter:
    """The meter for a run on `device`."""
    if device != "cuda":
        return ProcessMeter()
    import torch

    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # no library or no driver: torch's own figures remain
        return CudaMeter(torch.cuda, None)
    return CudaMeter(torch.cuda, pynvml)


def _high_water_mark() -> int | None:
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None
