"""Of which architectures the properties' examples say anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from forked import Forked

from harness.core.cells import Depth, Dimensions
from harness.variants.catalogue import available, load_variant
from harness.variants.variant import render
from harness.worker.checks import properties

SHAPE = Dimensions(vocab_size=8404, hidden_size=32)
FITTING = {"bicif_paraformer", "paraformer", "paraformer_streaming", "scama", "uniasr"}
"""Those with a CIF predictor that take speech and text alone."""


def asked(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the check answers for a variant, where every search finds nothing."""
    pytest.importorskip("omegaconf", reason="reads configs as FunASR does: install the `stack` extra")
    monkeypatch.setattr(properties, "search_all", lambda *_, **__: [])
    variant = load_variant(name)
    shape = SHAPE if name != "sense_voice" else Dimensions(vocab_size=25055, hidden_size=32)
    (folder / "config.yaml").write_text(yaml.safe_dump(render(variant, dimensions=shape, depth=Depth.REDUCED)))
    request = {
        "release": {"install_dir": str(folder)},
        "model_folder": str(folder),
        "groups": {},
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.hidden_size,
        "seed": 0,
        "contract": {"inputs": list(variant.inputs)},
    }
    return properties.check(request)


@pytest.mark.parametrize("name", available())
def test_an_architecture_that_the_examples_do_not_fit_is_not_accused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = asked(name, tmp_path, monkeypatch)
    assert answer["status"] == ("passed" if name in FITTING else "skipped")
    if name not in FITTING:
        assert load_variant(name).config["model"] in answer["reason"]


def test_the_reason_names_what_the_examples_lack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contextual = asked("contextual_paraformer", tmp_path, monkeypatch)
    assert contextual["reason"] == (
        "the examples have no hotword_lengths and hotword_pad, which ContextualParaformer takes"
    )
    conformer = asked("conformer", tmp_path, monkeypatch)
    assert conformer["reason"].endswith("a CIF predictor, and Conformer has none")


def observed_outputs(count: int) -> int:
    """How many outputs of a predictor with so many are kept."""
    import torch

    from harness.worker.checks.properties.forward_pass import _observed

    class Predictor(torch.nn.Module):
        def forward(self, hidden: Any) -> tuple[Any, ...]:
            return (hidden,) * count

    network = torch.nn.Module()
    network.predictor = Predictor()
    with _observed(network) as seen:
        network.predictor(torch.zeros(1))
    return len(seen.predictor)


@pytest.mark.parametrize("count", [4, 5])
def test_the_time_stamps_of_a_predictor_are_left_aside(forked: Forked, count: int) -> None:
    assert forked(observed_outputs, count=count) == 4
