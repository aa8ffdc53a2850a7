"""The connection to Ray: what the cluster has, and tasks on it. The one module that imports Ray, and only when used."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import harness
from harness.core.errors import InputError, StackError

_MOST_CPUS = 4
"""A batch's processors, where a node has more: more would wait for the longest cell of a batch."""
_NO_RAY = "install it on this machine and on all nodes: pip install 'funasr-harness[ray]'"


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What one task takes of a node."""

    cpus: int
    gpus: int
    memory_bytes: int


@dataclass(frozen=True, kw_only=True)
class NodeResources:
    """What a node has to give."""

    cpus: int
    gpus: int
    memory_bytes: int

    def places(self, demand: Demand) -> int:
        """How many such tasks run there at once."""
        pairs = [
            (self.cpus, demand.cpus),
            (self.memory_bytes, demand.memory_bytes),
            *([(self.gpus, demand.gpus)] if demand.gpus else []),
        ]
        return min(available // requested for available, requested in pairs)


@dataclass(frozen=True, kw_only=True)
class RayCluster:
    """A cluster that this process is connected to."""

    ray: Any
    """The module."""

    def nodes(self) -> tuple[NodeResources, ...]:
        """The living nodes that run tasks."""
        alive = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        resources = [
            NodeResources(
                cpus=int(node.get("CPU", 0)), gpus=int(node.get("GPU", 0)), memory_bytes=int(node.get("memory", 0))
            )
            for node in alive
        ]
        return tuple(node for node in resources if node.cpus > 0)

    @property
    def has_gpu(self) -> bool:
        """Whether a living node has a GPU."""
        return any(node.gpus for node in self.nodes())

    def remote(self, function: Callable[..., Any], demand: Demand, name: str) -> Callable[..., Any]:
        """A function as a task that yields; Ray never retries it: that would repeat cells that have an outcome."""
        return self.ray.remote(function).options(  # type: ignore[no-any-return]
            name=name,
            num_cpus=demand.cpus,
            num_gpus=demand.gpus,
            memory=demand.memory_bytes,
            num_returns="streaming",
            max_retries=0,
            scheduling_strategy="SPREAD",
        ).remote  # fmt: skip


def demand_of(nodes: Sequence[NodeResources], *, jobs: int | None, gpus: int, memory_bytes: int) -> Demand:
    """What a task requests, so that the smallest node can run one.

    Args:
        jobs: Cells at the same time in a task; None for as many as the smallest node has processors, at most four.
        gpus: GPUs that a cell of the task has to itself; its cells run one after the other if there are any.
        memory_bytes: The limit of a cell. Where a node has less, fewer cells run at once, and one at least.

    Raises:
        StackError: no node has so many processors or GPUs.
    """
    able = [node for node in nodes if node.gpus >= gpus and node.cpus >= (jobs or 1)]
    if not able:
        described = ", ".join(f"{node.cpus} CPUs and {node.gpus} GPUs" for node in nodes) or "none"
        raise StackError(
            f"no node of the cluster has {jobs or 1} CPUs and {gpus} GPUs; its nodes: {described}",
            cause="the nodes have not joined yet, or --jobs is too large",
            next_step="see `ray status`, and run the same command again",
        )
    cpus = jobs or min(_MOST_CPUS, min(node.cpus for node in able))
    memory = min(node.memory_bytes for node in able)
    if gpus:
        return Demand(cpus=cpus, gpus=gpus, memory_bytes=min(memory, memory_bytes))
    cpus = max(1, min(cpus, memory // memory_bytes))
    return Demand(cpus=cpus, gpus=0, memory_bytes=min(memory, cpus * memory_bytes))


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[RayCluster]:
    """Connect to a cluster: at an address, or the one that $RAY_ADDRESS names, or one started on this machine.

    Raises:
        InputError: Ray is not installed, or the address cannot be used.
        StackError: the cluster cannot be reached.
    """
    if address and "://" in address:
        raise InputError(
            f"{address} is an address of a Ray client, which cannot pass outcomes on as they come",
            next_step="start the run on a node of the cluster, as with `ray job submit`, with --executor ray:auto",
        )
    # Nothing of a user's runs is reported to anybody.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise InputError(f"--executor ray needs Ray ({error})", next_step=_NO_RAY) from None
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level="ERROR",
            runtime_env={"py_modules": [str(Path(harness.__file__).parent)], "excludes": ["**/__pycache__"]},
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = f"at {address}" if address else "on this machine"
        raise StackError(
            f"no Ray cluster can be used {where}: {error}",
            cause="it is not running, or its nodes have another version of Ray or Python",
            next_step="start one with `ray start --head`, or see `ray status`",
        ) from error
    try:
        yield RayCluster(ray=ray)
    finally:
        ray.shutdown()
