"""The lock: read with all its problems at once, made from a package index, and never changed silently."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from packaging.version import Version
from release_files import make_index, make_sdist, make_wheel, sha256_of

from harness.core.errors import FetchError, IntegrityError, MatrixError, StoreError
from harness.releases import load_lock, lock

COMMITTED = Path(__file__).parent.parent / "matrices" / "releases.lock.toml"
DAY = datetime.date(2026, 1, 31)
LATER = datetime.date(2026, 2, 28)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose `make_index` pages uv takes for the package index, with an empty cache of its own."""
    monkeypatch.setenv("UV_DEFAULT_INDEX", make_index(tmp_path))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    return tmp_path


def test_the_committed_lock_holds_the_published_releases_and_no_address() -> None:
    releases = load_lock(COMMITTED)
    versions = [Version(release.version) for release in releases]
    assert len(releases) >= 101
    assert versions == sorted(versions)
    assert (releases[0].version, {release.version for release in releases if release.kind == "sdist"}) == (
        "1.0.0",
        {"1.3.4", "1.3.5", "1.3.6", "1.3.7", "1.3.8"},
    )
    assert "://" not in COMMITTED.read_text()


def test_locking_records_every_1_x_release_oldest_first_and_wheels_before_sdists(index: Path) -> None:
    files = [make_wheel(index, "1.10.0"), make_wheel(index, "1.2.0"), make_sdist(index, "1.2.0")]
    files += [make_sdist(index, "1.9.0"), make_wheel(index, "2.0.0"), make_wheel(index, "0.9.0")]
    make_index(index, *files)
    seen: list[str] = []
    change = lock(index / "lock.toml", today=DAY, on_found=lambda release: seen.append(release.version))
    releases = load_lock(index / "lock.toml")
    assert seen == ["1.10.0", "1.9.0", "1.2.0"]
    assert [(release.version, release.kind) for release in releases] == [
        ("1.2.0", "wheel"),
        ("1.9.0", "sdist"),
        ("1.10.0", "wheel"),
    ]
    assert releases == change.added
    assert releases[1].sha256 == sha256_of(files[3])
    assert "made = 2026-01-31" in (index / "lock.toml").read_text()


def test_locking_again_adds_what_is_new_and_says_so(index: Path) -> None:
    path = index / "lock.toml"
    first = make_wheel(index, "1.0.0")
    make_index(index, first)
    lock(path, today=DAY)
    before = path.read_bytes()
    assert lock(path, today=LATER).added == ()
    assert path.read_bytes() == before
    make_index(index, first, make_wheel(index, "1.0.1"))
    change = lock(path, today=LATER)
    assert str(change) == "1 added, 1 unchanged, 0 no longer served\n  + 1.0.1 (wheel)"
    assert [release.version for release in load_lock(path)] == ["1.0.0", "1.0.1"]


def test_a_published_file_that_was_replaced_is_refused_and_nothing_is_written(index: Path) -> None:
    path = index / "lock.toml"
    wheel = make_wheel(index, "1.0.0")
    make_index(index, wheel)
    lock(path, today=DAY)
    before = path.read_bytes()
    old = sha256_of(wheel)
    replaced = make_wheel(index, "1.0.0", more={"funasr/surprise.py": ""})
    make_index(index, replaced, make_wheel(index, "1.0.1"))
    with pytest.raises(IntegrityError) as caught:
        lock(path, today=LATER)
    assert old in str(caught.value)
    assert sha256_of(replaced) in str(caught.value)
    assert path.read_bytes() == before


def test_a_release_that_is_no_longer_served_stays_in_the_lock(index: Path) -> None:
    path = index / "lock.toml"
    first, second = make_wheel(index, "1.0.0"), make_wheel(index, "1.0.1")
    make_index(index, first, second)
    lock(path, today=DAY)
    make_index(index, second)
    assert [release.version for release in lock(path, today=LATER).gone] == ["1.0.0"]
    assert len(load_lock(path)) == 2


def test_a_wheel_that_comes_after_its_sdist_does_not_replace_what_was_locked(index: Path) -> None:
    path = index / "lock.toml"
    sdist = make_sdist(index, "1.0.0")
    make_index(index, sdist)
    lock(path, today=DAY)
    make_index(index, sdist, make_wheel(index, "1.0.0"))
    lock(path, today=LATER)
    assert [release.kind for release in load_lock(path)] == ["sdist"]


def test_an_index_without_funasr_is_an_error_and_not_an_empty_lock(index: Path) -> None:
    with pytest.raises(FetchError, match=r"no 1\.x release"):
        lock(index / "lock.toml", today=DAY)
    assert not (index / "lock.toml").exists()


def test_a_lock_that_cannot_be_written_is_reported(index: Path) -> None:
    make_index(index, make_wheel(index, "1.0.0"))
    (index / "taken").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        lock(index / "taken" / "lock.toml", today=DAY)
    assert lock(index / "absent" / "lock.toml", today=DAY).added


def test_an_index_that_cannot_be_reached_is_reported_without_its_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A port on which nothing listens: the connection is refused at once.
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://name:secret@127.0.0.1:9/simple")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(FetchError, match="cannot be reached") as caught:
        lock(tmp_path / "lock.toml", today=DAY)
    assert "secret" not in str(caught.value)


def test_all_problems_of_a_lock_are_reported_at_once(tmp_path: Path) -> None:
    path = tmp_path / "lock.toml"
    path.write_text(
        'schema = 2\npackage = "funasr"\n'
        '[[release]]\nversion = "1.0.x"\nfilename = "funasr-1.0.x.tar.gz"\nsha256 = "00"\nkind = "sdist"\n'
        f'[[release]]\nversion = "1.0.1"\nfilename = "../1.0.1.whl"\nsha256 = "{"a" * 64}"\nkind = "wheel"\n'
        '[[release]]\nversion = "1.0.2"\nfile = "x"\nkind = "egg"\n'
    )
    with pytest.raises(MatrixError) as caught:
        load_lock(path)
    told = "\n".join(caught.value.problems)
    for part in (
        "schema: expected 1, found 2",
        "made: expected a date",
        '"1.0.x" is no version',
        "[[release]] #1 sha256: expected 64",
        "[[release]] #2 filename",
        "[[release]] #3 file: unknown key",
        "[[release]] #3 sha256: missing",
    ):
        assert part in told


def test_a_release_that_is_locked_twice_is_reported(tmp_path: Path) -> None:
    entry = f'[[release]]\nversion = "1.0.1"\nfilename = "funasr-1.0.1.tar.gz"\nsha256 = "{"a" * 64}"\nkind = "sdist"\n'
    path = tmp_path / "lock.toml"
    path.write_text('schema = 1\npackage = "funasr"\nmade = 2026-01-31\n' + entry * 2)
    with pytest.raises(MatrixError, match=r'"1\.0\.1" is there 2 times'):
        load_lock(path)


@pytest.mark.parametrize("content", [b"", b"schema = ", b"\xff", b"release = 3", b"[[release]]"])
def test_what_is_no_lock_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "lock.toml"
    path.write_bytes(content)
    with pytest.raises(MatrixError):
        load_lock(path)
