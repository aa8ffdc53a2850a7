"""How much memory a training step takes, measured on the CPU: every tensor of a real step, from its birth to its end.

The model has few blocks, and all else as at full depth; what it is made of at full depth is told besides. The outside
carries what was seen to the full depth and to other batches, see `harness.performance.prediction`.

A request with the check `footprint` holds under `footprint`:

    full_folder   the model folder at the depth that is asked about
    batches       how many utterances the batches of the measured steps have
    frames        stacked frames of each utterance
    tokens        tokens of each utterance
    precision     `fp32`, `bf16` or `fp16`
    threads       of torch
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.worker.record.memory_profile import structure
from harness.worker.record.memory_profile.stepping import Stepping
from harness.worker.release import model
from harness.worker.release.batch_making import make_batch
from harness.worker.trainer import options, precision


def measure(request: Mapping[str, Any]) -> dict[str, Any]:
    """A training step with each batch; `harness.performance.prediction.recording` reads the evidence `footprint`."""
    import torch

    wish = request["footprint"]
    if missing := _missing_precision(request, wish["precision"]):
        return {"status": "skipped", "reason": missing}
    full = structure.full(wish["full_folder"], request["seed"])
    network, config = model.build(request["model_folder"], "cpu", request["seed"])
    # AutoModel sets a number of its own.
    torch.set_num_threads(wish["threads"])
    network.train()
    stacks = structure.stacks(network, full)
    batches = []
    for size in wish["batches"]:
        told = {**request["contract"], "frames": [wish["frames"]] * size, "tokens": [wish["tokens"]] * size}
        batches.append(make_batch(config["input_size"], request["vocab_size"], request["seed"], "cpu", told))
    stepping = Stepping(network, tuple(stacks), wish["precision"])
    model.seed_everything(request["seed"])
    steps = stepping.steps(batches)
    found = {
        "schema": 1,
        "parameters": structure.tensors(full.named_parameters()),
        "buffers": structure.tensors(full.named_buffers()),
        "without_gradient": sorted(stepping.without_gradient),
        "stacks": {name: list(lengths) for name, lengths in stacks.items()},
        "batches": list(wish["batches"]),
        "before": steps[0],
        "steps": steps[1:],
    }
    return {"status": "passed", "reason": "", "evidence": {"footprint": found}}


def _missing_precision(request: Mapping[str, Any], wanted: str) -> str:
    """Why the release's native trainer cannot be asked for this precision; empty when it can."""
    release = request["release"]
    entry = options.of(release["overlay"], release["version"], "train_ds").native_entry
    words = precision.words(release["overlay"], entry, wanted)
    return precision.missing(entry, wanted) if words is None else ""
