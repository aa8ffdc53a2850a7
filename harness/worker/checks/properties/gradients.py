"""Where gradients arrive, and where they must not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.worker.checks.properties.building import build, make_batch
from harness.worker.checks.properties.comparing import same_edges, same_gradients
from harness.worker.checks.properties.drawing import Example, Wish
from harness.worker.checks.properties.running import Violation, forward, gradients
from harness.worker.checks.properties.subject import Property, Subject
from harness.worker.release import model


def _reach(example: Example, subject: Subject) -> None:
    network = build(example)
    done = forward(network, make_batch(example), example.seed)
    _check(gradients(network, done.loss), subject, frozen=())


def _frozen(example: Example, subject: Subject) -> None:
    batch = make_batch(example, double=True)
    whole = build(example, double=True)
    before = forward(whole, batch, example.seed)
    every = gradients(whole, before.loss)
    frozen = tuple(name for name in example.options["frozen"].split("+") if name in subject.groups)
    network = build(example, double=True)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(model.group_of(name, subject.groups) not in frozen)
    after = forward(network, batch, example.seed)
    found = gradients(network, after.loss)
    _check(found, subject, frozen=frozen)
    # Torch convolves otherwise where no gradient is asked for, and that is enough to move the last bit.
    same_edges(before, after, [(row, row) for row in range(len(example.frames))], example.targets)
    rest = {name: slope for name, slope in every.items() if model.group_of(name, subject.groups) not in frozen}
    same_gradients(f"with {' and '.join(frozen)} frozen", rest, found)


def _check(found: Mapping[str, Any], subject: Subject, *, frozen: tuple[str, ...]) -> None:
    largest = dict.fromkeys(subject.groups, 0.0)
    for name, slope in found.items():
        if not bool(slope.isfinite().all()):
            raise Violation(f"the gradient of {name} is not finite")
        group = model.group_of(name, subject.groups)
        if group in frozen:
            raise Violation(f"{name} is frozen and has a gradient")
        if group in largest:
            largest[group] = max(largest[group], float(slope.abs().max()))
    for group, size in largest.items():
        if group not in frozen and size == 0.0:
            raise Violation(f"no gradient reaches the {group}")


GRADIENTS_REACH = Property(
    name="gradients_reach_every_part",
    wish=Wish(sampler=True, look_ahead=True, least_hidden=8),
    holds=_reach,
    at_own_shape=True,
    share=3,
)
FROZEN = Property(
    name="frozen_parts_stay_without_gradient",
    wish=Wish(
        look_ahead=True, least_hidden=8, options={"frozen": ("encoder", "decoder", "predictor", "encoder+predictor")}
    ),
    holds=_frozen,
)
