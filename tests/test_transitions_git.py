"""A repository is read with git, never written to, and what cannot be read is one clear error."""

from __future__ import annotations

from pathlib import Path

import pytest
from git_history import MODEL, OTHER, SOUND, History, begin

from harness.compare.transitions import git as module
from harness.compare.transitions.commits import lay_out_commit, origin_of
from harness.compare.transitions.git import Repository, Unreadable
from harness.core.errors import InputError, ReleaseError


@pytest.fixture
def history(tmp_path: Path) -> History:
    return begin(tmp_path / "clone")


def laid_out(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return folder


def everything(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {str(p): (p.stat().st_mtime_ns, p.read_bytes()) for p in sorted(folder.rglob("*")) if p.is_file()}


def test_without_git_there_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.shutil, "which", lambda _: None)
    with pytest.raises(InputError, match="the program git was not found") as told:
        Repository.open(tmp_path)
    assert "install git" in told.value.next_step


def test_a_folder_without_a_history_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no git repository"):
        Repository.open(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        Repository.open(tmp_path / "none")


def test_what_a_commit_tells(history: History) -> None:
    history.commit("a subject\n\nmore words\nof it", {MODEL: "width = 1\n"})
    told = Repository.open(history.folder).commit("HEAD")
    assert (told.hash, told.parents) == (history.commits[1], (history.commits[0],))
    assert (told.author, told.date) == ("A. Author", "2024-03-02T12:00:00+08:00")
    assert (told.subject, told.body) == ("a subject", "more words\nof it")


def test_a_diff_is_restricted_to_the_files_that_are_asked(history: History) -> None:
    history.commit("both", {MODEL: "width = 1\n", OTHER: "x = 1\n"})
    repository = Repository.open(history.folder)
    assert repository.changed(*history.commits) == (MODEL, OTHER)
    diff = repository.diff(*history.commits, [MODEL])
    assert "+width = 1" in diff
    assert "x = 1" not in diff
    assert repository.diff(*history.commits, []) == ""


def test_a_bare_repository_serves_as_well(history: History, tmp_path: Path) -> None:
    history.git("clone", "-q", "--bare", str(history.folder), str(tmp_path / "bare"))
    assert MODEL in Repository.open(tmp_path / "bare").files("HEAD", "funasr")


def test_nothing_is_written_into_the_users_checkout(history: History, tmp_path: Path) -> None:
    (history.folder / MODEL).write_text("edited, and not committed\n")
    before = everything(history.folder)
    repository = Repository.open(history.folder)
    lay_out_commit(repository, history.commits[0], tmp_path / "laid")
    repository.diff(history.commits[0], "HEAD", [MODEL])
    origin_of(repository, "1.0.0", tmp_path / "laid")
    assert everything(history.folder) == before
    assert (tmp_path / "laid" / MODEL).read_text() == SOUND


def test_a_commit_is_installed_with_what_counts_of_it(history: History, tmp_path: Path) -> None:
    release = lay_out_commit(Repository.open(history.folder), history.commits[0], tmp_path / "laid")
    assert (release.version, release.kind) == ("1.0.0", "checkout")
    assert not (tmp_path / "laid" / "README.md").exists()


def test_a_commit_that_holds_no_release_is_an_error_that_says_so(history: History, tmp_path: Path) -> None:
    commit = history.commit("gone", {"funasr/__init__.py": None})
    with pytest.raises(ReleaseError, match="not a FunASR release"):
        lay_out_commit(Repository.open(history.folder), commit, tmp_path / "laid")


def test_content_that_is_not_in_the_repository_is_no_empty_file(history: History) -> None:
    with pytest.raises(Unreadable, match="is not in the repository"):
        Repository.open(history.folder).contents(["1" * 40])


def test_a_release_is_mapped_to_the_commit_with_the_same_code(history: History, tmp_path: Path) -> None:
    history.commit("the release", {MODEL: "width = 2\n"})
    wanted = history.commit("later, of the same version", {OTHER: "x = 3\n"})
    history.commit("v1.0.1", {"funasr/version.txt": "1.0.1\n", MODEL: "width = 9\n"})
    layout = laid_out(tmp_path / "laid", {"funasr/__init__.py": "", MODEL: "width = 2\n", OTHER: "x = 3\n"})
    origin = origin_of(Repository.open(history.folder), "1.0.0", layout)
    assert origin is not None
    assert (origin.commit, origin.differing, origin.candidates) == (wanted, (), 3)
    assert "the same code" in str(origin)


def test_where_no_commit_has_the_same_code_the_nearest_is_named_with_the_files_that_differ(
    history: History, tmp_path: Path
) -> None:
    history.commit("near", {MODEL: "width = 2\n"})
    layout = laid_out(tmp_path / "laid", {"funasr/__init__.py": "", MODEL: "width = 2\n", OTHER: "never committed\n"})
    origin = origin_of(Repository.open(history.folder), "1.0.0", layout)
    assert origin is not None
    assert (origin.commit, origin.differing) == (history.commits[1], (OTHER,))
    assert "1 Python file differs" in str(origin)


def test_a_version_off_the_main_branch_is_found_by_its_tag(history: History, tmp_path: Path) -> None:
    history.git("checkout", "-q", "-b", "side")
    tagged = history.commit("v0.9", {"funasr/version.txt": "0.9.0\n"})
    history.git("tag", "v0.9.0")
    history.git("checkout", "-q", "main")
    layout = laid_out(tmp_path / "laid", {"funasr/__init__.py": "", MODEL: SOUND, OTHER: "x = 0\n"})
    origin = origin_of(Repository.open(history.folder), "0.9.0", layout)
    assert origin is not None
    assert origin.commit == tagged
    assert origin_of(Repository.open(history.folder), "7.7.7", layout) is None
