"""Compares gradients accumulated over k batches with the mean of those batches' gradients.

All randomness is disabled, each batch is one utterance, and two utterances alternate: with one utterance alone, the
last batch's gradient would equal the mean. The loss is a mean over the tokens of a batch, so the gradient accumulated
over k batches is the mean of their gradients. A trainer that only adds gives k times as much; one that loses a batch
gives another value. The gradient of each utterance comes from a training on that utterance alone.

A batch k times as large is not used: up to 1.1.16 the CIF predictor finds one token more or fewer by a rounding that
depends on the batch's shape (`cif` in funasr/models/paraformer/cif_predictor.py; 1.1.17 uses `cif_v1`). That is not the
trainer's fault.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from harness.worker.release import model
from harness.worker.trainer import children, launch, options

UNCLIPPED = 1e9
"""A clipping threshold that is never reached: clipping would give gradients of any size one norm."""
UTTERANCES = 2
STEPS = 2
"""One step would do, but some samplers lose an epoch's last batch."""


def compare(request: Mapping[str, Any], batches: int) -> dict[str, Any]:
    """The norms of both gradients and their relative difference; `failure` if a training raises."""
    gradients_folder = Path.cwd() / "gradients"
    gradients_folder.mkdir()
    metrics: dict[str, Any] = {"batches": batches, "utterances": UTTERANCES}
    answer = None
    for number in range(UTTERANCES):
        answer = launch.run_in_child(request, f"alone-{number}", partial(train, request, (1, number), gradients_folder))
        if answer.failure:
            return metrics | {"failure": answer.failure["signature"]}
    parts = launch.run_in_child(request, "accumulated", partial(train, request, (batches, None), gradients_folder))
    shutil.rmtree(gradients_folder, ignore_errors=True)
    if parts.failure:
        return metrics | {"failure": parts.failure["signature"]}
    return metrics | {
        "norm_of_mean": parts.value.get("norm_of_mean"),
        "norm_accumulated": parts.value.get("norm"),
        "relative_difference": parts.value.get("relative_difference"),
    }


def train(
    request: Mapping[str, Any], setting: tuple[int, int | None], gradients_folder: Path, context: children.ChildContext
) -> None:
    """Train up to the first optimizer step.

    Args:
        asked: The number of batches to accumulate; and the index of the one utterance, or None for all in turn.
        kept: The folder with the gradients of the utterances.
    """
    accumulate, number = setting
    install_dir, entry, seed = request["release"]["install_dir"], request["entry"], request["seed"]
    model_class = launch.import_model_class(install_dir, request["model_class"])
    trainer_options = options.trainer_options(install_dir, request["release"]["version"], entry)
    folder = launch.copy_folder(request["model_folder"], context.path / "model", seed, launch.WITHOUT_DITHER)
    rows_of_utterances = launch.read_rows(launch.few_rows(request))[:UTTERANCES]
    chosen = rows_of_utterances if number is None else [rows_of_utterances[number % len(rows_of_utterances)]]
    rows = launch.repeated(chosen, len(chosen), STEPS * max(accumulate, len(chosen)))
    training = {
        **launch.base_training(request, seed),
        "overrides": options.shared_overrides(request["finetune"].get("overrides", {})),
        "batch_size": 1,
        "epochs": 1,
        "model_folder": str(folder),
        "train": str(launch.write_rows(rows, context.path / "train.jsonl")),
        "output_dir": str(context.path / "exp"),
        "in_order": True,
    }
    networks = disable_randomness(model_class, seed)
    _leave_at_first_step(networks, _batches_seen(model_class), (accumulate, gradients_folder), context)
    overrides = {"train_conf.accum_grad": accumulate, "train_conf.grad_clip": UNCLIPPED}
    launch.run_trainer(entry, {**trainer_options.overrides(training), **overrides})


def disable_randomness(model_class: Any, seed: int) -> list[Any]:
    """Disable dropout, masking and sampling in training forward passes; returns a list that will hold the model."""
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
        # Remaining draws, such as the chunk size, are the same in every pass.
        model.seed_everything(seed)
        return forward(network, *args, **kwargs)

    model_class.forward = quiet
    return networks


def _batches_seen(model_class: Any) -> list[str]:
    """A list that will hold, per training forward pass, the hash of the batch's features."""
    from harness.worker.trainer.training_trace import state_hash

    forward, hashes = model_class.forward, []

    def recording_forward(network: Any, *args: Any, **kwargs: Any) -> Any:
        if network.training:
            hashes.append(state_hash(kwargs.get("speech", args[0] if args else None)).partition("[")[0])
        return forward(network, *args, **kwargs)

    model_class.forward = recording_forward
    return hashes


def _leave_at_first_step(
    networks: list[Any], hashes: list[str], setting: tuple[int, Path], context: children.ChildContext
) -> None:
    """Before the first optimizer step, save one batch's gradient or compare several; then end the child."""
    import torch
    from torch.optim.optimizer import register_optimizer_step_pre_hook

    batches, gradients_folder = setting

    def leave(_optimizer: Any, _args: Any, _kwargs: Any) -> None:
        named = networks[0].named_parameters()
        gradient = {
            name: parameter.grad.detach().double().cpu() for name, parameter in named if parameter.grad is not None
        }
        norm = _norm(gradient)
        context.answer["norm"] = norm
        if batches == 1:
            torch.save(gradient, gradients_folder / hashes[0])
            context.leave()
        # Other batches than these utterances prove nothing about accumulation.
        if all((gradients_folder / name).exists() for name in hashes):
            mean = _mean([torch.load(gradients_folder / name, weights_only=True) for name in hashes], batches)
            size = max(norm, _norm(mean))
            difference = {
                name: gradient.get(name, 0.0) - mean.get(name, torch.zeros(()))
                for name in gradient.keys() | mean.keys()
            }
            context.answer["norm_of_mean"] = _norm(mean)
            context.answer["relative_difference"] = _norm(difference) / size if size else None
        context.leave()

    register_optimizer_step_pre_hook(leave)


def _mean(gradients: list[dict[str, Any]], count: int) -> dict[str, Any]:
    names = {name for gradient in gradients for name in gradient}
    return {name: sum(gradient.get(name, 0.0) for gradient in gradients) / count for name in names}


def _norm(tensors: Mapping[str, Any]) -> float:
    return float(sum(float(tensor.square().sum()) for tensor in tensors.values()) ** 0.5)
