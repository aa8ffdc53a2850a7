"""The `construct` and `loss_contract` checks: is the loss built for what the model puts out?

What is particular about an architecture is in the request, under `contract`: see `harness.variants.architecture`.
"""

from __future__ import annotations

import contextlib
import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from harness.worker.checks import frames_heard, teacher_forcing
from harness.worker.process import failures
from harness.worker.release import findings, model, structure
from harness.worker.release.batch_making import make_batch

SUM_TOLERANCE = 1e-4
"""Relative: a sum of a few losses in single precision is exact to some 1e-7; one that is left out is off by tenths."""

MORE_PASSES = 8
"""Passes besides the first in which a frame may be heard, with other seeds, and only while one is missing.
A sound release leaves a frame out in up to a quarter of its passes (see `frames_heard`), and so in nine
of them once in 260 000 times."""


WITHOUT_GRADIENT = "parameters-without-gradient"
"""Code of the finding: the variant's `without_loss` excuses trainable parameters that no gradient reaches."""


def construct(request: Mapping[str, Any]) -> dict[str, Any]:
    """Build the model at the shape; hold loss, projection and vocabulary against each other."""
    made_of = (request["model_folder"], request["device"], request["seed"])
    network, config = model.build(*made_of)
    model.keep(network, config, made_of)
    vocab_size, hidden_size = request["vocab_size"], request["hidden_size"]
    built_for = [
        {"name": name, "type": type(module).__name__, "classes": module.size} for name, module in model.losses(network)
    ]
    outputs = [
        {"name": name, "in_features": layer.in_features, "out_features": layer.out_features}
        for name, layer in model.projections(network)
    ]
    by_group: dict[str, int] = defaultdict(int)
    for name, parameter in network.named_parameters():
        by_group[model.group_of(name, request["groups"])] += parameter.numel()
    parts = structure.describe(network)
    result = {
        "status": "passed",
        "reason": "",
        "metrics": {"parameters": sum(by_group.values()), "parameters_by_group": dict(by_group)},
        "evidence": {
            "losses": built_for,
            "projections": outputs,
            "input_size": config.get("input_size"),
            "code": structure.code(network),
            **{name: found for name, found in parts.items() if found},
        },
    }
    told = request.get("contract", {})
    widths = {**dict.fromkeys((layer["name"] for layer in outputs), hidden_size), **told.get("projection_width", {})}
    problem = _misfit(built_for, outputs, vocab_size, widths) or _absent(network, told.get("losses", {}))
    if problem is None and (out_of_reach := structure.misfit(parts, config)):
        problem = _failed(*out_of_reach)
    return {**result, **problem} if problem else result


def _misfit(
    built_for: list[dict[str, Any]], outputs: list[dict[str, Any]], vocab_size: int, widths: Mapping[str, int]
) -> dict[str, Any] | None:
    if not built_for or not outputs:
        missing = "loss built for a number of classes" if not built_for else "projection to the vocabulary"
        return _failed("NoLoss" if not built_for else "NoProjection", "model", f"the model has no {missing}")
    for loss in built_for:
        if loss["classes"] != vocab_size:
            text = f"{loss['name']} is built for {loss['classes']} classes, the vocabulary has {vocab_size}"
            return _failed("LossBuiltForOtherVocabulary", loss["name"], text)
    for layer in outputs:
        if layer["out_features"] != vocab_size:
            text = f"{layer['name']} puts out {layer['out_features']} scores, the vocabulary has {vocab_size}"
            return _failed("ProjectionOfOtherWidth", layer["name"], text)
        if layer["in_features"] != (width := widths[layer["name"]]):
            text = f"{layer['name']} takes {layer['in_features']} features, the hidden size is {width}"
            return _failed("ProjectionOfOtherWidth", layer["name"], text)
    return None


def _absent(network: Any, carrying: Mapping[str, list[str]]) -> dict[str, Any] | None:
    """Whether the model lacks what its architecture's loss is carried by."""
    for name, feeding in carrying.items():
        for wanted, kind in ((name, "NoLoss"), *((projection, "NoProjection") for projection in feeding)):
            if not _has(network, wanted):
                return _failed(kind, wanted, f"the model has no {wanted}, which carries its loss")
    return None


def _has(network: Any, name: str) -> bool:
    for part in name.split("."):
        network = getattr(network, part, None)
    return network is not None


def loss_contract(request: Mapping[str, Any]) -> dict[str, Any]:
    """One forward and one backward pass in training mode on a batch as FunASR's collator makes them."""
    network, config = model.build(request["model_folder"], request["device"], request["seed"])
    network.to(request["device"]).train()
    inputs: list[dict[str, Any]] = []
    calls: dict[str, int] = {}
    watching = _watch(network, inputs, calls)
    told = request.get("contract", {})
    wanted = {**told, "ctc": any(True for _ in model.ctc_losses(network))}
    batch = make_batch(config["input_size"], request["vocab_size"], request["seed"], request["device"], wanted)
    listening = frames_heard.FramesHeard(network, request["groups"], config)
    model.seed_everything(request["seed"])
    evidence: dict[str, Any] = {"loss_inputs": inputs, "projection_calls": calls}
    try:
        loss, stats, _weight = network(**listening.listen(batch))
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
        return {**result, **_failed("LossNotCalled", "model", "the forward pass called no classification loss")}
    if text:
        return {**result, **_failed("LossWidth", text.partition(" ")[0], text)}
    if silent := [name for name in told.get("losses", ()) if name not in {seen["name"] for seen in inputs}]:
        text = f"the forward pass never called {silent[0]}, which carries the loss"
        return {**result, **_failed("LossNotCalled", silent[0], text)}
    feeding = [name for names in told.get("losses", {}).values() for name in names]
    if unused := [name for name in feeding if not calls.get(name)]:
        text = f"the forward pass never called {unused[0]}, whose scores the loss takes"
        return {**result, **_failed("ProjectionNotCalled", unused[0], text)}
    if not any(calls.values()):
        # Where hidden size and vocabulary are equal, hidden states are as wide as scores.
        names = " and ".join(calls)
        return {**result, **_failed("ProjectionNotCalled", names, f"the forward pass never called {names}")}
    if not math.isfinite(value):
        return {**result, **_failed("LossNotFinite", "model", f"the loss is {value}")}
    stated = told.get("loss_is")
    if text := _misfit_of_parts(value, stats, stated) if stated else _sum_misfit(value, stats, config["model_conf"]):
        return {**result, **_failed("LossNotTheSum", "model", text)}
    if not loss.requires_grad:
        return {**result, **_failed("NoGradient", "loss", "the loss is cut off from the model: it has no gradient")}
    try:
        # The graph is kept: gradients are looked at along the model's parts as well.
        loss.backward(retain_graph=True)
    except Exception as error:
        return _raised(error, request, evidence, None, in_backward=True)
    norms = _gradient_norms(network, request["groups"])
    result["metrics"] = {"loss": value, "gradient_norm_by_group": norms}
    for group in request["groups"]:
        norm = norms.get(group)
        if norm is None or not math.isfinite(norm) or norm == 0.0:
            seen = "no gradient" if not norm else f"a gradient of norm {norm}"
            return {**result, **_failed("NoGradient", group, f"after backward the {group} has {seen}")}
    trainable = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    unreached = (*told.get("without_loss", ()), *_without_sampler(config))
    without = [name for name, parameter in trainable.items() if parameter.grad is None]
    if excused := [name for name in without if model.below(name, unreached)]:
        _note_without_gradient(excused)
    if untouched := [name for name in without if not model.below(name, unreached)]:
        text = f"after backward {len(untouched)} parameters have no gradient, such as {untouched[0]}"
        return {**result, **_failed("NoGradient", untouched[0], text)}
    for hook in watching:
        hook.remove()
    _listen_on(network, batch, listening, request["seed"])
    evidence["frames_heard"] = counts = listening.counts()
    if unheard := frames_heard.misfit(counts):
        return {**result, **_failed("FramesUnheard", *unheard)}
    _note_own_token(network, batch, request["vocab_size"])
    return result


def _note_own_token(network: Any, batch: Mapping[str, Any], vocab_size: int) -> None:
    """A decoder that sees what it is to say trains, and its loss falls; so it is a finding."""
    moved = teacher_forcing.difference(network, batch, vocab_size)
    if moved is None or moved <= teacher_forcing.TOLERANCE:
        return
    message = (
        "The decoder's scores for a token depend on that token: it sees what it is to say, learns to copy it, and has "
        "nothing to copy once it decodes."
    )
    findings.note(teacher_forcing.CODE, message, "decoder", relative_difference=moved)


def _note_without_gradient(names: list[str]) -> None:
    """What the variant's YAML excuses, for its published loss does not reach these: it stops other trainings."""
    parts = sorted({name.rpartition(".")[0] for name in names})
    message = (
        f"After backward {len(names)} trainable parameters have no gradient, such as {names[0]}: "
        "DistributedDataParallel waits for them, so a training with several processes stops at its second step "
        "unless train_conf.find_unused_parameters is true."
    )
    findings.note(WITHOUT_GRADIENT, message, ", ".join(parts), parameters=names)


def _without_sampler(config: Mapping[str, Any]) -> tuple[str, ...]:
    """What a Paraformer's loss does not reach where the config switches the sampler off, which alone embeds targets."""
    return ("decoder.embed",) if config["model_conf"].get("sampling_ratio") == 0 else ()


def _listen_on(network: Any, batch: Mapping[str, Any], listening: frames_heard.FramesHeard, seed: int) -> None:
    """Gather the frames that the pass heard, and those of further passes while some are missing."""
    complete = listening.gather()
    for number in range(1, MORE_PASSES + 1):
        if complete:
            return
        model.seed_everything(seed + number)
        # Whether the loss can be computed is the first pass's question; CIF of 1.0.28 cannot in every pass.
        with contextlib.suppress(Exception):
            network(**listening.listen(batch))[0].backward(retain_graph=True)
            complete = listening.gather()


def _watch(network: Any, inputs: list[dict[str, Any]], calls: dict[str, int]) -> list[Any]:
    """Note what enters the losses and how often projections are called; returns the hooks' handles."""

    def before_loss(name: str) -> Any:
        def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            scores = args[0] if args else next(iter(kwargs.values()))
            shape = list(scores.shape)
            # A CTC loss is built for no number of classes.
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
    for seen in inputs:
        if seen["classes"] is None and seen["width"] != vocab_size:
            return f"{seen['name']} was handed tensors {seen['width']} wide (vocabulary {vocab_size})"
        if seen["classes"] is None:
            continue
        if seen["width"] != seen["classes"] or seen["width"] != vocab_size:
            return (
                f"{seen['name']} was built for {seen['classes']} classes and was handed tensors {seen['width']} wide"
                f" (vocabulary {vocab_size})"
            )
    return None


def _sum_misfit(loss: float, stats: Mapping[str, Any], config: Mapping[str, Any]) -> str | None:
    """Whether the loss is not made of the parts that the model itself reports, as the config weighs them.

    Paraformer's: `(1 - ctc_weight) * loss_att + ctc_weight * loss_ctc + predictor_weight * loss_pre`. Nothing is said
    of a model that reports no such parts, or reports others besides.
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
    """Whether the loss is not the weighted sum of these statistics; nothing is said where one is not reported."""
    parts = {name: float(stats[name]) for name, weight in weights.items() if weight and stats.get(name) is not None}
    if not parts or any(weight and name not in parts for name, weight in weights.items()):
        return None
    total = sum(weights[name] * part for name, part in parts.items())
    if abs(loss - total) <= SUM_TOLERANCE * max(1.0, abs(total)):
        return None
    told = " + ".join(f"{weights[name]:g} * {name} {part:.6g}" for name, part in parts.items() if weights[name])
    return f"the loss is {loss:.6g}, where the config makes it {told} = {total:.6g}"


def _gradient_norms(network: Any, groups: Mapping[str, Any]) -> dict[str, float]:
    import torch

    squares: dict[str, float] = defaultdict(float)
    for name, parameter in network.named_parameters():
        if parameter.grad is not None:
            # Row by row in the gradient's own precision, then in double: no copy of the whole is made,
            # and nothing is lost by adding up millions of squares in single precision.
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
    overlay = request["release"]["overlay"]
    failure = failures.describe(error, overlay)
    reason = f"{failure['signature'].partition('@')[0]} in {failure['signature'].partition('@')[2]}: "
    status = failures.status_of(error, overlay)
    if in_backward and status == "errored":
        # Autograd goes back over what the release's forward recorded, and none of the release's frames is on the stack.
        status = "failed"
    return {
        "status": status,
        "reason": reason + (misfit or failure["message"] or "no message"),
        "failure": failure,
        "metrics": {"loss": None, "gradient_norm_by_group": None},
        "evidence": evidence,
    }


def _failed(kind: str, place: str, message: str) -> dict[str, Any]:
    return {"status": "failed", "reason": message, "failure": failures.finding(kind, place, message)}
