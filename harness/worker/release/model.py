"""Building a model, writing a start checkpoint, loading a fine-tuned model, and finding the parts of a model."""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any


def seed_everything(seed: int) -> None:
    """Seed the generators that FunASR draws from: `random`, numpy and torch."""
    import numpy
    import torch

    random.seed(seed)
    numpy.random.seed(seed)
    torch.manual_seed(seed)


def read_config(folder: str | Path, *, resolve: bool = True) -> dict[str, Any]:
    """The `config.yaml` of a model folder as plain data; `resolve` replaces OmegaConf's interpolations."""
    from omegaconf import OmegaConf

    config: Any = OmegaConf.to_container(OmegaConf.load(Path(folder) / "config.yaml"), resolve=resolve)
    return dict(config)


constructed: list[Any] = []
"""The model of `construct`, which nothing calls: a recorder reads its modules."""


def build(folder: str, device: str, seed: int) -> tuple[Any, Mapping[str, Any]]:
    """The model of a folder, built by the release's own `AutoModel`; and the config as `AutoModel` completed it.

    The whole config is passed, as `funasr.bin.train_ds` does once the hub's code has read the folder: with `model_conf`
    given, `AutoModel` does not contact a hub.
    """
    from funasr.auto.auto_model import AutoModel

    config = read_config(folder)
    config["tokenizer_conf"]["token_list"] = f"{folder}/tokens.json"
    config["frontend_conf"]["cmvn_file"] = f"{folder}/am.mvn"
    seed_everything(seed)
    auto = AutoModel(**config, device=device, seed=seed, disable_update=True)
    return auto.model, auto.kwargs


START_SEED_OFFSET = 9_000_000
"""Added to a training's seed: a start built with the trainer's own seed would equal a model that loaded nothing."""
_RELATIVE_NOISE = 1e-3
"""Relative to a tensor's root mean square: enough to differ bitwise from usual initial values, too little to affect
training."""
UNDAMPED_BLOCKS = 2
"""Models of reduced depth have no more blocks, so their start is not damped."""
DAMPING = 0.02
"""With it the Paraformer of full depth (50 and 16 blocks, v8404-h320) learned 0.85 of what only speech can teach after
120 steps at 0.0005; without it, after 36 steps at 0.002, nothing."""
_BLOCK = re.compile(r"(?:en|de)coders\.(\d+)\.")
_LEAST_SCALE = 0.05
"""For tensors that start as zeros, such as biases."""


def write_start(folder: str, path: Any, seed: int) -> None:
    """Write a checkpoint that a training with this seed can only start from by loading it.

    The weights come from another seed, and each tensor gets noise: layer norms, biases and running statistics start as
    the same ones and zeros with any seed. The residual contributions of blocks beyond the second are damped, as in
    initialisations that scale residual branches with depth: from other random weights 50 blocks learn nothing in as
    many steps as a test can take.
    """
    import torch

    network, _ = build(folder, "cpu", seed + START_SEED_OFFSET)
    drawn = torch.Generator().manual_seed(seed + START_SEED_OFFSET)
    learned = {name for name, _ in network.named_parameters()}
    state: dict[str, Any] = {}
    shared: dict[int, Any] = {}
    for name, value in network.state_dict().items():
        if value.numel() and value.data_ptr() in shared:
            # Tied: one tensor under two names.
            state[name] = shared[value.data_ptr()]
            continue
        plain = value.detach().clone()
        if plain.is_floating_point() and (name in learned or name.endswith(("running_mean", "running_var"))):
            scale = max(float(plain.double().square().mean() ** 0.5), _LEAST_SCALE) * _RELATIVE_NOISE
            noise = torch.randn(plain.shape, generator=drawn, dtype=torch.float32) * scale
            # A variance must stay above 0.
            plain += (noise.abs() if name.endswith("running_var") else noise).to(plain.dtype)
            damp(name, plain)
        state[name] = shared[value.data_ptr()] = plain
    torch.save(state, path)


def damp(name: str, value: Any) -> None:
    """Reduce a deep block's residual contribution: last layers of attention and feed-forward, and SAN-M's memory.

    SAN-M's memory is a sum over its values, the last third of `linear_q_k_v`.
    """
    block = _BLOCK.search(name)
    if block is None or int(block[1]) < UNDAMPED_BLOCKS:
        return
    if name.endswith(("linear_out.weight", "w_2.weight")):
        value *= DAMPING
    elif name.endswith("linear_q_k_v.weight"):
        value[2 * len(value) // 3 :] *= DAMPING


def losses(model: Any) -> Iterator[tuple[str, Any]]:
    """Loss modules that are built for a number of classes (their `size`), with their names."""
    for name, module in model.named_modules():
        if "Loss" in type(module).__name__ and isinstance(getattr(module, "size", None), int):
            yield name, module


def projections(model: Any) -> Iterator[tuple[str, Any]]:
    """The linear layers that output scores over the vocabulary: of attention decoders, hotwords and CTC."""
    import torch

    for name, module in model.named_modules():
        last = name.rpartition(".")[2]
        if isinstance(module, torch.nn.Linear) and (last.endswith("output_layer") or last == "ctc_lo"):
            yield name, module


def ctc_losses(model: Any) -> Iterator[tuple[str, Any]]:
    """CTC losses, with their names; they take scores of any width."""
    import torch

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.CTCLoss):
            yield name, module


def has_prefix(name: str, prefixes: Sequence[str]) -> bool:
    """Whether a parameter's name is one of these, or starts with one of them and a dot."""
    return any(name == prefix or name.startswith(prefix.rstrip(".") + ".") for prefix in prefixes)


def group_of(name: str, groups: Mapping[str, Sequence[str]]) -> str:
    """The group (encoder, predictor, decoder, …) whose prefixes the parameter's name starts with, else `other`."""
    for group, prefixes in groups.items():
        if has_prefix(name, prefixes):
            return group
    return "other"


def code(network: Any) -> list[str]:
    """The release's own classes in a model, with base classes, each as `funasr/models/ctc/ctc.py:CTC`.

    The code that runs depends on the class that was built, not on the name in the config: two modules may register one
    name.
    """
    kinds = {kind for module in network.modules() for kind in type(module).__mro__}
    return sorted({f"{_file(kind)}:{kind.__qualname__}" for kind in kinds if kind.__module__.startswith("funasr.")})


def _file(kind: type) -> str:
    """The file of a class, as a path below the release's folder."""
    path = kind.__module__.replace(".", "/")
    made_in = getattr(sys.modules.get(kind.__module__), "__file__", None) or ""
    return f"{path}/__init__.py" if made_in.endswith("__init__.py") else f"{path}.py"


def load_folder(folder: Path, device: str = "cpu") -> Any:
    """Load a folder with a configuration.json as documented: `AutoModel(model=folder)`."""
    from funasr import AutoModel

    return AutoModel(model=str(folder), device=device, disable_update=True)


def load_checkpoint(folder: Path, checkpoint: Path, device: str = "cpu") -> Any:
    """Load a folder without a configuration.json as documented: its config.yaml, and a checkpoint as `init_param`.

    As `python -m funasr.bin.inference --config-path … ++init_param=…` does; token list and feature statistics are in
    the config that the trainer saved.
    """
    from funasr import AutoModel

    settings: Mapping[str, Any] = {"init_param": str(checkpoint), "device": device, "disable_update": True}
    return AutoModel(**{**read_config(folder), **settings})


def load_as_documented(folder: Path, device: str = "cpu") -> Any:
    """Load the trainer's last checkpoint in the way that the documentation gives for such a folder."""
    if (folder / "configuration.json").exists():
        return load_folder(folder, device)
    return load_checkpoint(folder, folder / "model.pt", device)
