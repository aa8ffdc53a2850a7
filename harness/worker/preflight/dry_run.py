"""The release's own trainer takes a few steps on rows of a user's, from their weights, in a copy of their folder.

Three trainings at most, each in a child of its own: one to its end; where that is shallower than the model, one of the
model's own depth up to its first loss; and the same from freshly initialised weights, as a control.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from harness.worker.preflight.model_copy import Weights, read_weights, write_copy
from harness.worker.preflight.rows_read import RowsRead
from harness.worker.trainer import children, in_force, launch, memory
from harness.worker.trainer.recorder import TrainingRecorder

_NAMED = 5


def measure(request: Mapping[str, Any]) -> dict[str, Any]:
    """What happened; `harness.preflight.dry_run.dry_run` judges it."""
    request = {**request, **json.loads(request["settings"])}
    checkpoint = request["checkpoint"]
    evidence: dict[str, Any] = {}
    weights = None
    if checkpoint["path"]:
        try:
            weights = read_weights(checkpoint["path"])
        except Exception as error:
            return _answer({"unreadable": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"})
        evidence |= {"elements": weights.elements, "norm_deviation": weights.norm_deviation}
    if request["device"] == "cpu":
        # Once for all children. On a GPU each child imports by itself: a process that initialised CUDA cannot fork.
        launch.import_model_class(request["release"]["install_dir"], str(request["config"]["model"]))
    at_full_depth = not request["shallow"] or (weights is not None and weights.elements <= request["small"])
    blocks = None if at_full_depth else request["blocks"]
    evidence |= {"whole": at_full_depth, **_trainings(request, partial(_train, weights=weights, blocks=blocks))}
    if evidence["training"]["first"] is not None:
        if not at_full_depth and request["deep"]:
            evidence["start"] = _run(request, "start", partial(_first, request, weights, None))
        deep = None if at_full_depth or request["deep"] else blocks
        evidence["control"] = _run(request, "control", partial(_first, request, None, deep))
    return _answer(evidence)


def _trainings(request: Mapping[str, Any], work: Any) -> dict[str, Any]:
    """The training; where one row ends it, again without that row, a few times."""
    ended: list[dict[str, Any]] = []
    rows = {name: request[name] for name in ("train", "valid")}
    while True:
        tried = _run(request, f"training-{len(ended)}", partial(work, {**request, **rows}))
        culprit = tried["failure"] and _line(tried, rows)
        if not culprit or len(ended) == request["tries"]:
            return {"training": tried, "ended": ended}
        ended.append(tried)
        name, line = culprit
        rows[name] = [row_line for row_line in rows[name] if row_line != line]
        if not rows[name]:
            return {"training": tried, "ended": ended[:-1]}


def _line(tried: Mapping[str, Any], rows: Mapping[str, list[str] | None]) -> tuple[str, str] | None:
    """The file and the line of the row at which a training ended; None where it is not known."""
    row = tried.get("row")
    validating = any(function.strip("_") == "validate_epoch" for function in tried.get("functions", ()))
    names = ("valid", "train") if validating else ("train", "valid")
    for name in names:
        for line in rows[name] or ():
            row_in_file = _parsed(line)
            if row_in_file is None:
                if tried["failure"]["type"] == "JSONDecodeError":
                    return name, line
            elif (
                row
                and row["source"]
                and (row_in_file.get("source"), row_in_file.get("target")) == (row["source"], row["target"])
            ):
                return name, line
    return None


def _parsed(line: str) -> Mapping[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, Mapping) else None


def _answer(evidence: Mapping[str, Any]) -> dict[str, Any]:
    return {"status": "passed", "reason": "", "evidence": {"preflight": dict(evidence)}}


def _run(request: Mapping[str, Any], name: str, work: Any) -> dict[str, Any]:
    """A child's observations, with `failure` None where nothing was raised."""
    began = time.monotonic()
    try:
        answer = children.in_child(Path.cwd() / name, request["release"]["install_dir"], work)
    except children.ChildEnded as ended:
        failure = {"type": "ProcessEnded", "message": str(ended), "frames": [], "signature": "ProcessEnded@unknown"}
        return {"first": None, "failure": failure, "seconds": time.monotonic() - began}
    return {"first": None, **answer.value, "failure": answer.failure, "seconds": time.monotonic() - began}


@dataclass(kw_only=True)
class _Setup:
    """What one training is started with."""

    overrides: dict[str, Any]
    output: Path


def _set_up(request: Mapping[str, Any], weights: Weights | None, blocks: int | None, work_folder: Path) -> _Setup:
    folder = write_copy(request, work_folder / "model", weights=weights, blocks=blocks)
    overrides = {**request["overrides"], "model": str(folder), "output_dir": str(work_folder / "exp")}
    for name in ("train", "valid"):
        if request[name] is not None:
            path = work_folder / f"{name}.jsonl"
            path.write_bytes("".join(f"{line}\n" for line in request[name]).encode("utf-8", "surrogateescape"))
            overrides[f"{name}_data_set_list"] = str(path)
    checkpoint = request["checkpoint"]
    if weights is not None and checkpoint["by_key"]:
        overrides["init_param"] = str(folder / checkpoint["in_copy"])
    return _Setup(overrides={**overrides, **request["forced"]}, output=work_folder / "exp")


def _train(
    request: Mapping[str, Any], context: children.ChildContext, *, weights: Weights | None, blocks: int | None
) -> None:
    """One training to its end, or to the end of its time."""
    from torch.optim.optimizer import register_optimizer_step_post_hook

    model_class = launch.import_model_class(request["release"]["install_dir"], str(request["config"]["model"]))
    setup = _set_up(request, weights, blocks, context.path)
    recorder, rows, began = TrainingRecorder(meter=memory.meter(request["device"])), RowsRead(), time.monotonic()
    first = _FirstForward()
    recorder.attach(model_class)
    first.attach(model_class)
    rows.attach()

    def in_time(*_: Any) -> None:
        if time.monotonic() - began > request["seconds"]:
            context.answer |= {**_observed(recorder, first, setup, weights), "cut": True}
            context.leave()

    register_optimizer_step_post_hook(in_time)
    try:
        launch.run_trainer(request["entry"], setup.overrides, root=request["root"])
    except Exception as error:
        context.answer |= rows.at(error)
        raise
    finally:
        context.answer |= {**_observed(recorder, first, setup, weights), "cut": False}


def _first(
    request: Mapping[str, Any], weights: Weights | None, blocks: int | None, context: children.ChildContext
) -> None:
    """One training up to its first loss; without weights from those that the model is built with."""
    import torch

    model_class = launch.import_model_class(request["release"]["install_dir"], str(request["config"]["model"]))
    setup = _set_up(request, weights, blocks, context.path)
    if weights is None:
        # Not left out: a folder without configuration.json must have a checkpoint.
        nothing = context.path / "nothing.pt"
        torch.save({}, nothing)
        setup.overrides["init_param"] = str(nothing)

    def record_and_leave(first_forward: Mapping[str, Any]) -> None:
        context.answer |= {"first": dict(first_forward)}
        context.leave()

    _FirstForward(then=record_and_leave).attach(model_class)
    launch.run_trainer(request["entry"], setup.overrides, root=request["root"])


@dataclass(kw_only=True)
class _FirstForward:
    """Observes the first training forward pass."""

    then: Any = None
    found: dict[str, Any] | None = field(default=None)

    def attach(self, model_class: Any) -> None:
        """Observe forward passes of `model_class`."""
        import torch

        forward, observer = model_class.forward, self

        def watched(network: Any, *args: Any, **kwargs: Any) -> Any:
            output = forward(network, *args, **kwargs)
            if observer.found is None and network.training and torch.is_grad_enabled():
                observer.found = _first_of(output, kwargs.get("text"))
                if observer.then is not None:
                    observer.then(observer.found)
            return output

        model_class.forward = watched


def _first_of(output: Any, text: Any) -> dict[str, Any]:
    # Whisper's is a mapping, at which the trainer then ends.
    loss, stats = (output.get("loss"), output.get("stats")) if isinstance(output, Mapping) else (output[0], output[1])
    stats = stats if isinstance(stats, Mapping) else {}
    named = {str(name): _number(value) for name, value in stats.items()}
    batch = hashlib.sha256(text.detach().cpu().numpy().tobytes()).hexdigest() if hasattr(text, "detach") else ""
    return {"loss": _number(loss), "stats": named, "batch": batch}


def _number(value: Any) -> float | None:
    try:
        return float(value.detach().double().mean()) if hasattr(value, "detach") else float(value)
    except (TypeError, ValueError):
        return None


def _observed(
    recorder: TrainingRecorder, first: _FirstForward, setup: _Setup, weights: Weights | None
) -> dict[str, Any]:
    saved = sorted(path.name for path in setup.output.glob("**/model.pt*"))
    if recorder.network is None:
        return {"first": None, "saved": saved, "steps": 0, "validations": recorder.validations}
    groups = {name: [name] for name, _ in recorder.network.named_children()}
    metrics = recorder.metrics(groups, 0.06)
    config = recorder.in_force.to_dict()
    frozen = recorder.changes.frozen(config, groups) if config else {}
    named = dict(recorder.network.named_parameters())
    losses = metrics["losses"]
    return {
        "first": first.found,
        "steps": metrics["steps"],
        "losses": losses,
        "not_finite": next((n for n, loss in enumerate(losses) if loss is not None and not math.isfinite(loss)), None),
        "learning_rates": metrics["learning_rates"],
        "step_seconds": metrics["step_seconds"],
        "peak_reserved_bytes": metrics["peak_reserved_bytes"],
        "forwards": metrics["invariants"]["forwards"],
        "validations": recorder.validations,
        "saved": saved,
        "criterion": metrics["criterion"],
        "targets": metrics["targets"],
        "parameters": sum(parameter.numel() for parameter in named.values()),
        "trainable": metrics["invariants"]["trainable_parameters"],
        "without_gradient": _by_part(metrics["invariants"]["without_gradient"], named),
        "not_in_optimizer": len(metrics["invariants"]["not_in_optimizer"]),
        "freeze_asked": config.get("freeze_param"),
        "frozen": frozen.get("frozen", 0),
        "frozen_but_trained": sum(
            named[frozen_name].requires_grad for frozen_name in in_force.frozen_by(config, list(named))
        ),
        "frozen_but_moved": frozen.get("frozen_but_moved", []),
        **_compared(recorder, weights),
    }


def _by_part(names: Sequence[str], named: Mapping[str, Any]) -> list[str]:
    """Parts of the model all of whose parameters are among these."""
    parts: dict[str, set[str]] = {}
    for name in named:
        parts.setdefault(name.partition(".")[0], set()).add(name)
    return sorted(part for part, members in parts.items() if members <= set(names))


def _compared(recorder: TrainingRecorder, weights: Weights | None) -> dict[str, Any]:
    """How many numbers of the model that began to train are the checkpoint's."""
    import torch

    if weights is None:
        return {}
    checkpoint_state = {name.removeprefix("module."): tensor for name, tensor in weights.state.items()}
    before = recorder.changes.before
    same = {
        name
        for name, tensor in before.items()
        if name in checkpoint_state
        and checkpoint_state[name].shape == tensor.shape
        and torch.equal(checkpoint_state[name].to(tensor.dtype), tensor)
    }
    fresh = [name for name in before if name not in same]
    return {
        "from_checkpoint": sum(tensor.numel() for name, tensor in before.items() if name in same),
        "fresh": {"count": len(fresh), "names": fresh[:_NAMED]},
    }
