"""Real releases: a prediction against more blocks than were measured, and against FunASR's own trainer."""

from __future__ import annotations

import argparse
from dataclasses import replace

import pytest
from estimate_scene import ROOT, hold

from harness import cli
from harness.commands.common import cell_runner
from harness.core.cells import Depth, Dimensions, Precision, Release
from harness.performance.prediction.account import account
from harness.performance.prediction.depth import deepen, uneven_blocks
from harness.performance.prediction.measure import MeasureContext, MeasureRequest, measure, shallow
from harness.performance.prediction.training_steps import changes, optimizer_of
from harness.variants.catalogue import load_variant

pytestmark = [pytest.mark.release, pytest.mark.timeout(1800)]


def test_funasrs_own_trainer_takes_what_was_predicted() -> None:
    """Against live tensor bytes on a CPU, with a batch that was carried far."""
    (held,) = hold("paraformer_streaming", Dimensions(vocab_size=1200, hidden_size=128), [32])
    assert abs(held.off) < 0.01, held


def test_a_step_carried_to_more_blocks_takes_what_is_measured_there(locked: tuple[Release, ...]) -> None:
    deeper = (("encoder_conf.num_blocks", 9), ("decoder_conf.num_blocks", 8), ("decoder_conf.att_layer_num", 8))
    variant = load_variant("paraformer_streaming")
    config = {name: dict(value) if isinstance(value, dict) else value for name, value in variant.config.items()}
    for path, count in deeper:
        conf, key = path.split(".")
        config[conf][key] = count
    question = MeasureRequest(
        release=locked[-1],
        variant=replace(variant, config=config),
        dimensions=Dimensions(vocab_size=1200, hidden_size=64),
        depth=Depth.FULL,
        precision=Precision.BF16,
        frames=30,
        characters=6,
    )
    room = MeasureContext(runner=cell_runner(argparse.Namespace(cache=None)), threads=1)
    carried = measure(question, (2,), room)
    assert dict(shallow(question.variant, Depth.FULL).reduced) != dict(deeper)
    whole = replace(question, variant=replace(variant, reduced=deeper), depth=Depth.REDUCED)
    measured = measure(whole, (2,), room)
    adam = optimizer_of("adam", 0.0)
    assert adam is not None
    assert uneven_blocks(carried.steps[2], carried.stacks) == ()
    one = account(changes(carried, deepen(carried.steps[2], carried.stacks), adam))
    other = account(changes(measured, measured.steps[2], adam))
    assert one.parts == pytest.approx(other.parts, rel=1e-3, abs=4096)
    assert one.reserved == pytest.approx(other.reserved, rel=0.02)


def test_a_release_with_the_reported_bug_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    arguments = (
        "--variant",
        "paraformer_streaming",
        "--dimensions",
        "v8404-h320",
        "--depth",
        "reduced",
        "--batch",
        "2",
    )
    assert cli.main(["estimate", *arguments, "--seconds", "1", "--release", "1.0.12"]) == 2
    error = capsys.readouterr().err
    assert "FunASR 1.0.12, paraformer_streaming at v8404-h320 cannot be trained" in error
    assert "AssertionError" in error
