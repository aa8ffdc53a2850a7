"""What the benchmarks make of their measurements: no interrupted run is taken for a whole one, no share is wrong."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from report_factory import outcome, run_of
from test_goals import changed_share, longest_pause, parts_of, patch_of, uninterrupted_seconds
from test_recording import SIDES, figure_of, interval
from test_rounds import histogram
from whole_commands import cells_told

from harness.core.cells import Outcome, Release, Status
from harness.core.evidence import REUSED
from harness.run.provenance import ReuseFacts
from harness.run.reuse.release_files import ReleaseFiles
from harness.run.store import LoadedRun

BEGIN, END = "2026-11-20T10:00:00Z", "2026-11-20T10:10:00Z"
CELL = "1.4.16/paraformer/v8404-h320/reduced/{}/cpu-fp32"
FACTS = ReuseFacts(seed=1, reused=1, confirmed=1, refuted=())


def ran(check: str, started: str, seconds: float, **evidence: object) -> Outcome:
    return outcome(CELL.format(check), started=started, seconds=seconds, evidence=evidence)


SOUND = (
    ran("construct", "2026-11-20T10:00:30Z", 20.0),
    ran("loss_contract", "2026-11-20T10:01:00Z", 500.0),
    ran("finetune@train", "2026-11-20T10:09:50Z", 0.0, **{REUSED: {"cell": "other", "ran": BEGIN}}),
)


def recorded(outcomes: tuple[Outcome, ...] = SOUND, **changes: object) -> LoadedRun:
    fields = {"started": BEGIN, "finished": END, "reuse": FACTS, "selected": len(outcomes), **changes}
    return run_of(outcomes, **fields)


def test_a_run_in_one_go_took_from_its_beginning_to_its_end() -> None:
    assert uninterrupted_seconds(recorded()) == 600.0


@pytest.mark.parametrize(
    ("run", "why"),
    [
        (recorded(reuse=None), "without reuse"),
        (recorded(finished=None), "has not ended"),
        (recorded(earlier_commits=("abc",)), "continued on another commit"),
        (recorded(SOUND[:1]), "nothing ran for 550 s"),
        # what was reused fills no pause: it takes no time
        (recorded((SOUND[0], SOUND[2])), "nothing ran for 550 s"),
    ],
)
def test_the_time_of_any_other_run_is_refused(run: LoadedRun, why: str) -> None:
    with pytest.raises(AssertionError, match=why):
        uninterrupted_seconds(run)


def test_cells_that_run_at_the_same_time_leave_no_pause() -> None:
    begin, end = (datetime(2026, 11, 20, 10, minute, tzinfo=UTC) for minute in (0, 10))
    outcomes = [ran("construct", BEGIN, 600.0), ran("loss_contract", "2026-11-20T10:00:10Z", 5.0)]
    assert longest_pause(outcomes, begin, end) == 0.0


def test_cells_are_counted_as_run_reused_or_blocked() -> None:
    blocked = outcome(CELL.format("decode"), Status.BLOCKED)
    told = cells_told(recorded((*SOUND, blocked)))
    assert told["cells"] == "4 in 1 releases: 2 run, 1 reused, 1 blocked"
    assert told["run although reusable"] == "1, all ended as predicted"


def test_what_a_run_found_is_said_with_its_time() -> None:
    failed = outcome(CELL.format("decode"), Status.FAILED)
    found = cells_told(recorded((*SOUND[:2], failed)))
    assert found["not as the known issues say"] == f"{failed.cell.id} (regression)"
    assert "not as the known issues say" not in cells_told(recorded(SOUND[:2]))


@pytest.mark.parametrize(
    ("run", "why"),
    [
        (recorded((*SOUND, outcome(CELL.format("decode"), Status.ERRORED))), "errored"),
        (recorded(selected=5), "2 cells have no outcome"),
        (recorded(reuse=replace(FACTS, refuted=("a",))), "reuse was wrong"),
    ],
)
def test_a_run_that_lacks_something_or_was_wrong_gives_no_figure(run: LoadedRun, why: str) -> None:
    with pytest.raises(AssertionError, match=why):
        cells_told(run)


def test_the_share_of_changed_code_counts_functions_and_module_bodies(tmp_path: Path) -> None:
    code = "LIMIT = 1\n\n\ndef one():\n    return 1\n\n\ndef two():\n    return 2\n"
    for name, text in (("old", code), ("new", code.replace("return 2", "return 3").replace("one():", "one():  # 1"))):
        (tmp_path / name / "funasr").mkdir(parents=True)
        (tmp_path / name / "funasr" / "model.py").write_text(text)
    old, new = (ReleaseFiles(tmp_path / name, "1") for name in ("old", "new"))
    assert changed_share(old, new) == pytest.approx(1 / 3)
    assert changed_share(old, old) == 0.0


def test_the_patch_adds_one_statement_to_the_function() -> None:
    content = 'def other():\n    pass\n\n\ndef step(model):\n    """Step."""\n    model.step()\n'
    added = [line for line in patch_of("a.py", content, "step", value=1).splitlines() if line.startswith(("+", "-"))]
    assert added == ["--- a/a.py", "+++ b/a.py", "+    changed_for_a_measurement = 1"]


def test_all_releases_are_selected_by_no_release() -> None:
    releases = [Release(label=name, version=name, kind="wheel", filename="", sha256="") for name in ("1", "2")]
    assert parts_of(releases, releases, ["*/construct/*"]) == ["--only", "*/*/construct/*"]
    assert parts_of(releases, releases, ["*"]) == []
    assert parts_of(releases[:1], releases, ["*"]) == ["--only", "1/*"]


def test_a_slower_recorded_cell_is_seen_in_the_median_of_the_pairs() -> None:
    seconds = dict(zip(SIDES, ([1.03, 2.06, 1.03], [1.0, 2.0, 1.0]), strict=True))
    figure = figure_of("cells", seconds, {"recorded": 1.0, "plain": 0.5})
    assert figure.value == pytest.approx(3.0)
    assert figure.met is False


def test_the_interval_of_a_median_is_narrower_with_more_pairs() -> None:
    assert interval([1.0, 2.0]) == (1.0, 2.0)
    assert interval([float(number) for number in range(41)]) == (14.0, 26.0)


def test_a_histogram_shows_where_the_rounds_lie() -> None:
    assert histogram([1.0] * 8 + [2.0]) == "█········▁"
    assert histogram([1.0]) == "█·········"
