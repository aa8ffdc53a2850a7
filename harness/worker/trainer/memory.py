"""The memory of a training run: of the process, and of the GPU if there is one.

GPU memory is measured by torch's allocator (allocated, reserved) and by NVML (the process's memory on the device,
including the context). Values that cannot be measured are None.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from harness.worker.trainer import gpu_use
from harness.worker.trainer.gpu_use import NO_GPU, Utilisation
from harness.worker.trainer.phases import AllocatorSample, Clock, HostClock, StreamClock

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_ASKED_FIRST, _ASKED_EVERY = 4, 16
"""Listing processes by NVML takes milliseconds. A process's memory grows with its allocator's, so the list is read when
that grew, after the first steps, and occasionally."""


class Meter(Protocol):
    """Measures peaks between `reset` and `peaks`."""

    def reset(self) -> None:
        """Restart the peaks."""

    def sample(self) -> None:
        """Called after each optimizer step, for values without a peak of their own."""

    def held(self) -> int | None:
        """Bytes held now: by tensors on the GPU if there is one, else resident bytes of this process."""

    def peaks(self) -> dict[str, int | None]:
        """Bytes: `peak_resident_bytes`, `peak_allocated_bytes`, `peak_reserved_bytes`, `peak_used_bytes`."""

    def device(self) -> dict[str, Any]:
        """The state of the GPU at the start and now; empty without a GPU."""

    def clock(self) -> Clock:
        """The clock for the phases of a step."""

    def sample_allocator(self) -> AllocatorSample | None:
        """A reading of the allocator, which restarts its peak; None without a GPU."""

    def context(self) -> int | None:
        """Bytes of the process on the GPU beyond the allocator's, at the process's peak."""

    def utilisation(self) -> dict[str, Any]:
        """Utilisation of the GPU: `mean` from 0 to 1, number of `samples`, and `told`, the reason if there are none."""


class ProcessMeter:
    """Peak resident memory of this process, without a GPU."""

    def reset(self) -> None:
        # Writing 5 resets the high-water mark (proc(5), clear_refs); kernels without it keep the older, higher mark.
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

    def clock(self) -> Clock:
        return HostClock()

    def sample_allocator(self) -> AllocatorSample | None:
        return None

    def context(self) -> int | None:
        return None

    def utilisation(self) -> dict[str, Any]:
        return {"mean": None, "samples": 0, "told": NO_GPU}


class CudaMeter(ProcessMeter):
    """Adds the memory of torch's current GPU."""

    def __init__(self, cuda: Any, nvml: Any | None) -> None:
        self._cuda = cuda
        self._nvml = nvml
        self._used: int | None = None
        self._context: int | None = None
        self._samples = self._reserved_when_asked = 0
        # Kept here, because each reading restarts the allocator's own peaks.
        self._allocated = self._reserved = 0
        # Before the first tensor of this process: memory in use now belongs to other processes or contexts.
        self._found = gpu_use.read_gpu_use(cuda, nvml)
        self._last = self._found
        self._utilisation = Utilisation(cuda, nvml)

    def reset(self) -> None:
        super().reset()
        self._cuda.reset_peak_memory_stats()
        self._used = self._context = None
        self._allocated = self._reserved = 0

    def clock(self) -> Clock:
        return StreamClock(self._cuda)

    def sample_allocator(self) -> AllocatorSample | None:
        look, reserved = self._stats()
        self._cuda.reset_peak_memory_stats()
        self._allocated, self._reserved = max(self._allocated, look.peak), max(self._reserved, reserved)
        return look

    def _stats(self) -> tuple[AllocatorSample, int]:
        """A reading of the allocator, and the peak of reserved bytes. Nested statistics: torch flattens them slowly."""
        stats = self._cuda.memory_stats_as_nested_dict()
        allocated, reserved = _all_pools(stats, "allocated_bytes"), _all_pools(stats, "reserved_bytes")
        look = AllocatorSample(allocated=allocated["current"], peak=allocated["peak"], reserved=reserved["current"])
        return look, reserved["peak"]

    def sample(self) -> None:
        self._utilisation.sample()
        reserved = self._stats()[0].reserved
        number, self._samples = self._samples, self._samples + 1
        if number < _ASKED_FIRST or number % _ASKED_EVERY == 0 or reserved > self._reserved_when_asked:
            self._sample_nvml(reserved)

    def _sample_nvml(self, reserved: int) -> None:
        self._reserved_when_asked = reserved
        look = gpu_use.read_gpu_use(self._cuda, self._nvml)
        if look.process_bytes is not None:
            self._last = look
            if look.process_bytes > (self._used or 0):
                self._used = look.process_bytes
                self._context = look.process_bytes - reserved if look.process_bytes >= reserved else None
        elif self._used is None:
            self._last = look

    def held(self) -> int | None:
        return self._stats()[0].allocated

    def context(self) -> int | None:
        return self._context

    def utilisation(self) -> dict[str, Any]:
        return self._utilisation.metrics()

    def peaks(self) -> dict[str, int | None]:
        look, reserved = self._stats()
        self._sample_nvml(look.reserved)
        return {
            **super().peaks(),
            "peak_allocated_bytes": max(self._allocated, look.peak),
            "peak_reserved_bytes": max(self._reserved, reserved),
            "peak_used_bytes": self._used,
        }

    def device(self) -> dict[str, Any]:
        """During an out-of-memory exception these are the allocator's values at that moment."""
        at_start, stats = self._found, self._cuda.memory_stats_as_nested_dict()
        now, _ = self._stats()
        # A container may have its own PIDs; a process that is ever listed by its own PID is not in such a container.
        others = at_start.others if not at_start.others or at_start.listed or self._last.listed else None
        return {
            "used_told": self._last.status,
            "kind": self._last.kind,
            "at_start": {"used_bytes": at_start.device_bytes, "other_processes": others},
            "clean_at_start": None if others is None else others == 0,
            "allocator": {
                "allocated_bytes": now.allocated,
                "reserved_bytes": now.reserved,
                "out_of_memory": stats.get("num_ooms"),
                "retries": stats.get("num_alloc_retries"),
            },
        }


def _all_pools(stats: Mapping[str, Any], name: str) -> Mapping[str, int]:
    """A statistic over all pools of the allocator; zero before CUDA is used."""
    return stats.get(name, {}).get("all", {"current": 0, "peak": 0})  # type: ignore[no-any-return]


def resident_bytes() -> int | None:
    """Resident bytes of this process, shared pages included; None without /proc."""
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
