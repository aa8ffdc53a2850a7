"""What the trainer saves, compared with the model in memory; and the last file, loaded again at the end."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from . import phases

MOST_NAMES = 20
LONGEST_SECONDS = 10.0
"""How long the end of a training may be put off by reading a file back."""
_BYTES_PER_SECOND = 2e8
_NAMES_OF_WEIGHTS = ("state_dict", "model", "module")


class SavingObserver:
    """The checkpoints of one training; `observer` is the `observer.TrainingObserver`."""

    def __init__(self, observer: Any) -> None:
        self._observer = observer
        self._files: list[str] = []
        """Files with the model's weights, the last one at the end."""
        self._saved_at = 0
        self._names: list[str] = []
        self._start: Any = None
        """Fingerprints of the parameters before the first step: int64 `[parameters]`, on the CPU."""

    def begin(self, network: Any) -> None:
        """At the first forward pass: take the parameters' fingerprints."""
        import torch

        named = [(name, fingerprint(parameter.detach())) for name, parameter in network.named_parameters()]
        known = [(name, value) for name, value in named if value is not None]
        if not known:
            return
        self._names = [name for name, _ in known]
        stacked = torch.stack([value for _, value in known])
        self._start = torch.empty(len(known), dtype=torch.int64, device="cpu", pin_memory=stacked.is_cuda)
        self._start.copy_(stacked, non_blocking=True)

    def begins(self) -> float:
        """A file is about to be saved."""
        self._observer.enter(phases.CHECKPOINT)
        return time.perf_counter()

    def saved(self, state: Any, file: Any, began: float | None) -> None:
        """It has been saved."""
        now = time.perf_counter()
        observer = self._observer
        observer.enter(phases.OBSERVERS)
        path = os.path.abspath(os.fspath(file)) if isinstance(file, (str, os.PathLike)) else ""
        weights = weights_in(state)
        averaged = _is_average()
        fields: dict[str, Any] = {"tensors": None, "missing": [], "other_values": []}
        if weights is not None:
            fields = compared(observer.network.state_dict(), weights, values=not averaged)
            if path and not averaged:
                self._files = [*(saved_file for saved_file in self._files if saved_file != path), path][-MOST_NAMES:]
                self._saved_at = observer.steps
        observer.writer.write(
            "checkpoint",
            {
                "step": observer.steps,
                "epoch": observer.epoch,
                "path": path,
                "bytes": os.path.getsize(path) if path and os.path.exists(path) else 0,
                "seconds": now - (began or now),
                "averaged": averaged,
                **fields,
            },
        )
        observer.enter(phases.OTHER)

    def read_back(self) -> None:
        """At the end: load the last file and compare it with the weights in memory."""
        path = next((saved_file for saved_file in reversed(self._files) if os.path.isfile(saved_file)), "")
        if not path:
            return
        comparison: dict[str, Any] = {"tensors": 0, "equal": 0, "missing": [], "different": []}
        skipped = self._why_not(path)
        if not skipped:
            try:
                comparison, skipped = self._compared_with(path)
            except Exception as error:  # a file that torch does not load without running code
                skipped = f"{type(error).__name__}: {error}"[:500]
        self._observer.writer.write(
            "read_back", {"path": path, **comparison, "moved": self._moved(), "skipped": skipped}
        )

    def _why_not(self, path: str) -> str:
        size = os.path.getsize(path)
        if self._observer.steps != self._saved_at:
            return f"{self._observer.steps - self._saved_at} steps were taken after it was saved"
        if size / _BYTES_PER_SECOND > LONGEST_SECONDS:
            return f"{size} bytes would take too long"
        free = _available_bytes()
        return f"{size} bytes, and {free} are free" if free is not None and free < 2 * size else ""

    def _compared_with(self, path: str) -> tuple[dict[str, Any], str]:
        import torch

        began = time.monotonic()
        weights = weights_in(torch.load(path, map_location="cpu", weights_only=True)) or {}
        in_memory = self._observer.network.state_dict()
        comparison: dict[str, Any] = {"tensors": len(weights), "equal": 0, "missing": [], "different": []}
        for name, tensor in in_memory.items():
            if time.monotonic() - began > LONGEST_SECONDS:
                return comparison, f"it took more than {LONGEST_SECONDS:g} s"
            if name not in weights:
                comparison["missing"].append(name)
            elif same_bits(weights[name], tensor.cpu()):
                comparison["equal"] += 1
            else:
                comparison["different"].append(name)
        comparison["missing"], comparison["different"] = (
            comparison["missing"][:MOST_NAMES],
            comparison["different"][:MOST_NAMES],
        )
        return comparison, ""

    def _moved(self) -> dict[str, float]:
        """By group, the share of its tensors that are no longer what they were."""
        if self._start is None:
            return {}
        now = dict(self._observer.network.named_parameters())
        counts: dict[str, list[int]] = {}
        for name, before in zip(self._names, self._start.tolist()):
            count = counts.setdefault(name.partition(".")[0], [0, 0])
            count[0] += name not in now or int(fingerprint(now[name].detach())) != before
            count[1] += 1
        return {group: moved / all_ for group, (moved, all_) in counts.items()}


def weights_in(state: Any) -> Any:
    """The tensors by name in what is saved; None if it holds no weights."""
    wrapped_states = [state.get(name) for name in _NAMES_OF_WEIGHTS] if hasattr(state, "get") else []
    for candidate in (state, *wrapped_states):
        if hasattr(candidate, "items") and candidate:
            tensors = {without_prefix(str(name)): tensor for name, tensor in candidate.items() if is_tensor(tensor)}
            if len(tensors) > len(candidate) // 2:
                return tensors
    return None


def is_tensor(value: Any) -> bool:
    """Whether it is a tensor, without torch being imported here."""
    return hasattr(value, "element_size") and hasattr(value, "data_ptr")


def without_prefix(name: str) -> str:
    """A tensor's name without that of the wrapper for several processes."""
    return name[len("module.") :] if name.startswith("module.") else name


def compared(in_memory: Any, saved: Any, *, values: bool) -> dict[str, Any]:
    """The model's tensors that a file lacks, and with `values` those that it has with others."""
    missing = [name for name in in_memory if name not in saved]
    other = [
        name for name, tensor in in_memory.items() if values and name in saved and not same_values(tensor, saved[name])
    ]
    return {"tensors": len(saved), "missing": missing[:MOST_NAMES], "other_values": other[:MOST_NAMES]}


def same_values(first: Any, second: Any) -> bool:
    """Whether two tensors are equal; nothing is read where they share their storage."""
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    if first.device == second.device and first.data_ptr() == second.data_ptr() and first.stride() == second.stride():
        return True
    return same_bits(first, second)


def same_bits(first_tensor: Any, second_tensor: Any) -> bool:
    """Whether two tensors have the same numbers; not-a-number equals itself here."""
    if first_tensor.shape != second_tensor.shape or first_tensor.dtype != second_tensor.dtype:
        return False
    first, second = fingerprint(first_tensor), fingerprint(second_tensor)
    if first is None or second is None:
        return bool((first_tensor.cpu() == second_tensor.cpu()).all())
    return int(first) == int(second)


def fingerprint(tensor: Any) -> Any:
    """The sum of a tensor's bit patterns: exact, so it depends on no order. An int64 scalar; None for odd types."""
    import torch

    integer_type = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}.get(tensor.element_size())
    if integer_type is None or tensor.is_complex() or tensor.dtype == torch.bool or tensor.layout != torch.strided:
        return None
    return tensor.view(integer_type).sum(dtype=torch.int64)


def _is_average() -> bool:
    """Whether FunASR's averaging of checkpoints is what saves: its values are meant to be others."""
    frame: Any = sys._getframe(2)
    while frame is not None:
        if "average" in os.path.basename(frame.f_code.co_filename):
            return True
        frame = frame.f_back
    return False


def _available_bytes() -> int | None:
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None
