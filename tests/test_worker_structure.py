"""What a model is built of and yet keeps from its optimizer, its checkpoints or its config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from forked import Forked

from harness.worker.checks import construct


def examined(fault: str, config: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A small model with this fault, described and judged."""
    import torch

    model = torch.nn.Module()
    model.embed = torch.nn.Embedding(7, 3)
    model.encoder = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.LayerNorm(3))
    model.output_layer = torch.nn.Linear(3, 7)
    if fault == "in a list":
        model.extra = [torch.nn.Linear(3, 3)]
    elif fault == "in a mapping of lists":
        model.encoder.extra = {"first": [torch.nn.Linear(3, 3)]}
    elif fault == "beside the modules":
        model.__dict__["predictor"] = torch.nn.Linear(3, 1)
    elif fault == "a lone parameter":
        model.extra = (torch.nn.Parameter(torch.zeros(2)),)
    elif fault == "frozen":
        model.encoder.requires_grad_(False)
    elif fault == "frozen in part":
        model.encoder[0].bias.requires_grad_(False)
        model.output_layer.requires_grad_(False)
    elif fault == "shared":
        model.output_layer.weight = model.embed.weight
    elif fault == "nothing":
        # What sound models hold beside their modules: one of their own modules again, functions, plain tensors.
        model.__dict__["first"], model.note = model.encoder[0], {"sizes": [1, 2], "function": len}
        model.mask = [torch.zeros(2)]
        model.again = [model.encoder]
    found = construct.unreachable_parts(model)
    return {"found": found, "misfit": construct.structural_fault(found, config or {})}


def test_a_whole_model_has_nothing_out_of_reach(forked: Forked) -> None:
    answer = forked(examined, fault="nothing")
    assert answer == {"found": {"unregistered": [], "frozen": [], "shared": []}, "misfit": None}


@pytest.mark.parametrize(
    ("fault", "kind", "place"),
    [
        ("in a list", "Unregistered", "extra"),
        ("in a mapping of lists", "Unregistered", "encoder.extra"),
        ("beside the modules", "Unregistered", "predictor"),
        ("a lone parameter", "Unregistered", "extra"),
        ("frozen", "Frozen", "encoder"),
        ("frozen in part", "Frozen", "encoder.0.bias+output_layer"),
        ("shared", "SharedWeights", "embed.weight+output_layer.weight"),
    ],
)
def test_what_is_out_of_reach_is_named(forked: Forked, fault: str, kind: str, place: str) -> None:
    found = forked(examined, fault=fault)["misfit"]
    assert tuple(found[:2]) == (kind, place)
    assert all(name in found[2] for name in place.split("+"))


@pytest.mark.parametrize(
    ("fault", "config"),
    [
        ("frozen", {"encoder_conf": {"freeze": True}}),
        ("frozen", {"parts": [{"freeze_encoder": 1}]}),
        ("shared", {"model_conf": {"share_embedding": True}}),
    ],
)
def test_what_the_config_asks_for_is_no_fault(forked: Forked, fault: str, config: dict[str, Any]) -> None:
    assert forked(examined, fault=fault, config=config)["misfit"] is None


@pytest.mark.parametrize(
    ("fault", "config"), [("frozen", {"encoder_conf": {"freeze": False}}), ("shared", {"share_embedding": False})]
)
def test_a_switch_that_is_off_asks_for_nothing(forked: Forked, fault: str, config: dict[str, Any]) -> None:
    assert forked(examined, fault=fault, config=config)["misfit"] is not None


def test_a_finding_names_three_parts_and_counts_the_rest() -> None:
    found = {"unregistered": ["a", "b", "c", "d", "e"], "frozen": [], "shared": []}
    misfit = construct.structural_fault(found, {})
    assert misfit is not None
    assert misfit[1] == "a+b+c"
    assert "a, b, c and 2 more" in misfit[2]
