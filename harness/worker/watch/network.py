"""The observed model: found within its wrappers, described by its parts, and what its forward pass returned."""

from __future__ import annotations

from typing import Any

SHARDED = ("FullyShardedDataParallel", "DeepSpeedEngine")
"""Wrappers under which the optimizer's parameters are not the model's own."""
_WRAPPERS = ("DistributedDataParallel", "DataParallel", *SHARDED)


def unwrapped(module: Any) -> tuple[Any, str]:
    """The model within the wrappers for several processes, and the outermost of those."""
    outermost = ""
    for _ in range(4):
        kinds = {kind.__name__ for kind in type(module).__mro__}
        name = next((wrapper for wrapper in _WRAPPERS if wrapper in kinds), "")
        inner = getattr(module, "module", None) if name else None
        if inner is None:
            break
        module, outermost = inner, outermost or name
    return module, outermost


def is_compiled(module: Any) -> bool:
    """Whether torch compiles its forward pass: a wrapper in there would be compiled too, and break its graph."""
    return hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None


def groups_of(network: Any) -> list[dict[str, Any]]:
    """The parameters by the first part of their names."""
    groups: dict[str, dict[str, Any]] = {}
    for name, parameter in network.named_parameters():
        part = name.partition(".")[0]
        group = groups.setdefault(part, {"name": part, "parameters": 0, "trainable": 0})
        group["parameters"] += parameter.numel()
        group["trainable"] += parameter.numel() if parameter.requires_grad else 0
    return list(groups.values())


def loss_and_stats(output: Any) -> tuple[Any, dict[str, Any]]:
    """What a forward pass returned: in FunASR `(loss, stats, weight)`; also a loss alone, or an object that has one."""
    stats: Any = {}
    if isinstance(output, (tuple, list)) and output:
        stats = output[1] if len(output) > 1 and hasattr(output[1], "items") else {}
        output = output[0]
    elif hasattr(output, "get") and not hasattr(output, "detach"):
        output = output.get("loss")
    elif not hasattr(output, "detach"):
        output = getattr(output, "loss", None)
    if getattr(output, "numel", None) is None or output.numel() != 1:
        return None, {}
    return output, {str(name): value for name, value in stats.items()}
