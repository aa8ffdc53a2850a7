"""What the driver says of a GPU: how much of it this process holds, and who else is on it; or why it does not say.

torch's allocator knows its own figures only. The context, the libraries' workspaces and other processes are known to
NVML alone, and NVML tells them where it is there, knows the device, and is allowed to.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

MEASURED = "measured"
NO_NVML = "no driver answers, or nvidia-ml-py is missing"
NO_DEVICE = "NVML does not know the device that torch uses"
REFUSED = "NVML does not list the device's processes here"
WITHHELD = "NVML lists this process without its memory: no permission for it"
NOT_LISTED = "NVML does not list this process: it holds nothing yet, or a container renumbers processes"

_KINDS = ("GPU", "MIG")
"""CUDA gives a partition's own UUID where a GPU is partitioned (cuDeviceGetUuid_v2), and NVML calls it by this word."""


@dataclass(frozen=True, kw_only=True)
class GpuUse:
    """One look at a device; what could not be learned is None."""

    told: str
    """`MEASURED`, or why `process_bytes` is None."""
    kind: str | None = None
    """`GPU`, or `MIG` for a partition of one."""
    process_bytes: int | None = None
    listed: bool = False
    """Whether this process stands in NVML's list under its own number."""
    others: int | None = None
    """How many are listed besides; among them may be this one under another number, unless it is ever `listed`."""
    device_bytes: int | None = None
    """Used of the device, whoever by."""


def look(cuda: Any, nvml: Any | None) -> GpuUse:
    """What NVML says of torch's current device and this process.

    Args:
        cuda: `torch.cuda`.
        nvml: `pynvml`, initialised; None where there is none.
    """
    if nvml is None:
        return GpuUse(told=NO_NVML)
    kind, found = handle(cuda, nvml)
    if kind is None:
        return GpuUse(told=NO_DEVICE)
    device_bytes = _device_bytes(nvml, found)
    try:
        processes = nvml.nvmlDeviceGetComputeRunningProcesses(found)
    except Exception:  # NVML's errors are of many classes; each means that the list cannot be had
        return GpuUse(told=REFUSED, kind=kind, device_bytes=device_bytes)
    mine = [process.usedGpuMemory for process in processes if process.pid == os.getpid()]
    known = [used for used in mine if used is not None]
    told = MEASURED if known else WITHHELD if mine else NOT_LISTED
    return GpuUse(
        told=told,
        kind=kind,
        process_bytes=int(known[0]) if known else None,
        listed=bool(mine),
        others=len(processes) - len(mine),
        device_bytes=device_bytes,
    )


def handle(cuda: Any, nvml: Any) -> tuple[str | None, Any]:
    """NVML's handle of torch's current device, and what kind that is; None for both where NVML does not know it.

    By UUID: with CUDA_VISIBLE_DEVICES torch counts the devices otherwise than NVML.
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


def _device_bytes(nvml: Any, handle: Any) -> int | None:
    try:
        return int(nvml.nvmlDeviceGetMemoryInfo(handle).used)
    except Exception:  # a partition may keep it to itself
        return None
