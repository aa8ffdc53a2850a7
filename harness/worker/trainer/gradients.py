"""Whether gradients reach what is trained, are clipped as stated, and are gone before the next step gathers its own.

Which parameters have a gradient is looked at before every step. How large the gradients are is measured only at some,
because that reads all of them once more: clipping that is left out is left out at each step.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

MEASURED_FIRST = 4
"""The gradients are largest at the start, where clipping has something to do."""
MEASURED_EVERY = 16


@dataclass(frozen=True, kw_only=True)
class GradientNorms:
    """The gradients right before one optimizer step."""

    step: int
    """Counted from 0."""
    parameters: list[int]
    """Those that had a gradient, by their place in `named_parameters`."""
    norms: Any
    """Of each of them: a tensor `[parameters]`."""
    found_by_clipping: Any
    """The norm that clipping reported, before it clipped; None where nothing was clipped."""


@dataclass
class Gradients:
    """Watches the gradients of one network."""

    _names: list[str] = field(default_factory=list)
    _parameters: list[Any] = field(default_factory=list)
    _received: list[bool] = field(default_factory=list)
    _held: set[int] | None = None
    _measured: list[GradientNorms] = field(default_factory=list)
    _left: list[tuple[int, Any]] = field(default_factory=list)
    """Steps that began with gradients of the step before, and how large those were: tensors."""
    _steps: int = 0

    def attach(self, network: Any) -> None:
        """Note what there is to be trained."""
        named = [(name, one) for name, one in network.named_parameters() if one.requires_grad]
        self._names, self._parameters = [name for name, _ in named], [one for _, one in named]
        self._received = [False] * len(named)

    def before_first_forward(self) -> None:
        """Called before the first forward pass of each step: by now the last step's gradients are cleared."""
        left = [one.grad for one in self._parameters if one.grad is not None]
        if left:
            self._left.append((self._steps, _norms(left).max()))

    def before_step(self, optimizer: Any, found_by_clipping: Any) -> None:
        """Called right before each optimizer step."""
        if self._held is None:
            self._held = {id(one) for group in optimizer.param_groups for one in group["params"]}
        having = [number for number, one in enumerate(self._parameters) if one.grad is not None]
        for number in having:
            self._received[number] = True
        if having and (self._steps < MEASURED_FIRST or self._steps % MEASURED_EVERY == 0):
            norms = _norms([self._parameters[number].grad for number in having])
            self._measured.append(
                GradientNorms(step=self._steps, parameters=having, norms=norms, found_by_clipping=found_by_clipping)
            )
        self._steps += 1

    def figures(self) -> dict[str, Any]:
        """What was seen, as plain numbers and names."""
        largest = [0.0] * len(self._names)
        norms = []
        for one in self._measured:
            values = one.norms.cpu().double().tolist()
            for number, value in zip(one.parameters, values, strict=True):
                largest[number] = max(largest[number], value)
            found = one.found_by_clipping
            norms.append(
                {
                    "step": one.step,
                    "norm": sum(value * value for value in values) ** 0.5,
                    "found_by_clipping": None if found is None else float(found),
                }
            )
        held = self._held or set()
        return {
            "trainable_parameters": len(self._names),
            "trainable_bytes": sum(one.numel() * one.element_size() for one in self._parameters),
            "without_gradient": [
                name
                for name, received, size in zip(self._names, self._received, largest, strict=True)
                if not received or size == 0.0
            ],
            "not_in_optimizer": [
                name for name, one in zip(self._names, self._parameters, strict=True) if id(one) not in held
            ],
            "norms_before_steps": norms,
            "steps_begun_with_gradients": [step for step, size in self._left if float(size) != 0.0],
        }


def _norms(gradients: list[Any]) -> Any:
    import torch

    return torch.stack([gradient.detach().float().norm() for gradient in gradients])
