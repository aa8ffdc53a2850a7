"""Follows the batches of a run on a Ray cluster: outcomes as they come, lost batches again, and Ctrl-C.

A batch is lost when its node or its worker dies. What it gave before is kept, whatever it was; its other cells run
again, at most `MOST_LOSSES` times, as often as Ray itself tries a task again. No cell that has an outcome runs again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.core.cells import Cell, Outcome
from harness.core.errors import HarnessError, StackError
from harness.run.cluster.batches import CellBatch
from harness.run.cluster.node import ClusterJob, MessageKind, NodeMessage, run_batch
from harness.run.cluster.ray_cluster import Demand, RayCluster
from harness.run.decide import errored
from harness.run.provenance import Machine

MOST_LOSSES = 3
_LOOK_SECONDS = 0.2
_ENDING_SECONDS = 20.0
_PATIENCE_SECONDS = 60.0
"""So long nothing may start before it is said what is waited for."""


@dataclass(frozen=True, kw_only=True)
class ClusterListener:
    """Who hears of what; called in the thread that follows, one at a time."""

    on_outcome: Callable[[Outcome], None]
    """Gets each cell's outcome once, not judged."""
    on_machine: Callable[[Machine], None]
    """Gets the node that a batch runs on; once per batch."""
    on_started: Callable[[Cell], None]
    on_warning: Callable[[str], None]
    on_tick: Callable[[], None]


@dataclass
class _Running:
    batch: CellBatch
    outcomes: list[Outcome] = field(default_factory=list)
    begun: bool = False


@dataclass(frozen=True, kw_only=True)
class RayExecutor:
    """Runs batches on a cluster."""

    cluster: RayCluster
    job: ClusterJob
    demand: Callable[[CellBatch], Demand]
    prior: Callable[[CellBatch], tuple[Outcome, ...]]
    """Outcomes of the store that a batch's cells depend on."""
    releases: Mapping[str, Any]
    """Each release once in Ray's object store, by label; nodes that have it already do not read it."""

    def execute(self, batches: Sequence[CellBatch], listener: ClusterListener) -> None:
        """Run every cell, and give each outcome as soon as it is known.

        Raises:
            HarnessError: a node cannot run the cells, or the cluster is gone; what came is kept.
            KeyboardInterrupt: Ctrl-C; every batch was cancelled, and its processes have ended.
        """
        running = {self._submit(batch): _Running(batch=batch) for batch in batches}
        waiting = _Waiting(self.cluster, listener)
        try:
            while running:
                listener.on_tick()
                waiting.look(running.values())
                for stream in self._ready(running):
                    # To the end, so that one that says much does not keep the others waiting.
                    running[stream] = running.pop(stream)
                    self._take(stream, running, listener)
        except BaseException:
            self._cancel(running)
            raise

    def _submit(self, batch: CellBatch) -> Any:
        labels = {cell.release for cell in batch.cells}
        start = self.cluster.remote(_run_remotely, self.demand(batch), name=f"funasr-harness {batch.cells[0].id}")
        files = {label: [reference] for label, reference in self.releases.items() if label in labels}
        return start(self.job, batch, self.prior(batch), files)

    def _ready(self, running: Mapping[Any, _Running]) -> list[Any]:
        ready, _ = self.cluster.ray.wait(list(running), num_returns=1, timeout=_LOOK_SECONDS, fetch_local=False)
        return list(ready)

    def _take(self, stream: Any, running: dict[Any, _Running], listener: ClusterListener) -> None:
        """Take the next that a batch says; at its end, what is left of it."""
        finished = running[stream]
        try:
            message = self.cluster.ray.get(next(stream))
        except StopIteration:
            del running[stream]
            self._leave(finished, "its task ended before its last cell", running, listener)
        except self.cluster.ray.exceptions.RayTaskError as error:
            del running[stream]
            raise HarnessError(
                f"the harness failed on a node: {error.cause or error}",
                cause="a fault of the harness itself",
                next_step="run the same command with --debug, and report what it prints",
            ) from error
        except self.cluster.ray.exceptions.RuntimeEnvSetupError as error:
            del running[stream]
            raise StackError(
                f"the harness cannot be brought to a node: {error}", next_step="see `ray status`"
            ) from error
        except self.cluster.ray.exceptions.RayError as error:
            del running[stream]
            self._leave(finished, _lost(error), running, listener)
        else:
            _handle_message(message, finished, listener)

    def _leave(self, lost: _Running, why: str, running: dict[Any, _Running], listener: ClusterListener) -> None:
        """A batch is over: run again what was lost of it, unless that happened too often."""
        left = lost.batch.after_loss(lost.outcomes)
        if not left.cells:
            return
        where = f"{len(left.cells)} of the cells of a batch were lost ({why}), such as {left.cells[0].id}"
        if left.losses > MOST_LOSSES:
            listener.on_warning(f"{where}; the batch was lost {left.losses} times and is given up")
            for cell in left.cells:
                listener.on_outcome(errored(cell, f"its batch was lost {left.losses} times, at last because {why}"))
            return
        listener.on_warning(f"{where}; they run again")
        running[self._submit(left)] = _Running(batch=left)

    def _cancel(self, running: dict[Any, _Running]) -> None:
        """End all batches and wait for their processes; what does not end by itself is killed."""
        ray = self.cluster.ray
        for force in (False, True):
            for stream in list(running):
                _quietly(lambda stream=stream, force=force: ray.cancel(stream, force=force))  # type: ignore[misc]
            end = time.monotonic() + _ENDING_SECONDS
            while running and time.monotonic() < end:
                ready = _quietly(lambda: self._ready(running)) or []
                for stream in ready:
                    if _is_over(ray, stream):
                        del running[stream]


def _run_remotely(
    job: ClusterJob, batch: CellBatch, prior: tuple[Outcome, ...], files: Mapping[str, list[Any]]
) -> Iterator[NodeMessage]:
    """In one of Ray's workers on a node. A reference within a list is not read before it is needed."""
    import ray

    yield from run_batch(job, batch, prior, lambda label: bytes(ray.get(files[label][0])))


def _handle_message(message: NodeMessage, running: _Running, listener: ClusterListener) -> None:
    match message.kind:
        case MessageKind.OUTCOME:
            outcome = Outcome.from_json(json.loads(message.content)).as_declared()
            running.outcomes.append(outcome)
            listener.on_outcome(outcome)
        case MessageKind.STARTED:
            listener.on_started(Cell.parse(message.content))
        case MessageKind.MACHINE:
            running.begun = True
            listener.on_machine(Machine.from_json(message.content))
        case MessageKind.WARNING:
            listener.on_warning(message.content)
        case MessageKind.REFUSED:
            raise StackError(message.content)


def _lost(error: Exception) -> str:
    """Why a batch was lost, in the first sentence of what Ray says."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text.partition('. ')[0][:200]}" if text else type(error).__name__


def _is_over(ray: Any, stream: Any) -> bool:
    try:
        ray.get(next(stream))
    except StopIteration:
        return True
    except Exception:
        return False
    return False


def _quietly(call: Callable[[], Any]) -> Any:
    """Its value, or None where it fails: what is being ended may be gone already."""
    try:
        return call()
    except Exception:
        return None


class _Waiting:
    """Says what is waited for when nothing starts for long."""

    def __init__(self, cluster: RayCluster, listener: ClusterListener) -> None:
        self._cluster, self._listener = cluster, listener
        self._since = time.monotonic()

    def look(self, running: Any) -> None:
        """Nothing is said while a batch runs."""
        if any(batch.begun for batch in running):
            self._since = time.monotonic()
        elif time.monotonic() - self._since > _PATIENCE_SECONDS:
            self._since = time.monotonic()
            nodes = self._cluster.nodes()
            living = f"{len(nodes)} with {sum(node.cpus for node in nodes)} CPUs" if nodes else "none"
            self._listener.on_warning(f"no batch has started for {_PATIENCE_SECONDS:.0f} s; living nodes: {living}")
