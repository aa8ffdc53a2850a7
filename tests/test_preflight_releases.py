"""Which release a user means, and what of an installed one was edited."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import sys
from pathlib import Path

import pytest

from harness.core.cells import Release
from harness.core.errors import ReleaseError
from harness.preflight.release.found import find_release, in_a_line
from harness.preflight.release.installed import installed_release
from harness.releases import default_cache

FILES = {
    "funasr/__init__.py": "raise RuntimeError('it was imported')\n",
    "funasr/bin/train.py": "def main(): ...\n",
    "funasr/version.txt": "1.2.7\n",
}


def record_line(name: str, text: str) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(text)}\n"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Site-packages with FunASR as pip installs it, and nothing else on the path."""
    folder = tmp_path / "site-packages"
    info = folder / "funasr-1.2.7.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: funasr\nVersion: 1.2.7\n", encoding="utf-8")
    record = ""
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
        record += record_line(name, text)
    (info / "RECORD").write_text(record, encoding="utf-8")
    (folder / "other.py").write_text("", encoding="utf-8")
    monkeypatch.setattr(sys, "path", [str(folder)])
    return folder


def test_what_is_installed_is_copied_without_an_import(site: Path, tmp_path: Path) -> None:
    found = find_release("installed", locked=(), cache=tmp_path / "cache")
    assert (found.release.label, found.release.version, found.edited) == ("1.2.7", "1.2.7", ())
    copied = {one.relative_to(found.install_dir).as_posix() for one in found.install_dir.rglob("*") if one.is_file()}
    assert copied >= set(FILES)
    assert "other.py" not in copied
    assert found.install_dir.name == f"1.2.7-{found.release.sha256[:16]}"
    assert in_a_line(found) == f"1.2.7, installed in {sys.executable}"
    # By default too, before the newest published.
    assert find_release(None, locked=(), cache=tmp_path / "cache") == found
    assert (site / "funasr").is_dir()


def test_an_edited_installation_is_another_release_and_says_so(site: Path, tmp_path: Path) -> None:
    before = installed_release()
    (site / "funasr/bin/train.py").write_text("def main(): print('mine')\n", encoding="utf-8")
    (site / "funasr/own.py").write_text("", encoding="utf-8")
    (site / "funasr/version.txt").unlink()
    found = find_release("installed", locked=(), cache=tmp_path / "cache")
    assert set(found.edited) == {"funasr/bin/train.py: edited", "funasr/own.py: added", "funasr/version.txt: gone"}
    assert before is not None
    assert found.release.sha256 != before.release.sha256
    assert found.release.label.startswith("1.2.7+local.")
    assert "3 files not as installed" in in_a_line(found)
    assert (found.install_dir / "funasr/own.py").is_file()


def test_an_editable_installation_is_its_checkout(site: Path, tmp_path: Path) -> None:
    checkout = tmp_path / "my checkout"
    for name in FILES:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text(FILES[name].replace("1.2.7", "1.3.0"), encoding="utf-8")
    direct = {"url": f"file://{str(checkout).replace(' ', '%20')}", "dir_info": {"editable": True}}
    (site / "funasr-1.2.7.dist-info/direct_url.json").write_text(json.dumps(direct), encoding="utf-8")
    found = installed_release()
    assert found is not None
    assert (found.release.version, found.release.path) == ("1.3.0", checkout)


def test_another_interpreter_says_where_its_packages_lie(site: Path, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho '{json.dumps([str(site)])}'\n", encoding="utf-8")
    python.chmod(0o755)
    sys.path[:] = []
    assert installed_release() is None
    found = find_release("installed", locked=(), cache=tmp_path / "cache", python=python)
    assert found.how == f"installed in {python}"
    python.write_text("#!/bin/sh\necho no\n", encoding="utf-8")
    with pytest.raises(ReleaseError, match="does not say where"):
        installed_release(python)


def test_where_nothing_is_installed(
    locked: tuple[Release, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(ReleaseError, match="is not installed in"):
        find_release("installed", locked=locked, cache=tmp_path)
    with pytest.raises(ReleaseError, match="means 101 releases"):
        find_release("all", locked=locked, cache=tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "doubt"),
    [
        ("METADATA", None, "its metadata state no version: 1.2.7 is what funasr/version.txt says"),
        ("METADATA", b"", "its metadata state no version"),
        ("METADATA", b"\xff\xfe\x00", "its metadata state no version"),
        ("METADATA", b"Name: funasr\nVersion: banana\n", "its metadata state no version"),
        ("METADATA", b"Name: funasr\nVersion: 1.2.6\n", "say 1.2.6, and funasr/version.txt 1.2.7: two installations"),
        ("RECORD", None, "its RECORD is missing or damaged: edited files cannot be told"),
        ("RECORD", b"funasr/\xff,sha256=x,1\n", "its RECORD is missing or damaged"),
        ("RECORD", b"funasr/__init__.py,sha256=x\x00,1\n", "its RECORD is missing or damaged"),
        ("direct_url.json", b'{"dir_info": [1]}', ""),
        ("direct_url.json", b"[" * 99_999, ""),
    ],
)
def test_damaged_metadata_are_said_and_the_version_is_the_codes(
    site: Path, tmp_path: Path, name: str, content: bytes | None, doubt: str
) -> None:
    path = site / "funasr-1.2.7.dist-info" / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    found = find_release("installed", locked=(), cache=tmp_path / "cache")
    assert found.release.version == "1.2.7"
    assert found.edited == ()
    assert doubt in in_a_line(found)
    assert bool(found.doubts) == bool(doubt)


def test_of_two_installations_over_each_other_the_one_whose_code_is_there_counts(site: Path) -> None:
    other = site / "funasr-1.2.6.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: funasr\nVersion: 1.2.6\n", encoding="utf-8")
    found = installed_release()
    assert found is not None
    assert (found.release.label, found.edited, found.doubts) == ("1.2.7", (), ())


def test_an_installation_without_any_version_or_package_says_what_to_do(site: Path, tmp_path: Path) -> None:
    info = site / "funasr-1.2.7.dist-info"
    (info / "METADATA").unlink()
    (site / "funasr/version.txt").unlink()
    with pytest.raises(ReleaseError, match=r"the version of the FunASR in .* is not known") as raised:
        installed_release()
    assert "pip install --force-reinstall" in str(raised.value)
    shutil.rmtree(site / "funasr")
    with pytest.raises(ReleaseError, match=r"has metadata of funasr, and no funasr/__init__\.py"):
        find_release("installed", locked=(), cache=tmp_path)


def test_a_copy_without_metadata_and_a_checkout_that_is_gone_are_named(site: Path, tmp_path: Path) -> None:
    info = site / "funasr-1.2.7.dist-info"
    direct = {"url": "file:///nowhere/FunASR", "dir_info": {"editable": True}}
    (info / "direct_url.json").write_text(json.dumps(direct), encoding="utf-8")
    with pytest.raises(ReleaseError, match=r"the editable FunASR in .* cannot be read") as raised:
        installed_release()
    assert "/nowhere/FunASR" in str(raised.value)
    shutil.rmtree(info)
    with pytest.raises(ReleaseError, match="without metadata of pip") as raised:
        find_release("installed", locked=(), cache=tmp_path)
    assert f"--release {site}" in str(raised.value)


@pytest.mark.release
def test_the_newest_published_is_the_default(locked: tuple[Release, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.preflight.release.found.installed_release", lambda _: None)
    found = find_release(None, locked=locked, cache=default_cache())
    assert found.release == locked[-1]
    assert found.how == "the newest published"
    assert (found.install_dir / "funasr/__init__.py").is_file()
