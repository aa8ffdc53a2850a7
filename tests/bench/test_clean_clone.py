"""What a newcomer types first, in a clean clone with an empty cache of the harness and a warm one of packages."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from scoreboard import Board, Figure
from whole_commands import TimedCommand, timed_command

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.bench, pytest.mark.goal]

_ANOTHER_ENVIRONMENTS = ("PYTHON", "VIRTUAL_ENV", "NOX", "PYTEST", "FUNASR_HARNESS", "COVERAGE")
"""How variables begin that would reach into the clone from here."""


@dataclass(frozen=True, kw_only=True)
class CleanClone:
    """A clone of the present commit with a Python of its own."""

    folder: Path

    @property
    def place(self) -> Path:
        """Where the clone is."""
        return self.folder / "clone"

    def shell(self, line: str) -> TimedCommand:
        """Type a line of the README in it."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_ANOTHER_ENVIRONMENTS)}
        env = {
            **kept,
            "PATH": f"{self.folder / 'python' / 'bin'}{os.pathsep}{kept['PATH']}",
            "FUNASR_HARNESS_CACHE": str(self.folder / "cache"),
        }
        return timed_command(["bash", "-c", line], cwd=self.place, env=env)


@pytest.fixture
def clone(tmp_path: Path) -> CleanClone:
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(tmp_path / "clone")], check=True)
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "python")], check=True)
    return CleanClone(folder=tmp_path)


def readme_line(session: str) -> str:
    """The README's line that starts a session of nox."""
    text = (ROOT / "README.md").read_text("utf-8")
    (line,) = {line.strip() for line in text.splitlines() if line.strip().endswith(f"&& nox -s {session}")}
    return line


def fill_package_cache(clone: CleanClone, session: str) -> None:
    """Install once what the session needs, and throw the environment away: the packages are then in uv's cache."""
    clone.shell(f"python -m pip install --quiet nox uv && nox -s {session} --install-only").require(0)
    clone.shell("rm -rf .nox && python -m pip uninstall --yes --quiet nox uv").require(0)


def test_the_first_command_of_the_readme(clone: CleanClone, board: Board) -> None:
    line = readme_line("gpu_regression")
    fill_package_cache(clone, "gpu_regression")
    timed = clone.shell(line)
    timed.require(0)
    cells = re.findall(r"^gpu: (\d+) cells", timed.output, re.MULTILINE)
    board.add(
        Figure(
            what="the README's first command in a clean clone",
            value=timed.seconds / 60,
            unit="min",
            at_most=4,
            measured={
                **timed.measured(f"`{line}`; packages in the caches of pip and uv, the harness's cache empty"),
                "cells": cells[-1] if cells else "not printed",
            },
        )
    )


def test_all_the_tests(clone: CleanClone, board: Board) -> None:
    line = readme_line("tests")
    fill_package_cache(clone, "tests")
    timed = clone.shell(line)
    timed.require(0)
    (counts,) = re.findall(r"=+ (\d+ passed.*?) in [\d.]+s", timed.output)[-1:]
    board.add(
        Figure(
            what="all tests in a clean clone",
            value=timed.seconds / 60,
            unit="min",
            at_most=6,
            measured={
                **timed.measured(f"`{line}`, with installation; packages in the caches, the harness's cache empty"),
                "tests": counts,
            },
        )
    )
