"""What a training does to the parameters: gradients, clipping, and the change from the start checkpoint."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.worker.release import model
from harness.worker.trainer import in_force

MEASURED_FIRST = 4
"""Number of first steps whose gradient norms are measured: gradients are largest there, so clipping takes effect."""
MEASURED_EVERY = 16

MOST_NAMED = 20
"""Tensors that a checkpoint lacks are named up to so many."""


@dataclass(frozen=True, kw_only=True)
class GradientNorms:
    """The gradients right before one optimizer step."""

    step: int
    """Counted from 0."""
    parameters: list[int]
    """Indices in `named_parameters` of those that had a gradient."""
    norms: Any
    """Norm of each of them: a tensor `[parameters]`."""
    found_by_clipping: Any
    """The norm that clipping returned, from before it clipped; None if nothing was clipped."""


@dataclass
class Gradients:
    """Observes the gradients of one network.

    Which parameters have a gradient is observed before every step. Norms are measured at some steps only, because that
    reads all gradients once more: a trainer that does not clip does so at each step.
    """

    _names: list[str] = field(default_factory=list)
    _parameters: list[Any] = field(default_factory=list)
    _received: list[bool] = field(default_factory=list)
    _held: set[int] | None = None
    _measured: list[GradientNorms] = field(default_factory=list)
    _left: list[tuple[int, Any]] = field(default_factory=list)
    """Steps that began with gradients of the previous step, and the largest norm of those: tensors."""
    _steps: int = 0

    def attach(self, network: Any) -> None:
        """Find the trainable parameters."""
        named = [(name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad]
        self._names, self._parameters = [name for name, _ in named], [parameter for _, parameter in named]
        self._received = [False] * len(named)

    def before_first_forward(self) -> None:
        """Called before the first forward pass of each step, when the last step's gradients should be cleared."""
        left = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        if left:
            self._left.append((self._steps, _norms(left).max()))

    def before_step(self, optimizer: Any, found_by_clipping: Any) -> None:
        """Called right before each optimizer step."""
        if self._held is None:
            self._held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        having = [number for number, parameter in enumerate(self._parameters) if parameter.grad is not None]
        for number in having:
            self._received[number] = True
        if having and (self._steps < MEASURED_FIRST or self._steps % MEASURED_EVERY == 0):
            norms = _norms([self._parameters[number].grad for number in having])
            self._measured.append(
                GradientNorms(step=self._steps, parameters=having, norms=norms, found_by_clipping=found_by_clipping)
            )
        self._steps += 1

    def metrics(self) -> dict[str, Any]:
        """The observations as plain numbers and names."""
        largest = [0.0] * len(self._names)
        norms = []
        for measured in self._measured:
            values = measured.norms.cpu().double().tolist()
            for number, value in zip(measured.parameters, values, strict=True):
                largest[number] = max(largest[number], value)
            clipped_norm = measured.found_by_clipping
            norms.append(
                {
                    "step": measured.step,
                    "norm": sum(value * value for value in values) ** 0.5,
                    "found_by_clipping": None if clipped_norm is None else float(clipped_norm),
                }
            )
        in_optimizer = self._held or set()
        return {
            "trainable_parameters": len(self._names),
            "trainable_bytes": sum(parameter.numel() * parameter.element_size() for parameter in self._parameters),
            "without_gradient": [
                name
                for name, received, size in zip(self._names, self._received, largest, strict=True)
                if not received or size == 0.0
            ],
            "not_in_optimizer": [
                name
                for name, parameter in zip(self._names, self._parameters, strict=True)
                if id(parameter) not in in_optimizer
            ],
            "norms_before_steps": norms,
            "steps_begun_with_gradients": [step for step, size in self._left if float(size) != 0.0],
        }


@dataclass
class ParameterChanges:
    """The parameters and running statistics of one network before its first training step, and how they changed."""

    network: Any = None
    before: dict[str, Any] = field(default_factory=dict)
    """Parameters by name, copies on the CPU."""
    buffers: dict[str, Any] = field(default_factory=dict)
    """Floating-point buffers by name, before the first forward pass changes them: copies on the CPU."""

    def attach(self, network: Any) -> None:
        """Copy everything before the first forward pass."""
        self.network = network
        self.before = {name: parameter.detach().cpu().clone() for name, parameter in network.named_parameters()}
        self.buffers = {
            name: value.detach().cpu().clone()
            for name, value in network.state_dict().items()
            if name not in self.before and value.is_floating_point()
        }

    def frozen(self, config: Mapping[str, Any], groups: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        """Which parameters the configuration freezes, and which of those changed; empty without a forward pass."""
        return {} if self.network is None else in_force.trained(self.network, self.before, config, groups)

    def differing_from(self, checkpoint: Path, excludes: object = None, *, complete: bool = True) -> list[str]:
        """Parameters and running statistics that differed from a checkpoint when training began.

        Empty without a forward pass.

        Args:
            checkpoint: A file that `torch.load` reads: a state dict, or one under `state_dict`.
            excludes: Prefixes of names that the configuration excludes from loading.
            whole: Whether the file holds every tensor in the model's shapes; else only matching tensors are compared.
        """
        import torch

        if self.network is None:
            return []
        checkpoint_state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        checkpoint_state = checkpoint_state.get("state_dict", checkpoint_state)
        left = excludes.split(",") if isinstance(excludes, str) else list(excludes or ())  # type: ignore[call-overload]
        return [
            name
            for name, value in {**self.before, **self.buffers}.items()
            if not any(name.startswith(str(prefix)) for prefix in left)
            and (complete or (name in checkpoint_state and checkpoint_state[name].shape == value.shape))
            and (name not in checkpoint_state or not torch.equal(checkpoint_state[name], value))
        ]

    def not_in(self, checkpoint: Path) -> dict[str, Any]:
        """Parameters and running statistics that have no tensor of their name and shape in a user's checkpoint.

        Names and wrappers as FunASR's `load_pretrained_model` reads them.
        """
        import torch

        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        for key in ("state_dict", "model_state_dict", "model"):
            state = state.get(key, state)
        named = {name.removeprefix("module."): getattr(value, "shape", None) for name, value in state.items()}
        tensors = {**self.before, **self.buffers}
        names = [name for name, value in tensors.items() if named.get(name) != value.shape]
        return {"count": len(names), "of": len(tensors), "names": names[:MOST_NAMED]}

    def metrics(self, groups: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        """Per group of parameters the norm of the change over the norm at the start; and unchanged parameters."""
        named = {"groups": list(groups)}
        if self.network is None:
            return {**named, "relative_change_by_group": {}, "parameters_unchanged": []}
        moved: dict[str, float] = defaultdict(float)
        size: dict[str, float] = defaultdict(float)
        unchanged = []
        for name, parameter in self.network.named_parameters():
            before = self.before[name].double()
            change = float((parameter.detach().cpu().double() - before).square().sum())
            group = model.group_of(name, groups)
            moved[group] += change
            size[group] += float(before.square().sum())
            if change == 0.0:
                unchanged.append(name)
        relative = {group: (moved[group] / size[group]) ** 0.5 if size[group] else None for group in moved}
        return {**named, "relative_change_by_group": relative, "parameters_unchanged": unchanged}


def _norms(gradients: list[Any]) -> Any:
    import torch

    return torch.stack([gradient.detach().float().norm() for gradient in gradients])
