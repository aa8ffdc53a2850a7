"""What runs on a host before anything of the harness does, as a user starts it."""

from __future__ import annotations

import ast
import hashlib
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from bundle_scene import HERE, PLATFORM, make_bundle, seen, start

from harness.bundle import archive, bootstrap


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path)


def tamper(bundle: Path, name: str, content: bytes) -> None:
    """Replace one file of a bundle, as a whole zip again."""
    with zipfile.ZipFile(bundle) as there:
        files = {entry: there.read(entry) for entry in there.namelist()}
    with zipfile.ZipFile(bundle, "w") as made:
        for entry, old in files.items():
            made.writestr(entry, content if entry == name else old)


def one_error(err: str) -> str:
    """What was said, which is one error and no traceback."""
    assert err.startswith("error: ")
    assert "Traceback" not in err
    return err


def test_it_hands_over_with_what_the_host_lacks_behind_what_it_has(bundle: Path, tmp_path: Path) -> None:
    said = start(bundle, "run", "-o", "seen.json", "--only", "*/construct/*")
    told = seen(tmp_path / "seen.json")
    assert (said.status, told["only"]) == (7, ["*/construct/*"])
    assert str(told["libraries"]).endswith("libraries/nowhere/site-packages")
    assert told["there"] == told["libraries"]
    assert "used from the bundle: nowhere\n" in said.err
    assert "not in the bundle: the cells of import: it is large" in said.err


def test_what_was_unpacked_for_one_run_is_gone_after_it(bundle: Path, tmp_path: Path) -> None:
    start(bundle, "run", "-o", "seen.json")
    assert not Path(str(seen(tmp_path / "seen.json")["root"])).exists()


def test_a_folder_of_the_users_is_kept_and_used_again(bundle: Path, tmp_path: Path) -> None:
    start(bundle, "run", "-o", "seen.json", "--cache", "kept")
    root = Path(str(seen(tmp_path / "seen.json")["root"]))
    (root / "code" / "mark").write_text("")
    start(bundle, "run", "-o", "seen.json", "--cache", "kept")
    assert (root / "code" / "mark").exists()
    assert root.parent == tmp_path / "kept"


@pytest.mark.parametrize("name", ["harness.tar.xz", "libraries.tar.xz"])
def test_a_part_that_was_changed_is_named_and_nothing_is_unpacked(bundle: Path, tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(bundle) as there:
        content = bytearray(there.read(name))
    content[len(content) // 2] ^= 1
    tamper(bundle, name, bytes(content))
    said = start(bundle, "run", "-o", "seen.json", "--cache", "kept")
    assert said.status == 3
    assert f"{name} is not what it was made with; nothing of it was run" in one_error(said.err)
    assert not list(tmp_path.glob("kept/*"))


def test_bits_that_turned_on_the_way_are_damage_too(bundle: Path) -> None:
    content = bundle.read_bytes()
    place = content.index(b"\xfd7zXZ") + 40
    bundle.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    assert "the bundle is damaged" in one_error(start(bundle, "run").err)


def test_a_manifest_that_is_none_is_damage(bundle: Path) -> None:
    tamper(bundle, "manifest.json", b"[]")
    assert "manifest.json is not what it was made with" in one_error(start(bundle, "run").err)


def test_a_part_that_leads_elsewhere_is_not_unpacked(tmp_path: Path) -> None:
    (tmp_path / "evil").write_text("x")
    content = archive.pack({"../outside": tmp_path})
    with pytest.raises(bootstrap.Refusal, match="damaged"):
        bootstrap.unpack_part(content, str(tmp_path / "in"))
    assert not (tmp_path / "outside").exists()


def test_another_python_is_one_error(tmp_path: Path) -> None:
    said = start(make_bundle(tmp_path, python="3.7"), "run")
    assert said.status == 2
    assert f"this bundle is for Python 3.7, and this is Python {HERE}" in one_error(said.err)


@pytest.mark.parametrize("platform", ["riscv64-manylinux_2_17", PLATFORM.replace("2_17", "2_999"), "what"])
def test_another_platform_is_one_error(tmp_path: Path, platform: str) -> None:
    said = start(make_bundle(tmp_path, platform=platform), "run")
    assert said.status == 2
    assert f"this bundle is for {platform}, and this is linux-" in one_error(said.err)


def test_a_missing_torch_is_one_error(bundle: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "bare", with_pip=False)
    said = start(bundle, "run", python=tmp_path / "bare" / "bin" / "python")
    assert said.status == 3
    assert "has no torch, which the bundle takes from the host" in one_error(said.err)


def test_info_tells_the_hashes_of_the_parts(bundle: Path) -> None:
    with zipfile.ZipFile(bundle) as there:
        sha256 = hashlib.sha256(there.read("harness.tar.xz")).hexdigest()
    said = start(bundle, "info")
    assert said.status == 0
    assert f"sha256 {sha256}" in said.out
    assert "left out: import (it is large)" in said.out


def test_the_same_content_gives_the_same_bundle(tmp_path: Path) -> None:
    one, other = (make_bundle(tmp_path / name).read_bytes() for name in ("one", "other"))
    assert one == other


def test_it_imports_nothing_but_the_standard_library_before_it_hands_over() -> None:
    tree = ast.parse(Path(bootstrap.__file__).read_text("utf-8"))
    modules = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    modules |= {str(node.module) for node in tree.body if isinstance(node, ast.ImportFrom)}
    assert modules <= sys.stdlib_module_names


def test_pythons_too_old_for_it_can_read_it() -> None:
    ast.parse(Path(bootstrap.__file__).read_text("utf-8"), feature_version=(3, 7))
