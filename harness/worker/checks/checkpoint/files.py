"""Reading saved checkpoints: hashes, scores, members of the average; and the differences that an outcome reports."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.worker.trainer.children import ChildContext, RunChild
from harness.worker.trainer.training_trace import state_hash

MOST_MEMBERS = 8
"""Above this number of files, the members of the average are not searched."""
TOLERANCE = 1e-6
"""Relative to a tensor's largest value: a mean may be rounded in more than one way."""


def read(folder: Path, run_child: RunChild) -> dict[str, Any]:
    """The hashes of each checkpoint's tensors, the release's own scores, and the members of the averaged model."""

    def work(context: ChildContext) -> None:
        names = sorted(path.name for path in folder.glob("model.pt*"))
        context.answer = {"names": names, "unreadable": {}, "weights": {}}
        states = {}
        for name in names:
            try:
                states[name] = _load(folder / name)
            except Exception as error:
                context.answer["unreadable"][name] = f"{type(error).__name__}: {error}"[:300]
        context.answer["weights"] = {
            name: {key: state_hash(value) for key, value in _state(state).items()} for name, state in states.items()
        }
        context.answer["scores"] = _scores(states.get("model.pt", {}))
        context.answer["averages"] = {
            name: _members(_state(states[name]), {key: _state(states[key]) for key in names if _is_member(key, states)})
            for name in names
            if name.startswith("model.pt.avg") and name in states
        }

    answer = run_child("files", work)
    return {**answer.value, "failure": answer.failure}


def _is_member(name: str, states: Mapping[str, Any]) -> bool:
    return name.startswith("model.pt.ep") and name in states


def _load(path: Path) -> Any:
    import torch

    return torch.load(path, map_location="cpu", weights_only=True)


def _state(checkpoint: Any) -> Mapping[str, Any]:
    """The tensors of a checkpoint: under `state_dict`, or the checkpoint itself."""
    state = checkpoint.get("state_dict", checkpoint)
    return state if isinstance(state, Mapping) else {}


def _scores(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """The validation scores that the release saved per checkpoint; the keys' spelling changed in 1.1.8."""
    scores = {}
    for kind in ("acc", "loss"):
        for spelling in ("epoch", "eoch"):
            table = checkpoint.get(f"val_{kind}_step_or_{spelling}")
            if isinstance(table, Mapping):
                scores[kind] = {str(name): _number(value) for name, value in table.items()}
    return {
        **scores,
        "criterion": checkpoint.get("avg_keep_nbest_models_type"),
        "best": checkpoint.get("best_step_or_epoch"),
    }


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _members(average: Mapping[str, Any], states: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The sets of checkpoints whose mean is the averaged model, tensor by tensor; empty if there is none."""
    result: dict[str, Any] = {"members": [], "tensors": len(average), "differs": []}
    names = sorted(states)[:MOST_MEMBERS]
    for size in range(len(names), 0, -1):
        for members in itertools.combinations(names, size):
            differs = _differs(average, [states[name] for name in members])
            if differs is None:
                result["members"].append(list(members))
    if not result["members"] and names:
        result["differs"] = sorted(average)[:5]
    result["missing"] = sorted({key for state in states.values() for key in state} - set(average))[:20]
    return result


def _differs(average: Mapping[str, Any], states: Sequence[Mapping[str, Any]]) -> str | None:
    """The first tensor that is not the mean; None if all are. Small tensors first: most sets differ in them."""
    import torch

    for key in sorted(average, key=lambda name: average[name].numel()):
        if any(key not in state or state[key].shape != average[key].shape for state in states):
            return key
        if not average[key].dtype.is_floating_point:
            continue
        mean = torch.stack([state[key].double() for state in states]).mean(0)
        scale = float(mean.abs().max()) if mean.numel() else 0.0
        if not bool(((average[key].double() - mean).abs() <= TOLERANCE * max(scale, 1e-30)).all()):
            return key
    return None


MOST_NAMES = 20

Weights = Mapping[str, str]


def summarise(metrics: dict[str, Any]) -> dict[str, Any]:
    """The same observations without the hashes; changes its argument."""
    files, loading = metrics["files"], metrics["loading"]
    weights: dict[str, Weights] = files.pop("weights", {})
    last = metrics["whole"].pop("last_weights", None)
    for name in ("whole", "resumed", "within", "recipe", "once", "twice", "again"):
        run = metrics.get(name)
        if run is None:
            continue
        ended = run.pop("last_weights", None)
        run["last_differs"] = differing(last, ended) if name in ("resumed", "again") else None
        run["weights_differ"] = differing((run.get("left") or {}).pop("weights", None), run.pop("weights", None))
        run["moments_kept"] = len((run.get("left") or {}).get("moments") or ())
        run["moments_differ"] = differing((run.get("left") or {}).pop("moments", None), run.pop("moments", None))
        for saved in run.get("saved", ()):
            loaded_weights = saved.pop("weights")
            saved["differs"] = differing(loaded_weights, weights.get(saved["name"])) if name == "whole" else None
    files["same_as"] = {name: _same(hashes, weights, name) for name, hashes in weights.items()}
    base = loading.pop("base", {})
    for name in ("average", "bare", "folder"):
        loaded = loading.get(name)
        if loaded is None:
            continue
        loaded_weights = loaded.pop("weights")
        loaded["equals"] = _same(loaded_weights, {**weights, "the base": base}, "") if loaded_weights else None
        loaded["differs"] = differing(weights.get("model.pt"), loaded_weights)
    return metrics


def differing(first: Weights | None, second: Weights | None) -> list[str] | None:
    """The tensors that differ or are in one mapping only; None if one side was not observed."""
    if first is None or second is None:
        return None
    return [name for name in sorted({*first, *second}) if first.get(name) != second.get(name)][:MOST_NAMES]


def _same(hashes: Weights, weights: Mapping[str, Weights], name: str) -> list[str]:
    return sorted(other for other, other_hashes in weights.items() if other != name and other_hashes == hashes)
