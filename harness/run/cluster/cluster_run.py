"""A run's cells on a cluster: into batches, outcomes judged and stored as they come, the machines noted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.core.cells import Cell, Check, Device, Outcome
from harness.releases.placing import packed_release
from harness.run.cluster.batches import CellBatch, make_batches
from harness.run.cluster.node import ClusterJob, SpeechFiles
from harness.run.cluster.ray_cluster import Demand, NodeResources, RayCluster, demand_of
from harness.run.cluster.ray_executor import ClusterListener, RayExecutor
from harness.run.prepare import Prepared
from harness.run.progress import Display
from harness.run.provenance import Machine, Provenance
from harness.run.runner import CellRunner
from harness.run.store import RunStore


@dataclass(frozen=True, kw_only=True)
class ClusterRun:
    """Runs cells on a cluster into a store."""

    cluster: RayCluster
    runner: CellRunner
    prepared: Prepared
    store: RunStore
    display: Display
    cache: Path | None
    """The cache of every node; None for each node's default."""
    speech: SpeechFiles | None

    def execute(self, cells: Sequence[Cell], prior: Sequence[Outcome], provenance: Provenance) -> Provenance:
        """Run the cells; returns the provenance with the machines that they ran on.

        Args:
            prior: Outcomes that the store has of other cells.

        Raises:
            HarnessError: the cluster cannot run them.
        """
        nodes = self.cluster.nodes()
        usual = self.prepared.usual_seconds
        demands = {gpus: self._demand(nodes, gpus) for gpus in {self._gpus(cell, nodes) for cell in cells}}
        places = sum(node.places(demands[min(demands)]) for node in nodes)
        batches = make_batches(
            cells, lambda cell: usual[cell.check], places=places, gpus_for=lambda cell: self._gpus(cell, nodes)
        )
        self.display.expect(
            [batch.cells for batch in batches],
            places,
            usual,
            f"{len(batches)} batches for {len(nodes)} nodes: bringing the harness and the releases there",
        )
        machines = _Machines(self.store, provenance)
        job = self._job(provenance, jobs=demands[min(demands)].cpus)
        executor = RayExecutor(
            cluster=self.cluster,
            job=job,
            demand=lambda batch: demands[batch.gpus],
            prior=lambda batch: _below(batch, prior),
            releases={
                label: self.cluster.ray.put(packed_release(release, self.prepared.cache))
                for label, release in self.prepared.releases.items()
                if any(cell.release == label for cell in cells)
            },
        )
        executor.execute(batches, self._listener(machines))
        return machines.provenance

    def _listener(self, machines: _Machines) -> ClusterListener:
        def keep(outcome: Outcome) -> None:
            judged = self.runner.judged(outcome, self.prepared)
            self.store.append(judged)
            self.display.done(judged)

        return ClusterListener(
            on_outcome=keep,
            on_machine=machines.add,
            on_started=self.display.started,
            on_warning=self.runner.settings.warn,
            on_tick=self.display.tick,
        )

    def _demand(self, nodes: Sequence[NodeResources], gpus: int) -> Demand:
        jobs, limit = self.runner.settings.jobs, self.prepared.limits.memory_bytes
        return demand_of(nodes, jobs=jobs, gpus=gpus, memory_bytes=limit)

    def _gpus(self, cell: Cell, nodes: Sequence[NodeResources]) -> int:
        """As `Prepared.gpus_for` on the node with most GPUs."""
        if cell.device is not Device.CUDA:
            return 0
        processes = self.prepared.matrix.finetune.processes if cell.check is Check.FINETUNE else 1
        return max(1, min(processes, max((node.gpus for node in nodes), default=1)))

    def _job(self, provenance: Provenance, jobs: int) -> ClusterJob:
        settings, prepared = self.runner.settings, self.prepared
        examples = {
            cell.id: dict(stored)
            for cell in prepared.matrix.cells
            if cell.check is Check.PROPERTIES and (stored := prepared.stored(cell))
        }
        return ClusterJob(
            matrix=prepared.matrix,
            origin=provenance,
            trained=prepared.trained,
            counterexamples=examples,
            speech=self.speech,
            cache=self.cache,
            jobs=jobs,
            preload=settings.preload,
            preload_for_trainers=settings.preload_for_trainers,
        )


class _Machines:
    """Notes in `run.json` what the cells run on, before the first outcome of a machine is stored."""

    def __init__(self, store: RunStore, provenance: Provenance) -> None:
        self._store = store
        self.provenance = provenance

    def add(self, machine: Machine) -> None:
        """A batch runs there."""
        known = self.provenance
        if machine != known.machine and machine not in known.other_machines:
            self.provenance = replace(known, other_machines=(*known.other_machines, machine))
            self._store.note(self.provenance)


def _below(batch: CellBatch, prior: Sequence[Outcome]) -> tuple[Outcome, ...]:
    """What the batch's cells depend on."""
    return tuple(outcome for outcome in prior if any(cell.depends_on(outcome.cell) for cell in batch.cells))
