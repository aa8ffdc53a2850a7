"""What a run says while it goes on: at least every 20 seconds, with the time that is left."""

from __future__ import annotations

import io
import re
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from cli_scene import STACK
from report_factory import RELEASES, cell, outcome
from rich.console import Console

from harness.config.matrix import Matrix
from harness.config.settings import CellLimits, FinetuneSettings
from harness.core import tree_events as events
from harness.core.cells import Cell, Check, Status
from harness.run import Plan, Settings, build_plan, progress
from harness.run.progress import LINE_EVERY_SECONDS, Display, duration, stage
from harness.run.time_left import usual_seconds
from harness.text import terminal

NEW = RELEASES[-1]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What is drawn on a terminal of 120 columns."""
    monkeypatch.delenv("CI", raising=False)
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=120, highlight=False, legacy_windows=False)
    monkeypatch.setattr(terminal, "_console", console)
    return file


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time as the display reads it; the last number is now."""
    now = [100.0]
    monkeypatch.setattr("harness.run.progress.time.monotonic", lambda: now[-1])
    return now


def a_plan(*cells: Cell) -> Plan:
    settings = Settings(
        workspace=Path("/nowhere"), jobs=1, memory_bytes=1, timeout_seconds=dict.fromkeys(Check, 1.0),
        preload=("numpy", "torch", "torchaudio"),
    )  # fmt: skip
    return build_plan(cells, settings, release_for=lambda _: {}, request_for=lambda _: {})


MATRIX = Matrix(
    name="m", source=Path("m.toml"), sha256="", description="", cells=(), releases=(), variants=(), limits=CellLimits(),
    finetune=FinetuneSettings(),
)  # fmt: skip


def test_without_a_terminal_a_line_comes_every_20_seconds_though_no_cell_ends(
    capsys: pytest.CaptureFixture[str], clock: list[float], tmp_path: Path
) -> None:
    cells = [cell(NEW, "construct"), cell(NEW, "finetune@train")]
    said: list[float] = []
    with Display(total=2) as display:
        display.follow(a_plan(*cells), usual_seconds(MATRIX), STACK, tmp_path)
        for tick in range(0, 1800):
            clock.append(100.0 + tick / 10)
            if tick == 900:
                display.event(events.Ready(threads=1))
            if tick in (1000, 1010):
                display.started(cells[tick == 1010])
            if tick == 1005:
                display.done(outcome(cells[0], seconds=0.5))
            display.tick()
            lines = capsys.readouterr().err.splitlines()
            said += [clock[-1]] * len(lines)
            if tick == 0:
                assert lines == ["0/2 cells in 0 s: " + COMPILING]
            if tick == 900:
                assert lines == ["0/2 cells in 90 s: entering the first release"]
        assert max(late - early for early, late in zip([100.0, *said], [*said, 280.0], strict=True)) <= 20.0
        clock.append(300.0)
        display.tick()
    (line, _) = capsys.readouterr().err.splitlines()
    # The fine-tune has run for 99 s, which is longer than expected: a quarter as much again is taken to come.
    assert line == f"1/2 cells in 3 min: 1 passed, about 25 s left, running {cells[1].id}"


COMPILING = "compiling torch and 2 other libraries to bytecode, which is done once and takes a minute or two"


def test_what_is_compiled_already_is_imported(tmp_path: Path) -> None:
    stack = replace(STACK, python=tmp_path / "venv" / "bin" / "python")
    assert progress.importing(a_plan(), stack, tmp_path) == COMPILING
    installed = tmp_path / "venv" / "lib" / "python3.11" / "site-packages" / "torch"
    installed.mkdir(parents=True)
    bytecode = tmp_path / "bytecode"
    (bytecode / "usr").mkdir(parents=True)
    assert progress.importing(a_plan(), stack, tmp_path) == COMPILING
    (bytecode / installed.relative_to(installed.anchor)).mkdir(parents=True)
    assert (
        progress.importing(a_plan(), stack, tmp_path) == "importing torch and 2 other libraries, once for all releases"
    )


def test_a_stage_says_what_it_is_and_again_as_long_as_it_lasts(
    monkeypatch: pytest.MonkeyPatch, clock: list[float]
) -> None:
    said: list[str] = []
    noted = threading.Event()

    def keep(text: str) -> None:
        said.append(text)
        clock.append(clock[-1] + 15)
        if text.endswith(", 1 of 2"):
            noted.set()

    monkeypatch.setattr(progress, "say", keep)
    with stage("fetching", interval_seconds=0.001) as one:
        one.note = "1 of 2"
        assert noted.wait()
    assert said[0] == "fetching …"
    assert said[1].startswith("fetching … still, after 15 s")


def test_a_stage_that_is_short_says_one_line_and_one_that_fails_is_over(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="broken"), stage("fetching"):
        raise ValueError("broken")
    assert capsys.readouterr().err == "fetching …\n"
    assert not [one for one in threading.enumerate() if one.name == "stage"]


def test_a_line_comes_before_20_seconds_have_gone() -> None:
    assert LINE_EVERY_SECONDS < 20


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (119.4, "119 s"), (120, "2 min"), (7190, "2 h 00 min"), (12_000, "3 h 20 min")]
)
def test_a_duration_is_said_as_a_person_says_it(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_nothing_is_foretold_before_the_first_outcome(capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    with Display(total=4):
        clock.append(130.0)
    assert capsys.readouterr().err == "0/4 cells in 30 s: starting\n"


def test_a_run_of_no_cells_can_be_displayed(capsys: pytest.CaptureFixture[str]) -> None:
    with Display(total=0):
        pass
    assert capsys.readouterr().err.startswith("0/0 cells")


def test_the_state_is_reported_even_when_the_run_breaks_off(capsys: pytest.CaptureFixture[str]) -> None:
    def run() -> None:
        with Display(total=2) as display:
            display.done(outcome(cell(NEW, "construct")))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    assert capsys.readouterr().err.startswith("1/2 cells")


def test_a_warning_is_marked_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    with Display(total=1) as display:
        display.warn("a process could not be ended")
    assert capsys.readouterr().err.startswith("warning: a process could not be ended\n")


def test_a_terminal_shows_what_is_done_and_what_runs(drawn: io.StringIO) -> None:
    with Display(total=2) as display:
        display.started(cell(NEW, "construct"))
        display.done(outcome(cell(NEW, "construct"), Status.FAILED))
        display.started(cell(NEW, "loss_contract"))
    told = drawn.getvalue()
    assert "1 failed" in told
    assert re.search(r"1/2 +\d+:\d\d:\d\d", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", told))
    assert f"{cell(NEW, 'loss_contract').id}"[:40] in told


def test_a_terminal_in_a_ci_is_reported_line_by_line(drawn: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with Display(total=1) as display:
        display.done(outcome(cell(NEW, "construct")))
    assert drawn.getvalue().splitlines() == ["1/1 cells in 0 s: 1 passed"]
