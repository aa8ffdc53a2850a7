"""The lifetime of every tensor's memory, in the order of events.

A storage counts once, however many tensors view it, from the operation that made it until nothing holds it any more:
attributes of the model, tensors saved by autograd, local names. That is what an allocator sees. Memory that a kernel
uses internally is not seen.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

_MULTIPLYING = frozenset({"mm", "bmm", "addmm", "baddbmm", "convolution", "convolution_backward"})
_HALVES = ("torch.float16", "torch.bfloat16")


class AllocationLog:
    """A context manager; events are recorded in the section that began last."""

    def __init__(self) -> None:
        self._mode: Any = None
        self.steps: list[list[dict[str, Any]]] = []
        self._events: list[list[int]] = []
        self._watched: dict[int, Any] = {}
        """By the identity of the storage object, which lives as long as the storage."""
        self._count = 0
        self._live = 0
        self.peak = 0
        """Most live bytes since the log was made or `forget_peak` was called."""

    def forget_peak(self) -> None:
        """Restart the peak from the bytes that are live now."""
        self.peak = self._live

    def __enter__(self) -> AllocationLog:
        self._mode = _mode(self)
        self._mode.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._mode.__exit__(*error)

    def begin_step(self) -> None:
        """Begin another step."""
        self.steps.append([])

    def begin_section(self, kind: str, stack: str | None = None, index: int = 0, turn: int = 0) -> None:
        """Begin a section of the step.

        Args:
            kind: `load`, `forward`, `backward` or `update`.
            stack: The name of the stack of equal blocks, if the section is one of its blocks.
            index: The block's index in the stack.
            turn: How often the block ran in this step before.
        """
        self._events = []
        self.steps[-1].append({"kind": kind, "stack": stack, "index": index, "turn": turn, "events": self._events})

    def exclude(self, tensors: Iterable[Any]) -> None:
        """Do not record these tensors' storages: the model's own exist before the step."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            self._watched[id(storage)] = storage

    def record(self, tensor: Any) -> None:
        """Record the allocation of a tensor's storage, unless it is known."""
        storage = tensor.untyped_storage()
        key, size = id(storage), storage.nbytes()
        if key in self._watched or not size or tensor.device.type == "meta":
            return
        number = self._count
        self._count += 1
        self._live += size
        self.peak = max(self.peak, self._live)
        self._events.append([number, size])

        def ended(_: Any) -> None:
            self._watched.pop(key, None)
            self._live -= size
            self._events.append([number])

        self._watched[key] = weakref.ref(storage, ended)

    def record_all(self, result: Any) -> None:
        """Record the allocations in an operation's result."""
        if isinstance(result, list | tuple):
            for item in result:
                self.record_all(item)
        elif hasattr(result, "untyped_storage") and str(result.layout) == "torch.strided":
            self.record(result)


def _mode(log: AllocationLog) -> Any:
    """The hook that torch calls for every operation; defined here so that torch is imported only when needed."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Entering(TorchDispatchMode):  # type: ignore[misc]
        @classmethod
        def _should_skip_dynamo(cls) -> bool:
            # Without this, the first operation imports torch._dynamo, which takes longer than the step.
            return False

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = computed(func, args, kwargs or {})
            log.record_all(result)
            return result

    return Entering()


def computed(func: Any, args: Any, kwargs: Any) -> Any:
    """The result of an operation; half-precision products are computed in float32, unrecorded, and rounded.

    Most processors multiply half-precision numbers many times slower; only the sizes of the results matter here.
    """
    name = func.overloadpacket.__name__
    if name not in _MULTIPLYING or not any(_is_half(argument) for argument in args):
        return func(*args, **kwargs)
    kind = next(argument.dtype for argument in args if _is_half(argument))
    result = func(*(argument.float() if _is_half(argument) else argument for argument in args), **kwargs)
    return _map_tensors(result, lambda tensor: tensor.to(kind))


def _is_half(value: Any) -> bool:
    return str(getattr(value, "dtype", "")) in _HALVES


def _map_tensors(result: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(result, list | tuple):
        return type(result)(_map_tensors(item, change) for item in result)
    return change(result) if hasattr(result, "dtype") else result
