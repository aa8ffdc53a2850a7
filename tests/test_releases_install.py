"""Laying releases out: verified first, whole or not at all, whoever is killed and whoever else is at it."""

from __future__ import annotations

import errno
import importlib.metadata
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from release_files import make_checkout, make_index, make_sdist, make_wheel, published

from harness.core.cells import Release
from harness.core.errors import FetchError, IntegrityError, ReleaseError, StoreError
from harness.releases import default_cache, fetch, holdings, install_path, package_index
from harness.releases import install as layout_module
from harness.releases.local import read_local

WRONG = "0" * 64


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the harness, and one of uv; the index is in `tmp_path` and empty."""
    monkeypatch.setenv("UV_DEFAULT_INDEX", make_index(tmp_path))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    return tmp_path / "cache"


def locked_and_served(folder: Path, *files: Path) -> list[Release]:
    make_index(folder, *files)
    return [published(file) for file in files]


def rooms(cache: Path) -> list[Path]:
    return [path for path in (cache / "making").iterdir() if path.is_dir()]


def assert_whole(release: Release, cache: Path) -> None:
    place = install_path(release, cache)
    assert (place / "funasr" / "__init__.py").is_file()
    metadata = next(iter(importlib.metadata.distributions(name="funasr", path=[str(place)])))
    assert metadata.version == release.version
    assert "scipy>=1.4.1" in (metadata.requires or [])


def test_published_wheels_and_sdists_are_installed_with_their_metadata(tmp_path: Path, cache: Path) -> None:
    releases = locked_and_served(tmp_path, make_wheel(tmp_path, "1.0.0"), make_sdist(tmp_path, "1.3.4"))
    done: list[Release] = []
    fetch(releases, cache, jobs=2, on_done=done.append)
    assert sorted(done, key=lambda release: release.label) == releases
    for release in releases:
        assert_whole(release, cache)
        assert sorted(path.name for path in install_path(release, cache).iterdir()) == [
            "funasr",
            f"funasr-{release.version}.dist-info",
        ]
    assert rooms(cache) == []


def test_local_files_and_checkouts_are_installed_like_published_ones(tmp_path: Path, cache: Path) -> None:
    locals_ = [make_wheel(tmp_path, "1.0.0"), make_sdist(tmp_path, "1.0.1"), make_checkout(tmp_path / "co", "1.0.2")]
    releases = [read_local(path) for path in locals_]
    fetch(releases, cache, jobs=2)
    for release in releases:
        assert_whole(release, cache)
    copied = install_path(releases[2], cache)
    assert sorted(path.name for path in copied.iterdir()) == ["funasr", "funasr-1.0.2.dist-info"]
    (tmp_path / "co" / "funasr" / "models" / "model.py").write_text("edited\n")
    assert (copied / "funasr" / "models" / "model.py").read_text() == "width = 320\n"


def test_what_is_installed_already_is_not_touched_and_nothing_is_fetched(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    releases = locked_and_served(tmp_path, make_wheel(tmp_path, "1.0.0"))
    fetch(releases, cache, jobs=2)
    monkeypatch.setattr(package_index, "_find_uv", lambda: "/nowhere/uv")
    monkeypatch.setattr(layout_module, "working_folder", None)
    done: list[Release] = []
    fetch([*releases, *releases], cache, jobs=2, on_done=done.append)
    assert done == releases


@pytest.mark.parametrize("make", [make_wheel, make_sdist])
def test_a_file_whose_hash_differs_is_refused_before_anything_is_installed(
    tmp_path: Path, cache: Path, make: type
) -> None:
    served = make(tmp_path, "1.0.0")
    make_index(tmp_path, served)
    planted = published(served, sha256=WRONG)
    with pytest.raises(IntegrityError) as caught:
        fetch([planted], cache, jobs=1)
    for part in ("release 1.0.0", WRONG, published(served).sha256, "next:"):
        assert part in str(caught.value)
    assert not install_path(planted, cache).exists()


def test_a_file_that_was_brought_along_is_used_without_an_index_and_checked_all_the_same(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(package_index, "_find_uv", lambda: "/nowhere/uv")
    (cache / "files").mkdir(parents=True)
    good, bad = make_wheel(tmp_path, "1.0.0"), make_wheel(tmp_path, "1.0.1")
    for wheel in (good, bad):
        shutil.copy(wheel, cache / "files")
    fetch([published(good)], cache, jobs=1)
    assert_whole(published(good), cache)
    with pytest.raises(IntegrityError, match="is not the file that was locked"):
        fetch([published(bad, sha256=WRONG)], cache, jobs=1)


def test_a_local_file_or_checkout_that_changed_after_it_was_read_is_refused(tmp_path: Path, cache: Path) -> None:
    wheel, root = make_wheel(tmp_path, "1.0.0"), make_checkout(tmp_path / "co", "1.0.1")
    releases = [read_local(wheel), read_local(root)]
    make_wheel(tmp_path, "1.0.0", more={"funasr/new.py": ""})
    (root / "funasr" / "new.py").write_text("")
    with pytest.raises(IntegrityError):
        fetch(releases[:1], cache, jobs=1)
    with pytest.raises(ReleaseError, match="has changed"):
        fetch(releases[1:], cache, jobs=1)
    wheel.unlink()
    with pytest.raises(ReleaseError, match="has changed"):
        fetch(releases[:1], cache, jobs=1)


def test_a_release_that_the_index_does_not_serve_is_reported_by_name(tmp_path: Path, cache: Path) -> None:
    wheel = make_wheel(tmp_path, "1.0.0")
    with pytest.raises(FetchError, match=r"cannot fetch release 1\.0\.0"):
        fetch([published(wheel)], cache, jobs=1)


def test_a_wheel_without_funasr_in_it_is_not_installed(tmp_path: Path, cache: Path) -> None:
    (release,) = locked_and_served(tmp_path, make_wheel(tmp_path, "1.0.0", package=False, more={"other.py": ""}))
    with pytest.raises(FetchError, match="has no funasr package"):
        fetch([release], cache, jobs=1)
    assert not install_path(release, cache).exists()


def test_one_failure_leaves_what_was_done_before_it(tmp_path: Path, cache: Path) -> None:
    good, bad = make_wheel(tmp_path, "1.0.0"), make_wheel(tmp_path, "1.0.1")
    make_index(tmp_path, good, bad)
    with pytest.raises(IntegrityError):
        fetch([published(good), published(bad, sha256=WRONG)], cache, jobs=1)
    assert_whole(published(good), cache)
    assert rooms(cache) == []


KILLED = {
    "while unpacking": ("local.unpack_wheel", "(target / 'funasr').mkdir(); (target / 'funasr/__init__.py').touch()"),
    "before moving": ("install.move_into_place", "pass"),
}
CHILD = """
    import sys
    from pathlib import Path
    from harness.releases import install, local
    from harness.releases.local import read_local

    kept = {name}

    def stop(file, target):
        {deed}
        print("here", flush=True)
        sys.stdin.readline()
        kept(file, target)

    {name} = stop
    install.fetch([read_local(Path(sys.argv[1]))], Path(sys.argv[2]), jobs=1)
    print("done", flush=True)
"""


@pytest.fixture(params=sorted(KILLED))
def stopped(request: pytest.FixtureRequest, tmp_path: Path, cache: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that stands still in the middle of laying out `1.0.0` until it is told to go on."""
    name, deed = KILLED[request.param]
    code = textwrap.dedent(CHILD).format(name=name, deed=deed)
    wheel = make_wheel(tmp_path, "1.0.0")
    command = [sys.executable, "-c", code, str(wheel), str(cache)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        yield process
        process.kill()


def test_a_half_layout_left_by_a_kill_is_not_taken_for_whole_and_is_cleaned_away(
    stopped: subprocess.Popen[str], tmp_path: Path, cache: Path
) -> None:
    release = read_local(tmp_path / "funasr-1.0.0-py3-none-any.whl")
    stopped.send_signal(signal.SIGKILL)
    stopped.wait()
    (left,) = rooms(cache)
    assert list(left.rglob("__init__.py"))
    assert not install_path(release, cache).exists()
    fetch([release], cache, jobs=1)
    assert_whole(release, cache)
    assert rooms(cache) == []


def test_two_processes_at_the_same_release_do_not_disturb_each_other(
    stopped: subprocess.Popen[str], tmp_path: Path, cache: Path
) -> None:
    release = read_local(tmp_path / "funasr-1.0.0-py3-none-any.whl")
    fetch([release], cache, jobs=1)
    assert_whole(release, cache)
    # The living one's half layout was not swept away, and it finds in the end that the place is taken.
    assert len(rooms(cache)) == 1
    out, _ = stopped.communicate("go on\n")
    assert (out, stopped.returncode) == ("done\n", 0)
    assert_whole(release, cache)
    assert rooms(cache) == []


def test_what_a_kill_left_before_its_owner_took_the_lock_is_cleaned_away(tmp_path: Path, cache: Path) -> None:
    (cache / "making" / "tmpabc" / "half").mkdir(parents=True)
    fetch([read_local(make_wheel(tmp_path, "1.0.0"))], cache, jobs=1)
    assert rooms(cache) == []


def test_a_full_disk_is_reported_and_leaves_nothing_that_looks_whole(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    release = read_local(make_wheel(tmp_path, "1.0.0"))
    monkeypatch.setattr(layout_module.local, "unpack_wheel", full)
    with pytest.raises(StoreError, match="the disk is full"):
        fetch([release], cache, jobs=1)
    assert not install_path(release, cache).exists()
    assert rooms(cache) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB, where this user may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("may not mount a tmpfs here")
    yield place
    holdings.let_go()
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("through_uv", [False, True])
def test_a_disk_that_is_really_full_is_reported(
    tmp_path: Path, cache: Path, small_disk: Path, through_uv: bool
) -> None:
    wheel = make_wheel(tmp_path, "1.0.0", more={"funasr/long.py": "width = 320\n" * 20_000})
    (release,) = locked_and_served(tmp_path, wheel) if through_uv else [read_local(wheel)]
    with pytest.raises(StoreError, match="the disk is full"):
        fetch([release], small_disk, jobs=1)
    assert not install_path(release, small_disk).exists()


def test_a_cache_that_is_a_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        fetch([read_local(make_wheel(tmp_path, "1.0.0"))], tmp_path / "cache", jobs=1)


def test_a_broken_uv_is_reported_with_its_last_words_and_without_addresses(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "uv-that-is-broken"
    broken.write_text("#!/bin/sh\necho 'panicked at https://name:secret@index/x' >&2\nexit 101\n")
    broken.chmod(0o755)
    monkeypatch.setattr(package_index, "_find_uv", lambda: str(broken))
    (release,) = locked_and_served(tmp_path, make_wheel(tmp_path, "1.0.0"))
    with pytest.raises(FetchError, match="panicked at <address>") as caught:
        fetch([release], cache, jobs=1)
    assert "secret" not in str(caught.value)
    monkeypatch.setattr(package_index, "_find_uv", lambda: str(tmp_path / "absent"))
    with pytest.raises(FetchError, match="uv cannot be started"):
        fetch([release], cache, jobs=1)


def test_threads_ask_for_uv_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    inside, together = threading.Semaphore(1), []

    def find_uv_bin() -> str:
        alone = inside.acquire(blocking=False)
        together.append(not alone)
        time.sleep(0.01)
        if alone:
            inside.release()
        return "uv"

    monkeypatch.setattr(package_index.importlib, "import_module", lambda _: SimpleNamespace(find_uv_bin=find_uv_bin))
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: package_index._find_uv(), range(8))) == ["uv"] * 8
    assert not any(together)


def test_a_uv_that_is_not_there_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(package_index.importlib, "import_module", absent)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FetchError, match="pip install uv"):
        package_index._find_uv()


def test_the_cache_is_where_the_user_says_or_in_the_xdg_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FUNASR_HARNESS_CACHE", str(tmp_path))
    assert default_cache() == tmp_path
    monkeypatch.delenv("FUNASR_HARNESS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "funasr-harness"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache() == tmp_path / ".cache" / "funasr-harness"
