"""Wheels, sdists and checkouts of the user's: read without running them, refused when they are broken."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import pytest
from release_files import make_checkout, make_sdist, make_wheel, sha256_of

from harness.core.errors import ReleaseError
from harness.releases.local import declared_requirements, read_local, unpack_wheel


@pytest.mark.parametrize("make", [make_wheel, make_sdist])
def test_a_file_is_named_after_its_version_and_hash(tmp_path: Path, make: type) -> None:
    path = make(tmp_path, "1.4.17")
    release = read_local(path)
    assert release.label == f"1.4.17+local.{sha256_of(path)[:8]}"
    assert (release.version, release.filename, release.sha256) == ("1.4.17", path.name, sha256_of(path))


def test_the_label_of_a_checkout_changes_with_what_counts_of_it_only(tmp_path: Path) -> None:
    root = make_checkout(tmp_path / "co", "1.4.17")
    before = read_local(root)
    assert (before.kind, before.version, before.filename) == ("checkout", "1.4.17", "co")
    (root / "README.md").write_text("other words\n")
    (root / "funasr" / "__pycache__").mkdir()
    (root / "funasr" / "__pycache__" / "x.pyc").write_text("")
    assert read_local(root) == before
    (root / "funasr" / "models" / "model.py").write_text("width = 512\n")
    after = read_local(root)
    assert after.label != before.label
    (root / "setup.py").write_text('requirements = {"install": []}\n')
    assert read_local(root).label not in (before.label, after.label)


def test_what_a_checkout_requires_is_read_without_running_it(tmp_path: Path) -> None:
    root = make_checkout(tmp_path, "1.4.17")
    with (root / "setup.py").open("a") as file:
        file.write("raise SystemExit('this ran')\n")
    assert declared_requirements(root) == ["scipy>=1.4.1", "jieba"]
    (root / "pyproject.toml").write_text('[project]\nname = "funasr"\ndependencies = ["numpy"]\n')
    assert declared_requirements(root) == ["numpy"]
    (root / "pyproject.toml").write_text("[project\n")
    with pytest.raises(ReleaseError, match="cannot be read"):
        read_local(root)


@pytest.mark.parametrize("name", ["../evil.py", "/evil.py", "funasr/../../evil.py", "..\\evil.py"])
def test_an_entry_that_leads_out_of_the_folder_is_refused_before_anything_is_unpacked(
    tmp_path: Path, name: str
) -> None:
    wheel = make_wheel(tmp_path / "in", "1.0.0", more={name: "evil"})
    with pytest.raises(ReleaseError, match="leads out of the folder"):
        read_local(wheel)
    target = tmp_path / "out" / "there"
    with pytest.raises(ReleaseError, match="leads out of the folder"):
        unpack_wheel(wheel, target)
    assert not target.exists()
    assert not list(tmp_path.rglob("*evil.py"))


def test_a_link_in_a_wheel_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "1.0.0")
    link = zipfile.ZipInfo("funasr/link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr(link, "/etc")
    with pytest.raises(ReleaseError, match="leads out of the folder"):
        read_local(wheel)


def test_a_wheel_of_something_else_is_refused(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "1.0.0", package=False, more={"other/__init__.py": ""})
    with pytest.raises(ReleaseError, match=r"there is no funasr/__init__\.py in it"):
        read_local(wheel)


@pytest.mark.parametrize("name", ["funasr-1.0.0-py3-none-any.whl", "funasr-1.0.0.tar.gz"])
@pytest.mark.parametrize("content", [b"", b"<html>404</html>"])
def test_a_file_that_only_has_the_right_name_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ReleaseError, match="not a FunASR release"):
        read_local(path)


@pytest.mark.parametrize("make", [make_wheel, make_sdist])
def test_a_file_that_was_cut_short_is_refused(tmp_path: Path, make: type) -> None:
    path = make(tmp_path, "1.0.0")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ReleaseError, match="not a FunASR release"):
        read_local(path)


def test_a_wheel_with_a_damaged_entry_is_refused_when_it_is_unpacked(tmp_path: Path) -> None:
    path = make_wheel(tmp_path, "1.0.0", more={"funasr/long.py": "width = 320\n" * 9})
    path.write_bytes(path.read_bytes().replace(b"width = 320\n", b"width = 512\n"))
    with pytest.raises(ReleaseError, match="not a whole wheel"):
        unpack_wheel(path, tmp_path / "out")


def test_what_is_not_there_or_no_release_is_reported_with_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="no such release"):
        read_local(tmp_path / "absent.whl")
    with pytest.raises(ReleaseError, match=r"there is no funasr/__init__\.py"):
        read_local(tmp_path)
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(ReleaseError, match="neither a wheel"):
        read_local(tmp_path / "notes.txt")
    package = make_checkout(tmp_path / "co", "1.0.0") / "funasr"
    with pytest.raises(ReleaseError, match="give the folder above"):
        read_local(package)
    (package / "version.txt").write_text("next\n")
    with pytest.raises(ReleaseError, match="which is none"):
        read_local(package.parent)
