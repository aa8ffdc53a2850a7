"""A real release's checkpoints and decoding, in one short run: what holds there, and what is known not to."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial

import pytest

from harness.config.matrix import load_matrix
from harness.core.cells import Outcome, Release, Status
from harness.environments.environment import probe, scrubbed_environment
from harness.releases import default_cache, resolve
from harness.rules.checkpoint import apply_checkpoint_rule
from harness.rules.decode import apply_decode_rule
from harness.run import Settings, build_plan, execute
from harness.run.prepare import lay_out_releases, prepare
from harness.run.runner import PRELOADED
from harness.variants.catalogue import available

# Half a minute of a quiet processor; on a busy machine it may take a while.
pytestmark = [pytest.mark.release, pytest.mark.timeout(1800)]

MATRIX = """
schema = 1
name = "saved"
description = "The checkpoints of one release, and a decoding after a training that is too short."

[axes]
release = ["1.4.16"]
variant = ["paraformer_streaming"]
vocab_size = [1200]
hidden_size = [64]
depth = ["reduced"]
check = ["checkpoint@train_ds", "decode@train_ds"]
device = ["cpu"]
precision = ["fp32"]

[decode]
steps = 2
utterances = 2
batch_size = 2
"""


@pytest.fixture(scope="module")
def outcomes(locked: tuple[Release, ...], tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Outcome]:
    """Both cells, by the names of their checks, settled."""
    pytest.importorskip("torch", reason="runs releases: install the `stack` extra")
    # Short, for the sockets that are made below it.
    room = tmp_path_factory.mktemp("s").resolve()
    (room / "matrix.toml").write_text(MATRIX, encoding="utf-8")
    matrix = load_matrix(
        room / "matrix.toml", resolve=partial(resolve, locked=locked), variants=available(), gpu_present=False
    )
    stack = probe(cache=default_cache())
    prepared = prepare(matrix, matrix.cells, stack, cache=default_cache(), workspace=room)
    lay_out_releases(prepared, matrix.cells)
    settings = Settings(
        workspace=room / "tree",
        jobs=len(os.sched_getaffinity(0)),
        memory_bytes=matrix.limits.memory_bytes,
        timeout_seconds={check: 4 * seconds for check, seconds in matrix.limits.timeout_seconds.items()},
        preload=PRELOADED,
        sys_path=tuple(str(path) for path in stack.extra_paths),
        places={str(prepared.cache): "<cache>", str(room): "<workspace>"},
        enter_timeout_seconds=600.0,
        preload_timeout_seconds=900.0,
    )
    plan = build_plan(matrix.cells, settings, release_for=prepared.release_for, request_for=prepared.request_for)
    found: dict[str, Outcome] = {}

    def keep(outcome: Outcome) -> None:
        settled = apply_checkpoint_rule if outcome.cell.check == "checkpoint" else apply_decode_rule
        assert outcome.status is Status.PASSED, outcome.reason
        found[outcome.cell.check] = settled(outcome)

    environment = scrubbed_environment(stack, room / "env", cache=prepared.cache)
    execute(plan, keep, python=stack.python, env=environment, on_warning=pytest.fail)
    return found


def test_of_its_invariants_on_checkpoints_three_are_broken(outcomes: Mapping[str, Outcome]) -> None:
    outcome = outcomes["checkpoint"]
    assert outcome.failure is not None
    names = ("resumes_within_epoch", "resumes_twice_within_epoch", "bare_folder_loads")
    assert outcome.failure.signature == "CheckpointBroken@" + "+".join(names)
    answers = {answer["name"]: answer["status"] for answer in outcome.evidence["questions"]}
    assert {name for name, status in answers.items() if status != "holds"} == set(names)


def test_the_tensors_of_the_vocabulary_are_those_that_are_left_out(outcomes: Mapping[str, Outcome]) -> None:
    cases = outcomes["checkpoint"].metrics["mismatch"]
    (vocabulary,) = (case for case in cases if case["kind"] == "vocabulary" and case["ignore"])
    assert {left["name"]: left["checkpoint"] for left in vocabulary["left_out"]} == {
        "decoder.embed.0.weight": [1050, 64],
        "decoder.output_layer.weight": [1050, 64],
        "decoder.output_layer.bias": [1050],
    }


def test_after_two_steps_no_text_comes_back_though_the_weights_are_the_trained_ones(
    outcomes: Mapping[str, Outcome],
) -> None:
    outcome = outcomes["decode"]
    assert (outcome.metrics["steps"], outcome.metrics["weights_differ_count"]) == (2, 0)
    assert outcome.status is Status.FAILED
    assert outcome.failure is not None
    assert outcome.failure.signature == "NotDecoded@error_rate"
    assert outcome.evidence["decoding"]["untrained_error_rate"] >= 0.8
