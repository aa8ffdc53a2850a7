"""Memory of the process and of torch's allocator: read, never reset, for FunASR prints the peaks itself."""

from __future__ import annotations

import itertools
import os
import re
from typing import Any, Iterable, Iterator

_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_SIZE = r"(\d+(?:\.\d+)?) (bytes|KiB|MiB|GiB|TiB)"
_WANTED = re.compile(r"[Tt]ried to allocate " + _SIZE)
_CAPACITY = re.compile(r"total capacity of " + _SIZE)
_BY_TORCH = re.compile(r"memory " + _SIZE + " is allocated by PyTorch")


class MemoryMeter:
    """Memory at the end of a step."""

    def __init__(self) -> None:
        self._device: Any = None
        """torch's GPU of the model; None on a CPU."""
        self._statm: int | None = None
        self._page = 0

    def attach(self, device: Any) -> None:
        """Measure for a model on this device."""
        self._device = device if device.type == "cuda" else None
        try:
            self._page = os.sysconf("SC_PAGE_SIZE")
            self._statm = os.open("/proc/self/statm", os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        except (OSError, ValueError, AttributeError):
            self._statm = None

    def read(self) -> dict[str, Any]:
        """As `records.Memory`."""
        record: dict[str, Any] = {"resident": self._resident()}
        if self._device is not None:
            record.update(self._allocator())
        return record

    def at_failure(self) -> dict[str, Any]:
        """The allocator's figures with the GPU's total memory; empty on a CPU."""
        if self._device is None:
            return {}
        import torch

        return {**self._allocator(), "card": torch.cuda.get_device_properties(self._device).total_memory}

    def _resident(self) -> int | None:
        if self._statm is None:
            return None
        return int(os.pread(self._statm, 256, 0).split()[1]) * self._page

    def _allocator(self) -> dict[str, Any]:
        import torch

        # Nested statistics: torch takes long to flatten them.
        stats = torch.cuda.memory_stats_as_nested_dict(self._device)
        allocated = stats.get("allocated_bytes", {}).get("all", {})
        reserved = stats.get("reserved_bytes", {}).get("all", {})
        return {
            "allocated": allocated.get("current"),
            "reserved": reserved.get("current"),
            "peak_allocated": allocated.get("peak"),
            "peak_reserved": reserved.get("peak"),
        }


def parts_of(network: Any, optimizer: Any) -> dict[str, int]:
    """Bytes of weights, gradients and optimizer state on the model's device: those of the distinct storages."""
    first = next(iter(network.parameters()), None)
    device = None if first is None else first.device
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    state = [] if optimizer is None else list(optimizer.state.values())
    return {
        "weights": _bytes(itertools.chain(network.parameters(), network.buffers()), device),
        "gradients": _bytes(gradients, device),
        "optimizer_state": _bytes(_tensors(state), device),
    }


def said_by_torch(message: str) -> dict[str, Any]:
    """What torch's message about memory that ran out gives; its wording is no interface."""
    return {
        "wanted": _size(_WANTED, message),
        "card": _size(_CAPACITY, message),
        "allocated": _size(_BY_TORCH, message),
    }


def _size(pattern: Any, message: str) -> int | None:
    match = pattern.search(message)
    return round(float(match.group(1)) * _UNITS[match.group(2)]) if match else None


def _bytes(tensors: Iterable[Any], device: Any) -> int:
    sizes = {}
    for tensor in tensors:
        if tensor.device == device:
            # torch before 2.0 has no untyped storages.
            storage = tensor.untyped_storage() if hasattr(tensor, "untyped_storage") else tensor.storage()
            count = storage.nbytes() if hasattr(storage, "nbytes") else tensor.numel() * tensor.element_size()
            sizes[storage.data_ptr()] = count
    return sum(sizes.values())


def _tensors(value: Any) -> Iterator[Any]:
    """The tensors of an optimizer's state, at any depth."""
    if hasattr(value, "element_size"):
        yield value
    elif hasattr(value, "values"):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
