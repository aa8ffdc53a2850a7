"""From hashes to names: an outcome says which tensors differ, not what each of them was."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MOST_NAMES = 20

Weights = Mapping[str, str]


def summarised(metrics: dict[str, Any]) -> dict[str, Any]:
    """The same observations without the hashes; changes what it is given."""
    files, loading = metrics["files"], metrics["loading"]
    weights: dict[str, Weights] = files.pop("weights", {})
    last = metrics["whole"].pop("last_weights", None)
    for name in ("whole", "resumed", "within", "recipe", "once", "twice", "again"):
        run = metrics.get(name)
        if run is None:
            continue
        run["last_differs"] = differing(last, run.pop("last_weights", None)) if name in ("resumed", "again") else None
        run["weights_differ"] = differing((run.get("left") or {}).pop("weights", None), run.pop("weights", None))
        run["moments_kept"] = len((run.get("left") or {}).get("moments") or ())
        run["moments_differ"] = differing((run.get("left") or {}).pop("moments", None), run.pop("moments", None))
        for saved in run.get("saved", ()):
            held = saved.pop("weights")
            saved["differs"] = differing(held, weights.get(saved["name"])) if name == "whole" else None
    files["same_as"] = {name: _same(found, weights, name) for name, found in weights.items()}
    base = loading.pop("base", {})
    for name in ("average", "bare", "folder"):
        loaded = loading.get(name)
        if loaded is None:
            continue
        held = loaded.pop("weights")
        loaded["equals"] = _same(held, {**weights, "the base": base}, "") if held else None
        loaded["differs"] = differing(weights.get("model.pt"), held)
    return metrics


def differing(one: Weights | None, other: Weights | None) -> list[str] | None:
    """The tensors that are not the same in both, or only in one; None where one side was not seen."""
    if one is None or other is None:
        return None
    return [name for name in sorted({*one, *other}) if one.get(name) != other.get(name)][:MOST_NAMES]


def _same(held: Weights, weights: Mapping[str, Weights], name: str) -> list[str]:
    return sorted(other for other, found in weights.items() if other != name and found == held)
