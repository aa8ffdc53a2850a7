"""Every tensor's memory from birth to end, in the order in which it happens.

A storage counts once, however many tensors look into it, from the operation that made it until nothing holds it any
more: the model's attributes, what autograd saved, local names. That is what an allocator sees; what a kernel needs
within itself is not seen.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

_MULTIPLYING = frozenset({"mm", "bmm", "addmm", "baddbmm", "convolution", "convolution_backward"})
_HALVES = ("torch.float16", "torch.bfloat16")


class AllocationLog:
    """Active between `with`; what happens is entered under the label that was begun last."""

    def __init__(self) -> None:
        self._mode: Any = None
        self.steps: list[list[dict[str, Any]]] = []
        self._events: list[list[int]] = []
        self._watched: dict[int, Any] = {}
        """By the identity of the storage's object, which lives as long as the storage does."""
        self._count = 0
        self._live = 0
        self.peak = 0
        """Bytes, the most that was live at once since the ledger was made or `forget_peak` was called."""

    def forget_peak(self) -> None:
        """The peak is from now on that of what follows."""
        self.peak = self._live

    def __enter__(self) -> AllocationLog:
        self._mode = _mode(self)
        self._mode.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._mode.__exit__(*error)

    def begin_step(self) -> None:
        """What follows belongs to another step."""
        self.steps.append([])

    def begin(self, kind: str, stack: str | None = None, index: int = 0, turn: int = 0) -> None:
        """What follows belongs to this stretch of the step.

        Args:
            kind: `load`, `forward`, `backward` or `update`.
            stack: The name of the stack of equal blocks, where it is about one of its blocks.
            index: The block's place in the stack.
            turn: How often the block ran in this step before.
        """
        self._events = []
        self.steps[-1].append({"kind": kind, "stack": stack, "index": index, "turn": turn, "events": self._events})

    def know(self, tensors: Iterable[Any]) -> None:
        """Storages that are there already and are not entered: the model's own."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            self._watched[id(storage)] = storage

    def enter(self, tensor: Any) -> None:
        """Enter the birth of a tensor's storage, unless it is known."""
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

    def enter_all(self, result: Any) -> None:
        """Enter the births in an operation's result."""
        if isinstance(result, list | tuple):
            for one in result:
                self.enter_all(one)
        elif hasattr(result, "untyped_storage") and str(result.layout) == "torch.strided":
            self.enter(result)


def _mode(ledger: AllocationLog) -> Any:
    """What torch calls with every operation; made here, because torch is not imported before a check needs it."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Entering(TorchDispatchMode):  # type: ignore[misc]
        @classmethod
        def _should_skip_dynamo(cls) -> bool:
            # Torch asks: otherwise the first operation imports torch._dynamo, which takes longer than the step.
            return False

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = computed(func, args, kwargs or {})
            ledger.enter_all(result)
            return result

    return Entering()


def computed(func: Any, args: Any, kwargs: Any) -> Any:
    """The result of an operation; products of half precision are computed in float32 and rounded, as is not entered.

    Most processors multiply halves many times slower than whole numbers; of the results only the sizes matter here.
    """
    name = func.overloadpacket.__name__
    if name not in _MULTIPLYING or not any(_is_half(one) for one in args):
        return func(*args, **kwargs)
    kind = next(one.dtype for one in args if _is_half(one))
    result = func(*(one.float() if _is_half(one) else one for one in args), **kwargs)
    return _each(result, lambda one: one.to(kind))


def _is_half(value: Any) -> bool:
    return str(getattr(value, "dtype", "")) in _HALVES


def _each(result: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(result, list | tuple):
        return type(result)(_each(one, change) for one in result)
    return change(result) if hasattr(result, "dtype") else result
