"""Cells of the newest release, run whenever a benchmark wants one."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from cells_on_demand import NOTHING
from test_contract_checks import MATRIX

from harness.config.matrix import load_matrix
from harness.core.cells import Cell, Release
from harness.environments.environment import Environment, scrubbed_environment
from harness.releases import resolve
from harness.run.prepare import lay_out_releases, prepare
from harness.run.runner import PRELOADED, PRELOADED_FOR_TRAINERS
from harness.variants.catalogue import available


@dataclass(frozen=True, kw_only=True)
class CellServer:
    """A running `cells_on_demand.py`."""

    cells: tuple[Cell, ...]
    entering_seconds: Mapping[str, float]
    """Processor time of the release's processes, `recorded` and `plain`, before their first cell."""
    words: IO[str]
    answers: IO[str]

    def run(self, side: str, number: int = NOTHING) -> float:
        """Run a cell, or one that does nothing; returns its processor time in seconds."""
        print(side, number, file=self.words, flush=True)
        return float(self.answers.readline())


@contextlib.contextmanager
def cell_server(folder: Path, stack: Environment, cache: Path, published: tuple[Release, ...]) -> Iterator[CellServer]:
    """One for the contract checks of the streaming Paraformer at v8404-h320."""
    matrix_file, order = folder / "bench.toml", folder / "order.json"
    newest = published[-1].label
    matrix_file.write_text(
        MATRIX.format(releases=json.dumps([newest]), vocab_sizes=[8404], hidden_sizes=[320]), encoding="utf-8"
    )
    matrix = load_matrix(
        matrix_file, resolve=partial(resolve, locked=published), variants=available(), gpu_present=stack.cuda_available
    )
    prepared = prepare(matrix, matrix.cells, stack, cache=cache, workspace=folder / "prepared")
    lay_out_releases(prepared, matrix.cells)
    order.write_text(
        json.dumps(
            {
                "preload": [*PRELOADED, *PRELOADED_FOR_TRAINERS],
                "release": prepared.release_for(newest),
                "requests": [prepared.request_for(cell) for cell in matrix.cells],
            }
        ),
        encoding="utf-8",
    )
    (folder / "cells").mkdir()
    with (
        (folder / "printed.txt").open("w") as printed,
        subprocess.Popen(
            [str(stack.python), str(Path(__file__).with_name("cells_on_demand.py")), str(order)],
            env=scrubbed_environment(stack, folder / "env", cache=cache),
            cwd=folder / "cells",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=printed,
            text=True,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        ready = process.stdout.readline()
        assert ready, (folder / "printed.txt").read_text("utf-8")[-4000:]
        yield CellServer(
            cells=matrix.cells, entering_seconds=json.loads(ready), words=process.stdin, answers=process.stdout
        )
        process.stdin.close()
