"""Building the model as the release's own users do, and finding one's way in it."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def seed_everything(seed: int) -> None:
    """Seed the generators that FunASR draws from: `random`, numpy and torch."""
    import numpy
    import torch

    random.seed(seed)
    numpy.random.seed(seed)
    torch.manual_seed(seed)


_kept: list[tuple[tuple[str, str, int], Any, Mapping[str, Any]]] = []


def keep(network: Any, config: Mapping[str, Any], made_of: tuple[str, str, int]) -> None:
    """Leave a model that nothing has touched since it was built to the next `build` with the same arguments.

    That is in this process or in a successor of it, see `harness.worker.process.handoff`.
    """
    _kept[:] = [(made_of, network, config)]


def build(folder: str, device: str, seed: int) -> tuple[Any, Mapping[str, Any]]:
    """The model of a model folder through the release's own `AutoModel`, with the config as `AutoModel` completed it.

    The config is handed over whole, as `funasr.bin.train_ds` does once the hub's code has read the folder:
    with `model_conf` given, `AutoModel` looks for nothing on a hub.
    """
    kept, _kept[:] = list(_kept), []
    for made_of, network, completed in kept:
        if made_of == (folder, device, seed):
            return network, completed
    from funasr.auto.auto_model import AutoModel
    from omegaconf import OmegaConf

    config: Any = OmegaConf.to_container(OmegaConf.load(f"{folder}/config.yaml"), resolve=True)
    config["tokenizer_conf"]["token_list"] = f"{folder}/tokens.json"
    config["frontend_conf"]["cmvn_file"] = f"{folder}/am.mvn"
    seed_everything(seed)
    auto = AutoModel(**config, device=device, seed=seed, disable_update=True)
    return auto.model, auto.kwargs


FAR_FROM_ANY_SEED = 9_000_000
"""Added to a training's seed: a start built with the trainer's own seed equals a model that loaded nothing."""
_SHIFT = 1e-3
"""Relative to a tensor's own root mean square: enough to tell it from a usual initial value bit by bit, and too little
to matter for what is learned from there."""
UNDAMPED_BLOCKS = 2
"""As many as a model of reduced depth has: its start is not damped."""
DAMPING = 0.02
"""With it the Paraformer of full depth (50 and 16 blocks, v8404-h320) heard 0.85 of what can only be heard after 120
steps at 0.0005; without it, after 36 steps at 0.002, nothing."""
_BLOCK = re.compile(r"(?:en|de)coders\.(\d+)\.")
_LEAST_SCALE = 0.05
"""Of tensors that begin as zeros, such as biases."""


def write_start(folder: str, path: Any, seed: int) -> None:
    """Write a checkpoint that no training of this seed could begin with unless it loads it.

    The weights are of another seed, and each tensor is shifted: layer norms, biases and running statistics begin with
    the same ones and zeros whatever the seed.
    What blocks beyond the second add to their input is damped, as in initialisations that scale residual branches with
    depth: from other random weights 50 blocks learn nothing in as many steps as a test can take.
    """
    import torch

    network, _ = build(folder, "cpu", seed + FAR_FROM_ANY_SEED)
    drawn = torch.Generator().manual_seed(seed + FAR_FROM_ANY_SEED)
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
            scale = max(float(plain.double().square().mean() ** 0.5), _LEAST_SCALE) * _SHIFT
            noise = torch.randn(plain.shape, generator=drawn, dtype=torch.float32) * scale
            # A variance must stay above 0.
            plain += (noise.abs() if name.endswith("running_var") else noise).to(plain.dtype)
            _damp(name, plain)
        state[name] = shared[value.data_ptr()] = plain
    torch.save(state, path)


def _damp(name: str, value: Any) -> None:
    """Make small what a deep block adds to its input: attention's and feed-forward's last layer, and SAN-M's memory.

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
    """The linear layers that put out scores over the vocabulary: attention decoders', hotwords' and CTC's."""
    import torch

    for name, module in model.named_modules():
        last = name.rpartition(".")[2]
        if isinstance(module, torch.nn.Linear) and (last.endswith("output_layer") or last == "ctc_lo"):
            yield name, module


def ctc_losses(model: Any) -> Iterator[tuple[str, Any]]:
    """CTC losses, with their names; they are built for no number of classes and take scores of any width."""
    import torch

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.CTCLoss):
            yield name, module


def below(name: str, prefixes: Sequence[str]) -> bool:
    """Whether a parameter's name is one of these, or begins with one of them and a dot."""
    return any(name == prefix or name.startswith(prefix.rstrip(".") + ".") for prefix in prefixes)


def group_of(name: str, groups: Mapping[str, Sequence[str]]) -> str:
    """The group (encoder, predictor, decoder, …) whose prefixes the parameter's name starts with, else `other`."""
    for group, prefixes in groups.items():
        if below(name, prefixes):
            return group
    return "other"
