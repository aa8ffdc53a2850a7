"""Which commit a published release was made from, and a commit laid out as a checkout."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from harness.compare.transitions.git import Repository, Unreadable
from harness.core.cells import Release
from harness.core.errors import ReleaseError
from harness.releases.local import PACKAGE, read_local

VERSION_FILE = f"{PACKAGE}/version.txt"
"""Where FunASR's setup.py reads the version that it builds."""
PARTS = (PACKAGE, "setup.py", "pyproject.toml")
"""What a checkout needs to be a release."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The commit that is nearest to a published release."""

    commit: str
    differing: tuple[str, ...]
    """Python files of the release that the commit has not, or has with another content."""
    candidates: int
    """How many commits carry the release's version."""

    def __str__(self) -> str:
        many = len(self.differing)
        exact = "the same code" if not many else "1 Python file differs" if many == 1 else f"{many} Python files differ"
        others = f"the nearest of {self.candidates} commits" if self.candidates > 1 else "the only commit"
        return f"{self.commit[:12]} ({exact}; {others} of this version)"


def origin_of(repository: Repository, version: str, layout: Path) -> Origin | None:
    """The commit whose Python files are nearest to a laid out release's; None where no commit states its version.

    Only commits that carry the version are compared: those along the first parents of HEAD, or else of any branch,
    and those that a tag names. Of several with equal distance it is the oldest.
    """
    published = {
        path.relative_to(layout).as_posix(): _blob(path.read_bytes()) for path in layout.glob(f"{PACKAGE}/**/*.py")
    }
    candidates = tuple(dict.fromkeys(_carrying(repository, version)))
    nearest: tuple[tuple[int, int], str, tuple[str, ...]] | None = None
    for candidate in candidates:
        files_of_commit = {
            name: blob for name, blob in repository.files(candidate, PACKAGE).items() if name.endswith(".py")
        }
        differing = tuple(sorted(name for name, blob in published.items() if files_of_commit.get(name) != blob))
        # Folders without an __init__.py are in the tree and not in the wheel, so what is missing only decides ties.
        distance = (len(differing), len(files_of_commit.keys() - published.keys()))
        if nearest is None or distance < nearest[0]:
            nearest = (distance, candidate, differing)
    if nearest is None:
        return None
    return Origin(commit=nearest[1], differing=nearest[2], candidates=len(candidates))


def _carrying(repository: Repository, version: str) -> Iterator[str]:
    """Commits that state a version, oldest first."""
    changes = repository.first_parents("HEAD", VERSION_FILE)
    stated_versions = _stated_versions(repository, changes)
    code = repository.first_parents("HEAD", PACKAGE)
    place = {commit: number for number, commit in enumerate(code)}
    any_commit = False
    for number, commit in enumerate(changes):
        if stated_versions[commit] == version:
            any_commit = True
            following = changes[number + 1] if number + 1 < len(changes) else None
            yield from code[place[commit] : place[following] if following else len(code)]
    for tag in (f"refs/tags/v{version}", f"refs/tags/{version}"):
        if tagged := repository.resolve(tag):
            any_commit = True
            yield tagged
    if not any_commit:
        other_branches = tuple(reversed(repository.anywhere(VERSION_FILE)))
        versions = _stated_versions(repository, other_branches)
        yield from (commit for commit in other_branches if versions[commit] == version)


def _stated_versions(repository: Repository, commits: Sequence[str]) -> dict[str, str]:
    """The version that each commit states; empty where it states none."""
    blobs = {commit: repository.files(commit, VERSION_FILE).get(VERSION_FILE) for commit in commits}
    try:
        texts = repository.contents([blob for blob in blobs.values() if blob])
    except Unreadable:
        return dict.fromkeys(commits, "")
    return {commit: texts[blob].decode("utf-8", "replace").strip() if blob else "" for commit, blob in blobs.items()}


def lay_out_commit(repository: Repository, commit: str, folder: Path) -> Release:
    """Write what counts of a commit into a folder of ours, and read it as a local release.

    Raises:
        ReleaseError: the commit holds no FunASR that can be laid out, or some of it is not in the repository.
    """
    files = repository.files(commit, *PARTS)
    try:
        contents = repository.contents(tuple(files.values()))
    except Unreadable as error:
        raise ReleaseError(f"commit {commit[:12]} cannot be laid out", cause=str(error)) from error
    for name, blob in files.items():
        if ".." in PurePosixPath(name).parts:
            raise ReleaseError(f"commit {commit[:12]} cannot be laid out", cause=f"its file {name!r} leads out of it")
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(contents[blob])
    return read_local(folder)


def _blob(content: bytes) -> str:
    """The name that git gives to a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
