"""`baseline accept` and `baseline show` as a user meets them, and what `report` says of a run with a baseline."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from baseline_scene import CPU_CELL, GPU_CELL, cell, gpu_run, run, write
from cli_scene import Said, World, make_world
from page_reader import Page
from report_factory import loss_failure

from harness.core.cells import Status
from harness.run.store import LoadedRun
from harness.text.plain import anchor


@pytest.fixture
def world(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> World:
    return make_world(tmp_path / "clone", tmp_path / "cache", capsys, monkeypatch)


def folders(world: World, *runs: LoadedRun) -> list[str]:
    return [str(write(one, world.folder / "runs" / f"{number}")) for number, one in enumerate(runs)]


def accept(world: World, *runs: LoadedRun) -> Said:
    return world.call("baseline", "accept", *folders(world, *runs), "--yes")


def stored(world: World) -> list[Path]:
    return sorted((world.folder / "reports" / "baselines").glob("*"))


def test_what_would_change_is_shown_before_it_is_written(world: World) -> None:
    names = folders(world, run(0), run(1), run(2))
    said = world.call("baseline", "accept", *names)
    assert said.status == 0
    assert "Imaginary CPU @ 2.00GHz, 2 cores, torch 2.13.0+cpu, fp32 (a CPU: says nothing about a GPU)" in said.out
    (step,) = [line for line in said.out.splitlines() if "step time" in line]
    assert step.split() == [CPU_CELL, "step", "time", "–", "500", "ms", "new", "17.7", "%"]
    assert "the losses are bit-identical in every repeat" in said.out
    assert "nothing was written; say --yes to write it" in said.err
    assert stored(world) == []
    assert world.call("baseline", "accept", *names, "--yes").status == 0
    assert [path.name for path in stored(world)] == ["imaginary-cpu-2.00ghz_cores-2_torch-2.13.0+cpu_fp32.json"]


class Terminal(io.StringIO):
    """Somebody sits there."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "written"), [("y\n", 1), ("yes\n", 1), ("\n", 0), ("n\n", 0), ("", 0)])
def test_at_a_terminal_a_person_is_asked(
    world: World, monkeypatch: pytest.MonkeyPatch, answer: str, written: int
) -> None:
    names = folders(world, run(0))
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    asked = Terminal()
    monkeypatch.setattr(sys, "stderr", asked)
    assert world.call("baseline", "accept", *names).status == 0
    assert "write this? [y/N]" in asked.getvalue()
    assert len(stored(world)) == written


def test_it_may_lie_elsewhere(world: World) -> None:
    names = folders(world, run(0))
    assert world.call("baseline", "accept", *names, "--baselines", "elsewhere", "--yes").status == 0
    assert stored(world) == []
    assert "1.4.16" in world.call("baseline", "show", "--baselines", "elsewhere").out


def test_show_tells_each_baseline_with_its_origin(world: World) -> None:
    assert "no baseline in reports/baselines" in world.call("baseline", "show").err
    accept(world, run(0), run(1), run(2))
    said = world.call("baseline", "show")
    assert said.status == 0
    assert "reports/baselines/imaginary-cpu-2.00ghz_cores-2_torch-2.13.0+cpu_fp32.json" in said.out
    assert "from small (sha256 abababababab…)" in said.out
    assert "run of 2026-01-01T08:02:00Z, harness 0123456789ab, Python 3.11.2, Linux-6.1.0" in said.out
    assert "first loss" in said.out
    assert "step by step" in said.out


def test_runs_of_two_machines_are_one_clear_error(world: World) -> None:
    said = accept(world, run(0), run(1, processor="Another CPU"))
    assert said.status == 2
    assert said.err.count("error: ") == 1
    assert "processor: Imaginary CPU @ 2.00GHz there, Another CPU now" in said.err
    assert stored(world) == []


def test_a_damaged_baseline_is_reported_before_anything_runs(world: World) -> None:
    (world.folder / "reports" / "baselines").mkdir(parents=True)
    (world.folder / "reports" / "baselines" / "x.json").write_text("{}")
    world.never("execute")
    for said in (world.run(), world.call("baseline", "show"), accept(world, run(0))):
        assert said.status == 2
        assert "x.json is not a baseline" in said.err


# What a report says.


def report(world: World, now: LoadedRun) -> tuple[Said, str, str]:
    folder = write(now, world.folder / "runs" / "now")
    said = world.call("report", str(folder))
    return said, (folder / "compatibility.md").read_text(), (folder / "compatibility.html").read_text()


def test_without_a_baseline_a_gpu_has_no_baseline_and_the_run_ends_as_it_would(world: World) -> None:
    said, markdown, html = report(world, gpu_run(9))
    assert said.status == 0
    assert "against the baseline: 1 cell: 1 no baseline" in said.err
    assert "no baseline for Imaginary GPU 80GB, driver 550, torch 2.9.1+cu128, bf16" in said.err
    for text in (markdown, html):
        assert "Compared with the baseline" in text
        assert "neither a pass nor a failure" in text


def test_another_major_version_of_the_driver_has_no_baseline(world: World) -> None:
    accept(world, gpu_run(0), gpu_run(1), gpu_run(2))
    said, _, _ = report(world, gpu_run(9, driver="560.1"))
    assert said.status == 0
    assert "1 no baseline" in said.err
    assert "no baseline for Imaginary GPU 80GB, driver 560" in said.err


@pytest.mark.parametrize(("seconds", "words"), [(0.9, "slower"), (0.2, "faster")])
def test_what_changed_either_way_ends_with_status_1_until_it_is_acknowledged(
    world: World, seconds: float, words: str
) -> None:
    accept(world, gpu_run(0), gpu_run(1), gpu_run(2))
    now = gpu_run(9, cell(GPU_CELL, seconds=seconds))
    said, markdown, html = report(world, now)
    assert said.status == 1
    assert f"changed: {GPU_CELL}: step time 500 ms → {seconds * 1000:.0f} ms, {words}" in said.err
    assert "acknowledge it: funasr-harness baseline accept RUN RUN RUN" in said.err
    assert f"changed: {words}" in markdown
    assert f"changed: {words}" in html
    again = [write(gpu_run(20 + at, *now.outcomes), world.folder / "runs" / f"again-{at}") for at in range(3)]
    assert world.call("baseline", "accept", *map(str, again), "--yes").status == 0
    assert world.call("report", str(world.folder / "runs" / "now")).status == 0


def test_within_the_noise_all_is_well_and_a_cpus_baseline_is_called_one(world: World) -> None:
    accept(world, run(0), run(1), run(2))
    said, markdown, html = report(world, run(9))
    assert said.status == 0
    assert "against the baseline: 1 cell: 1 within; 3 figures: 3 within" in said.err
    for text in (markdown, html):
        assert "CPU" in text
        assert "says nothing about a GPU" in text


def test_a_failure_stays_one_whatever_the_baseline(world: World) -> None:
    accept(world, run(0), run(1), run(2))
    failed = cell(status=Status.FAILED)
    said, _, _ = report(world, run(9, replace(failed, failure=loss_failure(1, 2))))
    assert said.status == 1
    assert "1 no figure" in said.err
    assert "changed:" not in said.err


def test_every_link_of_the_section_leads_to_the_cells_evidence(world: World) -> None:
    accept(world, run(0), run(1), run(2))
    new = CPU_CELL.replace("1.4.16", "1.4.15")
    _, _, html = report(world, run(9, cell(seconds=9.0), cell(new)))
    page = Page.of(html)
    assert {f"#{anchor(CPU_CELL)}", f"#{anchor(new)}", "#baselines"} <= set(page.values("href"))
    assert {link[1:] for link in page.values("href") if link.startswith("#")} <= set(page.values("id"))


def test_without_a_baseline_a_cpu_says_nothing_of_one(world: World) -> None:
    said, markdown, html = report(world, run(9))
    assert said.status == 0
    assert "baseline:" not in said.err
    assert "Compared with the baseline" not in markdown
    assert 'id="baselines"' not in html


def test_a_run_with_nothing_to_compare_says_nothing_of_baselines(world: World) -> None:
    said, markdown, html = report(world, run(9, cell(CPU_CELL.replace("finetune@train_ds", "loss_contract"))))
    assert said.status == 0
    assert "baseline:" not in said.err
    assert "Compared with the baseline" not in markdown
    assert 'id="baselines"' not in html


def test_what_a_machine_calls_itself_is_no_markup(world: World) -> None:
    _, markdown, html = report(world, gpu_run(9, gpus=("<script>alert(1)</script> | GPU",)))
    assert "<script>alert(1)" not in markdown
    assert "<script>alert(1)" not in html
