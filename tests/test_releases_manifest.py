"""An installed release that was changed since is found before it is used, and installed again."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from release_files import make_wheel

from harness.core.cells import Release
from harness.releases import fetch, install_path, manifest
from harness.releases.local import read_local

SOUND = '__version__ = "1.0.0"\n'


def make_fifo(place: Path) -> None:
    (place / "funasr/__init__.py").unlink()
    os.mkfifo(place / "funasr/__init__.py")


def make_link(place: Path) -> None:
    (place / "funasr/__init__.py").rename(place.parent / "moved.py")
    (place / "funasr/__init__.py").symlink_to(place.parent / "moved.py")


def write_as_long(place: Path) -> None:
    """The same size and the same time, in a file of its own."""
    file = place / "funasr/__init__.py"
    seen = file.stat()
    file.unlink()
    file.write_text(SOUND.replace("1", "2"))
    os.utime(file, ns=(seen.st_atime_ns, seen.st_mtime_ns))


CHANGES: dict[str, Callable[[Path], object]] = {
    "edited": lambda place: (place / "funasr/__init__.py").write_text("planted = True\n"),
    "as long as before": write_as_long,
    "a file added": lambda place: (place / "funasr/sitecustomize.py").write_text("planted = True\n"),
    "bytecode added": lambda place: (place / "torch.pyc").write_bytes(b"planted"),
    "a file removed": lambda place: (place / "funasr/__init__.py").unlink(),
    "a fifo": make_fifo,
    "a link": make_link,
}


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def release(tmp_path: Path, cache: Path) -> Release:
    found = read_local(make_wheel(tmp_path, "1.0.0"))
    fetch([found], cache, jobs=1)
    # A change within the same tick of the file system's clock and of the same length cannot be seen.
    time.sleep(0.05)
    return found


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_installed_again_and_the_user_is_reported(
    release: Release, cache: Path, change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place = install_path(release, cache)
    CHANGES[change](place)
    fetch([release], cache, jobs=1)
    assert "the installed copy of release 1.0.0" in " ".join(capsys.readouterr().err.split())
    assert (place / "funasr/__init__.py").read_text() == SOUND
    assert manifest.changes(place) == []
    assert {path.name for path in (cache / "making").iterdir()} == {"gate"}


def test_installed_files_are_read_only(release: Release, cache: Path) -> None:
    files = [path for path in install_path(release, cache).rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o444}


def test_a_copy_that_was_moved_or_restored_is_sound_and_compared_by_hash_once(release: Release, cache: Path) -> None:
    place = install_path(release, cache)
    shutil.copytree(place, cache / "copy")
    shutil.rmtree(place)
    (cache / "copy").rename(place)
    before = manifest.manifest_path(place).read_text()
    assert manifest.changes(place) == []
    assert manifest.manifest_path(place).read_text() != before
    # times alone are no change either
    os.utime(place / "funasr/__init__.py", ns=(0, 0))
    assert manifest.changes(place) == []


@pytest.mark.parametrize("damage", [None, "", "{", "[" * 100_000, '{"schema": 1, "files": {"a": 1}}', '{"schema": 0}'])
def test_a_copy_without_a_list_is_compared_with_what_its_wheel_states(
    tmp_path: Path, cache: Path, damage: str | None
) -> None:
    digest = "sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"
    stated = f"funasr/empty.py,{digest},0\nfunasr/gone.py,{digest},0\n../../bin/funasr,{digest},0\nx\n"
    more = {"funasr/empty.py": "", "funasr-1.0.0.dist-info/RECORD": stated}
    release = read_local(make_wheel(tmp_path, "1.0.0", more=more))
    fetch([release], cache, jobs=1)
    place = install_path(release, cache)
    path = manifest.manifest_path(place)

    def lose_list() -> None:
        path.unlink()
        if damage is not None:
            path.write_text(damage)

    lose_list()
    assert manifest.changes(place) == []
    assert manifest.changes(place) == []
    lose_list()
    (place / "funasr/empty.py").chmod(0o644)
    (place / "funasr/empty.py").write_text("planted = True\n")
    assert manifest.changes(place) == ["funasr/empty.py"]
