"""The `construct` check: a model whose loss, projections and parameters fit the vocabulary and the config.

What is particular to an architecture is in the request, under `contract`: see `harness.variants.architecture`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from harness.worker.release import findings, model


def construct(request: Mapping[str, Any]) -> dict[str, Any]:
    """Build the model; compare its losses, projections and parameter counts with the vocabulary and the config."""
    network, config = model.build(request["model_folder"], request["device"], request["seed"])
    model.constructed[:] = [network]
    vocab_size, hidden_size = request["vocab_size"], request["hidden_size"]
    built_for = [
        {"name": name, "type": type(module).__name__, "classes": module.size} for name, module in model.losses(network)
    ]
    outputs = [
        {"name": name, "in_features": layer.in_features, "out_features": layer.out_features}
        for name, layer in model.projections(network)
    ]
    by_group: dict[str, int] = defaultdict(int)
    for name, parameter in network.named_parameters():
        by_group[model.group_of(name, request["groups"])] += parameter.numel()
    parts = unreachable_parts(network)
    result = {
        "status": "passed",
        "reason": "",
        "metrics": {"parameters": sum(by_group.values()), "parameters_by_group": dict(by_group)},
        "evidence": {
            "losses": built_for,
            "projections": outputs,
            "input_size": config.get("input_size"),
            "code": model.code(network),
            **{name: names for name, names in parts.items() if names},
        },
    }
    contract = request.get("contract", {})
    widths = {
        **dict.fromkeys((layer["name"] for layer in outputs), hidden_size),
        **contract.get("projection_width", {}),
    }
    problem = _width_fault(built_for, outputs, vocab_size, widths) or _missing_part(network, contract.get("losses", {}))
    if problem is None and (out_of_reach := structural_fault(parts, config)):
        problem = findings.failed(*out_of_reach)
    return {**result, **problem} if problem else result


def _width_fault(
    built_for: list[dict[str, Any]], outputs: list[dict[str, Any]], vocab_size: int, widths: Mapping[str, int]
) -> dict[str, Any] | None:
    if not built_for or not outputs:
        missing = "loss built for a number of classes" if not built_for else "projection to the vocabulary"
        return findings.failed("NoLoss" if not built_for else "NoProjection", "model", f"the model has no {missing}")
    for loss in built_for:
        if loss["classes"] != vocab_size:
            text = f"{loss['name']} is built for {loss['classes']} classes, the vocabulary has {vocab_size}"
            return findings.failed("LossBuiltForOtherVocabulary", loss["name"], text)
    for layer in outputs:
        if layer["out_features"] != vocab_size:
            text = f"{layer['name']} outputs {layer['out_features']} scores, the vocabulary has {vocab_size}"
            return findings.failed("ProjectionOfOtherWidth", layer["name"], text)
        if layer["in_features"] != (width := widths[layer["name"]]):
            text = f"{layer['name']} takes {layer['in_features']} features, the hidden size is {width}"
            return findings.failed("ProjectionOfOtherWidth", layer["name"], text)
    return None


def _missing_part(network: Any, carrying: Mapping[str, list[str]]) -> dict[str, Any] | None:
    """A failure if the model lacks a loss or projection that its architecture's loss needs."""
    for name, layers in carrying.items():
        for module_name, kind in ((name, "NoLoss"), *((projection, "NoProjection") for projection in layers)):
            if not _has_module(network, module_name):
                return findings.failed(kind, module_name, f"the model has no {module_name}, which carries its loss")
    return None


def _has_module(network: Any, name: str) -> bool:
    for part in name.split("."):
        network = getattr(network, part, None)
    return network is not None


_MOST_NAMED = 3
"""The number of names in a message; the evidence has all."""


def unreachable_parts(network: Any) -> dict[str, list[Any]]:
    """Names of parts that an optimizer or a checkpoint does not reach; each list is empty for a sound model.

    Returns:
        `unregistered`: attributes that hold modules or parameters that `named_parameters` does not return, so that
            neither an optimizer nor a checkpoint gets them.
        `frozen`: the outermost modules, or single parameters, that require no gradient.
        `shared`: groups of names under which one parameter is registered.
    """
    return {
        "unregistered": sorted(_unregistered(network)),
        "frozen": sorted(_frozen(network, "")),
        "shared": sorted(_shared(network)),
    }


def structural_fault(parts: Mapping[str, list[Any]], config: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """Kind, place and message of what is wrong with the result of `unreachable_parts`; None if nothing is.

    The configs of the harness's variants freeze and share nothing; a user's config may.
    """
    if names := parts["unregistered"]:
        text = f"the model holds {_list_names(names)} outside its registered modules: nothing trains or saves it"
        return "Unregistered", _place(names), text
    if (names := parts["frozen"]) and not _asks(config, "freeze"):
        return "Frozen", _place(names), f"requires_grad is off for {_list_names(names)}, and the config freezes nothing"
    if (groups := parts["shared"]) and not _asks(config, "share"):
        names = groups[0]
        text = f"{' and '.join(names)} are one tensor, and the config shares nothing"
        return "SharedWeights", _place(names), text
    return None


def _asks(config: Any, word: str) -> bool:
    """Whether a config has a key with this word that is switched on, at any depth."""
    if isinstance(config, Mapping):
        return any((word in str(key) and bool(value)) or _asks(value, word) for key, value in config.items())
    return isinstance(config, list | tuple) and any(_asks(item, word) for item in config)


def _unregistered(network: Any) -> Iterator[str]:
    import torch

    torchs_own = vars(torch.nn.Module()).keys()
    known = {id(parameter) for parameter in network.parameters()}
    for name, module in network.named_modules():
        for attribute, value in vars(module).items():
            if attribute not in torchs_own and any(id(parameter) not in known for parameter in _parameters_in(value)):
                yield f"{name}.{attribute}" if name else attribute


def _parameters_in(value: Any, depth: int = 2) -> Iterator[Any]:
    """The parameters that an attribute holds, in lists and mappings too."""
    import torch

    if isinstance(value, torch.nn.Module):
        yield from value.parameters()
    elif isinstance(value, torch.nn.Parameter):
        yield value
    elif depth and isinstance(value, list | tuple | set | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _parameters_in(item, depth - 1)


def _frozen(module: Any, name: str) -> Iterator[str]:
    parameters = list(module.parameters())
    if parameters and not any(parameter.requires_grad for parameter in parameters):
        yield name or "model"
        return
    for key, parameter in module.named_parameters(recurse=False):
        if not parameter.requires_grad:
            yield _joined(name, key)
    for key, child in module.named_children():
        yield from _frozen(child, _joined(name, key))


def _shared(network: Any) -> Iterator[list[str]]:
    names: dict[int, list[str]] = defaultdict(list)
    for name, parameter in network.named_parameters(remove_duplicate=False):
        names[id(parameter)].append(name)
    yield from (sorted(group) for group in names.values() if len(group) > 1)


def _joined(*names: str) -> str:
    return ".".join(filter(None, names))


def _place(names: list[str]) -> str:
    return "+".join(names[:_MOST_NAMED])


def _list_names(names: list[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
