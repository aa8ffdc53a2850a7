"""What a value was, in a few words that JSON can say: its form, and for a tensor a short digest of its bytes.

Nothing is rounded: two tensors have the same digest only where every bit is the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

DIGITS = 16
"""Of a digest, hexadecimal: enough that no two of a few thousand tensors share one by chance."""
_MOST_ITEMS = 24
_DEEPEST = 3
_LONGEST_TEXT = 80


def summary(value: Any, *, whole: bool, depth: int = 0) -> dict[str, Any]:
    """The form of a value; with `whole` the digest, the mean and the largest magnitude of each tensor too."""
    import torch

    if value is None:
        return {"kind": "none"}
    if isinstance(value, torch.Tensor):
        return _tensor(value, whole=whole)
    if isinstance(value, bool | int | float):
        return {"kind": type(value).__name__, "value": value}
    if isinstance(value, str):
        return {"kind": "str", "value": value[:_LONGEST_TEXT]}
    if isinstance(value, torch.Size):
        return {"kind": "tuple", "items": [{"kind": "int", "value": int(size)} for size in value]}
    if isinstance(value, tuple | list) and depth < _DEEPEST:
        kind = "tuple" if isinstance(value, tuple) else "list"
        items = [summary(item, whole=whole, depth=depth + 1) for item in value[:_MOST_ITEMS]]
        return {"kind": kind, "length": len(value), "items": items}
    if isinstance(value, Mapping) and depth < _DEEPEST:
        chosen = [key for key in value if isinstance(key, str)][:_MOST_ITEMS]
        named = {key: summary(value[key], whole=whole, depth=depth + 1) for key in chosen}
        return {"kind": "dict", "length": len(value), "named": named}
    return {"kind": "object", "type": type(value).__name__}


def _tensor(tensor: Any, *, whole: bool) -> dict[str, Any]:
    told: dict[str, Any] = {
        "kind": "tensor",
        "shape": [int(size) for size in tensor.shape],
        "dtype": str(tensor.dtype).removeprefix("torch."),
    }
    if not whole:
        return told
    try:
        plain = tensor.detach().cpu()
        told["digest"] = digest(plain)
        if plain.numel() and not plain.is_complex():
            told["mean"] = float(plain.double().mean())
            told["largest"] = float(plain.abs().max())
    except (RuntimeError, TypeError, NotImplementedError):
        # Sparse, quantized or fake: its form is all that can be said.
        told["digest"] = None
    return told


def digest(*tensors: Any) -> str:
    """Of the bytes of these tensors, one after the other; they have to be dense."""
    import torch

    taken = hashlib.sha256()
    for tensor in tensors:
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        if flat.numel():
            taken.update(memoryview(flat.view(torch.uint8).numpy()))
    return taken.hexdigest()[:DIGITS]
