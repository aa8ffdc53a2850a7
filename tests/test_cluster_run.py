"""A run on a cluster, without Ray: batches, what a task asks for, what is lost and what is not, and the end.

`tests/cluster` has the same on a real cluster.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cli_scene import STACK
from report_factory import outcome, run_of

from harness.commands.arguments import make_parser
from harness.commands.options import Executor
from harness.config.matrix import load_matrix
from harness.core.cells import Cell, Outcome, Status
from harness.core.errors import HarnessError, InputError, StackError
from harness.releases import load_lock, resolve
from harness.run.cluster import node, ray_executor
from harness.run.cluster.batches import CellBatch, make_batches
from harness.run.cluster.node import ClusterJob, MessageKind, NodeMessage
from harness.run.cluster.ray_cluster import Demand, NodeResources, RayCluster, connected, demand_of
from harness.run.cluster.ray_executor import MOST_LOSSES, ClusterListener, RayExecutor
from harness.run.outcome_lines import line_of
from harness.run.provenance import Machine
from harness.variants.catalogue import available

MATRICES = Path(__file__).parent.parent / "matrices"
GIB = 1 << 30
CHECKS = ("construct", "loss_contract", "finetune@train")
CELLS = [
    Cell.parse(f"{release}/paraformer/v8404-h320/reduced/{check}/cpu-fp32")
    for release in ("1.0.12", "1.4.16")
    for check in CHECKS
]


def seconds(cell: Cell) -> float:
    return cell.check.facts.usual_seconds


# Batches and resources.


def test_a_batch_has_whole_groups_and_every_cell_is_in_one() -> None:
    cells = [Cell.parse(cell.id.replace("1.0.12", f"1.0.{n}")) for n in range(40) for cell in CELLS[:3]]
    made = make_batches(cells, seconds, places=3, gpus_for=lambda cell: 0)
    assert sorted(cell.id for batch in made for cell in batch.cells) == sorted(cell.id for cell in cells)
    for batch in made:
        assert all(other in batch.cells for cell in batch.cells for other in cells if cell.depends_on(other))
    sizes = [sum(map(seconds, batch.cells)) for batch in made]
    assert sizes == sorted(sizes, reverse=True)
    assert 3 * 3 <= len(made) <= 3 * 5
    assert [batch.number for batch in made] == list(range(len(made)))


def test_few_cells_are_one_batch_because_each_imports_torch() -> None:
    assert len(make_batches(CELLS, seconds, places=8, gpus_for=lambda cell: 0)) == 1


def test_cells_on_a_gpu_are_in_batches_of_their_own() -> None:
    on_gpu = [Cell.parse(cell.id.replace("cpu", "cuda").replace("reduced", "full")) for cell in CELLS]
    made = make_batches([*CELLS, *on_gpu], seconds, places=1, gpus_for=lambda cell: int(cell.device == "cuda"))
    assert {(batch.gpus, cell.device) for batch in made for cell in batch.cells} == {(0, "cpu"), (1, "cuda")}


@pytest.mark.parametrize(
    ("nodes", "asked", "demand"),
    [
        ([(16, 0, 64)], {}, (4, 0, 24)),
        ([(2, 0, 64), (16, 0, 64)], {}, (2, 0, 12)),
        ([(16, 0, 14)], {}, (2, 0, 12)),
        ([(16, 0, 4)], {}, (1, 0, 4)),
        ([(16, 0, 64)], {"jobs": 8}, (8, 0, 48)),
        ([(8, 0, 64), (8, 2, 32)], {"gpus": 1}, (4, 1, 6)),
    ],
)
def test_a_task_asks_for_what_the_smallest_node_has(
    nodes: Sequence[tuple[int, int, int]], asked: dict[str, int], demand: tuple[int, int, int]
) -> None:
    there = [NodeResources(cpus=cpus, gpus=gpus, memory_bytes=memory * GIB) for cpus, gpus, memory in nodes]
    found = demand_of(there, **{"jobs": None, "gpus": 0, "memory_bytes": 6 * GIB, **asked})
    assert found == Demand(cpus=demand[0], gpus=demand[1], memory_bytes=demand[2] * GIB)


@pytest.mark.parametrize("asked", [{"gpus": 1}, {"jobs": 32}])
def test_what_no_node_has_is_said_at_once(asked: dict[str, int]) -> None:
    there = [NodeResources(cpus=8, gpus=0, memory_bytes=64 * GIB)]
    with pytest.raises(StackError, match="8 CPUs and 0 GPUs"):
        demand_of(there, **{"jobs": None, "gpus": 0, "memory_bytes": GIB, **asked})


def test_a_node_has_places_for_what_fits() -> None:
    there = NodeResources(cpus=16, gpus=2, memory_bytes=64 * GIB)
    assert there.places(Demand(cpus=4, gpus=0, memory_bytes=24 * GIB)) == 2
    assert there.places(Demand(cpus=4, gpus=1, memory_bytes=GIB)) == 2
    assert there.places(Demand(cpus=4, gpus=0, memory_bytes=GIB)) == 4


# The command line.


@pytest.mark.parametrize(("word", "address"), [("ray", None), ("ray:10.0.0.1:6379", "10.0.0.1:6379")])
def test_the_executor_and_its_address(word: str, address: str | None) -> None:
    assert make_parser().parse_args(["run", "pr", "--executor", word]).executor == Executor(address=address)


@pytest.mark.parametrize("word", ["dask", "ray:", ""])
def test_another_executor_is_refused(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        make_parser().parse_args(["run", "pr", "--executor", word])
    assert "expected ray or ray:ADDRESS" in capsys.readouterr().err


def test_without_ray_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError) as caught, connected(None):
        pass
    assert "funasr-harness[ray]" in str(caught.value)
    with pytest.raises(InputError, match="Ray client"), connected("ray://head:10001"):
        pass


# Following the batches.


class RayError(Exception):
    pass


class RayTaskError(RayError):
    cause = None


class RuntimeEnvSetupError(RayError):
    pass


@dataclass
class FakeStream:
    """What a task yields: messages, and an error where it is lost."""

    items: Iterator[Any]
    cancelled: list[bool] = field(default_factory=list)

    def __next__(self) -> Any:
        return next(self.items)

    def __hash__(self) -> int:
        return id(self)


@dataclass
class FakeRay:
    """Stands in for the module: tasks are scripts, and run when they are looked at."""

    script: Callable[[CellBatch, int], Iterator[Any]]
    """What a batch yields, by its number of losses before."""
    submitted: list[CellBatch] = field(default_factory=list)
    options: list[dict[str, Any]] = field(default_factory=list)
    streams: list[FakeStream] = field(default_factory=list)

    exceptions = SimpleNamespace(
        RayError=RayError, RayTaskError=RayTaskError, RuntimeEnvSetupError=RuntimeEnvSetupError
    )

    def remote(self, _function: Any) -> Any:
        def start(_job: Any, batch: CellBatch, _prior: Any, _files: Any) -> FakeStream:
            self.submitted.append(batch)
            self.streams.append(FakeStream(items=self.script(batch, batch.losses)))
            return self.streams[-1]

        def options(**given: Any) -> Any:
            self.options.append(given)
            return SimpleNamespace(remote=start)

        return SimpleNamespace(options=options)

    def wait(self, streams: list[FakeStream], **_others: Any) -> tuple[list[FakeStream], list[FakeStream]]:
        return streams[:1], streams[1:]

    def get(self, item: Any) -> Any:
        if isinstance(item, Exception):
            raise item
        return item

    def cancel(self, stream: FakeStream, *, force: bool) -> None:
        stream.cancelled.append(force)
        stream.items = iter(())

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": {"CPU": 2.0, "memory": 8.0 * GIB}}, {"Alive": False, "Resources": {}}]


MACHINE = Machine(host="h", processor="p", cpu_count=2, memory_bytes=GIB, gpus=(), driver=None)
SAYS_MACHINE = NodeMessage(kind=MessageKind.MACHINE, content=vars(MACHINE))


def gives(cell: Cell, status: Status = Status.PASSED) -> NodeMessage:
    return NodeMessage(kind=MessageKind.OUTCOME, content=line_of(outcome(cell, status)))


@dataclass
class Heard:
    """What a listener heard."""

    outcomes: list[Outcome] = field(default_factory=list)
    machines: list[Machine] = field(default_factory=list)
    started: list[Cell] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def follow(ray: FakeRay, batches: Sequence[CellBatch], *, on_tick: Callable[[], None] = lambda: None) -> Heard:
    heard = Heard()
    executor = RayExecutor(
        cluster=RayCluster(ray=ray),
        job=SimpleNamespace(),  # type: ignore[arg-type]
        demand=lambda batch: Demand(cpus=2, gpus=batch.gpus, memory_bytes=GIB),
        prior=lambda batch: (),
        releases={},
    )
    listener = ClusterListener(
        on_outcome=heard.outcomes.append,
        on_machine=heard.machines.append,
        on_started=heard.started.append,
        on_warning=heard.warnings.append,
        on_tick=on_tick,
    )
    executor.execute(batches, listener)
    return heard


BATCHES = [
    CellBatch(number=0, cells=tuple(CELLS[:3]), gpus=0),
    CellBatch(number=1, cells=tuple(CELLS[3:]), gpus=0),
]


def test_outcomes_are_given_as_they_come_and_ray_tries_nothing_again() -> None:
    def script(batch: CellBatch, _losses: int) -> Iterator[Any]:
        yield SAYS_MACHINE
        for cell in batch.cells:
            yield NodeMessage(kind=MessageKind.STARTED, content=cell.id)
            yield gives(cell)

    ray = FakeRay(script)
    heard = follow(ray, BATCHES)
    # The batches run side by side: only within a batch is there an order.
    for batch in BATCHES:
        assert [one.cell for one in heard.outcomes if one.cell in batch.cells] == list(batch.cells)
        assert [cell for cell in heard.started if cell in batch.cells] == list(batch.cells)
    assert len(heard.outcomes) == len(heard.started) == len(CELLS)
    assert heard.machines == [MACHINE, MACHINE]
    assert heard.warnings == []
    assert {(one["max_retries"], one["num_cpus"], one["memory"]) for one in ray.options} == {(0, 2, GIB)}


def test_of_a_lost_batch_only_cells_without_an_outcome_run_again_whatever_the_others_were() -> None:
    def script(batch: CellBatch, losses: int) -> Iterator[Any]:
        if batch.number == 0 and losses == 0:
            yield gives(batch.cells[0])
            yield gives(batch.cells[1], Status.CRASHED)
            yield RayError("The node died. It is gone.")
            return
        for cell in batch.cells:
            yield gives(cell)

    ray = FakeRay(script)
    heard = follow(ray, BATCHES)
    ids = [one.cell.id for one in heard.outcomes]
    assert sorted(ids) == sorted(cell.id for cell in CELLS)
    (again,) = [batch for batch in ray.submitted if batch.losses]
    assert again.cells == (CELLS[2],)
    assert [(one.cell, one.status) for one in again.known] == [(CELLS[0], Status.PASSED), (CELLS[1], Status.CRASHED)]
    (warning,) = heard.warnings
    assert "1 of the cells of a batch were lost (RayError: The node died), such as" in warning


def test_a_task_that_ends_before_its_last_cell_is_a_loss_too() -> None:
    def script(batch: CellBatch, losses: int) -> Iterator[Any]:
        yield from map(gives, batch.cells[: 1 if losses == 0 else None])

    heard = follow(FakeRay(script), BATCHES[:1])
    assert [one.cell for one in heard.outcomes] == CELLS[:3]
    assert "its task ended before its last cell" in heard.warnings[0]


def test_a_batch_that_is_lost_again_and_again_is_errored_and_no_pass() -> None:
    def script(batch: CellBatch, _losses: int) -> Iterator[Any]:
        yield RayError("The node died.")

    ray = FakeRay(script)
    heard = follow(ray, BATCHES[:1])
    assert len(ray.submitted) == MOST_LOSSES + 1
    assert [(one.cell, one.status) for one in heard.outcomes] == [(cell, Status.ERRORED) for cell in CELLS[:3]]
    assert "its batch was lost 4 times" in heard.outcomes[0].reason


@pytest.mark.parametrize(
    ("item", "kind", "text"),
    [
        (NodeMessage(kind=MessageKind.REFUSED, content="torch: 2.6 there"), StackError, "torch: 2.6 there"),
        (RayTaskError("bug"), HarnessError, "the harness failed on a node: bug"),
        (RuntimeEnvSetupError("no space"), StackError, "cannot be brought to a node: no space"),
    ],
)
def test_what_would_fail_again_ends_the_run_and_its_other_batches(item: Any, kind: type[Exception], text: str) -> None:
    def script(batch: CellBatch, _losses: int) -> Iterator[Any]:
        if batch.number == 0:
            yield item
        while True:
            yield NodeMessage(kind=MessageKind.STARTED, content=batch.cells[0].id)

    ray = FakeRay(script)
    with pytest.raises(kind, match=text):
        follow(ray, BATCHES)
    assert len(ray.submitted) == 2
    assert ray.streams[1].cancelled == [False]


def test_ctrl_c_cancels_every_batch() -> None:
    def script(batch: CellBatch, _losses: int) -> Iterator[Any]:
        yield gives(batch.cells[0])
        while True:
            yield NodeMessage(kind=MessageKind.STARTED, content=batch.cells[0].id)

    def interrupt() -> None:
        if len(ray.submitted) == 2:
            raise KeyboardInterrupt

    ray = FakeRay(script)
    with pytest.raises(KeyboardInterrupt):
        follow(ray, BATCHES, on_tick=interrupt)
    assert [stream.cancelled for stream in ray.streams] == [[False], [False]]


def test_a_task_that_ignores_being_cancelled_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_executor, "_ENDING_SECONDS", 0.1)

    class Stubborn(FakeRay):
        def cancel(self, stream: FakeStream, *, force: bool) -> None:
            if force:
                super().cancel(stream, force=force)

    def script(batch: CellBatch, _losses: int) -> Iterator[Any]:
        while True:
            yield NodeMessage(kind=MessageKind.STARTED, content=batch.cells[0].id)

    def interrupt() -> None:
        raise KeyboardInterrupt

    ray = Stubborn(script)
    with pytest.raises(KeyboardInterrupt):
        follow(ray, BATCHES[:1], on_tick=interrupt)
    assert ray.streams[0].cancelled == [True]


# The node.


def a_job(**changed: Any) -> ClusterJob:
    locked = load_lock(MATRICES / "releases.lock.toml")
    matrix = load_matrix(
        MATRICES / "pr.toml", resolve=lambda spec: resolve(spec, locked), variants=available(), gpu_present=False
    )
    values: dict[str, Any] = {
        "matrix": matrix,
        "origin": run_of().provenance,
        "trained": frozenset(),
        "counterexamples": {},
        "speech": None,
        "cache": None,
        "jobs": 2,
        "preload": (),
        "preload_for_trainers": (),
    }
    return ClusterJob(**{**values, **changed})


def test_a_job_can_be_sent() -> None:
    job = a_job()
    got = pickle.loads(pickle.dumps(job))
    assert got.matrix.cells == job.matrix.cells
    assert dict(got.matrix.limits.timeout_seconds) == dict(job.matrix.limits.timeout_seconds)


def test_a_node_with_another_environment_runs_nothing(
    tmp_path: Path, cluster_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node, "probe", lambda **_: STACK)
    node._environment.cache_clear()
    job = a_job(cache=cluster_cache)
    cells = tuple(cell for cell in job.matrix.cells if cell.release == "1.4.16" and cell.variant)[:1]
    batch = CellBatch(number=0, cells=cells, gpus=0)

    def never(label: str) -> bytes:
        raise AssertionError(label)

    (said,) = node.run_batch(job, batch, (), never)
    node._environment.cache_clear()
    assert said.kind is MessageKind.REFUSED
    assert "python: 3.11.2 where the run was started, 3.11.7 on the node" in said.content
    assert "next: give all nodes the same image or environment" in said.content


@pytest.fixture(scope="session")
def cluster_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Speech and model folders are made once."""
    return tmp_path_factory.mktemp("cache")
