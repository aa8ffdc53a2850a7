"""The contract checks of every release: the process tree against a process for each cell; and of every architecture."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from os import sched_getaffinity
from pathlib import Path
from typing import Any

import pytest
from scoreboard import Board, Figure
from sizes import Size
from tree_memory import PeakMemory

from harness.config.matrix import Matrix, load_matrix
from harness.core.cells import Cell, Check, Outcome, Release, Status
from harness.environments.environment import Environment, probe, scrubbed_environment
from harness.releases import resolve
from harness.run import Settings, build_plan, execute
from harness.run.prepare import Prepared, lay_out_releases, prepare
from harness.run.runner import PRELOADED, PRELOADED_FOR_TRAINERS, order_request
from harness.variants.catalogue import available

pytestmark = pytest.mark.bench

JOBS = len(sched_getaffinity(0))
GIB = 1024**3
ARCHITECTURES = Path(__file__).parents[2] / "matrices" / "architectures.toml"

MATRIX = """\
schema = 1
name = "bench"
description = "the contract checks at the reported shapes"

[axes]
release = {releases}
variant = ["paraformer_streaming"]
vocab_size = {vocab_sizes}
hidden_size = {hidden_sizes}
depth = ["reduced"]
check = ["construct", "loss_contract"]
device = ["cpu"]
"""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What is needed to run the matrix both ways."""

    matrix: Matrix
    stack: Environment
    cache: Path
    folder: Path
    """For workspaces; short, for sockets' sake."""

    def ready(self, name: str) -> Prepared:
        """What `run` does before the first cell starts; everything is in the cache already."""
        matrix = self.matrix
        prepared = prepare(matrix, matrix.cells, self.stack, cache=self.cache, workspace=self.folder / name)
        lay_out_releases(prepared, matrix.cells)
        return prepared

    def environment(self, name: str) -> dict[str, str]:
        """Of the processes of a run."""
        return scrubbed_environment(self.stack, self.folder / name / "env", cache=self.cache)

    def tree(self, prepared: Prepared, name: str) -> list[Outcome]:
        """All cells through the process tree."""
        releases = {cell.release for cell in self.matrix.cells}
        orders = {label: one for label in releases if (one := order_request(prepared.release_for(label)))}
        settings = Settings(
            workspace=self.folder / name / "tree",
            jobs=JOBS,
            memory_bytes=self.matrix.limits.memory_bytes,
            timeout_seconds=self.matrix.limits.timeout_seconds,
            preload=PRELOADED + (PRELOADED_FOR_TRAINERS if len(orders) > 2 else ()),
            sys_path=tuple(str(path) for path in self.stack.extra_paths),
        )
        plan = build_plan(
            self.matrix.cells,
            settings,
            release_for=prepared.release_for,
            request_for=prepared.request_for,
            order_for=orders.get,
        )
        outcomes: list[Outcome] = []
        execute(plan, outcomes.append, python=self.stack.python, env=self.environment(name))
        return outcomes

    def naive(self, prepared: Prepared, cells: Sequence[Cell], name: str) -> list[dict[str, Any]]:
        """Each cell in a process that imports funasr in full, as many at a time as the tree runs."""
        environment = self.environment(name)
        with ThreadPoolExecutor(max_workers=JOBS) as pool:
            return list(pool.map(partial(self._one_naively, prepared, environment, self.folder / name), cells))

    def _one_naively(self, prepared: Prepared, environment: dict[str, str], place: Path, cell: Cell) -> dict[str, Any]:
        own = place / cell.id.replace("/", "_")
        own.mkdir()
        request, result = own / "request.json", own / "result.json"
        request.write_text(json.dumps(prepared.request_for(cell)), encoding="utf-8")
        command = [str(self.stack.python), str(Path(__file__).with_name("naive_cell.py")), str(request), str(result)]
        done = subprocess.run(command, env=environment, cwd=own, capture_output=True, text=True, check=False)
        if not result.exists():
            return {"status": "errored", "reason": done.stderr[-500:]}
        answer: dict[str, Any] = json.loads(result.read_text("utf-8"))
        return answer


@pytest.fixture
def bench(
    tmp_path_factory: pytest.TempPathFactory,
    stack: Environment,
    harness_cache: Path,
    published: tuple[Release, ...],
    chosen: tuple[Release, ...],
    size: Size,
) -> Bench:
    folder = tmp_path_factory.mktemp("c")
    vocab_sizes, hidden_sizes = size.shapes
    path = folder / "bench.toml"
    path.write_text(
        MATRIX.format(
            releases=json.dumps([release.label for release in chosen]),
            vocab_sizes=list(vocab_sizes),
            hidden_sizes=list(hidden_sizes),
        ),
        encoding="utf-8",
    )
    matrix = load_matrix(
        path, resolve=partial(resolve, locked=published), variants=available(), gpu_present=stack.cuda_available
    )
    return Bench(matrix=matrix, stack=stack, cache=harness_cache, folder=folder)


@pytest.fixture
def every_architecture(bench: Bench, published: tuple[Release, ...], chosen: tuple[Release, ...]) -> Bench:
    """The contract checks of the committed matrix, in place of the one at the reported shapes."""
    whole = load_matrix(
        ARCHITECTURES,
        resolve=partial(resolve, locked=published),
        variants=available(),
        gpu_present=bench.stack.cuda_available,
    )
    labels = {release.label for release in chosen}
    checks = (Check.CONSTRUCT, Check.LOSS_CONTRACT)
    cells = tuple(cell for cell in whole.cells if cell.check in checks and cell.release in labels)
    return replace(bench, matrix=replace(whole, cells=cells))


def spread(cells: Sequence[Cell], count: int) -> list[Cell]:
    """So many cells, from the oldest release to the newest, going through checks and shapes in turn."""
    by_release = [list(group) for _, group in groupby(cells, key=lambda cell: cell.release)]
    groups = [by_release[(2 * number + 1) * len(by_release) // (2 * count)] for number in range(count)]
    return [group[number % len(group)] for number, group in enumerate(groups)]


def timed(deed: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.perf_counter()
    result = deed()
    return time.perf_counter() - begin, result


def test_the_contract_checks_of_all_releases(bench: Bench, size: Size, board: Board, benchmark: Any) -> None:
    # Once unmeasured: fetches what the cache lacks, compiles bytecode, and is watched for its memory.
    prepared = bench.ready("warm")
    with PeakMemory() as memory:
        first = bench.tree(prepared, "warm")
    blocked = {outcome.cell for outcome in first if outcome.status is Status.BLOCKED}
    sample = spread([cell for cell in bench.matrix.cells if cell not in blocked], size.sample)
    (bench.folder / "cold").mkdir()
    bench.naive(prepared, sample, "cold")

    def whole() -> list[Outcome]:
        looking, _ = timed(lambda: probe(cache=bench.cache))
        preparing, ready = timed(lambda: bench.ready("run"))
        executing, outcomes = timed(lambda: bench.tree(ready, "run"))
        seconds.update(looking=looking, preparing=preparing, executing=executing)
        return outcomes

    seconds: dict[str, float] = {}
    outcomes: list[Outcome] = benchmark.pedantic(whole, rounds=1)
    (bench.folder / "naive").mkdir()
    naive_seconds, answers = timed(lambda: bench.naive(prepared, sample, "naive"))

    statuses = Counter(str(outcome.status) for outcome in outcomes)
    by_cell = {outcome.cell: outcome for outcome in outcomes}
    assert len(outcomes) == len(bench.matrix.cells)
    assert not {Status.ERRORED, Status.CRASHED, Status.TIMED_OUT} & set(statuses), statuses
    assert not [answer for answer in answers if answer["status"] == "errored"]
    # A runner without a chain would also start what depends on a failed check; it is not held against it.
    asked = len(outcomes) - statuses[Status.BLOCKED]
    scaled = naive_seconds / len(sample) * asked
    agreeing = sum(by_cell[cell].status == answer["status"] for cell, answer in zip(sample, answers, strict=True))
    told = f"{asked} cells of {len(prepared.releases)} releases, {JOBS} at a time"
    board.add(
        Figure(
            what="contract checks, process tree against a process per cell",
            value=scaled / seconds["executing"],
            unit="×",
            at_least=20,
            measured={
                "cells": told,
                "tree": f"{seconds['executing']:.1f} s",
                "a process per cell": f"{scaled:.0f} s, scaled from {len(sample)} cells in {naive_seconds:.1f} s",
                "same status both ways": f"{agreeing} of {len(sample)}",
                "statuses": ", ".join(f"{count} {status}" for status, count in sorted(statuses.items())),
            },
        )
    )
    board.add(
        Figure(
            what="contract checks in all, cache warm",
            value=sum(seconds.values()),
            unit="s",
            at_most=60,
            measured={
                "looking at the interpreter": f"{seconds['looking']:.1f} s",
                "making ready": f"{seconds['preparing']:.1f} s",
                "cells": f"{seconds['executing']:.1f} s",
            },
        )
    )
    board.add(
        Figure(
            what="contract checks, peak memory of the whole process tree",
            value=memory.peak_bytes / GIB,
            unit="GiB",
            at_most=4,
            measured={"processes at the peak": str(memory.peak_processes), "samples": str(memory.samples)},
        )
    )
    benchmark.extra_info.update({figure.what: figure.value for figure in board.figures})


def test_the_contract_checks_of_all_architectures(every_architecture: Bench, board: Board, benchmark: Any) -> None:
    bench = every_architecture
    prepared = bench.ready("all")
    outcomes: list[Outcome] = benchmark.pedantic(lambda: bench.tree(prepared, "all"), rounds=1)
    seconds = benchmark.stats.stats.total
    statuses = Counter(str(outcome.status) for outcome in outcomes)
    assert len(outcomes) == len(bench.matrix.cells)
    assert not {Status.ERRORED, Status.CRASHED, Status.TIMED_OUT} & set(statuses), statuses
    board.add(
        Figure(
            what="contract checks of all architectures in all releases",
            value=seconds / 60,
            unit="min",
            at_most=60,
            measured={
                "cells": f"{len(outcomes)} cells of {len(prepared.releases)} releases, {JOBS} at a time",
                "architectures": str(len({cell.variant for cell in bench.matrix.cells})),
                "statuses": ", ".join(f"{count} {status}" for status, count in sorted(statuses.items())),
            },
        )
    )
