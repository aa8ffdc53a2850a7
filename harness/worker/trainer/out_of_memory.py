"""The moment in which memory ran out: what was asked for, what was held, and what the training was doing.

Asked while the error is on its way: its traceback still holds what the training held. The size that was asked for and
what the device has stand only in torch's message, in words that no interface promises, so each may be None.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from harness.worker.process import failures
from harness.worker.trainer import memory, memory_parts
from harness.worker.trainer.phases import Phases

ADVICE: Mapping[str, str] = {
    "cuda": "Take a smaller batch; `funasr-harness estimate` tells which one fits.",
    "cpu": "Take a smaller batch, or raise memory_bytes in the matrix's [limits].",
}
"""What to do about it, by device."""

_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_SIZE = r"(\d+(?:\.\d+)?) (bytes|KiB|MiB|GiB|TiB)"
_REQUESTED = re.compile(rf"[Tt]ried to allocate {_SIZE}")
_CAPACITY = re.compile(rf"total capacity of {_SIZE}")
_FREE = re.compile(rf"of which {_SIZE} is free")


def moment(error: BaseException, overlay: str, meter: memory.Meter, phases: Phases) -> dict[str, Any]:
    """`out_of_memory` for the metrics of a training that `error` ended; nothing where it is no want of memory."""
    if failures.status_of(error, overlay) != "out_of_memory":
        return {}
    message = str(error)
    allocator = meter.device().get("allocator", {})
    return {
        "out_of_memory": {
            "requested_bytes": _size(_REQUESTED, message),
            "capacity_bytes": _size(_CAPACITY, message),
            "free_bytes": _size(_FREE, message),
            "allocated_bytes": allocator.get("allocated_bytes"),
            "reserved_bytes": allocator.get("reserved_bytes"),
            "resident_bytes": memory.resident_bytes(),
            "phase": phases.current,
            "step": len(phases.steps),
            "largest_phase": memory_parts.largest_phase(phases),
        }
    }


def _size(pattern: re.Pattern[str], message: str) -> int | None:
    """In bytes; torch rounds to hundredths of its unit."""
    found = pattern.search(message)
    return round(float(found[1]) * _UNITS[found[2]]) if found else None
