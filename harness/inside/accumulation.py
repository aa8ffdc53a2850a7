"""Gradients accumulated over k batches against that of one batch k times as large.

The rows are one utterance over and over, and everything that is drawn at random is switched off. The loss is a mean
over tokens, so a batch of k copies has the gradient of one copy, and k batches of one copy have to accumulate to that
too: one that only adds gives k times as much, one that loses a batch gives less.
The large batch is not computed as one: up to 1.1.16 the CIF predictor finds one token more or fewer by a rounding
that depends on the shape of the batch (`cif` in funasr/models/paraformer/cif_predictor.py; 1.1.17 took `cif_v1`), and
that is not the trainer's doing.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from harness.inside import children, dialects, finetune, model, speech

UNCLIPPED = 1e9
"""Clipping would make gradients of any size equal."""
STEPS = 2
"""Of which one is enough, but some samplers lose an epoch's last batch."""
WITHOUT_DITHER = {"frontend_conf": {"dither": 0.0}}


def compare(request: Mapping[str, Any], batches: int) -> dict[str, Any]:
    """Both gradients' norms and their relative difference; `failure` where accumulating ends in an exception."""
    kept = Path.cwd() / "gradient.pt"
    found: dict[str, Any] = {"batches": batches}
    whole = finetune.apart(request, "at-once", partial(_train, request, 1, kept))
    parts = finetune.apart(request, "accumulated", partial(_train, request, batches, kept))
    kept.unlink(missing_ok=True)
    if whole.failure:
        return found | {"failure": whole.failure["signature"]}
    if parts.failure:
        return found | {"failure": parts.failure["signature"]}
    return found | {
        "norm_at_once": whole.value.get("norm"),
        "norm_accumulated": parts.value.get("norm"),
        "relative_difference": parts.value.get("relative_difference"),
    }


def _train(request: Mapping[str, Any], accumulate: int, kept: Path, room: children.Room) -> None:
    """Train up to the first optimizer step, for which so many batches of one utterance are accumulated."""
    overlay, entry, seed = request["release"]["overlay"], request["entry"], request["seed"]
    model_class = finetune._enter_whole(overlay, request["model_class"])
    dialect = dialects.of(overlay, request["release"]["version"], entry)
    folder = speech.copy_folder(request["model_folder"], room.path / "model", seed, WITHOUT_DITHER)
    rows = speech.repeated(speech.read_rows(speech.few_rows(request)), 1, STEPS * accumulate)
    training = {
        **finetune.base(request, seed),
        "batch_size": 1,
        "epochs": 1,
        "model_folder": str(folder),
        "train": str(speech.write_rows(rows, room.path / "train.jsonl")),
        "output_dir": str(room.path / "exp"),
        "in_order": True,
    }
    networks = quieten(model_class, seed)
    _leave_at_first_step(networks, kept, room)
    words = {"train_conf.accum_grad": accumulate, "train_conf.grad_clip": UNCLIPPED}
    finetune.run_trainer(entry, {**dialect.overrides(training), **words})


def quieten(model_class: Any, seed: int) -> list[Any]:
    """Switch off what is drawn at random in the training's forward passes; gives the list that will hold the model."""
    import torch

    forward = model_class.forward
    networks: list[Any] = []

    def quiet(network: Any, *args: Any, **kwargs: Any) -> Any:
        if not networks:
            networks.append(network)
            network.specaug, network.sampling_ratio = None, 0.0
            for module in network.modules():
                if isinstance(module, torch.nn.Dropout):
                    module.p = 0.0
        # What is left to draw, such as the size of a chunk, is the same in every pass.
        model.seed_everything(seed)
        return forward(network, *args, **kwargs)

    model_class.forward = quiet
    return networks


def _leave_at_first_step(networks: list[Any], kept: Path, room: children.Room) -> None:
    """Before the first optimizer step note the gradient, and how far it is from the one that is kept, and leave."""
    import torch
    from torch.optim.optimizer import register_optimizer_step_pre_hook

    def leave(_optimizer: Any, _args: Any, _kwargs: Any) -> None:
        named = networks[0].named_parameters()
        gradient = {name: one.grad.detach().double().cpu() for name, one in named if one.grad is not None}
        norm = _norm(gradient)
        room.answer["norm"] = norm
        if not kept.exists():
            torch.save(gradient, kept)
            room.leave()
        other = torch.load(kept, weights_only=True)
        apart = {
            name: gradient.get(name, 0.0) - other.get(name, torch.zeros(())) for name in gradient.keys() | other.keys()
        }
        size = max(norm, _norm(other))
        room.answer["relative_difference"] = _norm(apart) / size if size else None
        room.leave()

    register_optimizer_step_pre_hook(leave)


def _norm(tensors: Mapping[str, Any]) -> float:
    return float(sum(float(one.square().sum()) for one in tensors.values()) ** 0.5)
