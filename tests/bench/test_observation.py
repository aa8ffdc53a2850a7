"""What it costs a training to be watched."""

from __future__ import annotations

import json
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from scoreboard import Board, Figure
from sizes import Size

from harness.config.matrix import load_matrix
from harness.core.cells import Release
from harness.corpus.corpus import build_corpus, write_jsonl
from harness.corpus.user_speech import read_own
from harness.environments.environment import Environment, scrubbed_environment
from harness.releases import resolve
from harness.run.prepare import lay_out_releases, prepare
from harness.run.runner import PRELOADED
from harness.variants.catalogue import available

pytestmark = pytest.mark.bench

Ends = list[tuple[float, float, float]]

BATCH = 4
EPOCHS = 3

MATRIX = """\
schema = 1
name = "bench"
description = "one training"

[axes]
release = ["latest"]
variant = ["paraformer_streaming"]
vocab_size = [8404]
hidden_size = [320]
depth = ["auto"]
check = ["finetune@train_ds"]

[finetune]
steps = {steps}
batch_size = {batch}
utterances = {utterances}
"""


def order_of(folder: Path, stack: Environment, cache: Path, published: Sequence[Release], size: Size) -> dict[str, Any]:
    """What `observed_training.py` is to do: trainings with epochs long enough to have steps within them."""
    wanted = BATCH * size.epoch
    spoken = build_corpus(cache).utterances
    rows = [
        replace(spoken[n % len(spoken)], key=f"{spoken[n % len(spoken)].key}-{n // len(spoken)}") for n in range(wanted)
    ]
    write_jsonl(rows, folder / "speech.jsonl")
    path = folder / "bench.toml"
    path.write_text(MATRIX.format(steps=EPOCHS * size.epoch, batch=BATCH, utterances=wanted), encoding="utf-8")
    matrix = load_matrix(
        path, resolve=partial(resolve, locked=published), variants=available(), gpu_present=stack.cuda_available
    )
    own = read_own(folder / "speech.jsonl")
    prepared = prepare(matrix, matrix.cells, stack, cache=cache, workspace=folder, user_speech=own, rows=wanted)
    lay_out_releases(prepared, matrix.cells)
    request = prepared.request_for(matrix.cells[0])
    # On rows of a user's own `finetune` trains for ten epochs at least, which would take three times as long.
    request["finetune"]["epochs"] = EPOCHS
    # Who is first changes from pair to pair, so that a machine that warms up or slows down favours neither.
    turns = [observed for pair in range(size.pairs) for observed in ((False, True) if pair % 2 else (True, False))]
    return {
        "preload": PRELOADED,
        "request": request,
        "folder": str(folder / "runs"),
        # One more at the front: the first training of all finds nothing in the machine's caches.
        "turns": [True, *turns],
    }


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Trainings with and without the observer, by the median of their steps."""

    watched: list[float]
    """Seconds; one for each training."""
    alone: list[float]

    @property
    def ratios(self) -> list[float]:
        """Pair by pair, smallest first."""
        return sorted(one / other for one, other in zip(self.watched, self.alone, strict=True))

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)

    @property
    def noise(self) -> float:
        """How far trainings of one kind lie apart: it says what a difference between the kinds is worth."""
        return max(max(kind) / min(kind) for kind in (self.watched, self.alone)) - 1

    def told(self) -> str:
        """The ratio with its spread, in words."""
        milliseconds = [1000 * statistics.median(kind) for kind in (self.watched, self.alone)]
        within = ", so the ratio is within the noise" if abs(self.ratio - 1) <= self.noise else ""
        return (
            f"median step {milliseconds[0]:.1f} ms watched, {milliseconds[1]:.1f} ms not; "
            f"{len(self.ratios)} pairs, ratios {self.ratios[0]:.3f} to {self.ratios[-1]:.3f}; "
            f"trainings of one kind differ by up to {self.noise:.1%}{within}"
        )


def compare(runs: Sequence[Ends], turns: Sequence[bool], *, epoch: int, clock: int) -> Comparison:
    """The trainings by one of the two clocks that each of their steps was timed with."""
    medians = [statistics.median(inner_steps([end[clock] for end in ends], epoch)) for ends in runs]
    watched, alone = ([m for m, t in zip(medians, turns, strict=True) if t is kind] for kind in (True, False))
    return Comparison(watched=watched, alone=alone)


def inner_steps(ends: Sequence[float], epoch: int) -> list[float]:
    """The seconds of each step but the first of an epoch, before which the trainer validates and saves."""
    return [end - begin for n, (begin, end) in enumerate(pairwise(ends), 1) if n % epoch]


def test_being_watched_costs_a_training_next_to_nothing(
    tmp_path_factory: pytest.TempPathFactory,
    stack: Environment,
    harness_cache: Path,
    published: tuple[Release, ...],
    size: Size,
    board: Board,
    benchmark: Any,
) -> None:
    folder = tmp_path_factory.mktemp("o")
    order = order_of(folder, stack, harness_cache, published, size)
    (folder / "runs").mkdir()
    (folder / "order.json").write_text(json.dumps(order), encoding="utf-8")
    program = Path(__file__).with_name("observed_training.py")
    command = [str(stack.python), str(program), str(folder / "order.json"), str(folder / "result.json")]
    environment = scrubbed_environment(stack, folder / "env", cache=harness_cache)
    benchmark.pedantic(
        subprocess.run,
        args=(command,),
        kwargs={"env": environment, "cwd": folder, "check": True, "capture_output": True},
        rounds=1,
    )
    runs = json.loads((folder / "result.json").read_text("utf-8"))
    assert {len(ends) for ends in runs} == {EPOCHS * size.epoch}
    wall, processor = (compare(runs[1:], order["turns"][1:], epoch=size.epoch, clock=clock) for clock in (0, 1))
    steps = str(len(inner_steps([end[0] for end in runs[0]], size.epoch)))
    board.add(
        Figure(
            what="a training step, watched against not watched",
            value=wall.ratio,
            unit="×",
            at_most=1.02,
            measured={"by the clock": wall.told(), "steps of each training": steps},
        )
    )
    board.add(
        Figure(
            what="the same by processor time, which other programs disturb less",
            value=processor.ratio,
            unit="×",
            at_most=1.02,
            measured={"by processor time": processor.told(), "steps of each training": steps},
        )
    )
    within = statistics.median(
        statistics.median(inner_steps([end[2] for end in ends], size.epoch))
        for ends, observed in zip(runs, order["turns"], strict=True)
        if observed
    )
    board.add(
        Figure(
            what="processor time of a step within the observer's own code",
            value=100 * within / statistics.median(processor.watched),
            unit="%",
            at_most=2,
            measured={"a step": f"{1e6 * within:.0f} µs of {1000 * statistics.median(processor.watched):.1f} ms"},
        )
    )
    benchmark.extra_info.update(by_the_clock=wall.ratio, by_processor_time=processor.ratio)
