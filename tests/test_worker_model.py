"""Finding one's way in a model, and building it as its users do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_release
from forked import Forked
from hypothesis import given
from hypothesis import strategies as st

from harness.worker.release import model

GROUPS = {"encoder": ["encoder"], "predictor": ["predictor", "cif."], "decoder": ["decoder"]}


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("encoder.layers.0.weight", "encoder"),
        ("encoder", "encoder"),
        ("cif.conv.weight", "predictor"),
        ("encoder2.weight", "other"),
        ("my.encoder.weight", "other"),
        ("", "other"),
    ],
)
def test_a_parameter_belongs_to_the_group_whose_prefix_is_a_whole_part_of_its_name(name: str, group: str) -> None:
    assert model.group_of(name, GROUPS) == group


@given(prefix=st.text("ab.", min_size=1, max_size=4), rest=st.text("ab.", max_size=4))
def test_a_prefix_never_ends_within_a_part(prefix: str, rest: str) -> None:
    expected = rest == "" or rest.startswith(".") or prefix.endswith(".")
    assert (model.group_of(prefix + rest, {"group": [prefix]}) == "group") == expected


def seen_in_a_model() -> dict[str, Any]:
    import torch

    class LabelLoss(torch.nn.Module):
        size = 7

    class LossWithoutClasses(torch.nn.Module):
        pass

    class SizedLoss(torch.nn.Module):
        def size(self) -> int:
            return 3

    class Embedding(torch.nn.Module):
        size = 9

    network = torch.nn.Module()
    network.criterion_att = LabelLoss()
    network.criterion_pre = LossWithoutClasses()
    network.other = SizedLoss()
    network.embed = Embedding()
    network.decoder = torch.nn.Module()
    network.decoder.output_layer = torch.nn.Linear(2, 7)
    network.decoder.hidden = torch.nn.Linear(2, 2)
    network.ctc = torch.nn.Module()
    network.ctc.ctc_lo = torch.nn.Linear(2, 7)
    network.output_layer = torch.nn.Identity()
    return {
        "losses": [name for name, _ in model.losses(network)],
        "projections": [name for name, _ in model.projections(network)],
    }


def test_losses_with_classes_and_projections_to_the_vocabulary_are_found(forked: Forked) -> None:
    assert forked(seen_in_a_model) == {
        "losses": ["criterion_att"],
        "projections": ["decoder.output_layer", "ctc.ctc_lo"],
    }


def draws(seed: int) -> list[float]:
    import random

    import numpy
    import torch

    model.seed_everything(seed)
    return [random.random(), float(numpy.random.rand()), float(torch.rand(()))]


def test_the_seed_reaches_every_generator(forked: Forked) -> None:
    first, again, other = (forked(draws, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert all(one != two for one, two in zip(first, other, strict=True))


def built(install_dir: str, folder: str, seed: int) -> dict[str, Any]:
    from harness.worker.release import importer

    importer.import_components_only(install_dir, "1.0.0")
    importer.import_components(install_dir, [("model_classes", "Tiny")])
    network, config = model.build(folder, "cpu", seed)
    return {
        "weight": network.encoder.weight.tolist(),
        "token_list": config["tokenizer_conf"]["token_list"],
        "cmvn_file": config["frontend_conf"]["cmvn_file"],
        "device": config["device"],
        "input_size": config["input_size"],
    }


def test_a_model_is_built_from_its_folder_and_its_seed(forked: Forked, tmp_path: Path) -> None:
    install_dir = tiny_release.write_release(tmp_path / "release")
    folder = tiny_release.write_model_folder(tmp_path / "model")
    arguments = {"install_dir": str(install_dir), "folder": str(folder)}
    first, again, other = (forked(built, **arguments, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first["weight"] != other["weight"]
    assert first["token_list"] == str(folder / "tokens.json")
    assert first["cmvn_file"] == str(folder / "am.mvn")
    assert (first["device"], first["input_size"]) == ("cpu", 5)


def damped() -> dict[str, list[float]]:
    import torch

    names = (
        "encoder.encoders.1.feed_forward.w_2.weight",
        "encoder.encoders.2.feed_forward.w_2.weight",
        "decoder.decoders.15.src_attn.linear_out.weight",
        "encoder.encoders.9.self_attn.linear_q_k_v.weight",
        "encoder.encoders.9.feed_forward.w_1.weight",
        "decoder.output_layer.weight",
    )
    found = {}
    for name in names:
        value = torch.ones(6, 1)
        model.damp(name, value)
        found[name] = value.flatten().tolist()
    return found


def test_what_deep_blocks_add_to_their_input_is_damped_and_nothing_else(forked: Forked) -> None:
    small, ones = pytest.approx([model.DAMPING] * 6), [1.0] * 6
    assert list(forked(damped).values()) == [
        ones,
        small,
        small,
        pytest.approx([1.0] * 4 + [model.DAMPING] * 2),
        ones,
        ones,
    ]
