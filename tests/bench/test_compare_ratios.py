"""Two commits' ratios compared: a planted slowdown fails, noise and an improvement do not."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from compare_ratios import main, ratios
from scoreboard import GOALS, Board, Figure, goals, page

REPORTS = Path(__file__).parents[2] / "reports"
TREE = Figure(what="tree", value=16.0, unit="×", at_least=20)
STEP = Figure(what="step", value=1.0, unit="×", at_most=1.02)
SHARE = Figure(what="share", value=0.3, unit="%", at_most=2)
FETCH = Figure(what="fetch", value=0.9, unit="×")
SECONDS = Figure(what="all", value=10.0, unit="s", at_most=60)


def written(folder: Path, **values: float) -> Path:
    """A `bench.json` as `nox -s bench` writes it, with some values changed."""
    board = Board(torch="2.13.0", python="3.11.7")
    for figure in (TREE, STEP, SHARE, FETCH, SECONDS):
        board.add(Figure(**{**asdict(figure), "value": values.get(figure.what, figure.value)}))
    board.write(folder)
    return folder / "bench.json"


@pytest.mark.parametrize(
    ("values", "fails"),
    [
        ({}, ""),
        ({"tree": 12.0}, "worse by 1.33 ×"),
        ({"tree": 13.5, "step": 1.2}, ""),
        ({"tree": 40.0, "step": 0.5}, ""),
        ({"step": 1.4}, "worse by 1.40 ×"),
        # of a small share a multiple is noise, and its goal is its bound
        ({"share": 0.9}, ""),
        ({"share": 2.5}, "misses its goal (≤ 2 %)"),
        # without a goal nobody knows which way is worse, and seconds are another hour's
        ({"fetch": 0.1}, ""),
        ({"all": 55.0}, ""),
    ],
)
def test_a_ratio_that_became_worse_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], values: dict[str, float], fails: str
) -> None:
    base, head = written(tmp_path / "base"), written(tmp_path / "head", **values)
    assert main(["--base", str(base), "--head", str(head)]) == bool(fails)
    table = capsys.readouterr().out
    assert fails in table
    assert [line.split("|")[1].strip() for line in table.splitlines()[2:]] == ["tree", "step", "share", "fetch"]


def test_of_several_measurements_the_median_counts(tmp_path: Path) -> None:
    base = [written(tmp_path / f"base-{number}", tree=value) for number, value in enumerate((16.0, 5.0, 17.0))]
    head = [written(tmp_path / f"head-{number}", tree=value) for number, value in enumerate((15.0, 16.0, 2.0))]
    assert ratios(base)["tree"].value == 16.0
    assert main(["--base", *map(str, base), "--head", *map(str, head)]) == 0
    assert main(["--base", str(base[0]), "--head", str(head[2])]) == 1


def test_the_committed_page_is_that_of_the_committed_figures() -> None:
    runs = json.loads((REPORTS / "bench.json").read_text(encoding="utf-8"))["runs"]
    text = (REPORTS / "bench.md").read_text(encoding="utf-8")
    assert text == page(runs)
    measured = {figure["what"] for run in runs for figure in run["figures"]}
    assert text.count("| not measured") == sum(name not in measured for _, _, name, _ in GOALS)


def test_a_goal_shows_its_newest_figure_and_the_commit() -> None:
    _, _, name, _ = GOALS[0]

    def run(value: float, date: str, **more: str) -> dict[str, object]:
        return {"surroundings": {"date": date, **more}, "figures": [asdict(replace(TREE, what=name, value=value))]}

    older = run(15.0, "2026-11-22T00:00:00Z")
    row = goals([run(31.0, "2026-12-01T00:00:00Z", harness="0123456"), older]).splitlines()[2]
    assert "31 ×" in row
    assert "0123456, 2026-12-01" in row
    assert "not recorded, 2026-11-22" in goals([older])


def test_a_ratio_that_one_commit_has_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, head = written(tmp_path / "base"), written(tmp_path / "head")
    head.write_text(head.read_text(encoding="utf-8").replace('"tree"', '"new tree"'), encoding="utf-8")
    assert main(["--base", str(base), "--head", str(head)]) == 0
    assert capsys.readouterr().out.count("not measured") == 2


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"runs": [{"figures": [{"unit": "s"}]}]}', '{"runs": [{"figures": [1]}]}']
)
def test_what_cannot_be_compared_is_no_success(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    base, head = written(tmp_path / "base"), tmp_path / "head.json"
    head.write_text(text, encoding="utf-8")
    assert main(["--base", str(base), "--head", str(head)]) == 2
    assert capsys.readouterr().err
    assert json.loads(base.read_text(encoding="utf-8"))["runs"]
