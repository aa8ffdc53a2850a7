"""From a transition between two releases to the commit: a planted break, an unbuildable commit, a merge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from git_history import BROKEN, MODEL, OTHER, SOUND, UNBUILDABLE, History, begin
from transitions_scene import asked

from harness.compare.transitions.cell_answer import CellAnswer
from harness.compare.transitions.commit_search import CommitBisector
from harness.compare.transitions.commit_search import History as Commits
from harness.compare.transitions.find import Transition, TransitionSide
from harness.compare.transitions.format import render_history
from harness.compare.transitions.git import Repository
from harness.compare.transitions.search_space import Candidate
from harness.compare.transitions.storing import commit_notes
from harness.config.matrix import Matrix
from harness.core.cells import Cell, Failure, Outcome, Release, Status
from harness.releases import install_path
from harness.releases.local import read_local
from harness.run.runner import CellRunner

SIGNATURE = "AssertionError@funasr/models/model.py:forward"
GOOD, BAD = CellAnswer(status=Status.PASSED), CellAnswer(status=Status.FAILED, signature=SIGNATURE)


@dataclass
class FileRunner:
    """Stands in for the cell runner: a cell's outcome is read from the one file that the plants change."""

    cache: Path
    asked: list[str] = field(default_factory=list)

    @property
    def settings(self) -> Any:
        return SimpleNamespace(cache=self.cache)

    def run(self, _matrix: object, cells: Sequence[Cell], releases: Mapping[str, Release]) -> dict[Cell, Outcome]:
        return {cell: self._outcome(releases[cell.release], cell) for cell in cells}

    def _outcome(self, release: Release, cell: Cell) -> Outcome:
        self.asked.append(release.label)
        text = (install_path(release, self.cache) / MODEL).read_text()
        if text == SOUND:
            return Outcome(cell=cell, status=Status.PASSED, reason="")
        kind, signature = (
            ("SyntaxError", f"SyntaxError@{MODEL}:<module>")
            if text == UNBUILDABLE
            else (
                "AssertionError",
                SIGNATURE,
            )
        )
        failure = Failure(type=kind, message="planted", signature=signature)
        return Outcome(cell=cell, status=Status.FAILED, reason="planted", failure=failure)


@dataclass
class Scene:
    history: History
    tmp_path: Path

    def release(self, label: str, commit: str) -> Release:
        """What a package index would serve of a commit."""
        folder = self.tmp_path / "published" / label
        self.history.git("worktree", "add", "-q", "--detach", str(folder), commit)
        return read_local(folder)

    def search(self, first: str, last: str) -> tuple[Commits, FileRunner]:
        """Search between the releases that two commits were published as."""
        runner = FileRunner(self.tmp_path / "cache")
        sides = [
            TransitionSide(
                place=Candidate(label=label, cell=None, release=self.release(label, commit)),
                answer=answer,
                observations=(),
            )
            for label, commit, answer in (("1.0.0", first, GOOD), ("1.0.1", last, BAD))
        ]
        descent = CommitBisector(
            repository=Repository.open(self.history.folder),
            runner=cast(CellRunner, runner),
            matrix=cast(Matrix, None),
            asked=asked(),
            folder=self.tmp_path / "laid",
        )
        return descent.between(Transition(before=sides[0], after=sides[1], passed_over=())), runner


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(begin(tmp_path / "clone"), tmp_path)


def edit(number: int) -> dict[str, str | None]:
    return {OTHER: f"x = {number}\n"}


def test_the_breaking_commit_is_named_with_its_author_and_message(scene: Scene) -> None:
    history = scene.history
    for number in range(1, 6):
        history.commit(f"edit {number}", edit(number))
    breaking = history.commit("narrower\n\nbecause", {MODEL: BROKEN, "README.md": "x\n", OTHER: "x = 6\n"})
    for number in range(7, 11):
        history.commit(f"edit {number}", edit(number))
    last = history.commit("v1.0.1", {"funasr/version.txt": "1.0.1\n"})
    found, runner = scene.search(history.commits[0], last)
    (culprit,) = found.culprits
    assert culprit.commit.hash == breaking
    assert (culprit.before, culprit.after) == (GOOD, BAD)
    assert found.problem == ""
    assert len(runner.asked) < 14
    repository = Repository.open(history.folder)
    said = "\n".join(render_history(found, repository, [MODEL]))
    assert f"commit {breaking[:12]} by A. Author, 2024-03-07T12:00:00+08:00: narrower" in said
    assert "because" in said
    assert "changes 3 files, of which 1 ran in this cell" in said
    assert "-width = 8404" in said
    assert "x = 6" not in said
    transition = Transition(
        before=TransitionSide(place=Candidate(label="1.0.0", cell=None), answer=GOOD, observations=()),
        after=TransitionSide(place=Candidate(label="1.0.1", cell=None), answer=BAD, observations=()),
        passed_over=(),
    )
    (note,) = commit_notes("a question", transition, found, repository, [MODEL])
    assert (note.commit, note.files, note.subject) == (breaking, (MODEL,), "narrower")


def test_a_commit_that_cannot_be_imported_or_installed_is_skipped(scene: Scene) -> None:
    history = scene.history
    history.commit("edit 1", edit(1))
    unbuildable = history.commit("does not compile", {MODEL: UNBUILDABLE})
    gone = history.commit("no package", {"funasr/__init__.py": None})
    breaking = history.commit("whole again, and broken", {MODEL: BROKEN, "funasr/__init__.py": ""})
    last = history.commit("v1.0.1", {"funasr/version.txt": "1.0.1\n"})
    found, _ = scene.search(history.commits[0], last)
    (culprit,) = found.culprits
    assert culprit.commit.hash == breaking
    assert culprit.among == (unbuildable, gone)
    said = "\n".join(render_history(found, Repository.open(history.folder), [MODEL]))
    assert "or one of the 2 before it, which cannot be judged" in said
    assert "2 skipped" in said


def test_a_break_that_came_with_a_merge_is_found_on_its_branch(scene: Scene) -> None:
    history = scene.history
    history.git("checkout", "-q", "-b", "side")
    history.commit("on the side", {"funasr/utils/side.py": "y = 1\n"})
    breaking = history.commit("broken on the side", {MODEL: BROKEN})
    history.commit("more on the side", {"funasr/utils/side.py": "y = 2\n"})
    history.git("checkout", "-q", "main")
    history.commit("edit 1", edit(1))
    history.git("merge", "-q", "--no-ff", "-m", "merge side", "side")
    merge = history.git("rev-parse", "HEAD")
    last = history.commit("v1.0.1", {"funasr/version.txt": "1.0.1\n"})
    found, _ = scene.search(history.commits[0], last)
    (culprit,) = found.culprits
    assert culprit.commit.hash == breaking
    assert culprit.branches == (merge,)


def test_a_release_whose_commit_answers_otherwise_is_reported(scene: Scene) -> None:
    history = scene.history
    history.commit("edit 1", edit(1))
    last = history.commit("v1.0.1", {"funasr/version.txt": "1.0.1\n"})
    found, _ = scene.search(history.commits[0], last)
    assert found.culprits == ()
    assert found.problem == f"the commit of the newer release gives passed, the release itself {BAD}"


def test_a_version_that_no_commit_states_is_reported(scene: Scene) -> None:
    history = scene.history
    last = history.commit("v1.0.1", {"funasr/version.txt": "1.0.1\n", MODEL: BROKEN})
    scene_release = scene.release
    releases = {"1.0.0": history.commits[0], "1.0.1": last}

    def renamed(label: str, commit: str) -> Release:
        release = scene_release(label, releases[label])
        return Release(**{**vars(release), "version": "9.9.9"}) if label == "1.0.1" else release

    scene.release = renamed  # type: ignore[method-assign]
    found, _ = scene.search(history.commits[0], last)
    assert found.problem == "no commit of this history states version 1.0.1"
