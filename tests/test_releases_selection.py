"""From what a person writes to the releases that are meant."""

from __future__ import annotations

from pathlib import Path

import pytest
from release_files import make_checkout, make_wheel

from harness.core.cells import Release
from harness.core.errors import ReleaseError
from harness.releases import resolve

LOCKED = tuple(
    Release(label=version, version=version, kind="wheel", filename=f"funasr-{version}.whl", sha256="0" * 64)
    for version in ("1.0.9", "1.0.12", "1.0.30", "1.1.0", "1.4.2", "1.4.16", "1.5.0rc1")
)


@pytest.mark.parametrize(
    ("spec", "meant"),
    [
        ("1.4.2", ["1.4.2"]),
        (" 1.4.2 ", ["1.4.2"]),
        ("1.1", ["1.1.0"]),
        (">=1.0.12,<1.1", ["1.0.12", "1.0.30"]),
        ("==1.4.*", ["1.4.2", "1.4.16"]),
        ("!=1.4.2,>=1.4", ["1.4.16"]),
        ("latest", ["1.4.16"]),
        ("all", [release.version for release in LOCKED]),
    ],
)
def test_releases_are_found_oldest_first(spec: str, meant: list[str]) -> None:
    assert [release.label for release in resolve(spec, LOCKED)] == meant


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("1.0.13", "the nearest are 1.0.9, 1.0.12, 1.0.30, 1.1.0"),
        ("1.4.99", "1.4.16"),
        (">=1.2,<1.4", "1.0.30, 1.1.0, 1.4.2, 1.4.16"),
        ("==1.2.*", "the nearest are"),
        (">9", "1.4.16"),
        ("lates", "did you mean latest"),
        ("1.4.l6", "1.4.16"),
        ("=>1.0", "expected a version, a specifier"),
        ("", "no release is named"),
    ],
)
def test_what_matches_nothing_is_reported_with_the_nearest(spec: str, told: str) -> None:
    with pytest.raises(ReleaseError) as caught:
        resolve(spec, LOCKED)
    assert told in str(caught.value)


def test_an_empty_lock_is_reported() -> None:
    with pytest.raises(ReleaseError, match="the lock holds no release"):
        resolve("latest", ())


def test_a_file_and_a_folder_are_releases_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_checkout(tmp_path / "mine", "1.4.17")
    wheel = make_wheel(tmp_path, "1.4.18")
    monkeypatch.chdir(tmp_path)
    assert resolve("mine", LOCKED)[0].kind == "checkout"
    assert resolve("./mine", ())[0].kind == "checkout"
    assert resolve(wheel.name, ())[0].version == "1.4.18"
    assert resolve(str(wheel), ())[0].path == wheel


def test_a_folder_named_like_a_locked_release_does_not_hide_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_checkout(tmp_path / "1.4.2", "1.4.2")
    monkeypatch.chdir(tmp_path)
    assert resolve("1.4.2", LOCKED)[0].path is None
