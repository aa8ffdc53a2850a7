"""What the release's loader made of each tensor, as `harness.worker.preflight.tensors` measured it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.core.cells import Failure

_CONTAINERS = ("state_dict", "model_state_dict", "model")


@dataclass(frozen=True, kw_only=True)
class ModelTensor:
    """A tensor of the model that the release builds."""

    name: str
    shape: tuple[int, ...]
    parameter: bool
    """Whether it is learned: a running mean is not, nor what the model's code never uses; a tied one counts once."""
    loaded: bool
    found_shape: tuple[int, ...] | None
    """Of the checkpoint's tensor of that name, where that is why it was not loaded."""
    excluded: bool
    """Whether the command's `excludes` names it."""

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def module(self) -> str:
        """The first part of its name: `encoder`."""
        return self.name.partition(".")[0]


@dataclass(frozen=True, kw_only=True)
class CheckpointTensor:
    """A tensor of the checkpoint that was loaded last."""

    name: str
    shape: tuple[int, ...]
    type: str
    taken: bool

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, kw_only=True)
class TensorFates:
    """All that was measured."""

    stage: str
    """Where it ended: `files`, `model`, `start` (the model is built and nothing was loaded), `weights`, `loaded`."""
    failure: Failure | None
    ours: str = ""
    """`BlockedCall` or `Unloadable`, where a guard of the harness's ended it."""
    model: tuple[ModelTensor, ...] = ()
    checkpoint: tuple[CheckpointTensor, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    """In force within the release, by key."""
    loads: tuple[str, ...] = ()
    """The checkpoints that were loaded, in order."""
    vocabulary: int | None = None
    features: int | None = None
    outputs: Mapping[str, int] = field(default_factory=dict)
    losses: Mapping[str, int] = field(default_factory=dict)
    attributes: Mapping[str, int] = field(default_factory=dict)
    keys: tuple[str, ...] = ()
    """Of a checkpoint that is a trainer's and no bare weights."""
    not_finite: tuple[str, ...] = ()
    saved_files: tuple[str, ...] = ()
    """What the trainer put into its output folder at the start."""
    saved_paths: Mapping[str, str] = field(default_factory=dict)
    prevented: tuple[str, ...] = ()

    @property
    def is_optimizer_state(self) -> bool:
        """Whether the file holds what `optimizer.state_dict()` gives, in place of weights."""
        return {"state", "param_groups"} <= set(self.keys)

    @property
    def parameters(self) -> tuple[ModelTensor, ...]:
        """The learned ones, tied ones once."""
        return tuple(tensor for tensor in self.model if tensor.parameter)

    @property
    def share_kept(self) -> float:
        """Of the parameters' numbers, those that the checkpoint gave."""
        return share(self.parameters, [tensor for tensor in self.parameters if tensor.loaded])

    def of_another_shape(self) -> list[ModelTensor]:
        """In the checkpoint, in another shape."""
        return [
            tensor
            for tensor in self.parameters
            if not (tensor.loaded or tensor.excluded) and tensor.found_shape is not None
        ]

    def absent(self) -> list[ModelTensor]:
        """Not in the checkpoint; what LoRA adds is new as configured."""
        return [
            tensor
            for tensor in self.parameters
            if not (tensor.loaded or tensor.excluded or tensor.found_shape is not None or "lora_" in tensor.name)
        ]

    def dropped(self) -> list[CheckpointTensor]:
        """In the checkpoint, and no tensor of the model takes them."""
        names = {tensor.name for tensor in self.model}
        return [tensor for tensor in self.checkpoint if not tensor.taken and tensor.name not in names]


def share(all_of: Sequence[ModelTensor | CheckpointTensor], part: Sequence[ModelTensor | CheckpointTensor]) -> float:
    """The part's share of the numbers."""
    total = sum(tensor.size for tensor in all_of)
    return sum(tensor.size for tensor in part) / total if total else 0.0


def fates_of(answer: Mapping[str, Any]) -> TensorFates:
    """Parse the measurement's answer."""
    facts, failure = answer["facts"], answer["failure"]
    checkpoint = tuple(_checkpoint(answer["checkpoint"], len(answer["loads"]) - 1))
    shapes = {tensor.name: tensor.shape for tensor in checkpoint}
    learned = set(facts.get("parameters", ()))
    twice = {name for names in facts.get("shared", ()) for name in names[1:]}
    excludes = _excludes(answer["loads"])
    unused = tuple(f"{name}." for name in facts.get("unused", ()))
    return TensorFates(
        stage=answer["stage"],
        failure=Failure.from_json(failure) if failure else None,
        ours=failure["ours"] if failure and failure["ours"] in ("BlockedCall", "Unloadable") else "",
        model=tuple(
            ModelTensor(
                name=record["name"],
                shape=tuple(record["shape"]),
                parameter=record["name"] in learned - twice and not record["name"].startswith(unused),
                loaded=bool(record["source"]),
                found_shape=_other_shape(record, shapes),
                excluded=record["name"].startswith(excludes),
            )
            for record in answer["model"]
        ),
        checkpoint=checkpoint,
        files={key: "/".join(parts) for key, parts in facts.get("files", {}).items() if parts},
        loads=tuple("/".join(load["path"]) for load in answer["loads"]),
        vocabulary=facts.get("vocabulary"),
        features=facts.get("features"),
        outputs=facts.get("outputs", {}),
        losses=facts.get("losses", {}),
        attributes=facts.get("attributes", {}),
        keys=tuple(facts.get("keys", ())),
        not_finite=tuple(facts.get("not_finite", ())),
        saved_files=tuple(answer["saved"]["files"]),
        saved_paths={key: "/".join(parts) for key, parts in answer["saved"]["paths"].items() if parts},
        prevented=tuple(answer["prevented"]),
    )


def _other_shape(record: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...] | None:
    shape = shapes.get(record["name"])
    return None if record["source"] or shape == tuple(record["shape"]) else shape


def _excludes(loads: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    prefixes: list[str] = []
    for load in loads:
        excludes = load.get("excludes")
        prefixes += excludes if isinstance(excludes, list) else (excludes or "").split(",")
    return tuple(name for name in prefixes if name and name != "None")


def _checkpoint(records: Sequence[Mapping[str, Any]], last: int) -> Iterator[CheckpointTensor]:
    """Those of the last file, of the mapping in it that the release takes the weights from."""
    of_last = [record for record in records if record["mark"][0] == str(last)]
    chosen = Counter(tuple(record["mark"][1:-1]) for record in of_last if record["taken"])
    usual = Counter(tuple(record["mark"][1:-1]) for record in of_last if _is_usual(record["mark"][1:-1]))
    containers = chosen or usual or Counter(tuple(record["mark"][1:-1]) for record in of_last)
    if not containers:
        return
    container = containers.most_common(1)[0][0]
    for record in of_last:
        if tuple(record["mark"][1:-1]) == container:
            name = record["mark"][-1].removeprefix("module.")
            yield CheckpointTensor(name=name, shape=tuple(record["shape"]), type=record["type"], taken=record["taken"])


def _is_usual(container: Sequence[str]) -> bool:
    return not container or all(part in _CONTAINERS for part in container)
