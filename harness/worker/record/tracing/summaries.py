"""What a recording contains: source locations, argument bindings, value summaries and the structure of a model.

Nothing is rounded: two tensors have the same digest only if every bit is the same.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import os
from collections.abc import Callable, Mapping
from types import CodeType, FrameType
from typing import Any

from harness.worker.process import failures


class SourceLocations:
    """Distinguishes the release's own code from other code, and names it."""

    def __init__(self, install_dir: str) -> None:
        self._install_dir = install_dir
        self._own = os.path.join(install_dir, "funasr") + os.sep  # noqa: PTH118 - what code objects hold are strings
        self._known: dict[CodeType, dict[str, Any] | None] = {}

    def function(self, code: CodeType) -> dict[str, Any] | None:
        """`file`, `function` (with its class) and lines of a function of the release; None for other code.

        Comprehensions and lambdas belong to the function around them.
        """
        if code not in self._known:
            of_release = code.co_filename.startswith(self._own) and not code.co_name.startswith("<")
            self._known[code] = self._described(code) if of_release else None
        return self._known[code]

    def _described(self, code: CodeType) -> dict[str, Any]:
        lines = [line for _, _, line in code.co_lines() if line]
        return {
            "file": failures.relative(code.co_filename, self._install_dir),
            "function": code.co_qualname.replace("<locals>.", ""),
            "line": code.co_firstlineno,
            "end_line": max(lines, default=code.co_firstlineno),
        }

    def of_class(self, kind: type) -> dict[str, Any] | None:
        """File and line of a class's forward; None if it is not Python."""
        forward = getattr(kind, "forward", None)
        code = getattr(inspect.unwrap(forward), "__code__", None) if callable(forward) else None
        if code is None:
            return None
        place = self.function(code) or self._described(code)
        return {"file": place["file"], "line": place["line"], "function": place["function"]}

    def ancestors(self, kind: type) -> list[dict[str, Any]]:
        """The class and its base classes, as far as they are the release's."""
        return [
            {"class": base.__qualname__, "module": base.__module__}
            for base in kind.__mro__
            if base.__module__.partition(".")[0] == "funasr"
        ]

    def call(self, frame: FrameType | None) -> dict[str, Any] | None:
        """The location of the call in progress in `frame`: file, function, first and last line and column.

        Frames of torch between the release's code and the module are skipped.
        """
        while frame is not None and not frame.f_code.co_filename.startswith(self._own):
            frame = frame.f_back
        if frame is None:
            return None
        positions = list(frame.f_code.co_positions())
        index = frame.f_lasti // 2
        line, end_line, column, end_column = positions[index] if index < len(positions) else (frame.f_lineno,) * 4
        return {
            "file": failures.relative(frame.f_code.co_filename, self._install_dir),
            "function": frame.f_code.co_qualname.replace("<locals>.", ""),
            "line": line or frame.f_lineno,
            "end_line": end_line or frame.f_lineno,
            "column": column,
            "end_column": end_column,
        }


@functools.cache
def _signature(function: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


def bind_arguments(
    function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[list[tuple[str, str, Any]], str]:
    """Which parameter of a bound method each argument is bound to.

    Returns:
        Parameter, how the argument was passed (`positional 5`, `keyword`, `default`) and the argument, in the order of
            the parameters; and the binding error, usually empty. With an error the parameters are unknown.
    """
    signature = _signature(getattr(function, "__func__", function))
    raw = [("", f"positional {place}", value) for place, value in enumerate(args, 1)]
    raw += [(name, "keyword", value) for name, value in kwargs.items()]
    if signature is None:
        return raw, ""
    owner = getattr(function, "__self__", None)
    bound_args = (owner, *args) if hasattr(function, "__func__") else args
    try:
        binding = signature.bind(*bound_args, **kwargs)
    except TypeError as error:
        return raw, str(error)
    skipped = len(bound_args) - len(args)
    return list(_bound_arguments(signature, binding, len(bound_args), skipped)), ""


def _bound_arguments(
    signature: inspect.Signature, binding: inspect.BoundArguments, bound_count: int, skipped: int
) -> Any:
    for place, (name, parameter) in enumerate(signature.parameters.items()):
        if place < skipped:
            continue
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            for offset, value in enumerate(binding.arguments.get(name, ())):
                number = place - skipped + offset
                yield f"*{name}[{offset}]", f"positional {number + 1}", value
        elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
            for key, value in binding.arguments.get(name, {}).items():
                yield key, "keyword", value
        elif name in binding.arguments:
            by_place = place < bound_count and parameter.kind is not inspect.Parameter.KEYWORD_ONLY
            yield name, f"positional {place - skipped + 1}" if by_place else "keyword", binding.arguments[name]
        else:
            yield name, "default", parameter.default


DIGITS = 16
"""Hexadecimal digits of a digest: enough that a few thousand tensors share none by chance."""
_MOST_ITEMS = 24
_DEEPEST = 3
_LONGEST_TEXT = 80


def summary(value: Any, *, with_values: bool, depth: int = 0) -> dict[str, Any]:
    """The shape and type of a value; with `with_values` also the digest, mean and largest magnitude of each tensor."""
    import torch

    if value is None:
        return {"kind": "none"}
    if isinstance(value, torch.Tensor):
        return _tensor(value, with_values=with_values)
    if isinstance(value, bool | int | float):
        return {"kind": type(value).__name__, "value": value}
    if isinstance(value, str):
        return {"kind": "str", "value": value[:_LONGEST_TEXT]}
    if isinstance(value, torch.Size):
        return {"kind": "tuple", "items": [{"kind": "int", "value": int(size)} for size in value]}
    if isinstance(value, tuple | list) and depth < _DEEPEST:
        kind = "tuple" if isinstance(value, tuple) else "list"
        items = [summary(item, with_values=with_values, depth=depth + 1) for item in value[:_MOST_ITEMS]]
        return {"kind": kind, "length": len(value), "items": items}
    if isinstance(value, Mapping) and depth < _DEEPEST:
        chosen = [key for key in value if isinstance(key, str)][:_MOST_ITEMS]
        named = {key: summary(value[key], with_values=with_values, depth=depth + 1) for key in chosen}
        return {"kind": "dict", "length": len(value), "named": named}
    return {"kind": "object", "type": type(value).__name__}


def _tensor(tensor: Any, *, with_values: bool) -> dict[str, Any]:
    described: dict[str, Any] = {
        "kind": "tensor",
        "shape": [int(size) for size in tensor.shape],
        "dtype": str(tensor.dtype).removeprefix("torch."),
    }
    if not with_values:
        return described
    try:
        plain = tensor.detach().cpu()
        described["digest"] = digest(plain)
        if plain.numel() and not plain.is_complex():
            described["mean"] = float(plain.double().mean())
            described["largest"] = float(plain.abs().max())
    except (RuntimeError, TypeError, NotImplementedError):
        # Sparse, quantized or fake tensors have no bytes to hash.
        described["digest"] = None
    return described


def digest(*tensors: Any) -> str:
    """A digest of the bytes of these dense tensors, in order."""
    import torch

    hashed = hashlib.sha256()
    for tensor in tensors:
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        if flat.numel():
            hashed.update(memoryview(flat.view(torch.uint8).numpy()))
    return hashed.hexdigest()[:DIGITS]


_PLAIN = (bool, int, float, str)


def modules(network: Any, places: SourceLocations) -> list[dict[str, Any]]:
    """Every module with its class, source location, parameter shapes and plain settings."""
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
    """Attributes that are numbers, strings or None; `training` is a state and no setting."""
    settings: dict[str, Any] = {}
    for name, value in vars(module).items():
        if name.startswith("_") or name == "training":
            continue
        if value is None or type(value) in _PLAIN:
            settings[name] = value[:_LONGEST_TEXT] if isinstance(value, str) else value
    return settings


def weights(network: Any) -> dict[str, str]:
    """A digest of each module's own parameters and buffers."""
    digests = {}
    for name, module in network.named_modules():
        own_tensors = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        if own_tensors:
            digests[name] = digest(*own_tensors)
    return digests


def gradients(network: Any) -> dict[str, dict[str, Any] | None]:
    """Per module with own parameters: digest and norm of their gradients; None if one is missing."""
    gradients_by_module: dict[str, dict[str, Any] | None] = {}
    for name, module in network.named_modules():
        own_parameters = [parameter for parameter in module.parameters(recurse=False) if parameter.requires_grad]
        if not own_parameters:
            continue
        having = [parameter.grad for parameter in own_parameters if parameter.grad is not None]
        if len(having) < len(own_parameters):
            gradients_by_module[name] = None
        else:
            norm = sum(float(gradient.detach().double().square().sum()) for gradient in having) ** 0.5
            gradients_by_module[name] = {"digest": digest(*having), "norm": norm}
    return gradients_by_module
