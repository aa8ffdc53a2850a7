"""A run on a real cluster of two nodes, each in processes of its own, of which one is killed while it runs a batch."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import cli
from harness.commands import common
from harness.core import processes
from harness.core.cells import Outcome
from harness.environments.environment import probe
from harness.run.cluster import batches
from harness.run.runner import RunnerSettings
from harness.run.store import load_run

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.release,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the `ray` extra: nox -s cluster"),
    pytest.mark.filterwarnings("ignore"),
]

MATRIX = """
schema = 1
name = "sides"
description = "Both sides of the streaming bug, narrow."

[axes]
release = ["1.0.12", "1.0.17", "1.0.18"]
variant = ["paraformer_streaming", "paraformer"]
vocab_size = [1200]
hidden_size = [64]
depth = ["reduced"]
check = ["construct", "loss_contract"]
device = ["cpu"]
precision = ["fp32"]

[limits]
# A cell of these takes two seconds; on a busy machine none of them is to be taken for one that hangs.
timeout_seconds = { construct = 900, loss_contract = 900 }
"""
OF_THE_MOMENT = {"seconds", "started", "peak_resident_bytes", "resident_bytes", "leftovers_killed"}
"""Keys of what differs between two runs of one cell."""
PATIENCE = 900.0
"""Seconds after which something that has to come is given up; nothing is measured against it."""


def lasting(outcome: Outcome) -> dict[str, Any]:
    """An outcome without times and resident memory."""

    def kept(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                key: kept(one)
                for key, one in value.items()
                if key not in OF_THE_MOMENT and not key.endswith(("_seconds", "_time"))
            }
        return [kept(one) for one in value] if isinstance(value, list) else value

    told: dict[str, Any] = kept(json.loads(json.dumps(outcome.to_json())))
    return told


def lines(folder: str | Path) -> list[str]:
    """The lines that a run's store has so far."""
    path = Path(folder) / "outcomes.jsonl"
    return path.read_text("utf-8").splitlines() if path.exists() else []


def until(happened: Callable[[], Any], what: str) -> Any:
    """What is true at last."""
    end = time.monotonic() + PATIENCE
    while not (found := happened()):
        assert time.monotonic() < end, f"{what} did not come"
        time.sleep(0.1)
    return found


class TwoNodes:
    """A head without processors, and two nodes with one each."""

    def __init__(self) -> None:
        # A busy machine: Ray's workers are not to wait for everything else, and what is slow is not dead.
        patient = {"RAY_worker_niceness": "0", "RAY_raylet_start_wait_time_s": "600"}
        os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_health_check_failure_threshold": "20", **patient}
        from ray.cluster_utils import Cluster

        room = {"object_store_memory": 100_000_000}
        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **room})
        self.nodes = [self.cluster.add_node(num_cpus=1, memory=8 << 30, **room) for _ in range(2)]

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    def processes_of(self, node: Any) -> set[int]:
        """All processes of a node, its cells' among them."""
        found = {one.process.pid for ones in node.all_processes.values() for one in ones}
        level = set(found)
        while level:
            level = {child for pid in level for child in processes.children(pid)} - found
            found |= level
        return found

    def at_work(self, node: Any) -> set[int]:
        """The processes of the harness's process trees on a node."""
        return trees(self.processes_of(node))

    def hold_new_work(self, seen: set[int]) -> Any:
        """A node on which a process has just begun, which is stopped here: its batch is not done. Else None."""
        for node in self.nodes:
            if new := self.at_work(node) - seen:
                for pid in new:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGSTOP)
                return node
        return None

    def kill(self, node: Any) -> set[int]:
        """Take a node away without a word; returns the processes that it had."""
        had = self.processes_of(node)
        self.cluster.remove_node(node, allow_graceful=False)
        self.nodes.remove(node)
        return had


def command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def trees(pids: set[int]) -> set[int]:
    """Those of the processes that belong to a process tree of the harness and live."""
    return {pid for pid in pids if b"harness.worker" in command(pid)}


@pytest.fixture
def nodes() -> Iterator[TwoNodes]:
    two = TwoNodes()
    yield two
    two.cluster.shutdown()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a matrix; batches are small, and import what these cells need."""
    (tmp_path / "sides.toml").write_text(MATRIX)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(common, "probe", functools.cache(probe))
    small = functools.partial(RunnerSettings, preload=("numpy", "torch"), preload_for_trainers=())
    monkeypatch.setattr(common, "RunnerSettings", small)
    monkeypatch.setattr(batches, "_LEAST_SECONDS", 1.0)
    return tmp_path


def test_a_node_that_is_killed_costs_no_outcome_and_none_comes_twice(
    nodes: TwoNodes, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    killed: list[set[int]] = []

    def kill() -> None:
        until(lambda: len(lines("cluster")) >= 2, "the second outcome")
        seen = {pid for node in nodes.nodes for pid in nodes.at_work(node)}
        node = until(lambda: nodes.hold_new_work(seen), "another cell")
        killed.append(nodes.kill(node))

    thread = threading.Thread(target=kill)
    thread.start()
    status = cli.main(["run", "sides.toml", "-o", "cluster", "--executor", f"ray:{nodes.address}"])
    thread.join()
    said = capsys.readouterr().err
    assert "were lost" in said
    assert "they run again" in said
    ids = [json.loads(line)["id"] for line in lines("cluster")]
    assert len(ids) == len(set(ids)) == 12
    until(lambda: not trees(killed[0]), "the end of the killed node's cells")

    assert cli.main(["run", "sides.toml", "-o", "alone"]) == status
    mine, theirs = ({one.cell.id: lasting(one) for one in load_run(Path(f)).outcomes} for f in ("cluster", "alone"))
    assert {one["status"] for one in mine.values()} == {"passed", "failed"}
    assert {name: one["status"] for name, one in mine.items()} == {name: one["status"] for name, one in theirs.items()}
    assert mine == theirs


def test_ctrl_c_ends_the_cells_of_all_nodes_and_the_run_is_resumed(nodes: TwoNodes, folder: Path) -> None:
    words = ["run", "sides.toml", "-o", "cluster", "--executor", f"ray:{nodes.address}"]
    script = (
        "import functools, sys\n"
        "from harness import cli\nfrom harness.commands import common\n"
        "from harness.run.cluster import batches\nfrom harness.run.runner import RunnerSettings\n"
        "common.RunnerSettings = functools.partial(RunnerSettings, preload=('numpy', 'torch'),"
        " preload_for_trainers=())\n"
        "batches._LEAST_SECONDS = 1.0\n"
        "sys.exit(cli.main(sys.argv[1:]))\n"
    )
    started = subprocess.Popen(
        [sys.executable, "-c", script, *words],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    until(lambda: lines("cluster") or started.poll() is not None, "the first outcome")
    until(lambda: any(map(nodes.at_work, nodes.nodes)), "a batch")
    had = {pid for node in nodes.nodes for pid in nodes.processes_of(node)}
    started.send_signal(signal.SIGINT)
    _, said = started.communicate(timeout=PATIENCE)
    assert started.returncode == 130, said
    assert "the same command resumes the run" in said
    assert trees(had) == set()
    before = lines("cluster")
    assert 0 < len(before) < 12
    assert cli.main(words) in (0, 1)
    assert lines("cluster")[: len(before)] == before
    ids = [json.loads(line)["id"] for line in lines("cluster")]
    assert len(ids) == len(set(ids)) == 12
