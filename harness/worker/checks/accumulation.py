"""Gradients accumulated over k batches against the mean of the gradients of these batches.

Everything that is drawn at random is switched off, each batch is one utterance, and two utterances take turns: of one
utterance alone the last batch's gradient would be the mean as well. The loss is a mean over tokens of a batch, so what
k batches accumulate to is the mean of what each gives: a trainer that only adds gives k times as much, one that loses a
batch gives another. What each gives is taken from a training on that utterance alone.
A batch k times as large is not computed: up to 1.1.16 the CIF predictor finds one token more or fewer by a rounding
that depends on the shape of the batch (`cif` in funasr/models/paraformer/cif_predictor.py; 1.1.17 took `cif_v1`), and
that is not the trainer's doing.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from harness.worker.release import model
from harness.worker.trainer import children, launch, options, speech

UNCLIPPED = 1e9
"""Clipping would make gradients of any size equal."""
UTTERANCES = 2
STEPS = 2
"""Of which one is enough, but some samplers lose an epoch's last batch."""
WITHOUT_DITHER = {"frontend_conf": {"dither": 0.0}}


def compare(request: Mapping[str, Any], batches: int) -> dict[str, Any]:
    """Both gradients' norms and their relative difference; `failure` where accumulating ends in an exception."""
    kept = Path.cwd() / "gradients"
    kept.mkdir()
    found: dict[str, Any] = {"batches": batches, "utterances": UTTERANCES}
    answer = None
    for number in range(UTTERANCES):
        answer = launch.apart(request, f"alone-{number}", partial(_train, request, (1, number), kept))
        if answer.failure:
            return found | {"failure": answer.failure["signature"]}
    parts = launch.apart(request, "accumulated", partial(_train, request, (batches, None), kept))
    shutil.rmtree(kept, ignore_errors=True)
    if parts.failure:
        return found | {"failure": parts.failure["signature"]}
    return found | {
        "norm_of_mean": parts.value.get("norm_of_mean"),
        "norm_accumulated": parts.value.get("norm"),
        "relative_difference": parts.value.get("relative_difference"),
    }


def _train(request: Mapping[str, Any], asked: tuple[int, int | None], kept: Path, room: children.ChildContext) -> None:
    """Train up to the first optimizer step.

    `asked` is how many batches are accumulated for it, and the number of the one utterance, or None for all in turn.
    """
    accumulate, number = asked
    overlay, entry, seed = request["release"]["overlay"], request["entry"], request["seed"]
    model_class = launch.enter_whole(overlay, request["model_class"])
    dialect = options.of(overlay, request["release"]["version"], entry)
    folder = speech.copy_folder(request["model_folder"], room.path / "model", seed, WITHOUT_DITHER)
    every = speech.read_rows(speech.few_rows(request))[:UTTERANCES]
    chosen = every if number is None else [every[number % len(every)]]
    rows = speech.repeated(chosen, len(chosen), STEPS * max(accumulate, len(chosen)))
    training = {
        **launch.base(request, seed),
        "overrides": options.shared(request["finetune"].get("overrides", {})),
        "batch_size": 1,
        "epochs": 1,
        "model_folder": str(folder),
        "train": str(speech.write_rows(rows, room.path / "train.jsonl")),
        "output_dir": str(room.path / "exp"),
        "in_order": True,
    }
    networks = disable_randomness(model_class, seed)
    _leave_at_first_step(networks, _batches_seen(model_class), (accumulate, kept), room)
    words = {"train_conf.accum_grad": accumulate, "train_conf.grad_clip": UNCLIPPED}
    launch.run_trainer(entry, {**dialect.overrides(training), **words})


def disable_randomness(model_class: Any, seed: int) -> list[Any]:
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


def _batches_seen(model_class: Any) -> list[str]:
    """A list that will hold the batch of each forward pass in training mode, by the hash of its features."""
    from harness.worker.trainer.training_run import fingerprint

    forward, seen = model_class.forward, []

    def watched(network: Any, *args: Any, **kwargs: Any) -> Any:
        if network.training:
            seen.append(fingerprint(kwargs.get("speech", args[0] if args else None)).partition("[")[0])
        return forward(network, *args, **kwargs)

    model_class.forward = watched
    return seen


def _leave_at_first_step(
    networks: list[Any], seen: list[str], asked: tuple[int, Path], room: children.ChildContext
) -> None:
    """Before the first optimizer step keep the gradient of one batch, or compare that of several, and leave."""
    import torch
    from torch.optim.optimizer import register_optimizer_step_pre_hook

    batches, kept = asked

    def leave(_optimizer: Any, _args: Any, _kwargs: Any) -> None:
        named = networks[0].named_parameters()
        gradient = {name: one.grad.detach().double().cpu() for name, one in named if one.grad is not None}
        norm = _norm(gradient)
        room.answer["norm"] = norm
        if batches == 1:
            torch.save(gradient, kept / seen[0])
            room.leave()
        # A batch that is not one of the utterances says nothing about accumulation.
        if all((kept / name).exists() for name in seen):
            mean = _mean([torch.load(kept / name, weights_only=True) for name in seen], batches)
            size = max(norm, _norm(mean))
            apart = {
                name: gradient.get(name, 0.0) - mean.get(name, torch.zeros(()))
                for name in gradient.keys() | mean.keys()
            }
            room.answer["norm_of_mean"] = _norm(mean)
            room.answer["relative_difference"] = _norm(apart) / size if size else None
        room.leave()

    register_optimizer_step_pre_hook(leave)


def _mean(gradients: list[dict[str, Any]], count: int) -> dict[str, Any]:
    names = {name for one in gradients for name in one}
    return {name: sum(one.get(name, 0.0) for one in gradients) / count for name in names}


def _norm(tensors: Mapping[str, Any]) -> float:
    return float(sum(float(one.square().sum()) for one in tensors.values()) ** 0.5)
