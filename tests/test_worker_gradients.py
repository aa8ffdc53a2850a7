"""Gradients: whether they come, how large they are when a step is taken, and whether they go."""

from __future__ import annotations

from typing import Any

import pytest
from forked import Forked

from harness.worker.trainer.parameters import MEASURED_EVERY, MEASURED_FIRST


def train(
    *, steps: int = 3, clip: float = 0.0, scale: float = 1.0, keep: bool = False, fault: str = "", zeroed: bool = False
) -> dict[str, Any]:
    import torch

    from harness.worker.trainer.parameters import Gradients

    torch.manual_seed(0)
    model = torch.nn.ModuleDict({"a": torch.nn.Linear(3, 3), "b": torch.nn.Linear(3, 3), "c": torch.nn.Linear(3, 1)})
    model["c"].requires_grad_(False)
    held = model["a"] if fault == "holds less" else model
    optimizer = torch.optim.SGD(held.parameters(), lr=0.1)
    gradients = Gradients()
    gradients.attach(model)
    norms = []
    for _ in range(steps):
        gradients.before_first_forward()
        hidden = model["a"](torch.ones(2, 3))
        loss = model["c"](hidden if fault == "unused" else model["b"](hidden) * (0.0 if fault == "zero" else 1.0)).sum()
        (loss * 100).backward()
        found = torch.nn.utils.clip_grad_norm_(model.parameters(), clip) if clip else None
        for one in model.parameters():
            if one.grad is not None:
                one.grad.mul_(scale)
        squares = [float(one.grad.square().sum()) for one in model.parameters() if one.grad is not None]
        norms.append(sum(squares) ** 0.5)
        gradients.before_step(optimizer, found)
        optimizer.step()
        if not keep:
            optimizer.zero_grad(set_to_none=not zeroed)
            model.zero_grad(set_to_none=not zeroed)
    return {**gradients.metrics(), "norms": norms}


def test_a_sound_training_has_nothing_to_tell(forked: Forked) -> None:
    seen = forked(train)
    assert seen["trainable_parameters"] == 4
    assert seen["trainable_bytes"] == 4 * (9 + 3) * 2
    assert seen["without_gradient"] == seen["not_in_optimizer"] == seen["steps_begun_with_gradients"] == []


def test_norms_are_those_that_the_step_is_taken_with(forked: Forked) -> None:
    seen = forked(train, clip=5.0)
    assert [one["norm"] for one in seen["norms_before_steps"]] == pytest.approx(seen["norms"])
    assert seen["norms"][0] == pytest.approx(5.0, rel=1e-4)
    assert seen["norms_before_steps"][0]["found_by_clipping"] > 5.0
    assert forked(train)["norms_before_steps"][0]["found_by_clipping"] is None


def test_gradients_that_are_scaled_after_clipping_are_seen(forked: Forked) -> None:
    assert forked(train, clip=5.0, scale=0.5)["norms_before_steps"][0]["norm"] == pytest.approx(2.5, rel=1e-4)


def test_the_first_steps_are_measured_and_then_a_few(forked: Forked) -> None:
    steps = [one["step"] for one in forked(train, steps=2 * MEASURED_EVERY + 1)["norms_before_steps"]]
    assert steps == [*range(MEASURED_FIRST), MEASURED_EVERY, 2 * MEASURED_EVERY]


@pytest.mark.parametrize("fault", ["unused", "zero"])
def test_parameters_that_no_gradient_moves_are_named(forked: Forked, fault: str) -> None:
    expected = ["b.weight", "b.bias"] if fault == "unused" else ["a.weight", "a.bias", "b.weight", "b.bias"]
    assert forked(train, fault=fault)["without_gradient"] == expected


def test_parameters_that_the_optimizer_was_not_given_are_named(forked: Forked) -> None:
    assert forked(train, fault="holds less")["not_in_optimizer"] == ["b.weight", "b.bias"]


def test_gradients_that_are_left_are_reported_with_their_steps(forked: Forked) -> None:
    assert forked(train, keep=True)["steps_begun_with_gradients"] == [1, 2]


def test_gradients_may_be_cleared_to_zero_as_well_as_to_none(forked: Forked) -> None:
    assert forked(train, zeroed=True)["steps_begun_with_gradients"] == []
