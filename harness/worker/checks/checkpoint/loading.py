"""Loading checkpoints: as a user loads a trained model, and from checkpoints of other dimensions."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.worker.checks.checkpoint.resuming import OUTPUT
from harness.worker.release.model import load_checkpoint, load_folder
from harness.worker.trainer.children import ChildContext, RunChild
from harness.worker.trainer.training_trace import ReleaseTrainer, TrainingTrace, checkpoint_hashes, parameter_hashes


def loading_cases(trainer: ReleaseTrainer, work_folder: Path, run_child: RunChild) -> dict[str, Any]:
    """Load the averaged model by its path, and the output folder with and without a configuration.json."""
    output = work_folder / "whole" / OUTPUT
    cases: dict[str, Any] = {"base": {}}
    averages = sorted(output.glob("model.pt.avg*"))
    if averages:
        cases["average"] = _load_in_child(run_child, "average", lambda: load_checkpoint(output, averages[0]))
    bare = work_folder / "bare"
    bare.mkdir()
    for name in ("config.yaml", "model.pt"):
        shutil.copy(output / name, bare / name)
    cases["bare"] = _load_in_child(run_child, "bare", lambda: load_folder(bare))
    cases["folder"] = _load_in_child(run_child, "folder", lambda: load_folder(output))
    cases["folder_has_configuration"] = (output / "configuration.json").exists()
    base = run_child(
        "base_weights", lambda context: context.answer.update(checkpoint_hashes(trainer.folder / "model.pt"))
    )
    cases["base"] = base.value
    return cases


def _load_in_child(run_child: RunChild, name: str, load: Callable[[], Any]) -> dict[str, Any]:
    def work(context: ChildContext) -> None:
        context.answer = {"weights": parameter_hashes(load().model)}

    answer = run_child(f"load_{name}", work)
    messages = [line[-300:] for line in answer.output.splitlines() if "error" in line.lower() or "miss" in line.lower()]
    return {"weights": answer.value.get("weights"), "failure": answer.failure, "said": messages[:5]}


MOST_NAMES = 400


def mismatch_cases(
    trainer: ReleaseTrainer, request: Mapping[str, Any], work_folder: Path, run_child: RunChild
) -> list[dict[str, Any]]:
    """Start from another vocabulary and another width, each with `ignore_init_mismatch` on and off."""

    def write(_context: ChildContext) -> None:
        _write_others(trainer.folder / "model.pt", work_folder, request["vocab_size"], request["hidden_size"])

    written = run_child("others", write)
    if written.failure:
        raise RuntimeError(f"no checkpoint of another shape could be made: {written.failure['message']}")
    return [_case(trainer, work_folder / f"{kind}.pt", ignore, run_child) for kind in KINDS for ignore in (True, False)]


KINDS = ("vocabulary", "width")


def _write_others(base: Path, work_folder: Path, vocab_size: int, hidden_size: int) -> None:
    """Write the base checkpoint as models of a smaller vocabulary and of a smaller width would have saved it."""
    import torch

    state = torch.load(base, map_location="cpu", weights_only=True)
    smaller = {vocab_size: vocab_size - max(1, vocab_size // 8)}
    narrower = {hidden_size * times: (hidden_size - hidden_size // 4) * times for times in (1, 2, 3, 4)}
    del narrower[next((size for size in narrower if size == vocab_size), hidden_size * 4)]
    for kind, sizes in (("vocabulary", smaller), ("width", narrower)):
        torch.save({name: _cropped(tensor, sizes) for name, tensor in state.items()}, work_folder / f"{kind}.pt")


def _cropped(tensor: Any, sizes: Mapping[int, int]) -> Any:
    for axis, size in enumerate(tensor.shape):
        tensor = tensor.narrow(axis, 0, sizes.get(size, size))
    # other values than the base's, which the model may have loaded from elsewhere
    return (tensor + 0.25).contiguous() if tensor.dtype.is_floating_point else tensor.clone()


def _case(trainer: ReleaseTrainer, checkpoint: Path, ignore: bool, run_child: RunChild) -> dict[str, Any]:
    name = f"{checkpoint.stem}_{'ignored' if ignore else 'refused'}"

    def run(context: ChildContext) -> None:
        trace = TrainingTrace()

        def stop() -> None:
            context.answer = _compare(trace.network, checkpoint)
            context.leave()

        trace.before_forward = stop
        trainer.run(context.path / "exp", trace, init_param=str(checkpoint), ignore_init_mismatch=ignore)

    answer = run_child(name, run)
    observed = answer.value
    unsaid = [left for left in observed.get("left_out", ()) if left["name"] not in answer.output]
    return {
        "kind": checkpoint.stem,
        "ignore": ignore,
        "began": bool(observed),
        "failure": answer.failure,
        **observed,
        "unsaid": [left["name"] for left in unsaid][:MOST_NAMES],
        "line": _line_about(answer.output, observed.get("left_out", ())),
    }


def _compare(network: Any, checkpoint: Path) -> dict[str, Any]:
    """The number of tensors that the model took from the checkpoint; and the others, with both shapes."""
    import torch

    checkpoint_state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    equal, left_out, lost = 0, [], []
    for name, tensor in network.state_dict().items():
        tensor = tensor.detach().cpu()
        other = checkpoint_state.get(name)
        if other is None or other.shape != tensor.shape:
            shape = None if other is None else list(other.shape)
            left_out.append({"name": name, "model": list(tensor.shape), "checkpoint": shape})
        elif torch.equal(other, tensor):
            equal += 1
        else:
            lost.append(name)
    return {"taken": equal, "left_out": left_out[:MOST_NAMES], "lost": lost[:MOST_NAMES]}


def _line_about(output: str, left_out: Any) -> str | None:
    """The first line of the output that reports a tensor that was left out; None if there is none."""
    for left in left_out:
        for line in output.splitlines():
            if left["name"] in line and "mismatch" in line.lower():
                return line[-300:]
    return None
