"""A copy of a user's model folder that a trainer may read: config, small files, and weights that run no code."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Keys under which FunASR's loader looks for the weights, from the outermost to the innermost."""
_BLOCK = re.compile(r"(?:^|\.)(?:tp_)?(?:en|de)coders\d?\.(\d+)\.")
_NORM = re.compile(r"norm\d*\.weight$")


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A checkpoint of the user's."""

    whole: Any
    """As `torch.load` gives it."""
    state: Mapping[str, Any]
    """Its tensors by name."""

    @property
    def elements(self) -> int:
        """Numbers in all tensors."""
        return sum(int(tensor.numel()) for tensor in self.state.values())

    @property
    def norm_deviation(self) -> float | None:
        """Root mean square distance of the norms' scales from 1, where every model begins; None without norms."""
        import torch

        scales = [
            tensor.float().flatten() for name, tensor in self.state.items() if _NORM.search(name) and tensor.dim() == 1
        ]
        return float((torch.cat(scales) - 1).square().mean() ** 0.5) if scales else None

    def save(self, path: Path, *, blocks: int | None) -> None:
        """Write it in its own form; of deeper stacks only the first `blocks` blocks, if a number is given."""
        import torch

        state = {
            name: tensor.clone()
            for name, tensor in self.state.items()
            if blocks is None or not (block := _BLOCK.search(name)) or int(block[1]) < blocks
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(_wrapped(self.whole, state), path)


def read_weights(path: str) -> Weights:
    """A checkpoint, without running what is pickled in it.

    Raises:
        Exception: whatever `torch.load` raises where that is impossible.
    """
    import torch

    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError:
        # The form that torch wrote before 1.6 cannot be mapped.
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    state = checkpoint
    for wrapper in WRAPPERS:
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping):
        raise TypeError(f"a {type(state).__name__} and no tensors by name")
    tensors = {str(name): tensor for name, tensor in state.items() if isinstance(tensor, torch.Tensor)}
    if not tensors:
        raise TypeError("no tensors by name")
    return Weights(whole=checkpoint, state=tensors)


def _wrapped(checkpoint: Any, state: Mapping[str, Any]) -> Any:
    """The kept tensors below the same keys; optimizer and scheduler are left out."""
    wrapper = next((key for key in WRAPPERS if isinstance(checkpoint.get(key), Mapping)), None)
    return dict(state) if wrapper is None else {wrapper: _wrapped(checkpoint[wrapper], state)}


def write_copy(request: Mapping[str, Any], to: Path, *, weights: Weights | None, blocks: int | None) -> Path:
    """Write the folder; `blocks` is how deep its stacks are, None for their own depth.

    Only the files that the request names are copied: no code and no requirements of the user's.
    """
    from omegaconf import OmegaConf

    to.mkdir(parents=True)
    for name in request["files"]:
        target = to / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(Path(request["folder"]) / name, target)
    config = dict(request["config"])
    if blocks is not None:
        for path, value in request["shallow"].items():
            section, _, key = path.partition(".")
            config[section] = {**config[section], key: value}
    place = to / request["config_name"]
    place.parent.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(OmegaConf.create(config), place)
    if weights is not None:
        weights.save(to / request["checkpoint"]["in_copy"], blocks=blocks)
    return to
