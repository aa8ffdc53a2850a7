"""The index of the releases' code: it covers the lock, and says of a release's lines what the release has."""

from __future__ import annotations

import ast
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.config.built_in import LOCK_NAME, built_in_folder
from harness.core.cells import Frame
from harness.explain.index_maker import make_index
from harness.explain.release_index import FILE, ReleaseIndex, load_index
from harness.releases import load_lock

OLD = '''\
"""A module."""


class Model:
    """A class."""

    def forward(self, x):
        """Does it."""
        y = x + 1
        return y


def other():
    return 2
'''
REFORMATTED = OLD.replace("x + 1", "(x + 1)").replace('"""Does it."""', '"""Does it,\n        in other words."""')
CHANGED = OLD.replace("x + 1", "x + 2")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> ReleaseIndex:
    """Three releases of one file."""
    room = tmp_path_factory.mktemp("index")
    overlays = {}
    for version, text in (("1.0.0", OLD), ("1.0.1", REFORMATTED), ("1.0.2", CHANGED)):
        (room / version / "funasr").mkdir(parents=True)
        (room / version / "funasr" / "model.py").write_text(text, encoding="utf-8")
        overlays[version] = room / version
    path = room / "index.xz"
    path.write_bytes(make_index(overlays))
    return load_index(path)


def frame(line: int, code: str, function: str = "forward") -> Frame:
    return Frame(file="funasr/model.py", line=line, function=function, code=code)


def test_a_frame_is_of_the_releases_that_have_its_line_and_code(small: ReleaseIndex) -> None:
    assert small.versions(small.showing(frame(9, "y = x + 1"))) == ("1.0.0",)
    assert small.versions(small.showing(frame(10, "return y"))) == ("1.0.0", "1.0.2")
    assert small.versions(small.showing(frame(9, "y = x + 3"))) == ()
    assert small.versions(small.showing(frame(9, ""))) == ("1.0.0", "1.0.1", "1.0.2")
    assert small.versions(small.showing(frame(99, ""))) == ()


def test_layout_and_docstrings_change_no_function(small: ReleaseIndex) -> None:
    groups = small.same_code(frame(9, "y = x + 1"), small.all_bits)
    assert sorted(map(small.versions, groups.values())) == [("1.0.0", "1.0.1"), ("1.0.2",)]


def test_a_line_is_found_wherever_it_is(small: ReleaseIndex) -> None:
    (one,) = small.having("    return 2")
    assert (one.file, one.name, small.versions(one.releases)) == ("funasr/model.py", "other", small.releases)


def test_a_class_is_reported_by_its_line(small: ReleaseIndex) -> None:
    assert small.with_class("funasr/model.py", "Model", 4) == small.all_bits
    assert small.with_class("funasr/model.py", "Model", 5) == 0


def test_every_locked_release_is_in_the_index() -> None:
    locked = tuple(one.version for one in load_lock(built_in_folder() / LOCK_NAME))
    assert load_index().releases == locked, "nox -s index"


def test_the_index_is_small_and_has_no_code() -> None:
    assert FILE.stat().st_size < 500_000
    assert b"def forward" not in lzma.decompress(FILE.read_bytes())


@pytest.mark.release
@pytest.mark.parametrize("version", ["1.0.6", "1.4.16"])
def test_the_lines_of_a_release_are_in_the_index(version: str, layout: Callable[[str], Path]) -> None:
    index, overlay = load_index(), layout(version)
    path = "funasr/train_utils/trainer.py"
    source = (overlay / path).read_text("utf-8")
    calls = [node.lineno for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    for line in calls:
        code = source.split("\n")[line - 1]
        assert index.bit(version) & index.showing(Frame(file=path, line=line, function="x", code=code))
