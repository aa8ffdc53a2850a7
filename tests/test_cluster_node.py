"""A batch of a real release on a node of a cluster: each outcome is given, and a cancelled batch leaves nothing."""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path

import pytest

from harness.config.matrix import Matrix, load_matrix
from harness.core import processes
from harness.core.cells import Outcome
from harness.environments.environment import probe
from harness.releases import default_cache, fetch, load_lock, resolve
from harness.run.cluster import node
from harness.run.cluster.batches import CellBatch
from harness.run.cluster.node import ClusterJob, MessageKind, run_batch
from harness.run.prepare import prepare
from harness.run.provenance import StackFacts, collect_provenance
from harness.variants.catalogue import available

pytestmark = pytest.mark.release

MATRIX = """
schema = 1
name = "side"
description = "The streaming bug, narrow."

[axes]
release = ["1.0.12"]
variant = ["paraformer_streaming"]
vocab_size = [1200]
hidden_size = [64]
depth = ["reduced"]
check = ["construct", "loss_contract"]
device = ["cpu"]
precision = ["fp32"]
"""


def job_of(matrix: Matrix, workspace: Path) -> ClusterJob:
    """As the machine that starts a run makes it."""
    stack = node.probe(cache=default_cache())
    facts = StackFacts(
        python=stack.python_version, torch=stack.torch_version, cuda=stack.cuda_version, libraries=stack.libraries
    )
    prepared = prepare(matrix, matrix.cells, stack, cache=default_cache(), workspace=workspace)
    return ClusterJob(
        matrix=matrix,
        origin=collect_provenance(matrix, facts, corpus_sha256=prepared.speech.sha256),
        trained=frozenset(),
        counterexamples={},
        speech=None,
        cache=None,
        jobs=1,
        preload=("numpy", "torch"),
        preload_for_trainers=(),
    )


def never(label: str) -> bytes:
    """The release lies there: nothing is sent."""
    raise AssertionError(label)


def test_a_batch_of_a_real_release_gives_its_outcomes_and_leaves_nothing_when_it_is_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node, "probe", functools.cache(probe))
    locked = load_lock(Path(__file__).parent.parent / "matrices" / "releases.lock.toml")
    (tmp_path / "side.toml").write_text(MATRIX)
    matrix = load_matrix(
        tmp_path / "side.toml", resolve=lambda spec: resolve(spec, locked), variants=available(), gpu_present=False
    )
    fetch(matrix.releases, default_cache(), jobs=1)
    job = job_of(matrix, tmp_path / "speech")
    batch = CellBatch(number=0, cells=matrix.cells, gpus=0)
    said = list(run_batch(job, batch, (), never))
    assert [one.kind for one in said] == [
        *(MessageKind.MACHINE, MessageKind.STARTED, MessageKind.OUTCOME, MessageKind.STARTED, MessageKind.OUTCOME),
    ]
    construct, loss = (
        Outcome.from_json(json.loads(one.content)).as_declared() for one in said if one.kind is MessageKind.OUTCOME
    )
    assert (construct.status, loss.status) == ("passed", "failed")
    assert loss.failure
    assert loss.failure.signature.startswith("AssertionError@funasr/")

    # What came before a loss is known: the rest of the batch runs, and depends on it.
    rest = batch.after_loss([construct])
    before = set(processes.children(os.getpid()))
    stream = run_batch(job, rest, (), never)
    assert [next(stream).kind for _ in range(2)] == [MessageKind.MACHINE, MessageKind.STARTED]
    assert set(processes.children(os.getpid())) > before
    stream.close()
    assert set(processes.children(os.getpid())) <= before
