"""The `loss_contract` check: one training step whose loss, gradients and inputs fit together.

What is particular to an architecture is in the request, under `contract`: see `harness.variants.architecture`.
"""

from __future__ import annotations

import contextlib
import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from harness.worker.checks import frames_heard, teacher_forcing
from harness.worker.release import findings, model
from harness.worker.release.batches import make_batch

SUM_TOLERANCE = 1e-4
"""Relative: a sum of a few losses in single precision is exact to about 1e-7; a missing part changes it by tenths."""

MORE_PASSES = 8
"""Further passes with other seeds, run only while a frame has not been heard. A sound release misses a frame in up to a
quarter of its passes (see `frames_heard`), and in nine of them once in 260 000 times."""


WITHOUT_GRADIENT = "parameters-without-gradient"
"""Code of the finding: trainable parameters without gradient that the variant's `without_loss` excuses."""


def loss_contract(request: Mapping[str, Any]) -> dict[str, Any]:
    """One forward and one backward pass in training mode on a batch in the form of FunASR's collator."""
    network, config = model.build(request["model_folder"], request["device"], request["seed"])
    network.to(request["device"]).train()
    inputs: list[dict[str, Any]] = []
    calls: dict[str, int] = {}
    watching = _watch(network, inputs, calls)
    contract = request.get("contract", {})
    batch_options = {**contract, "ctc": any(True for _ in model.ctc_losses(network))}
    batch = make_batch(config["input_size"], request["vocab_size"], request["seed"], request["device"], batch_options)
    frames = frames_heard.FramesHeard(network, request["groups"], config)
    model.seed_everything(request["seed"])
    evidence: dict[str, Any] = {"loss_inputs": inputs, "projection_calls": calls}
    try:
        loss, stats, _weight = network(**frames.begin_pass(batch))
    except Exception as error:
        return _raised(error, request, evidence, _width_misfit(inputs, request["vocab_size"]))
    value = float(loss.detach())
    result = {
        "status": "passed",
        "reason": "",
        "metrics": {"loss": value, "gradient_norm_by_group": None},
        "evidence": evidence,
    }
    text = _width_misfit(inputs, request["vocab_size"])
    if not inputs:
        return {**result, **findings.failed("LossNotCalled", "model", "the forward pass called no classification loss")}
    if text:
        return {**result, **findings.failed("LossWidth", text.partition(" ")[0], text)}
    if silent := [name for name in contract.get("losses", ()) if name not in {received["name"] for received in inputs}]:
        text = f"the forward pass never called {silent[0]}, which carries the loss"
        return {**result, **findings.failed("LossNotCalled", silent[0], text)}
    layers = [name for names in contract.get("losses", {}).values() for name in names]
    if unused := [name for name in layers if not calls.get(name)]:
        text = f"the forward pass never called {unused[0]}, whose scores the loss takes"
        return {**result, **findings.failed("ProjectionNotCalled", unused[0], text)}
    if not any(calls.values()):
        # If hidden size and vocabulary are equal, hidden states are as wide as scores.
        names = " and ".join(calls)
        return {**result, **findings.failed("ProjectionNotCalled", names, f"the forward pass never called {names}")}
    if not math.isfinite(value):
        return {**result, **findings.failed("LossNotFinite", "model", f"the loss is {value}")}
    documented_parts = contract.get("loss_is")
    if (
        text := _misfit_of_parts(value, stats, documented_parts)
        if documented_parts
        else sum_misfit(value, stats, config["model_conf"])
    ):
        return {**result, **findings.failed("LossNotTheSum", "model", text)}
    if not loss.requires_grad:
        return {
            **result,
            **findings.failed("NoGradient", "loss", "the loss is cut off from the model: it has no gradient"),
        }
    try:
        # The graph is retained for the gradients along the model's parts.
        loss.backward(retain_graph=True)
    except Exception as error:
        return _raised(error, request, evidence, None, in_backward=True)
    norms = _gradient_norms(network, request["groups"])
    result["metrics"] = {"loss": value, "gradient_norm_by_group": norms}
    for group in request["groups"]:
        norm = norms.get(group)
        if norm is None or not math.isfinite(norm) or norm == 0.0:
            observed = "no gradient" if not norm else f"a gradient of norm {norm}"
            return {**result, **findings.failed("NoGradient", group, f"after backward the {group} has {observed}")}
    trainable = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    unreached = (*contract.get("without_loss", ()), *parameters_without_sampler(config))
    without = [name for name, parameter in trainable.items() if parameter.grad is None]
    if excused := [name for name in without if model.has_prefix(name, unreached)]:
        _note_without_gradient(excused)
    if untouched := [name for name in without if not model.has_prefix(name, unreached)]:
        text = f"after backward {len(untouched)} parameters have no gradient, such as {untouched[0]}"
        return {**result, **findings.failed("NoGradient", untouched[0], text)}
    for hook in watching:
        hook.remove()
    _gather_frames(network, batch, frames, request["seed"])
    evidence["frames_heard"] = counts = frames.counts()
    if unheard := frames_heard.misfit(counts):
        return {**result, **findings.failed("FramesUnheard", *unheard)}
    _note_own_token(network, batch, request["vocab_size"])
    return result


def _note_own_token(network: Any, batch: Mapping[str, Any], vocab_size: int) -> None:
    """A decoder that sees its own target still trains, and its loss falls; so it is a finding and no failure."""
    moved = teacher_forcing.difference(network, batch, vocab_size)
    if moved is None or moved <= teacher_forcing.TOLERANCE:
        return
    message = (
        "The decoder's scores for a token depend on that token: it sees its own target, learns to copy it, and has "
        "nothing to copy when it decodes."
    )
    findings.note(teacher_forcing.CODE, message, "decoder", relative_difference=moved)


def _note_without_gradient(names: list[str]) -> None:
    """Note parameters that the variant's YAML excuses from gradients: with several processes they stop a training."""
    parts = sorted({name.rpartition(".")[0] for name in names})
    message = (
        f"After backward {len(names)} trainable parameters have no gradient, such as {names[0]}: "
        "DistributedDataParallel waits for them, so a training with several processes stops at its second step "
        "unless train_conf.find_unused_parameters is true."
    )
    findings.note(WITHOUT_GRADIENT, message, ", ".join(parts), parameters=names)


def parameters_without_sampler(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Parameters without gradient in a Paraformer whose config disables the sampler, the only user of `embed`."""
    return ("decoder.embed",) if config["model_conf"].get("sampling_ratio") == 0 else ()


def _gather_frames(network: Any, batch: Mapping[str, Any], frames: frames_heard.FramesHeard, seed: int) -> None:
    """Collect the frames that this pass heard, and those of further passes while some are missing."""
    complete = frames.gather()
    for number in range(1, MORE_PASSES + 1):
        if complete:
            return
        model.seed_everything(seed + number)
        # The first pass tests whether the loss can be computed; CIF of 1.0.28 fails in some passes.
        with contextlib.suppress(Exception):
            network(**frames.begin_pass(batch))[0].backward(retain_graph=True)
            complete = frames.gather()


def _watch(network: Any, inputs: list[dict[str, Any]], calls: dict[str, int]) -> list[Any]:
    """Record the inputs of the losses and count the calls of projections; returns the hooks' handles."""

    def before_loss(name: str) -> Any:
        def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            scores = args[0] if args else next(iter(kwargs.values()))
            shape = list(scores.shape)
            # A CTC loss has no number of classes.
            classes = getattr(module, "size", None)
            inputs.append({"name": name, "classes": classes, "input_shape": shape, "width": shape[-1]})

        return hook

    def count(name: str) -> Any:
        def hook(*_: Any) -> None:
            calls[name] += 1

        return hook

    handles = [
        module.register_forward_pre_hook(before_loss(name), with_kwargs=True)
        for name, module in (*model.losses(network), *model.ctc_losses(network))
    ]
    for name, layer in model.projections(network):
        calls[name] = 0
        handles.append(layer.register_forward_hook(count(name)))
    return handles


def _width_misfit(inputs: list[dict[str, Any]], vocab_size: int) -> str | None:
    for received in inputs:
        if received["classes"] is None and received["width"] != vocab_size:
            return f"{received['name']} received tensors {received['width']} wide (vocabulary {vocab_size})"
        if received["classes"] is None:
            continue
        if received["width"] != received["classes"] or received["width"] != vocab_size:
            return (
                f"{received['name']} was built for {received['classes']} classes and received tensors "
                f"{received['width']} wide (vocabulary {vocab_size})"
            )
    return None


def sum_misfit(loss: float, stats: Mapping[str, Any], config: Mapping[str, Any]) -> str | None:
    """The message if the loss is not the weighted sum of the parts that the model reports; else None.

    Paraformer's: `(1 - ctc_weight) * loss_att + ctc_weight * loss_ctc + predictor_weight * loss_pre`. None for a model
    that reports no such parts, or other parts too.
    """
    parts = {name: float(stats[name]) for name in ("loss_att", "loss_pre", "loss_ctc") if stats.get(name) is not None}
    ctc_weight = config.get("ctc_weight", 0.0)
    if not {"loss_att", "loss_pre"} <= set(parts) or "predictor_weight" not in config:
        return None
    if stats.get("pre_loss_att") is not None or (ctc_weight and "loss_ctc" not in parts):
        return None
    weights = {"loss_att": 1 - ctc_weight, "loss_pre": config["predictor_weight"], "loss_ctc": ctc_weight}
    return _misfit_of_parts(loss, parts, weights)


def _misfit_of_parts(loss: float, stats: Mapping[str, Any], weights: Mapping[str, float]) -> str | None:
    """The message if the loss is not the weighted sum of these statistics; None if one is not reported."""
    parts = {name: float(stats[name]) for name, weight in weights.items() if weight and stats.get(name) is not None}
    if not parts or any(weight and name not in parts for name, weight in weights.items()):
        return None
    total = sum(weights[name] * part for name, part in parts.items())
    if abs(loss - total) <= SUM_TOLERANCE * max(1.0, abs(total)):
        return None
    terms = " + ".join(f"{weights[name]:g} * {name} {part:.6g}" for name, part in parts.items() if weights[name])
    return f"the loss is {loss:.6g}, where the config makes it {terms} = {total:.6g}"


def _gradient_norms(network: Any, groups: Mapping[str, Any]) -> dict[str, float]:
    import torch

    squares: dict[str, float] = defaultdict(float)
    for name, parameter in network.named_parameters():
        if parameter.grad is not None:
            # Row by row in the gradient's own precision, then in double: no full copy is made,
            # and summing millions of squares loses no precision.
            rows = torch.linalg.vector_norm(parameter.grad.detach(), dim=-1)
            squares[model.group_of(name, groups)] += float(rows.double().square().sum())
    return {group: math.sqrt(total) for group, total in squares.items()}


def _raised(
    error: Exception,
    request: Mapping[str, Any],
    evidence: dict[str, Any],
    misfit: str | None,
    *,
    in_backward: bool = False,
) -> dict[str, Any]:
    result = findings.raised(error, request["release"]["install_dir"])
    if misfit:
        result["reason"] = findings.reason_of(result["failure"], misfit)
    if in_backward and result["status"] == "errored":
        # Autograd replays what the release's forward recorded; none of the release's frames is on the stack.
        result["status"] = "failed"
    return {**result, "metrics": {"loss": None, "gradient_norm_by_group": None}, "evidence": evidence}
