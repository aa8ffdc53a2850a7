"""Whether the driver reports a GPU; asked without torch, which would take seconds to answer."""

from __future__ import annotations


def gpu_present() -> bool:
    """Whether NVML finds at least one device; False without a driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return False
    try:
        return int(pynvml.nvmlDeviceGetCount()) > 0
    except pynvml.NVMLError:
        return False
    finally:
        pynvml.nvmlShutdown()
