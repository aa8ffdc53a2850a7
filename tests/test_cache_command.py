"""`cache`: what the cache holds and how it is freed, never what a living process uses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from release_files import make_wheel

from harness.cli import main
from harness.core.cells import Release
from harness.releases import fetch, holdings, install_path
from harness.releases.local import read_local
from harness.releases.manifest import manifest_path

ROOT = Path(__file__).parent.parent
OLD = time.time() - 40 * 86400


def age(path: Path) -> None:
    os.utime(path, (OLD, OLD))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def releases(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> list[Release]:
    """Three, of which the first two were last used 40 days ago; no process uses any."""
    monkeypatch.setattr(holdings, "_own", {})
    found = [read_local(make_wheel(tmp_path, f"1.0.{number}")) for number in range(3)]
    fetch(found, cache, jobs=1)
    holdings.let_go()
    for release in found[:2]:
        age(manifest_path(install_path(release, cache)))
    return found


def call(cache: Path, capsys: pytest.CaptureFixture[str], *words: str) -> list[tuple[str, str]]:
    """The kind and name of each entry that the command prints."""
    capsys.readouterr()
    assert main(["cache", "--cache", str(cache), "--json", *words]) == 0
    entries = json.loads(capsys.readouterr().out)["entries"]
    return sorted((one["kind"], one["name"]) for one in entries)


def test_it_shows_each_release_with_size_and_age_and_removes_nothing(
    cache: Path, releases: list[Release], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(cache, capsys) == [("release", release.label) for release in releases]
    assert main(["cache", "--cache", str(cache)]) == 0
    shown = capsys.readouterr().out
    assert [line.split()[-1] for line in shown.splitlines() if line.startswith("release")].count("40") == 2
    assert all(install_path(release, cache).is_dir() for release in releases)


def test_it_frees_what_was_not_used_for_so_long_but_for_what_is_to_be_kept(
    cache: Path, releases: list[Release], capsys: pytest.CaptureFixture[str]
) -> None:
    names = [release.label for release in releases]
    assert call(cache, capsys, "--older-than", "30", "--keep", "1.0.1*") == [("release", names[0])]
    assert [install_path(release, cache).is_dir() for release in releases] == [False, True, True]
    assert not manifest_path(install_path(releases[0], cache)).exists()
    # what was removed is installed again when it is needed, and using it makes it young
    fetch(releases, cache, jobs=1)
    assert call(cache, capsys, "--older-than", "30") == []


def test_what_a_living_process_uses_stays(
    cache: Path, releases: list[Release], capsys: pytest.CaptureFixture[str]
) -> None:
    (cache / "models" / "small").mkdir(parents=True)
    age(cache / "models" / "small")
    used = install_path(releases[0], cache).name
    program = (
        "import sys, time; from pathlib import Path; from harness.releases.holdings import hold\n"
        f"hold(Path({str(cache)!r}), [{used!r}]); print('holds', flush=True); time.sleep(600)"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    user = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=env)
    try:
        assert user.stdout is not None
        assert user.stdout.readline() == "holds\n"
        assert call(cache, capsys, "--older-than", "30") == [("release", releases[1].label)]
        assert install_path(releases[0], cache).is_dir()
        assert (cache / "models" / "small").is_dir()
    finally:
        user.kill()
        user.communicate()
    assert call(cache, capsys, "--older-than", "30") == [("model folder", "small"), ("release", releases[0].label)]
    assert {path.name for path in (cache / "users").iterdir()} == {"gate"}


def test_bytecode_goes_with_its_release_and_when_its_sources_are_gone(
    cache: Path, tmp_path: Path, releases: list[Release], capsys: pytest.CaptureFixture[str]
) -> None:
    place, there = install_path(releases[0], cache), tmp_path / "libraries"
    there.mkdir()
    sources = {"of a release": place, "gone": tmp_path / "gone", "there": there}
    codes = {name: cache / "bytecode" / source.relative_to("/") for name, source in sources.items()}
    for code in codes.values():
        code.mkdir(parents=True)
        (code / "module.pyc").write_bytes(b"x" * 100)
    freed = call(cache, capsys, "--older-than", "30")
    assert ("bytecode of what is gone", str(sources["gone"])) in freed
    assert {name for name, code in codes.items() if code.exists()} == {"there"}


def test_an_empty_cache_and_a_number_that_is_none(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(cache, capsys) == call(cache, capsys, "--older-than", "0") == []
    for text in ("-1", "many", "nan", "inf"):
        with pytest.raises(SystemExit) as ended:
            main(["cache", "--older-than", text])
        assert ended.value.code == 2
