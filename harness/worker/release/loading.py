"""Loading a fine-tuned model as its user does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def by_folder(folder: Path, device: str = "cpu") -> Any:
    """The documented way where the folder has a configuration.json: `AutoModel(model=folder)`."""
    from funasr import AutoModel

    return AutoModel(model=str(folder), device=device, disable_update=True)


def by_config(folder: Path, checkpoint: Path, device: str = "cpu") -> Any:
    """The documented way without one: the folder's config.yaml, and the checkpoint as `init_param`.

    As `python -m funasr.bin.inference --config-path … ++init_param=…` does it: token list and feature statistics
    stand in the config that the trainer saved.
    """
    from funasr import AutoModel
    from omegaconf import OmegaConf

    config: Any = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"), resolve=True)
    words: Mapping[str, Any] = {"init_param": str(checkpoint), "device": device, "disable_update": True}
    return AutoModel(**{**config, **words})


def documented(folder: Path, device: str = "cpu") -> Any:
    """What the trainer saved last, loaded as the documentation tells for such a folder."""
    if (folder / "configuration.json").exists():
        return by_folder(folder, device)
    return by_config(folder, folder / "model.pt", device)
