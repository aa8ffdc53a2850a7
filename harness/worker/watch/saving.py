"""What the trainer saves, compared with the model in memory; and the last file, read back at the end."""

from __future__ import annotations

import os
import time
from typing import Any

from . import phases

MOST_NAMES = 20
_SAMPLES = 64


class SavingObserver:
    """The checkpoints of one training."""

    def __init__(self, observer: Any) -> None:
        self._observer = observer
        self.last = ""
        """The last file with the weights of the model as they were."""

    def begin(self, network: Any) -> None:
        """At the first forward pass."""

    def begins(self) -> float:
        """A file is about to be saved."""
        self._observer.phases.enter(phases.CHECKPOINT)
        return time.perf_counter()

    def saved(self, state: Any, file: Any, began: float | None) -> None:
        """It has been saved."""
        spent = time.perf_counter() - (began or time.perf_counter())
        observer = self._observer
        observer.phases.enter(phases.OBSERVERS)
        path = os.path.abspath(os.fspath(file)) if isinstance(file, (str, os.PathLike)) else ""
        weights = weights_in(state)
        fields: dict[str, Any] = {"tensors": None, "missing": [], "other_values": []}
        if weights is not None:
            own = observer.network.state_dict()
            fields = compared(own, weights)
            if path and not fields["missing"] and not fields["other_values"]:
                self.last = path
        observer.writer.write(
            "checkpoint",
            {
                "step": observer.steps,
                "epoch": observer.epoch,
                "path": path,
                "bytes": os.path.getsize(path) if path and os.path.exists(path) else 0,
                "seconds": spent,
                **fields,
            },
        )
        observer.phases.enter(phases.OTHER)


def weights_in(state: Any) -> Any:
    """The tensors by name in what is saved; None if it holds no weights."""
    for candidate in (state, *(state.get(name) for name in ("state_dict", "model", "module") if hasattr(state, "get"))):
        if hasattr(candidate, "items") and candidate:
            values = list(candidate.values())
            if sum(hasattr(one, "element_size") for one in values) > len(values) // 2:
                return {without_prefix(str(name)): one for name, one in candidate.items()}
    return None


def compared(own: Any, saved: Any) -> dict[str, Any]:
    """The model's tensors that a file lacks or has with other values, as samples tell."""
    missing = [name for name in own if name not in saved]
    other = [name for name, one in own.items() if name in saved and not same_values(one, saved[name])]
    return {"tensors": len(saved), "missing": missing[:MOST_NAMES], "other_values": other[:MOST_NAMES]}


def same_values(one: Any, other: Any) -> bool:
    """Whether two tensors are equal: certain where they share their storage, else by some of their values."""
    if not hasattr(other, "element_size") or one.shape != other.shape or one.dtype != other.dtype:
        return False
    if one.device == other.device and one.data_ptr() == other.data_ptr():
        return True
    return bool((sample(one) == sample(other)).all())


def sample(tensor: Any) -> Any:
    """Evenly spread values of a tensor, on the CPU."""
    flat = tensor.detach().reshape(-1)
    return flat[:: max(1, flat.numel() // _SAMPLES)].cpu()


def without_prefix(name: str) -> str:
    """A tensor's name without that of the wrapper for several processes."""
    return name[len("module.") :] if name.startswith("module.") else name
