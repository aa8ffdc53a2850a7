"""Taps: points of a forward pass at which gradients are recorded while the values stay unchanged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Tap:
    """One point; tensors that pass while gradients are disabled are ignored."""

    nodes: list[Any] = field(default_factory=list)
    """The tensors that passed, in order."""
    gradients: dict[int, Any] = field(default_factory=dict)
    """The loss's gradient by the index in `nodes`; the backward pass fills it."""
    detached: int = 0
    """Number of tensors that passed without depending on an input."""
    _hooks: list[Any] = field(default_factory=list)

    @property
    def used(self) -> bool:
        """Whether anything passed."""
        return bool(self.nodes or self.detached)

    def clear(self) -> None:
        """Forget what passed: another pass begins."""
        self.close()
        self.nodes, self.gradients, self.detached = [], {}, 0

    def close(self) -> None:
        """Record no more gradients: backward passes along parts of the graph must add nothing."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def through(self, tensor: Any) -> Any:
        """The same values in a new tensor, which may be changed in place."""
        import torch

        if not torch.is_grad_enabled():
            return tensor
        if not tensor.requires_grad:
            self.detached += 1
            return tensor
        node, number = tensor.clone(), len(self.nodes)
        self._hooks.append(node.register_hook(lambda gradient: self._keep(number, gradient)))
        self.nodes.append(node)
        return node.clone()

    def back_to(self, source: Any) -> Any:
        """The part of the loss's gradient with respect to `source` that flows through this tap; None if none does.

        The graph of the forward pass must still exist.
        """
        import torch

        passed = [(self.nodes[number], gradient) for number, gradient in sorted(self.gradients.items())]
        if not passed:
            return None
        nodes, gradients = zip(*passed, strict=True)
        return torch.autograd.grad(nodes, source, gradients, retain_graph=True, allow_unused=True)[0]

    def before(self, module: Any) -> None:
        """Put the tap before a module's first argument."""
        module.register_forward_pre_hook(self._handed, with_kwargs=True)

    def behind(self, module: Any) -> None:
        """Put the tap behind the first tensor of a module's output."""
        module.register_forward_hook(lambda _module, _args, output: replaced(output, self.through))

    def _handed(self, _module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            return ((self.through(args[0]), *args[1:]), kwargs) if is_signal(args[0]) else None
        name = next(iter(kwargs), "")
        return (args, {**kwargs, name: self.through(kwargs[name])}) if is_signal(kwargs.get(name)) else None

    def _keep(self, number: int, gradient: Any) -> None:
        summed = self.gradients.get(number)
        self.gradients[number] = gradient.detach() if summed is None else summed + gradient.detach()


def replaced(output: Any, through: Callable[[Any], Any]) -> Any:
    """A module's output with its first tensor passed through; None if it does not start with a tensor."""
    if is_signal(output):
        return through(output)
    if type(output) in (tuple, list) and output:
        first = replaced(output[0], through)
        return None if first is None else type(output)([first, *output[1:]])
    return None


def first(output: Any) -> Any:
    """The first tensor of a module's output; None if it does not start with a tensor."""
    if is_signal(output):
        return output
    return first(output[0]) if type(output) in (tuple, list) and output else None


def is_signal(value: Any) -> bool:
    """Whether it is a floating-point tensor: features, hidden states, embeddings."""
    import torch

    return isinstance(value, torch.Tensor) and value.is_floating_point()


def is_whole(value: Any) -> bool:
    """Whether it is an integer tensor: lengths or token ids."""
    import torch

    return isinstance(value, torch.Tensor) and not value.is_floating_point() and value.dtype != torch.bool
