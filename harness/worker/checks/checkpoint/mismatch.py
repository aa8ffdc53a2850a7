"""Starting from a checkpoint of another shape: what is taken over, what is left out, and whether it is said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.worker.trainer.children import ChildContext, ChildResult
from harness.worker.trainer.training_run import ReleaseTrainer, TrainingTrace

Ask = Callable[[str, Callable[[ChildContext], None]], ChildResult]

MOST_NAMES = 400


def cases(trainer: ReleaseTrainer, request: Mapping[str, Any], here: Path, ask: Ask) -> list[dict[str, Any]]:
    """Another vocabulary and another width, each with `ignore_init_mismatch` on and off."""

    def write(_room: ChildContext) -> None:
        _write_others(trainer.folder / "model.pt", here, request["vocab_size"], request["hidden_size"])

    made = ask("others", write)
    if made.failure:
        raise RuntimeError(f"no checkpoint of another shape could be made: {made.failure['message']}")
    return [_case(trainer, here / f"{kind}.pt", ignore, ask) for kind in KINDS for ignore in (True, False)]


KINDS = ("vocabulary", "width")


def _write_others(base: Path, here: Path, vocab_size: int, hidden_size: int) -> None:
    """The base's checkpoint as a smaller vocabulary and a smaller width would have made it, and one tensor short."""
    import torch

    state = torch.load(base, map_location="cpu", weights_only=True)
    smaller = {vocab_size: vocab_size - max(1, vocab_size // 8)}
    narrower = {hidden_size * times: (hidden_size - hidden_size // 4) * times for times in (1, 2, 3, 4)}
    del narrower[next((size for size in narrower if size == vocab_size), hidden_size * 4)]
    for kind, sizes in (("vocabulary", smaller), ("width", narrower)):
        torch.save({name: _cropped(tensor, sizes) for name, tensor in state.items()}, here / f"{kind}.pt")


def _cropped(tensor: Any, sizes: Mapping[int, int]) -> Any:
    for axis, size in enumerate(tensor.shape):
        tensor = tensor.narrow(axis, 0, sizes.get(size, size))
    # not the base's own values, which the model might have from elsewhere
    return (tensor + 0.25).contiguous() if tensor.dtype.is_floating_point else tensor.clone()


def _case(trainer: ReleaseTrainer, checkpoint: Path, ignore: bool, ask: Ask) -> dict[str, Any]:
    name = f"{checkpoint.stem}_{'ignored' if ignore else 'refused'}"

    def run(room: ChildContext) -> None:
        watch = TrainingTrace()

        def stop() -> None:
            room.answer = _compare(watch.network, checkpoint)
            room.leave()

        watch.before_forward = stop
        trainer.run(room.path / "exp", watch, init_param=str(checkpoint), ignore_init_mismatch=ignore)

    answer = ask(name, run)
    found = answer.value
    unsaid = [left for left in found.get("left_out", ()) if left["name"] not in answer.said]
    return {
        "kind": checkpoint.stem,
        "ignore": ignore,
        "began": bool(found),
        "failure": answer.failure,
        **found,
        "unsaid": [left["name"] for left in unsaid][:MOST_NAMES],
        "line": _line_about(answer.said, found.get("left_out", ())),
    }


def _compare(network: Any, checkpoint: Path) -> dict[str, Any]:
    """Of the checkpoint's tensors: how many the model has taken over, and which it has not, with both shapes."""
    import torch

    given = torch.load(checkpoint, map_location="cpu", weights_only=True)
    taken, left_out, lost = 0, [], []
    for name, tensor in network.state_dict().items():
        tensor = tensor.detach().cpu()
        other = given.get(name)
        if other is None or other.shape != tensor.shape:
            shape = None if other is None else list(other.shape)
            left_out.append({"name": name, "model": list(tensor.shape), "checkpoint": shape})
        elif torch.equal(other, tensor):
            taken += 1
        else:
            lost.append(name)
    return {"taken": taken, "left_out": left_out[:MOST_NAMES], "lost": lost[:MOST_NAMES]}


def _line_about(said: str, left_out: Any) -> str | None:
    """How the release says it: the first line that names a tensor that was left out."""
    for left in left_out:
        for line in said.splitlines():
            if left["name"] in line and "mismatch" in line.lower():
                return line[-300:]
    return None
