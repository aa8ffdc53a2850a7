"""`bisect` as a user meets it: what it runs, prints and stores, and what it refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_scene import Said, World, carry_releases, make_world, write_lock
from git_history import BROKEN, MODEL, begin

from harness.commands import bisect
from harness.core.cells import Cell, Failure, Status

VERSIONS = tuple(f"1.4.{number}" for number in range(3, 17))
BROKEN_IN = VERSIONS[4:9]
FAILED = {
    "status": Status.FAILED,
    "reason": "planted",
    "failure": Failure(type="AssertionError", message="m", signature="AssertionError@funasr/a.py:f"),
}
ASKED = ("--variant", "paraformer", "--dimensions", "v8404-h320", "--check", "loss_contract")
NAME = "{}/paraformer/v8404-h320/reduced/loss_contract/cpu-fp32"
STORED = Path("runs/bisections/paraformer-v8404-h320-reduced-loss_contract-cpu-fp32/transitions.json")

Call = Callable[..., Said]


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Speech and model folders are made once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def world(tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> World:
    world = make_world(tmp_path / "clone", cache, capsys, monkeypatch)
    write_lock(world.folder / "matrices" / "releases.lock.toml", carry_releases(cache, VERSIONS))
    world.tree.failing = {NAME.format(version): FAILED for version in BROKEN_IN}
    return world


@pytest.fixture
def call(world: World) -> Call:
    def bisecting(*options: str, asked: tuple[str, ...] = ASKED) -> Said:
        return world.call("bisect", *asked, "--matrix", "matrices/small.toml", "--cache", str(world.cache), *options)

    return bisecting


def stored() -> dict[str, Any]:
    return dict(json.loads(STORED.read_text()))


def test_every_transition_is_printed_and_stored(call: Call, world: World) -> None:
    said = call()
    assert said.status == 0
    assert "transition 1: 1.4.6 → 1.4.7" in said.out
    assert "transition 2: 1.4.11 → 1.4.12" in said.out
    assert "failed (AssertionError@funasr/a.py:f), run twice now" in said.out
    assert [(one["before"]["release"], one["after"]["release"]) for one in stored()["transitions"]] == [
        ("1.4.6", "1.4.7"),
        ("1.4.11", "1.4.12"),
    ]
    assert stored()["cells_run"] == len(world.tree.asked)
    limit = re.search(r"bisection runs (\d+)", said.out)
    assert limit is not None
    assert len(world.tree.asked) <= int(limit[1])
    assert json.loads(call("--json").out)["transitions"] == stored()["transitions"]


def test_answers_cached_are_used_and_fresh_ignores_them(call: Call, world: World) -> None:
    (world.folder / "matrices" / "all.toml").write_text(
        world.matrix.read_text().replace('["1.4.15", "latest"]', '["all"]').replace('"construct", ', "")
    )
    assert world.call("run", "matrices/all.toml", "--cache", str(world.cache)).status == 1
    world.tree.asked.clear()
    said = call()
    assert sorted(world.tree.asked) == sorted(NAME.format(version) for version in (VERSIONS[0], VERSIONS[-1]))
    assert "cached in runs/small" in said.out
    assert "there is no other transition" in said.out
    world.tree.asked.clear()
    call("--fresh")
    assert len(world.tree.asked) > 6
    world.tree.asked.clear()
    assert "transition 2: 1.4.11 → 1.4.12" in call("--cached-only").out
    assert world.tree.asked == []


def test_an_end_that_changes_its_mind_ends_the_search_with_status_3(call: Call, world: World) -> None:
    def waver(cell: Cell) -> None:
        if cell.release == VERSIONS[-1] and cell.id in world.tree.asked:
            world.tree.failing[cell.id] = FAILED

    world.tree.before_each = waver
    said = call()
    assert said.status == 3
    assert "The search stopped" in said.out
    assert stored()["inconsistent"] == [VERSIONS[-1]]
    assert stored()["transitions"] == []


def test_a_release_that_does_not_install_is_skipped(call: Call, world: World) -> None:
    lock = world.folder / "matrices" / "releases.lock.toml"
    lines = lock.read_text().split("\n")
    at = lines.index('version = "1.4.7"')
    lines[at + 2] = f'sha256 = "{"0" * 64}"'
    lock.write_text("\n".join(lines))
    said = call("--exhaustive")
    assert said.status == 0
    assert "transition 1: 1.4.6 → 1.4.8" in said.out
    assert "skipped 1.4.7: it cannot be installed" in said.out


def test_good_and_bad_bound_the_search_whichever_is_older(call: Call, world: World) -> None:
    said = call("--good", "1.4.15", "--bad", "1.4.10")
    assert "transition 1: 1.4.11 → 1.4.12" in said.out
    assert "transition 2" not in said.out
    assert not any(name.startswith("1.4.3/") for name in world.tree.asked)


@pytest.mark.parametrize(
    ("options", "asked", "what"),
    [
        (("--good", "1.4.8"), ASKED, "1.4.8 was named good, and it failed"),
        (("--good", "1.4.15", "--bad", "1.4.15"), ASKED, "one release has no transition"),
        (("--good", "9.9"), ASKED, "no such release"),
        ((), (*ASKED[:4], "--check", "losses"), 'no such check: "losses"'),
        ((), (*ASKED[:4], "--check", "finetune"), "leaves open which trainer is meant"),
        ((), ("--check", "loss_contract"), "needs a model"),
        ((), (*ASKED[:3], "wide", *ASKED[4:]), "does not state dimensions"),
        (("--git", "nowhere"), ASKED, "no such folder"),
        (("--note", "runs/none"), ASKED, "--note keeps commits"),
        (("--by", "curve"), ASKED, "--by curve compares losses"),
    ],
)
def test_what_cannot_be_asked_is_one_clear_error(
    call: Call, options: tuple[str, ...], asked: tuple[str, ...], what: str
) -> None:
    said = call(*options, asked=asked)
    assert said.status == 2
    assert what in said.err
    assert "Traceback" not in said.err


def test_the_import_of_a_release_needs_no_model(call: Call) -> None:
    assert "no transition: passed" in call(asked=("--check", "import")).out


def test_the_commits_of_a_transition_are_searched_and_noted_for_a_runs_report(
    call: Call, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = begin(tmp_path / "funasr", "1.4.6")
    history.commit("edit", {"funasr/x.py": "x = 1\n"})
    breaking = history.commit("narrower", {MODEL: BROKEN})
    history.commit("v1.4.7", {"funasr/version.txt": "1.4.7\n"})
    call("--good", "1.4.6", "--bad", "1.4.7")
    broken = {history_label(world, commit, tmp_path) for commit in history.commits[2:]}
    world.tree.failing |= {NAME.format(label): FAILED for label in broken}
    monkeypatch.setattr(bisect, "executed_files", lambda *_: (MODEL,))
    assert world.run().status == 0
    said = call("--good", "1.4.6", "--bad", "1.4.7", "--git", str(history.folder), "--note", "runs/small")
    assert f"commit {breaking[:12]} by A. Author" in said.out
    assert "-width = 8404" in said.out
    (transition,) = stored()["transitions"]
    assert [one["commit"]["hash"] for one in transition["commits"]["culprits"]] == [breaking]
    (note,) = json.loads(Path("runs/small/commits.json").read_text())["commits"]
    assert (note["commit"], note["files"]) == (breaking, [MODEL])


def history_label(world: World, commit: str, tmp_path: Path) -> str:
    """The label that a commit's checkout has in cell ids."""
    from harness.compare.transitions.commits import lay_out_commit
    from harness.compare.transitions.git import Repository

    return lay_out_commit(Repository.open(tmp_path / "funasr"), commit, tmp_path / "labels" / commit).label
