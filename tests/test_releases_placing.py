"""A release that was installed on one machine and is placed on another."""

from __future__ import annotations

from pathlib import Path

import pytest
from release_files import make_wheel, published

from harness.core.errors import FetchError
from harness.releases import fetch, install_path
from harness.releases.placing import is_placed, packed_release, place_release


def test_a_release_is_placed_as_it_was_installed(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    release = published(make_wheel(here / "files", "1.4.16"))
    fetch([release], here, jobs=1)
    assert is_placed(release, here)
    assert not is_placed(release, there)
    content = packed_release(release, here)
    for _ in range(2):  # a second process of the node may be as fast
        place_release(release, content, there)
    assert is_placed(release, there)
    one, two = install_path(release, here), install_path(release, there)
    files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(two) for path in two.rglob("*") if path.is_file())
    assert all((one / name).read_bytes() == (two / name).read_bytes() for name in files)


def test_a_placed_release_that_was_changed_since_is_placed_again(tmp_path: Path) -> None:
    release = published(make_wheel(tmp_path / "files", "1.4.16"))
    fetch([release], tmp_path, jobs=1)
    content = packed_release(release, tmp_path)
    file = next(path for path in install_path(release, tmp_path).rglob("*.py"))
    file.chmod(0o644)
    file.write_text("changed = True\n")
    assert not is_placed(release, tmp_path)
    place_release(release, content, tmp_path)
    assert is_placed(release, tmp_path)
    assert file.read_text() != "changed = True\n"


def test_what_is_no_release_is_refused(tmp_path: Path) -> None:
    release = published(make_wheel(tmp_path / "files", "1.4.16"))
    with pytest.raises(FetchError, match="cannot be unpacked"):
        place_release(release, b"no archive", tmp_path)
    assert not install_path(release, tmp_path).exists()
