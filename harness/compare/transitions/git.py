"""A git repository, read and never written to: `git` is called with a list of arguments, and only its reading commands.

Nothing is checked out, so that a bare repository serves as well and the user's files stay as they are.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import InputError

_REGULAR = ("100644", "100755")
"""Modes of files; links and submodules are nothing that a release is made of."""


@dataclass(frozen=True, kw_only=True)
class Commit:
    """One commit, as its author describes it."""

    hash: str
    parents: tuple[str, ...]
    author: str
    date: str
    """The author's, ISO 8601 with the time zone."""
    subject: str
    body: str
    """The message without its first line."""

    @property
    def short(self) -> str:
        """Twelve digits, which are one commit's alone in any history of FunASR's size."""
        return self.hash[:12]


class Unreadable(Exception):
    """What a commit should hold is not in the repository, as in a partial clone."""


@dataclass(frozen=True, kw_only=True)
class Repository:
    """A checkout or a bare repository."""

    path: Path
    program: str

    @classmethod
    def open(cls, path: Path) -> Repository:
        """The repository at `path`.

        Raises:
            InputError: there is no `git`, or nothing that it can read.
        """
        program = shutil.which("git")
        if program is None:
            raise InputError(
                "the program git was not found",
                cause="--git reads a history with it, and it is not on the path",
                next_step="install git, or leave out --git",
            )
        repository = cls(path=path.expanduser().absolute(), program=program)
        if not repository.path.is_dir():
            raise InputError(f"no such folder: {path}", next_step="give the path of a checkout of FunASR, bare or not")
        answer = repository._call("rev-parse", "--verify", "--quiet", "HEAD^{commit}")
        if answer.returncode:
            message = _error_text(answer)
            raise InputError(
                f"{path} is no git repository that can be read" + (f": {message}" if message else ""),
                cause="it is no checkout, has no commit, or belongs to another user",
                next_step="give the path of a checkout of FunASR, bare or not",
            )
        return repository

    def first_parents(self, tip: str, *paths: str, base: str | None = None) -> tuple[str, ...]:
        """The commits from after `base` up to `tip` along first parents, oldest first.

        Args:
            tip: The last of them.
            paths: Only commits that change something here, against their first parent.
            base: Left out: from the beginning.
        """
        range_ = f"{base}..{tip}" if base else tip
        return tuple(self._text("rev-list", "--first-parent", "--reverse", range_, "--", *paths).split())

    def anywhere(self, path: str) -> tuple[str, ...]:
        """All commits of any branch that change a file."""
        return tuple(self._text("rev-list", "--all", "--", path).split())

    def resolve(self, name: str) -> str | None:
        """The commit that a name means; None if it means none."""
        answer = self._call("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
        return None if answer.returncode else answer.stdout.decode().strip()

    def is_ancestor(self, older: str, newer: str) -> bool:
        """Whether `newer` descends from `older`, or is it."""
        return self._call("merge-base", "--is-ancestor", older, newer).returncode == 0

    def merge_base(self, first: str, second: str) -> str | None:
        """The newest commit that both descend from; None if there is none."""
        answer = self._call("merge-base", first, second)
        return None if answer.returncode else answer.stdout.decode().split()[0]

    def commit(self, name: str) -> Commit:
        """What is shown of a commit."""
        form = "--format=%H%x00%P%x00%an%x00%aI%x00%s%x00%b"
        text = self._text("show", "--no-patch", "--no-show-signature", form, name)
        hash_, parents, author, date, subject, body = text.split("\0", 5)
        return Commit(
            hash=hash_, parents=tuple(parents.split()), author=author, date=date, subject=subject, body=body.strip()
        )

    def files(self, commit: str, *paths: str) -> dict[str, str]:
        """The files of a commit and the hash of each one's content."""
        listed = self._run("ls-tree", "-r", "-z", "--full-tree", commit, "--", *paths).decode(
            "utf-8", "surrogateescape"
        )
        hashes = {}
        for entry in listed.split("\0")[:-1]:
            head, _, name = entry.partition("\t")
            mode, _, content = head.split()
            if mode in _REGULAR:
                hashes[name] = content
        return hashes

    def contents(self, hashes: Sequence[str]) -> dict[str, bytes]:
        """The contents of some hashes, or of names such as `COMMIT:FILE`.

        Raises:
            Unreadable: one of them is not there.
        """
        objects = list(dict.fromkeys(hashes))
        output = self._run("cat-file", "--batch", stdin="".join(f"{object_name}\n" for object_name in objects).encode())
        contents: dict[str, bytes] = {}
        offset = 0
        for object_name in objects:
            end = output.index(b"\n", offset)
            head = output[offset:end].split()
            if len(head) != 3:
                raise Unreadable(f"{object_name} is not in the repository")
            size = int(head[2])
            contents[object_name] = output[end + 1 : end + 1 + size]
            offset = end + 1 + size + 1
        return contents

    def diff(self, older: str, newer: str, paths: Sequence[str]) -> str:
        """What `newer` changed against `older` in some files, as a unified diff; renamed files are named as such."""
        if not paths:
            return ""
        options = ("--no-color", "--no-ext-diff", "--no-textconv", "--find-renames", "--unified=2")
        return self._text("diff", *options, older, newer, "--", *paths)

    def changed(self, older: str, newer: str, *paths: str) -> tuple[str, ...]:
        """The files that differ between two commits."""
        names = self._text("diff", "--name-only", "-z", "--no-renames", older, newer, "--", *paths)
        return tuple(name for name in names.split("\0") if name)

    def _text(self, *arguments: str) -> str:
        return self._run(*arguments).decode("utf-8", "replace")

    def _run(self, *arguments: str, stdin: bytes = b"") -> bytes:
        answer = self._call(*arguments, stdin=stdin)
        if answer.returncode:
            raise InputError(
                f"git {arguments[0]} failed in {self.path}: {_error_text(answer)}",
                cause="the history is cut short or damaged",
                next_step="give a whole clone: git fetch --unshallow, or clone it again",
            )
        return answer.stdout

    def _call(self, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [self.program, "-C", str(self.path), "--no-optional-locks", "--literal-pathspecs", *arguments],
            input=stdin,
            capture_output=True,
            env=_environment(os.environ),
            check=False,
        )


def _environment(env: Mapping[str, str]) -> dict[str, str]:
    """Git's own, so that no variable leads it to another repository, a pager, a prompt or the network."""
    inherited = {
        name: value for name, value in env.items() if not name.startswith("GIT_") or name == "GIT_CONFIG_GLOBAL"
    }
    return {**inherited, "GIT_NO_LAZY_FETCH": "1", "GIT_TERMINAL_PROMPT": "0", "GIT_PAGER": "cat", "LC_ALL": "C"}


def _error_text(answer: subprocess.CompletedProcess[bytes]) -> str:
    lines = answer.stderr.decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else ""
