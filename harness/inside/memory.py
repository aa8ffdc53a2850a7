"""How much memory a training run took: of the process everywhere, of the GPU where there is one.

The GPU's figures come from torch's allocator (allocated, reserved) and from NVML (what the process holds on the device,
context and all). What cannot be had is None, never a guess.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol

from harness.inside import device_use

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

    def device(self) -> dict[str, Any]:
        """The GPU as the run found it and as it is now; empty where there is none."""


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

    def device(self) -> dict[str, Any]:
        return {}


class CudaMeter(ProcessMeter):
    """Adds the GPU's figures, of torch's current device."""

    def __init__(self, cuda: Any, nvml: Any | None) -> None:
        self._cuda = cuda
        self._nvml = nvml
        self._used: int | None = None
        # Before the first tensor of this process: what is in use now is someone else's, or a context's.
        self._found = device_use.look(cuda, nvml)
        self._last = self._found

    def reset(self) -> None:
        super().reset()
        self._cuda.reset_peak_memory_stats()
        self._used = None

    def sample(self) -> None:
        look = device_use.look(self._cuda, self._nvml)
        if look.process_bytes is not None:
            self._last = look
            self._used = max(look.process_bytes, self._used or 0)
        elif self._used is None:
            self._last = look

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

    def device(self) -> dict[str, Any]:
        """Asked while an out-of-memory error is on its way, it tells the allocator's figures of that moment."""
        found, stats = self._found, self._cuda.memory_stats()
        # A container may number processes anew; one that is listed by its own number at some time is not in such a one.
        others = found.others if not found.others or found.listed or self._last.listed else None
        return {
            "used_told": self._last.told,
            "kind": self._last.kind,
            "at_start": {"used_bytes": found.device_bytes, "other_processes": others},
            "clean_at_start": None if others is None else others == 0,
            "allocator": {
                "allocated_bytes": int(self._cuda.memory_allocated()),
                "reserved_bytes": int(self._cuda.memory_reserved()),
                "out_of_memory": stats.get("num_ooms"),
                "retries": stats.get("num_alloc_retries"),
            },
        }


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
