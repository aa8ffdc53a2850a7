"""What it costs a user's training to be watched: time and memory, as ratios within one run."""

from __future__ import annotations

import json
import statistics
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from scoreboard import Board, Figure
from sizes import Size
from test_observation import EPOCHS, compare, inner_steps, order_of

from harness.core.cells import Release
from harness.environments.environment import Environment, scrubbed_environment

pytestmark = pytest.mark.bench

MOST = 1.02
NAMES = ("watched", "not watched")


def test_a_watched_training_takes_the_same_time_and_memory(
    tmp_path_factory: pytest.TempPathFactory,
    stack: Environment,
    harness_cache: Path,
    published: tuple[Release, ...],
    size: Size,
    board: Board,
) -> None:
    folder = tmp_path_factory.mktemp("w")
    order = order_of(folder, stack, harness_cache, published, size)
    (folder / "order.json").write_text(json.dumps(order), encoding="utf-8")
    program = Path(__file__).with_name("watched_training.py")
    done = subprocess.run(
        [str(stack.python), str(program), str(folder / "order.json"), str(folder / "result.json")],
        env=scrubbed_environment(stack, folder / "env", cache=harness_cache),
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    runs = json.loads((folder / "result.json").read_text("utf-8"))
    steps = {len(one["ends"]) for one in runs}
    assert steps == {EPOCHS * size.epoch}, f"trainings of {steps} steps"
    # The first one of all finds nothing in the machine's caches.
    for figure in figures_of(runs[1:], order["turns"][1:], epoch=size.epoch):
        board.add(figure)


def figures_of(runs: Sequence[Mapping[str, Any]], turns: Sequence[bool], *, epoch: int) -> Iterator[Figure]:
    """What trainings of `watched_training.py` say, those that were watched against the others, in pairs."""
    steps = f"{len(inner_steps([end[0] for end in runs[0]['ends']], epoch))} of {len(runs[0]['ends'])}"
    for name, clock in (("by the clock", 0), ("by processor time, which other programs disturb less", 1)):
        compared = compare([one["ends"] for one in runs], turns, epoch=epoch, clock=clock)
        yield Figure(
            what=f"a step of a user's training, watched against not watched, {name}",
            value=compared.ratio,
            unit="×",
            at_most=MOST,
            measured={name: compared.told(), "steps of each training": steps},
        )
    watched = [one for one, observed in zip(runs, turns, strict=True) if observed]
    alone = [one for one, observed in zip(runs, turns, strict=True) if not observed]
    within, step = (
        statistics.median(statistics.median(inner_steps([end[n] for end in one["ends"]], epoch)) for one in watched)
        for n in (2, 1)
    )
    yield Figure(
        what="processor time of a step within watch's observers",
        value=100 * within / step,
        unit="%",
        at_most=100 * (MOST - 1),
        measured={"a step": f"{1e6 * within:.0f} µs of {1e3 * step:.1f} ms"},
    )
    peaks = [[one["peak"] for one in kind] for kind in (watched, alone)]
    ratios = sorted(one / other for one, other in zip(*peaks, strict=True))
    yield Figure(
        what="the highest resident memory of a user's training, watched against not watched",
        value=statistics.median(ratios),
        unit="×",
        at_most=MOST,
        measured={
            **{name: f"{statistics.median(one) / 2**20:.0f} MiB" for name, one in zip(NAMES, peaks, strict=True)},
            "pairs": f"ratios {ratios[0]:.3f} to {ratios[-1]:.3f}",
        },
    )
