"""The time left, on what committed runs really took: replayed cell by cell, as they ran and in other orders."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from report_factory import RELEASES, cell, outcome

from harness.config.matrix import Matrix
from harness.config.settings import CHECK_SETTINGS, CellLimits, DecodeSettings, FinetuneSettings, PropertiesSettings
from harness.core.cells import Cell, Check, Outcome, Status
from harness.run import Settings, build_plan
from harness.run.store import load_run
from harness.run.time_left import USUAL_SECONDS, TimeLeft, usual_seconds

REPORTS = Path(__file__).parent.parent / "reports"
RUNS = ("atlas", "properties", "later_checks")
FIRST_TENTH, LOOKS = 0.1, 100
DID_NOT_RUN = Status.BLOCKED, Status.SKIPPED


@dataclass(frozen=True, kw_only=True)
class Moment:
    """A cell starts, or has its outcome."""

    at: float
    cell: Cell
    outcome: Outcome | None


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What happened when in a run, and how it was planned."""

    batches: Sequence[Sequence[Cell]]
    jobs: int
    moments: Sequence[Moment]
    slack: float
    """Seconds by which an estimate may be off whatever the truth is: the last moments are nobody's to know."""

    @property
    def total(self) -> float:
        return self.moments[-1].at

    def worst(self) -> tuple[float, str]:
        """How far the estimate is from the truth at the worst look from the first tenth on, as a factor."""
        left, seen, worst, words = TimeLeft(self.batches, self.jobs), 0, 1.0, ""
        for look in range(LOOKS):
            now = self.total * look / LOOKS
            while self.moments[seen].at <= now:
                moment = self.moments[seen]
                if moment.outcome:
                    left.settled(moment.outcome)
                else:
                    left.started(moment.cell, moment.at)
                seen += 1
            estimate, truth = left.seconds(now), self.total - now
            factor = max(estimate, truth) / max(min(estimate, truth), 1e-9)
            if look >= FIRST_TENTH * LOOKS and factor > worst and abs(estimate - truth) > self.slack:
                worst, words = factor, f"{estimate:.0f} s instead of {truth:.0f} s at {look / LOOKS:.0%}"
        return worst, words


@cache
def outcomes(name: str) -> tuple[Outcome, ...]:
    return tuple(load_run(REPORTS / name).outcomes)


def batches_of(name: str, jobs: int, seed: int | None) -> list[list[Cell]]:
    """As a run plans them, or in an order drawn from a seed."""
    cells = [one.cell for one in outcomes(name)]
    settings = Settings(
        workspace=Path("/nowhere"), jobs=jobs, memory_bytes=1, timeout_seconds=dict.fromkeys(Check, 1.0)
    )
    plan = build_plan(cells, settings, release_for=lambda _: {}, request_for=lambda _: {})
    batches = [[plan.cells[one.number] for one in batch.cells] for batch in plan.batches]
    if seed is not None:
        random.Random(seed).shuffle(batches)
    return batches


def ran(one: Outcome) -> bool:
    return one.status not in DID_NOT_RUN


def in_other_order(name: str, jobs: int, seed: int | None) -> Replay:
    """Every cell takes what it took, in another order or with other jobs."""
    by_cell = {one.cell: one for one in outcomes(name)}
    batches = batches_of(name, jobs, seed)
    free, moments = [0.0] * jobs, []
    for batch in batches:
        now = heapq.heappop(free)
        for one in batch:
            if ran(by_cell[one]):
                moments.append(Moment(at=now, cell=one, outcome=None))
            now += by_cell[one].seconds
            moments.append(Moment(at=now, cell=one, outcome=by_cell[one]))
        heapq.heappush(free, now)
    replay = made(batches, jobs, moments)
    # In an order drawn at random the last release may be one in which nearly everything is blocked.
    return replace(replay, slack=max(replay.slack, replay.total / 20)) if seed is not None else replay


STOPPED_SECONDS = 900.0
"""Longer than any cell takes."""


def as_it_ran(name: str) -> Replay:
    """By the times that its outcomes have; all of these runs had two jobs."""

    def of(one: Outcome) -> Iterator[Moment]:
        began = datetime.fromisoformat(one.started).timestamp()
        if ran(one):
            yield Moment(at=began, cell=one.cell, outcome=None)
        yield Moment(at=began + one.seconds, cell=one.cell, outcome=one)

    moments = sorted((moment for one in outcomes(name) for moment in of(one)), key=lambda moment: moment.at)
    shifted, idle = [], moments[0].at
    for before, one in pairwise([moments[0], *moments]):
        # A run that was stopped and resumed did not run in between.
        idle += one.at - before.at if one.at - before.at > STOPPED_SECONDS else 0.0
        shifted.append(Moment(at=one.at - idle, cell=one.cell, outcome=one.outcome))
    return made(batches_of(name, 2, None), 2, shifted)


def made(batches: Sequence[Sequence[Cell]], jobs: int, moments: list[Moment]) -> Replay:
    moments.sort(key=lambda one: (one.at, one.outcome is not None))
    longest_cell = max(one.outcome.seconds for one in moments if one.outcome)
    return Replay(batches=batches, jobs=jobs, moments=moments, slack=longest_cell)


@pytest.mark.parametrize("name", RUNS)
def test_a_run_as_it_ran_is_foretold_within_a_factor_of_two_from_the_first_tenth_on(name: str) -> None:
    replay = as_it_ran(name)
    assert replay.total > 400
    worst, words = replay.worst()
    assert worst <= 2, words


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("jobs", [1, 2, 4])
@pytest.mark.parametrize("seed", [None, 0, 2])
def test_with_other_jobs_and_in_other_orders_it_is_foretold_as_well(name: str, jobs: int, seed: int | None) -> None:
    worst, words = in_other_order(name, jobs, seed).worst()
    assert worst <= 2, words


def test_a_machine_five_times_as_slow_is_foretold_as_well() -> None:
    replay = in_other_order("atlas", 2, None)
    slower = [
        Moment(at=5 * one.at, cell=one.cell, outcome=one.outcome and slowed(one.outcome)) for one in replay.moments
    ]
    worst, words = made(replay.batches, 2, slower).worst()
    assert worst <= 2, words


def slowed(one: Outcome) -> Outcome:
    return outcome(one.cell, one.status, one.reason, seconds=5 * one.seconds)


def test_what_is_done_so_far_times_the_cells_left_would_be_wrong_by_more_than_that() -> None:
    # What was printed once: by cells, a run whose cheap checks come first seems nearly over when it has hardly begun.
    replay, factors = in_other_order("later_checks", 2, None), []
    total, done = len({one.cell for one in replay.moments}), 0
    for moment in replay.moments:
        done += moment.outcome is not None
        if FIRST_TENTH * replay.total <= moment.at < replay.total - replay.slack:
            estimate, truth = moment.at / done * (total - done), replay.total - moment.at
            factors.append(max(estimate / truth, truth / estimate))
    assert max(factors) > 2


NEW, OLD = RELEASES[-1], "1.0.2"
LADDER = [cell(NEW, check) for check in ("construct", "loss_contract", "finetune@train")]
USUAL = sum(USUAL_SECONDS[one.check] for one in LADDER)


def test_before_anything_is_done_the_committed_runs_tell() -> None:
    assert TimeLeft([LADDER], jobs=1).seconds(0.0) == USUAL
    assert TimeLeft([LADDER], jobs=2).seconds(0.0) == USUAL
    assert TimeLeft([LADDER, [cell(OLD, one.id.split("/")[4]) for one in LADDER]], jobs=2).seconds(0.0) == USUAL


def test_what_has_no_dependency_any_more_costs_nothing() -> None:
    left = TimeLeft([LADDER], jobs=1)
    left.settled(outcome(LADDER[0], Status.FAILED, "it does not build", seconds=0.5))
    assert left.seconds(1.0) == 0.0


def test_a_property_that_fails_keeps_nothing_from_being_run() -> None:
    chain = [cell(NEW, "properties"), cell(NEW, "finetune@train")]
    left = TimeLeft([chain], jobs=1)
    left.settled(outcome(chain[0], Status.FAILED, "a property fails", seconds=USUAL_SECONDS[Check.PROPERTIES]))
    assert left.seconds(20.0) == USUAL_SECONDS[Check.FINETUNE]


def test_a_release_without_that_trainer_costs_nothing() -> None:
    assert TimeLeft([[cell(OLD, "finetune@train_ds")]], jobs=1).seconds(0.0) == 0.0
    assert TimeLeft([[cell(NEW, "finetune@train_ds")]], jobs=1).seconds(0.0) > 0.0


def test_what_runs_has_so_much_less_to_go_and_never_nothing() -> None:
    (tuned,) = chain = [cell(NEW, "finetune@train")]
    left = TimeLeft([chain], jobs=1)
    left.started(tuned, 100.0)
    usual = USUAL_SECONDS[Check.FINETUNE]
    assert left.seconds(100.0 + usual / 2) == usual / 2
    # Longer than expected: the longer it has run, the longer it will.
    assert left.seconds(100.0 + 10 * usual) == pytest.approx(usual * 10 / 4)


def test_what_a_matrix_asks_of_a_cell_is_part_of_what_it_takes() -> None:
    checks = {
        **CHECK_SETTINGS,
        Check.PROPERTIES: PropertiesSettings(examples=24),
        Check.DECODE: DecodeSettings(steps=400),
    }
    matrix = Matrix(
        name="m", source=Path("m.toml"), sha256="", description="", cells=(), releases=(), variants=(),
        limits=CellLimits(), finetune=FinetuneSettings(steps=50, seeds=1), check_settings=checks,
    )  # fmt: skip
    usual = usual_seconds(matrix)
    assert usual[Check.PROPERTIES] == pytest.approx(USUAL_SECONDS[Check.PROPERTIES] / 10)
    assert usual[Check.DECODE] == pytest.approx(2 * USUAL_SECONDS[Check.DECODE])
    assert usual[Check.FINETUNE] == pytest.approx(USUAL_SECONDS[Check.FINETUNE] * 50 / 75)
    assert usual[Check.IMPORT] == USUAL_SECONDS[Check.IMPORT]
