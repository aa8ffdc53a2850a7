"""How much memory a training run took: of the process everywhere, of the GPU where there is one.

The GPU's figures come from torch's allocator (allocated, reserved) and from NVML (what the process holds on the device,
context and all). What cannot be had is None, never a guess.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from harness.worker.trainer import gpu_use
from harness.worker.trainer.clocks import Clock, HostClock, StreamClock
from harness.worker.trainer.gpu_utilisation import NO_GPU, Utilisation

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_ASKED_FIRST, _ASKED_EVERY = 4, 16
"""NVML's list of processes takes milliseconds to come. What a process holds grows with what its allocator holds, so it
is asked when that grew, after the first steps, and now and then."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """One look at torch's allocator, in bytes."""

    allocated: int
    """Held by tensors now."""
    peak: int
    """The most since the look before."""
    reserved: int
    """Held by the allocator now."""


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

    def clock(self) -> Clock:
        """For the borders within a step."""

    def look(self) -> Look | None:
        """At the allocator, which begins to keep a new peak with it; None without a GPU."""

    def context(self) -> int | None:
        """Bytes that the process held on the GPU besides what the allocator did, when it held most."""

    def utilisation(self) -> dict[str, Any]:
        """How busy the GPU was: `mean` from 0 to 1, of how many `samples`, and what is `told` of it."""


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

    def clock(self) -> Clock:
        return HostClock()

    def look(self) -> Look | None:
        return None

    def context(self) -> int | None:
        return None

    def utilisation(self) -> dict[str, Any]:
        return {"mean": None, "samples": 0, "told": NO_GPU}


class CudaMeter(ProcessMeter):
    """Adds the GPU's figures, of torch's current device."""

    def __init__(self, cuda: Any, nvml: Any | None) -> None:
        self._cuda = cuda
        self._nvml = nvml
        self._used: int | None = None
        self._context: int | None = None
        self._samples = self._reserved_when_asked = 0
        # Kept here, because each look at the allocator makes it forget its own.
        self._allocated = self._reserved = 0
        # Before the first tensor of this process: what is in use now is someone else's, or a context's.
        self._found = gpu_use.look(cuda, nvml)
        self._last = self._found
        self._utilisation = Utilisation(cuda, nvml)

    def reset(self) -> None:
        super().reset()
        self._cuda.reset_peak_memory_stats()
        self._used = self._context = None
        self._allocated = self._reserved = 0

    def clock(self) -> Clock:
        return StreamClock(self._cuda)

    def look(self) -> Look | None:
        look, reserved = self._stats()
        self._cuda.reset_peak_memory_stats()
        self._allocated, self._reserved = max(self._allocated, look.peak), max(self._reserved, reserved)
        return look

    def _stats(self) -> tuple[Look, int]:
        """And the peak of what was reserved. Nested, because torch needs far longer to flatten them."""
        stats = self._cuda.memory_stats_as_nested_dict()
        allocated, reserved = _all_pools(stats, "allocated_bytes"), _all_pools(stats, "reserved_bytes")
        look = Look(allocated=allocated["current"], peak=allocated["peak"], reserved=reserved["current"])
        return look, reserved["peak"]

    def sample(self) -> None:
        self._utilisation.sample()
        reserved = self._stats()[0].reserved
        number, self._samples = self._samples, self._samples + 1
        if number < _ASKED_FIRST or number % _ASKED_EVERY == 0 or reserved > self._reserved_when_asked:
            self._ask(reserved)

    def _ask(self, reserved: int) -> None:
        self._reserved_when_asked = reserved
        look = gpu_use.look(self._cuda, self._nvml)
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
        return self._utilisation.figures()

    def peaks(self) -> dict[str, int | None]:
        look, reserved = self._stats()
        self._ask(look.reserved)
        return {
            **super().peaks(),
            "peak_allocated_bytes": max(self._allocated, look.peak),
            "peak_reserved_bytes": max(self._reserved, reserved),
            "peak_used_bytes": self._used,
        }

    def device(self) -> dict[str, Any]:
        """Asked while an out-of-memory error is on its way, it tells the allocator's figures of that moment."""
        found, stats = self._found, self._cuda.memory_stats_as_nested_dict()
        now, _ = self._stats()
        # A container may number processes anew; one that is listed by its own number at some time is not in such a one.
        others = found.others if not found.others or found.listed or self._last.listed else None
        return {
            "used_told": self._last.told,
            "kind": self._last.kind,
            "at_start": {"used_bytes": found.device_bytes, "other_processes": others},
            "clean_at_start": None if others is None else others == 0,
            "allocator": {
                "allocated_bytes": now.allocated,
                "reserved_bytes": now.reserved,
                "out_of_memory": stats.get("num_ooms"),
                "retries": stats.get("num_alloc_retries"),
            },
        }


def _all_pools(stats: Mapping[str, Any], name: str) -> Mapping[str, int]:
    """A figure over all of the allocator's pools; before CUDA is used there is none, and nothing is held."""
    return stats.get(name, {}).get("all", {"current": 0, "peak": 0})  # type: ignore[no-any-return]


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
