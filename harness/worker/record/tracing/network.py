"""What a model is made of, before anything is computed with it; and its gradients afterwards."""

from __future__ import annotations

from typing import Any

from harness.worker.record.tracing.places import Places
from harness.worker.record.tracing.values import digest

_PLAIN = (bool, int, float, str)
_LONGEST_TEXT = 80


def modules(network: Any, places: Places) -> list[dict[str, Any]]:
    """Every module with its class, where that is written, the shapes of its own parameters and its plain settings."""
    return [
        {
            "name": name,
            "class": type(module).__name__,
            "forward": places.of_class(type(module)),
            "ancestors": places.ancestors(type(module)),
            "parameters": {
                key: [int(size) for size in parameter.shape]
                for key, parameter in module.named_parameters(recurse=False)
            },
            "settings": _settings(module),
        }
        for name, module in network.named_modules()
    ]


def _settings(module: Any) -> dict[str, Any]:
    """Attributes that are numbers, words or nothing; `training` is a state."""
    found: dict[str, Any] = {}
    for name, value in vars(module).items():
        if name.startswith("_") or name == "training":
            continue
        if value is None or type(value) in _PLAIN:
            found[name] = value[:_LONGEST_TEXT] if isinstance(value, str) else value
    return found


def weights(network: Any) -> dict[str, str]:
    """A digest of each module's own parameters and buffers."""
    found = {}
    for name, module in network.named_modules():
        own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        if own:
            found[name] = digest(*own)
    return found


def gradients(network: Any) -> dict[str, dict[str, Any] | None]:
    """Of each module with parameters of its own: a digest and the norm of their gradients; None where one lacks."""
    found: dict[str, dict[str, Any] | None] = {}
    for name, module in network.named_modules():
        own = [parameter for parameter in module.parameters(recurse=False) if parameter.requires_grad]
        if not own:
            continue
        having = [parameter.grad for parameter in own if parameter.grad is not None]
        if len(having) < len(own):
            found[name] = None
        else:
            norm = sum(float(gradient.detach().double().square().sum()) for gradient in having) ** 0.5
            found[name] = {"digest": digest(*having), "norm": norm}
    return found
