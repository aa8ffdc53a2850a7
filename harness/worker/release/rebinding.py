"""Watching a function of torch wherever a release has bound it: as torch's, or by name in a module of its own.

`from torch.nn.utils import clip_grad_norm_` takes the function along; patching torch's attribute afterwards would watch
nothing. Modules that are imported later find the watched one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any


def rebind(original: Callable[..., Any], replacement: Callable[..., Any]) -> int:
    """Put `replacement` wherever a module's global is `original`; returns in how many places.

    In modules of torch the function is looked for by its own name, in a release's by any.
    """
    places = 0
    for name, module in list(sys.modules.items()):
        package, held = name.partition(".")[0], getattr(module, "__dict__", {})
        if package == "torch":
            candidates = [original.__name__]
        elif package == "funasr":
            candidates = [key for key, value in held.items() if value is original]
        else:
            continue
        for key in candidates:
            if held.get(key) is original:
                setattr(module, key, replacement)
                places += 1
    return places
