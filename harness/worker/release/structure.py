"""What of a model its optimizer, its checkpoints and its config know: everything that it computes with, or not."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

_MOST_NAMED = 3
"""How many names a finding carries; the evidence has all."""


def describe(network: Any) -> dict[str, list[Any]]:
    """Names of parts that are built and yet out of reach; each list is empty for a model that is whole.

    Returns:
        `unregistered`: attributes that hold modules or parameters which `named_parameters` does not give, so that
        neither an optimizer nor a checkpoint gets them.
        `frozen`: the outermost modules, or single parameters, that ask for no gradient.
        `shared`: groups of names under which one parameter is registered.
    """
    return {
        "unregistered": sorted(_unregistered(network)),
        "frozen": sorted(_frozen(network, "")),
        "shared": sorted(_shared(network)),
    }


def code(network: Any) -> list[str]:
    """The release's own classes in a model, bases included, each as `funasr/models/ctc/ctc.py:CTC`.

    Which code runs depends on the class that was built, not on the name in the config: two modules may register one.
    """
    kinds = {kind for module in network.modules() for kind in type(module).__mro__}
    return sorted({f"{_file(kind)}:{kind.__qualname__}" for kind in kinds if kind.__module__.startswith("funasr.")})


def _file(kind: type) -> str:
    """The file of a class, as a path below the release's folder."""
    path = kind.__module__.replace(".", "/")
    made_in = getattr(sys.modules.get(kind.__module__), "__file__", None) or ""
    return f"{path}/__init__.py" if made_in.endswith("__init__.py") else f"{path}.py"


def misfit(found: Mapping[str, list[Any]], config: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """What is wrong with what `describe` found: kind, place and message of the finding; None when nothing is.

    The configs of the harness's variants freeze nothing and share nothing; one of the user's may say that it does.
    """
    if names := found["unregistered"]:
        text = f"the model holds {_told(names)} beside its registered modules: nothing trains or saves it"
        return "Unregistered", _place(names), text
    if (names := found["frozen"]) and not _asks(config, "freeze"):
        return "Frozen", _place(names), f"no gradient is asked for {_told(names)}, and the config freezes nothing"
    if (groups := found["shared"]) and not _asks(config, "share"):
        names = groups[0]
        text = f"{' and '.join(names)} are one tensor, and the config shares nothing"
        return "SharedWeights", _place(names), text
    return None


def _asks(config: Any, word: str) -> bool:
    """Whether a config has a key with this word in it that is switched on, at any depth."""
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
    """Parameters that an attribute holds, in lists and mappings too."""
    import torch

    if isinstance(value, torch.nn.Module):
        yield from value.parameters()
    elif isinstance(value, torch.nn.Parameter):
        yield value
    elif depth and isinstance(value, list | tuple | set | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _parameters_in(item, depth - 1)


def _frozen(module: Any, name: str) -> Iterator[str]:
    own = list(module.parameters())
    if own and not any(parameter.requires_grad for parameter in own):
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


def _told(names: list[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
