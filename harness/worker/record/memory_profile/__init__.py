"""The memory profile of a training step, measured on the CPU: the lifetime of every tensor of a real step.

The model has few blocks, everything else as at full depth; its parameters at full depth are listed too.
`harness.performance.prediction` extrapolates to full depth and to other batches.

A request with the check `footprint` has under `footprint`:

    full_folder   the model folder at the depth in question
    batches       numbers of utterances in the batches of the measured steps
    frames        stacked frames of each utterance
    tokens        tokens of each utterance
    precision     `fp32`, `bf16` or `fp16`
    threads       threads of torch
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from harness.worker.record.memory_profile.training_steps import StepProfiler
from harness.worker.release import model
from harness.worker.release.batches import make_batch
from harness.worker.trainer import options


def measure(request: Mapping[str, Any]) -> dict[str, Any]:
    """A training step with each batch; `harness.performance.prediction.recording` reads the evidence `footprint`."""
    import torch

    options_of_profile = request["footprint"]
    if missing := _missing_precision(request, options_of_profile["precision"]):
        return {"status": "skipped", "reason": missing}
    full = model_at_full_depth(options_of_profile["full_folder"], request["seed"])
    network, config = model.build(request["model_folder"], "cpu", request["seed"])
    # AutoModel sets its own number.
    torch.set_num_threads(options_of_profile["threads"])
    network.train()
    stacks = block_stacks(network, full)
    batches = []
    for size in options_of_profile["batches"]:
        contract = {
            **request["contract"],
            "frames": [options_of_profile["frames"]] * size,
            "tokens": [options_of_profile["tokens"]] * size,
        }
        batches.append(make_batch(config["input_size"], request["vocab_size"], request["seed"], "cpu", contract))
    stepping = StepProfiler(network, tuple(stacks), options_of_profile["precision"])
    model.seed_everything(request["seed"])
    steps = stepping.steps(batches)
    footprint = {
        "schema": 1,
        "parameters": tensor_sizes(full.named_parameters()),
        "buffers": tensor_sizes(full.named_buffers()),
        "without_gradient": sorted(stepping.without_gradient),
        "stacks": {name: list(lengths) for name, lengths in stacks.items()},
        "batches": list(options_of_profile["batches"]),
        "before": steps[0],
        "steps": steps[1:],
    }
    return {"status": "passed", "reason": "", "evidence": {"footprint": footprint}}


def _missing_precision(request: Mapping[str, Any], precision: str) -> str:
    """Why the release's native trainer lacks this precision; empty if it has it."""
    release = request["release"]
    entry = options.trainer_options(release["install_dir"], release["version"], "train_ds").native_entry
    overrides = options.precision_overrides(release["install_dir"], entry, precision)
    return options.missing_precision(entry, precision) if overrides is None else ""


def model_at_full_depth(folder: str, seed: int) -> Any:
    """The model at full depth with uninitialised parameters: memory that is never written takes no space.

    Torch's `meta` device would do as well, but imports a decomposition for each kind of operation, which takes longer
    than the measurement.
    """
    with without_initial_values():
        return model.build(folder, "cpu", seed)[0]


@contextlib.contextmanager
def without_initial_values() -> Iterator[None]:
    """Make the functions of `torch.nn.init` leave tensors unchanged."""
    import torch

    functions = {
        name: function for name, function in vars(torch.nn.init).items() if name.endswith("_") and callable(function)
    }
    for name in functions:
        setattr(torch.nn.init, name, _left)
    try:
        yield
    finally:
        for name, function in functions.items():
            setattr(torch.nn.init, name, function)


def _left(tensor: Any, *_args: Any, **_kwargs: Any) -> Any:
    return tensor


def tensor_sizes(named: Iterable[tuple[str, Any]]) -> list[list[Any]]:
    """Name, bytes, and whether it is trained, in the model's order."""
    return [[name, tensor.numel() * tensor.element_size(), bool(tensor.requires_grad)] for name, tensor in named]


def block_stacks(network: Any, larger: Any) -> dict[str, tuple[int, int]]:
    """The stacks of blocks by name, with their lengths in both models; `larger` has as many blocks or more."""
    few, many = _stacks(network), _stacks(larger)
    return {name: (length, many[name]) for name, length in few.items() if many.get(name, 0) >= length}


def _stacks(network: Any) -> dict[str, int]:
    """Sequences of modules that are in no other such sequence; nested ones are part of a block."""
    import torch

    kinds = (torch.nn.Sequential, torch.nn.ModuleList)
    lengths: dict[str, int] = {}
    for name, module in network.named_modules():
        if (
            isinstance(module, kinds)
            and len(module)
            and not any(model.has_prefix(name, [prefix]) for prefix in lengths)
        ):
            lengths[name] = len(module)
    return lengths
