"""A short form of the campaign of `nox -s harden`: kills, cuts and random faults lose, double and change nothing."""

from __future__ import annotations

import json

import pytest

from tests.campaign.cuts import cut_stores
from tests.campaign.kills import KINDS, kill_processes, kill_whole_runs
from tests.campaign.misbehaviours import misbehaviours
from tests.campaign.soak import soak
from tests.campaign.trials import PartResult, outcomes, trial


def held(result: PartResult) -> None:
    assert result.faults == [], f"seed {result.seed}"
    assert not result.failed, result


def test_killed_runs_lose_double_and_change_nothing() -> None:
    result = kill_whole_runs(2, seed=1)
    held(result)
    assert (result.tried, result.cells >= 19) == (2, True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_process_costs_at_most_its_own_cell(kind: str) -> None:
    result = kill_processes(kind, 1, seed=1)
    held(result)
    assert result.tried == 1


def test_cut_stores_lose_double_and_change_nothing() -> None:
    result = cut_stores(40, seed=1)
    held(result)
    assert result.cells == 32 * 12


def test_random_faults_in_every_process_lose_double_and_change_nothing() -> None:
    held(soak(1, seed=1))


def test_at_least_thirty_misbehaviours_are_planted() -> None:
    assert len(misbehaviours()) >= 30
    assert len({(one.name, one.fresh) for one in misbehaviours()}) == len(misbehaviours())


def test_the_campaign_sees_what_is_lost_twice_or_changed() -> None:
    """Otherwise the tests above could not fail."""
    result = PartResult(part="planted", seed=0)
    with trial(result) as one:
        one.complete()
        expected = outcomes(one.store)
        one.compare(expected)
        held(result)
        path = one.store / "outcomes.jsonl"
        lines = path.read_bytes().splitlines(keepends=True)
        lines.sort(key=lambda line: (json.loads(line)["status"] != "passed", line))
        _first, second, third, *rest = lines
        changed = json.dumps({**json.loads(second), "reason": "changed"}).encode() + b"\n"
        path.write_bytes(b"".join([changed, third, third, *rest]))
        one.compare(expected)
    assert (result.lost, result.twice, result.differing) == (1, 1, 1)
    assert result.failed
