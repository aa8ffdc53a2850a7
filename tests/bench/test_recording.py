"""What the record that reuse needs costs a cell."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from cell_server import cell_server
from scoreboard import Board, Figure
from sizes import Size

from harness.core.cells import Check, Release
from harness.environments.environment import Environment

pytestmark = [pytest.mark.bench, pytest.mark.goal]

SIDES = ("recorded", "plain")
NAMES = {
    Check.LOSS_CONTRACT: "a contract cell recorded against not recorded, by processor time",
    Check.CONSTRUCT: "the same of construct, which takes less time",
}


def test_recording_what_a_cell_uses(
    tmp_path: Path, stack: Environment, harness_cache: Path, published: tuple[Release, ...], size: Size, board: Board
) -> None:
    with cell_server(tmp_path, stack, harness_cache, published) as server:
        for number, cell in enumerate(server.cells):
            seconds: dict[str, list[float]] = {side: [] for side in SIDES}
            # One more at the front: the first cells of all find nothing in the machine's caches.
            for turn in range(size.recorded_pairs + 1):
                # Who is first changes from pair to pair, so that a machine that slows down favours neither.
                for side in SIDES if turn % 2 else reversed(SIDES):
                    seconds[side].append(server.run(side, number))
            pairs = {side: tuple(times[1:]) for side, times in seconds.items()}
            board.add(figure_of(NAMES[cell.check], pairs, server.entering_seconds))


def figure_of(what: str, seconds: Mapping[str, Sequence[float]], entering: Mapping[str, float]) -> Figure:
    """What recording costs cells of one check, in pairs."""
    ratios = sorted(one / other for one, other in zip(*(seconds[side] for side in SIDES), strict=True))
    low, high = interval(ratios)
    recorded, plain = (statistics.median(seconds[side]) for side in SIDES)
    return Figure(
        what=what,
        value=100 * (statistics.median(ratios) - 1),
        unit="%",
        at_most=2,
        measured={
            "pairs": f"{len(ratios)}, ratios {ratios[0]:.3f} to {ratios[-1]:.3f}",
            "95 % interval of their median": f"{100 * (low - 1):+.1f} to {100 * (high - 1):+.1f} %",
            "a cell": f"{recorded:.3f} s recorded, {plain:.3f} s not",
            "entering the release": f"{entering['recorded']:.2f} s recorded, {entering['plain']:.2f} s not",
        },
    )


def interval(ordered: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of a median, from the order of the values alone; all of them where they are few."""
    reach = 0.98 * math.sqrt(len(ordered))
    low = max(0, math.floor(len(ordered) / 2 - reach))
    return ordered[low], ordered[len(ordered) - 1 - low]
