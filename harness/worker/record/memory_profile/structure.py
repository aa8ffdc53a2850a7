"""What a model is made of: its parameters, and its stacks of equal blocks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

from harness.worker.release import model


def full(folder: str, seed: int) -> Any:
    """The model at full depth, its parameters without values: memory that nobody writes to takes none.

    Torch's `meta` device would do as well; for each of its kinds of operation it imports a decomposition, which takes
    longer than all that is measured.
    """
    with _no_values():
        return model.build(folder, "cpu", seed)[0]


@contextlib.contextmanager
def _no_values() -> Iterator[None]:
    """Within it the functions of `torch.nn.init` leave a tensor as it is."""
    import torch

    functions = {name: one for name, one in vars(torch.nn.init).items() if name.endswith("_") and callable(one)}
    for name in functions:
        setattr(torch.nn.init, name, _left)
    try:
        yield
    finally:
        for name, one in functions.items():
            setattr(torch.nn.init, name, one)


def _left(tensor: Any, *_args: Any, **_kwargs: Any) -> Any:
    return tensor


def tensors(named: Iterable[tuple[str, Any]]) -> list[list[Any]]:
    """Name, bytes, and whether it is trained, in the model's order."""
    return [[name, one.numel() * one.element_size(), bool(one.requires_grad)] for name, one in named]


def stacks(network: Any, larger: Any) -> dict[str, tuple[int, int]]:
    """The stacks of blocks with their lengths in both models, by name; in `larger` they have as many blocks or more."""
    few, many = _stacks(network), _stacks(larger)
    return {name: (length, many[name]) for name, length in few.items() if many.get(name, 0) >= length}


def _stacks(network: Any) -> dict[str, int]:
    """Sequences of modules that lie in no other; what lies in a block is part of that block."""
    import torch

    kinds = (torch.nn.Sequential, torch.nn.ModuleList)
    found: dict[str, int] = {}
    for name, module in network.named_modules():
        if isinstance(module, kinds) and len(module) and not any(model.below(name, [one]) for one in found):
            found[name] = len(module)
    return found
