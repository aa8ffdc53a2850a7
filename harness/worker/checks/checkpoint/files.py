"""Reading what a run saved: which checkpoint is whose mean, which is the best, and whether any lacks a tensor."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.worker.trainer.children import ChildContext, ChildResult
from harness.worker.trainer.training_run import fingerprint

Ask = Callable[[str, Callable[[ChildContext], None]], ChildResult]

MOST_MEMBERS = 8
"""Of more files than these it is not looked for which were averaged."""
TOLERANCE = 1e-6
"""Relative to the largest value of a tensor: a mean may be rounded in more than one way."""


def read(folder: Path, ask: Ask) -> dict[str, Any]:
    """Every checkpoint's tensors by their hashes, the release's own scores, and what the averaged model is made of."""

    def work(room: ChildContext) -> None:
        names = sorted(path.name for path in folder.glob("model.pt*"))
        room.answer = {"names": names, "unreadable": {}, "weights": {}}
        states = {}
        for name in names:
            try:
                states[name] = _load(folder / name)
            except Exception as error:
                room.answer["unreadable"][name] = f"{type(error).__name__}: {error}"[:300]
        room.answer["weights"] = {
            name: {key: fingerprint(value) for key, value in _state(found).items()} for name, found in states.items()
        }
        room.answer["scores"] = _scores(states.get("model.pt", {}))
        room.answer["averages"] = {
            name: _members(_state(states[name]), {key: _state(states[key]) for key in names if _is_member(key, states)})
            for name in names
            if name.startswith("model.pt.avg") and name in states
        }

    answer = ask("files", work)
    return {**answer.value, "failure": answer.failure}


def _is_member(name: str, states: Mapping[str, Any]) -> bool:
    return name.startswith("model.pt.ep") and name in states


def _load(path: Path) -> Any:
    import torch

    return torch.load(path, map_location="cpu", weights_only=True)


def _state(checkpoint: Any) -> Mapping[str, Any]:
    """The tensors of a checkpoint, whose state may lie within it or be it."""
    state = checkpoint.get("state_dict", checkpoint)
    return state if isinstance(state, Mapping) else {}


def _scores(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """What the release wrote down of each checkpoint's validation; its spelling changed with 1.1.8."""
    found = {}
    for kind in ("acc", "loss"):
        for spelling in ("epoch", "eoch"):
            table = checkpoint.get(f"val_{kind}_step_or_{spelling}")
            if isinstance(table, Mapping):
                found[kind] = {str(name): _number(value) for name, value in table.items()}
    return {
        **found,
        "criterion": checkpoint.get("avg_keep_nbest_models_type"),
        "best": checkpoint.get("best_step_or_epoch"),
    }


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _members(average: Mapping[str, Any], states: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Of which checkpoints the averaged model is the mean, tensor by tensor; empty where it is of none."""
    found: dict[str, Any] = {"members": [], "tensors": len(average), "differs": []}
    names = sorted(states)[:MOST_MEMBERS]
    for size in range(len(names), 0, -1):
        for members in itertools.combinations(names, size):
            differs = _differs(average, [states[name] for name in members])
            if differs is None:
                found["members"].append(list(members))
    if not found["members"] and names:
        found["differs"] = sorted(average)[:5]
    found["missing"] = sorted({key for state in states.values() for key in state} - set(average))[:20]
    return found


def _differs(average: Mapping[str, Any], states: Sequence[Mapping[str, Any]]) -> str | None:
    """The first tensor that is not the mean; None where all are. Small tensors first: most sets differ in them."""
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
