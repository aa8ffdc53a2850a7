"""What NVML reports of a GPU: memory of this process, other processes on the device, and utilisation.

torch's allocator knows only its own memory. CUDA's context, the workspaces of libraries and other processes are visible
to NVML alone, if it is installed, knows the device and has permission.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import Any

MEASURED = "measured"
NO_NVML = "no driver answers, or nvidia-ml-py is missing"
NO_DEVICE = "NVML does not know the device that torch uses"
REFUSED = "NVML does not list the device's processes here"
MEMORY_WITHHELD = "NVML lists this process without its memory: no permission for it"
NOT_LISTED = "NVML does not list this process: it holds nothing yet, or a container renumbers processes"

_KINDS = ("GPU", "MIG")
"""On a partitioned GPU, CUDA returns the partition's own UUID (cuDeviceGetUuid_v2), which NVML prefixes with `MIG`."""


@dataclass(frozen=True, kw_only=True)
class GpuUse:
    """One reading of a device; unknown values are None."""

    status: str
    """`MEASURED`, or why `process_bytes` is None."""
    kind: str | None = None
    """`GPU`, or `MIG` for a partition of one."""
    process_bytes: int | None = None
    listed: bool = False
    """Whether NVML lists this process under its own PID."""
    others: int | None = None
    """Number of other listed processes; unless this one is ever `listed`, it may be among them under another PID."""
    device_bytes: int | None = None
    """Used memory of the device, by all processes."""


def read_gpu_use(cuda: Any, nvml: Any | None) -> GpuUse:
    """NVML's reading of torch's current device and this process.

    Args:
        cuda: `torch.cuda`.
        nvml: `pynvml`, initialised; None if it is missing.
    """
    if nvml is None:
        return GpuUse(status=NO_NVML)
    kind, handle = device_handle(cuda, nvml)
    if kind is None:
        return GpuUse(status=NO_DEVICE)
    device_bytes = _device_bytes(nvml, handle)
    try:
        processes = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
    except Exception:  # NVML's errors are of many classes; each means that the list cannot be had
        return GpuUse(status=REFUSED, kind=kind, device_bytes=device_bytes)
    own_bytes = [process.usedGpuMemory for process in processes if process.pid == os.getpid()]
    known = [used for used in own_bytes if used is not None]
    status = MEASURED if known else MEMORY_WITHHELD if own_bytes else NOT_LISTED
    return GpuUse(
        status=status,
        kind=kind,
        process_bytes=int(known[0]) if known else None,
        listed=bool(own_bytes),
        others=len(processes) - len(own_bytes),
        device_bytes=device_bytes,
    )


def device_handle(cuda: Any, nvml: Any) -> tuple[str | None, Any]:
    """NVML's kind and handle of torch's current device; None for both if NVML does not know it.

    By UUID: with CUDA_VISIBLE_DEVICES torch and NVML number the devices differently.
    """
    try:
        uuid = cuda.get_device_properties(cuda.current_device()).uuid
    except Exception:  # an old torch has no UUIDs
        return None, None
    for kind in _KINDS:
        try:
            return kind, nvml.nvmlDeviceGetHandleByUUID(f"{kind}-{uuid}")
        except Exception:  # noqa: S112 - the next kind is tried
            continue
    return None, None


def _device_bytes(nvml: Any, device: Any) -> int | None:
    try:
        return int(nvml.nvmlDeviceGetMemoryInfo(device).used)
    except Exception:  # a partition may keep it to itself
        return None


NO_GPU = "not measured on a GPU"
UTILISATION_WITHHELD = "NVML does not report the utilisation of the device: it is a partition, or permission is missing"
TOO_SHORT = "the training ended before the first sample"

PERIOD_SECONDS = 0.5
WARM_UP_SAMPLES = 4
"""Steps before the first sample, as for step times: the first steps are not typical."""


@dataclass
class Utilisation:
    """Samples the GPU's utilisation at most every `PERIOD_SECONDS`, after optimizer steps.

    NVML reports the share of its last sampling period in which a kernel ran on the device. That period is a sixth of a
    second to a second long (nvmlDeviceGetUtilizationRates in NVML's API reference), so faster sampling adds nothing. It
    covers all processes on the device, see `clean_at_start`.
    """

    cuda: Any
    nvml: Any | None
    status: str = TOO_SHORT
    _seen: list[int] = field(default_factory=list)
    """In percent, as NVML reports it."""
    _steps: int = 0
    _last: float = float("-inf")
    _handle: Any = None

    def sample(self) -> None:
        """Take a sample if the last one is old enough."""
        self._steps += 1
        now = time.perf_counter()
        if self._steps <= WARM_UP_SAMPLES or now - self._last < PERIOD_SECONDS or self.status == UTILISATION_WITHHELD:
            return
        self._last = now
        self.status, percent = self._ask()
        if percent is not None:
            self._seen.append(percent)

    def _ask(self) -> tuple[str, int | None]:
        if self.nvml is None:
            return NO_NVML, None
        if self._handle is None:
            kind, self._handle = device_handle(self.cuda, self.nvml)
            if kind is None:
                return NO_DEVICE, None
        try:
            return MEASURED, int(self.nvml.nvmlDeviceGetUtilizationRates(self._handle).gpu)
        except Exception:  # NVML's errors are of many classes; each means that it cannot be had
            return UTILISATION_WITHHELD, None

    def metrics(self) -> dict[str, Any]:
        """`mean` from 0 to 1 or None, the number of `samples`, and `told`: `MEASURED`, or why there are none."""
        samples = self._seen
        mean = sum(samples) / len(samples) / 100 if samples else None
        return {"mean": mean, "samples": len(samples), "told": MEASURED if samples else self.status}
