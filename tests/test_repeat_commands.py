"""Each command that a run prints, run as its user would: by the matrix, the speech and the place that they gave."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from cli_scene import CELL, MATRIX, Said, World, make_world, write_wave

from harness.core.cells import Failure, Status
from harness.run.repeat_commands import ELSEWHERE, Repeating
from harness.run.store import load_run

LOSS = CELL.format("loss_contract")
FAILURE = Failure(type="AssertionError", message="", signature="AssertionError@funasr/x.py:f")


@pytest.fixture(scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def world(
    tmp_path: Path, own_cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> World:
    monkeypatch.setenv("FUNASR_HARNESS_CACHE", str(own_cache))
    made = make_world(tmp_path / "user", own_cache, capsys, monkeypatch)
    made.tree.failing[LOSS] = {"status": Status.FAILED, "reason": "it does not fit", "failure": FAILURE}
    return made


def own_run(world: World) -> Said:
    """A user's own matrix, speech, known issues and place, with names that a shell would take apart."""
    mine = world.folder / "my stuff"
    mine.mkdir()
    (mine / "own $matrix.toml").write_text(MATRIX.replace('"small"', '"own"'), encoding="utf-8")
    (mine / "issues.toml").write_text("schema = 1\n")
    write_wave(mine / "a.wav")
    row = {"key": "a", "source": "my stuff/a.wav", "source_len": 100, "target": "今天", "target_len": 2}
    (mine / "speech's.jsonl").write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    said = world.call(
        "run", "my stuff/own $matrix.toml", "--jsonl", str(mine / "speech's.jsonl"),
        "--valid",
        "my stuff/speech's.jsonl",
        "--rows",
        "7",
        "--known-issues", "my stuff/issues.toml", "--only", "*/loss_contract/*", "-o", "out/of the way",
    )  # fmt: skip
    assert said.status == 1, said.err
    return said


def printed(text: str) -> list[str]:
    """Every command line in a text."""
    return re.findall(r"funasr-harness (?:run|show|drift|bisect|diagnose) [^\n`]*", text)


def in_page(page: str) -> list[str]:
    """As a browser shows them."""
    return printed(unescape(re.sub(r"<[^>]+>", "", page)))


def in_markdown(text: str) -> list[str]:
    """As they are shown: code that has quotes in it is written as HTML."""
    return printed(re.sub(r"<code>(.*)</code>", lambda found: unescape(found[1]), text))


def in_reports(folder: Path) -> dict[str, list[str]]:
    """By the report's name."""
    readers = {
        "compatibility.md": in_markdown,
        "compatibility.html": in_page,
        "junit.xml": lambda text: printed(unescape(text)),
    }
    return {name: read((folder / name).read_text("utf-8")) for name, read in readers.items()}


def type_it(world: World, line: str) -> Said:
    program, *words = shlex.split(line)
    assert program == "funasr-harness"
    return world.call(*words)


def test_every_line_of_the_reports_repeats_a_users_own_run_and_shows_its_cell(world: World) -> None:
    own_run(world)
    found = in_reports(world.folder / "out" / "of the way")
    assert all(found.values())
    lines = list(dict.fromkeys(line for some in found.values() for line in some))
    assert len(found["compatibility.md"]) == len(found["compatibility.html"]) == 4
    for line in lines:
        world.tree.asked.clear()
        said = type_it(world, line)
        if line.startswith("funasr-harness show"):
            assert f"again     {Repeating.of(*where(world)).again(LOSS)}" in said.out, line
        elif " -o runs/again " in line:
            assert (said.status, world.tree.asked) == (1, [LOSS]), line
            assert load_run(Path("runs/again")).provenance.corpus_sha256 == where(world)[0].corpus_sha256
        else:
            # The same in a place of its own: the matrix's name.
            assert sorted(world.tree.asked) == sorted([LOSS, LOSS.replace("1.4.16", "1.4.15")]), line
            assert load_run(Path("runs/own")).provenance.arguments == where(world)[0].arguments


def where(world: World) -> tuple[Any, Path]:
    folder = world.folder / "out" / "of the way"
    return load_run(folder).provenance, folder


def test_what_show_prints_repeats_the_cell(world: World) -> None:
    own_run(world)
    said = world.call("show", LOSS, "--run", "out/of the way", "--known-issues", "my stuff/issues.toml")
    (line,) = printed(said.out)
    world.tree.asked.clear()
    assert type_it(world, line).status == 1
    assert world.tree.asked == [LOSS]


def test_a_run_that_lies_where_runs_are_looked_for_is_shown_without_being_named(world: World) -> None:
    world.run()
    for line in in_reports(world.output)["junit.xml"]:
        assert line == f"funasr-harness show {LOSS}"
        assert LOSS in type_it(world, line).out


def test_what_lies_elsewhere_is_named_without_its_folder_and_with_a_hint(world: World, tmp_path: Path) -> None:
    away = tmp_path / "another place" / "own.toml"
    away.parent.mkdir()
    away.write_text(MATRIX.replace('"small"', '"own"'), encoding="utf-8")
    world.call("run", str(away), "-o", str(tmp_path / "results"))
    for name in ("run.json", "compatibility.md", "compatibility.html", "junit.xml"):
        assert str(tmp_path) not in (tmp_path / "results" / name).read_text("utf-8"), name
    provenance = load_run(tmp_path / "results").provenance
    assert provenance.arguments == (f"{ELSEWHERE}/own.toml",)
    text = (tmp_path / "results" / "compatibility.md").read_text("utf-8")
    assert f"# {ELSEWHERE}: the folder in which you keep it" in text
    line = next(line for line in printed(text) if " -o runs/again " in line)
    # With the folder put in its place it is right.
    world.tree.asked.clear()
    assert type_it(world, line.replace(ELSEWHERE, str(away.parent))).status == 1
    assert world.tree.asked == [LOSS]


def test_a_cell_that_was_never_run_is_reported_with_a_line_in_which_the_matrix_is_left_open(world: World) -> None:
    said = world.call("show", CELL.format("construct"))
    (line,) = printed(said.err)
    world.tree.asked.clear()
    type_it(world, line.replace("MATRIX", "matrices/small.toml").partition(", where")[0])
    assert world.tree.asked == [CELL.format("construct")]


def test_a_cache_below_the_folder_is_kept_and_any_other_is_not(world: World) -> None:
    world.call("run", "matrices/small.toml", "--cache", str(world.cache), "--fresh")
    assert load_run(world.output).provenance.arguments == ("matrices/small.toml",)
    (world.folder / "cache").symlink_to(world.cache)
    assert Repeating.of(load_run(world.output).provenance, world.output).hint == ""


REAL = """\
schema = 1
name = "mine"
description = "one cell"

[axes]
release = ["1.4.16"]
variant = ["paraformer_streaming"]
vocab_size = [120]
hidden_size = [32]
depth = ["reduced"]
device = ["cpu"]
check = ["construct", "loss_contract"]
"""


@pytest.mark.release
@pytest.mark.timeout(1800)
def test_the_lines_of_a_real_run_run(tmp_path: Path, layout: Callable[[str], Path]) -> None:
    layout("1.4.16")
    root = Path(__file__).parent.parent
    (tmp_path / "matrices").symlink_to(root / "matrices")
    (tmp_path / "my matrix.toml").write_text(REAL, encoding="utf-8")

    def harness(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "harness", *words]
        environment = {**os.environ, "PYTHONPATH": str(root)}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    first = harness("run", "my matrix.toml", "-o", "out")
    assert first.returncode == 0, first.stderr
    lines = printed((tmp_path / "out" / "compatibility.md").read_text("utf-8"))
    assert len(lines) == 3
    for line in lines:
        done = harness(*shlex.split(line)[1:])
        assert done.returncode == 0, (line, done.stderr)
    again = json.loads((tmp_path / "runs" / "again" / "outcomes.jsonl").read_text("utf-8").splitlines()[0])
    assert again["id"] in first.stderr + (tmp_path / "out" / "outcomes.jsonl").read_text("utf-8")
