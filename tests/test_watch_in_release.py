"""`funasr-harness watch` around a real trainer: what it says of sound and of faulty trainings."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from forked import Forked
from watch_faults.catalogue import FAULTS, Training
from watch_faults.measure import run
from watched_scene import TrainingScene, scene

pytestmark = pytest.mark.release


@pytest.fixture(scope="module")
def place(forked: Forked, layout: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> TrainingScene:
    return scene(forked, tmp_path_factory.mktemp("watched") / "room", layout("1.4.16"), rows=6)


def test_a_sound_training_ends_with_its_reports_and_no_finding(place: TrainingScene) -> None:
    outcome = run(place, Training(name="sound", overrides=("++scheduler_conf.warmup_steps=2",)))
    assert (outcome.status, dict(outcome.found)) == (0, {})
    (rank,) = outcome.record["ranks"]
    assert (rank["steps"], rank["ended"], rank["observers_that_failed"]) == (3, "finished", [])
    folder = place.room / "sound" / "watched"
    names = {path.name for path in folder.iterdir()}
    assert names >= {"output.log", "records", "report.html", "report.json", "report.md"}
    said = (place.room / "sound" / "said.txt").read_text("utf-8")
    assert "nothing found" in said
    # What the command prints is passed on where there is no terminal.
    assert "Train epoch: 0" in said


def test_a_planted_fault_is_named_and_the_exit_status_says_so(place: TrainingScene) -> None:
    (fault,) = [one for one in FAULTS if one.name == "the trainer ends in its third step"]
    outcome = run(place, fault)
    assert outcome.caught
    assert outcome.status == 1
    finding = json.loads((place.room / fault.name.replace(" ", "-") / "watched" / "report.json").read_text())[
        "findings"
    ][0]
    assert "planted" in finding["message"]
    assert any("2 utterances" in line for line in finding["evidence"])
