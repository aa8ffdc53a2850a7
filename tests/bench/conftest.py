"""What the benchmarks share: how large they are, what they run on, and the board that their figures go to.

They are run by `nox -s bench` alone; any other call of pytest leaves them out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from scoreboard import Board
from sizes import SIZES, Size

from harness.core.cells import Release
from harness.environments.environment import Environment, probe
from harness.releases import default_cache, load_lock

ROOT = Path(__file__).parents[2]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("bench")
    group.addoption("--bench-size", choices=tuple(SIZES), default="full", help="tiny: to try the benchmarks out")
    group.addoption("--bench-reports", type=Path, help="where bench.md and bench.json are written; full size: reports/")
    group.addoption("--bench-cache", type=Path, help="the harness's cache")
    group.addoption("--bench-releases", type=int, help="so many releases in place of the size's; not for reports/")
    group.addoption("--bench-atlas", type=Path, help="read how long the atlas took from this run, made in one go")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave benchmarks out unless `-m` selects them, and those that take minutes unless `-k` names them."""
    # Not by `-m` in addopts: that would be forgotten with the first `-m` of the user's.
    kind = "bench" if "bench" not in config.option.markexpr else "goal" if not config.option.keyword else None
    left_out = [item for item in items if kind and item.get_closest_marker(kind)]
    items[:] = [item for item in items if item not in left_out]
    if left_out:
        config.hook.pytest_deselected(items=left_out)


@pytest.fixture(scope="session")
def size(pytestconfig: pytest.Config) -> Size:
    size = SIZES[pytestconfig.getoption("--bench-size")]
    releases: int | None = pytestconfig.getoption("--bench-releases")
    return replace(size, releases=releases) if releases else size


@pytest.fixture(scope="session")
def harness_cache(pytestconfig: pytest.Config) -> Path:
    """The cache that is measured warm."""
    return (pytestconfig.getoption("--bench-cache") or default_cache()).absolute()


@pytest.fixture(scope="session")
def stack(harness_cache: Path) -> Environment:
    return probe(cache=harness_cache)


@pytest.fixture(scope="session")
def published() -> tuple[Release, ...]:
    """Every published 1.x release, oldest first."""
    return load_lock(ROOT / "matrices" / "releases.lock.toml")


@pytest.fixture(scope="session")
def chosen(published: tuple[Release, ...], size: Size) -> tuple[Release, ...]:
    """The releases that are measured: all, or a few from the newest downwards."""
    if size.releases is None:
        return published
    return tuple(reversed(published[:: -(len(published) // size.releases)][: size.releases]))


@cache
def _board() -> Board:
    return Board()


@pytest.fixture(scope="session")
def board(pytestconfig: pytest.Config, stack: Environment) -> Iterator[Board]:
    """Where a benchmark puts its figures; written when all are done, printed below."""
    board = _board()
    board.torch = stack.torch_version
    board.python = stack.python_version
    yield board
    whole = pytestconfig.getoption("--bench-size") == "full" and not pytestconfig.getoption("--bench-releases")
    place = pytestconfig.getoption("--bench-reports") or (ROOT / "reports" if whole else None)
    if place and board.figures:
        board.write(place)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures."""
    if _board().figures:
        terminalreporter.write_sep("=", "figures")
        terminalreporter.write_line(_board().table())
