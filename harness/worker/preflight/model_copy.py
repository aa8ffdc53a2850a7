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
        return sum(int(one.numel()) for one in self.state.values())

    @property
    def norm_deviation(self) -> float | None:
        """Root mean square distance of the norms' scales from 1, where every model begins; None without norms."""
        import torch

        scales = [one.float().flatten() for name, one in self.state.items() if _NORM.search(name) and one.dim() == 1]
        return float((torch.cat(scales) - 1).square().mean() ** 0.5) if scales else None

    def save(self, path: Path, *, blocks: int | None) -> None:
        """Write it in its own form; of deeper stacks only the first `blocks` blocks, if a number is given."""
        import torch

        kept = {
            name: one.clone()
            for name, one in self.state.items()
            if blocks is None or not (found := _BLOCK.search(name)) or int(found[1]) < blocks
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(_wrapped(self.whole, kept), path)


def read_weights(path: str) -> Weights:
    """A checkpoint, without running what is pickled in it.

    Raises:
        Exception: whatever `torch.load` raises where that is impossible.
    """
    import torch

    try:
        whole = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError:
        # The form that torch wrote before 1.6 cannot be mapped.
        whole = torch.load(path, map_location="cpu", weights_only=True)
    state = whole
    for wrapper in WRAPPERS:
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping):
        raise TypeError(f"a {type(state).__name__} and no tensors by name")
    tensors = {str(name): one for name, one in state.items() if isinstance(one, torch.Tensor)}
    if not tensors:
        raise TypeError("no tensors by name")
    return Weights(whole=whole, state=tensors)


def _wrapped(whole: Any, kept: Mapping[str, Any]) -> Any:
    """The kept tensors below the same keys; optimizer and scheduler are left out."""
    wrapper = next((one for one in WRAPPERS if isinstance(whole.get(one), Mapping)), None)
    return dict(kept) if wrapper is None else {wrapper: _wrapped(whole[wrapper], kept)}


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
