"""A patch laid over a release."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from release_files import metadata_files

from harness.compare.gate.patching import patched
from harness.core.errors import InputError

if shutil.which("git") is None:
    pytest.skip("git lays the patches", allow_module_level=True)

TEXT = "".join(f"line {number}\n" for number in range(1, 21))
PATCH = """\
--- a/funasr/models/m.py
+++ b/funasr/models/m.py
@@ -3,5 +3,5 @@
 line 3
 line 4
-line 5
+line five
 line 6
 line 7
"""


@pytest.fixture
def install_dir(tmp_path: Path) -> Path:
    files = {"funasr/__init__.py": "", "funasr/version.txt": "1.0.17\n", "funasr/models/m.py": TEXT}
    for name, text in (files | metadata_files("1.0.17")).items():
        path = tmp_path / "layout" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path / "layout"


def lay(install_dir: Path, patch: str) -> tuple[str, Path, tuple[str, ...]]:
    file, folder = install_dir.parent / "the.patch", install_dir.parent / "room" / "copy"
    file.write_text(patch, encoding="utf-8")
    release, outside = patched(install_dir, file, folder)
    return release.label, folder, outside


def test_a_patch_makes_a_release_of_its_own_with_what_the_other_declares(install_dir: Path) -> None:
    label, folder, outside = lay(install_dir, PATCH)
    assert label.startswith("1.0.17+local.")
    assert "line five\n" in (folder / "funasr/models/m.py").read_text()
    assert (install_dir / "funasr/models/m.py").read_text() == TEXT
    assert "scipy>=1.4.1" in (folder / "pyproject.toml").read_text()
    assert outside == ()


def test_hunks_that_have_moved_are_found(install_dir: Path) -> None:
    _, folder, _ = lay(install_dir, PATCH.replace("-3,5 +3,5", "-9,5 +9,5"))
    assert "line five\n" in (folder / "funasr/models/m.py").read_text()


def test_paths_without_prefixes_are_read_too(install_dir: Path) -> None:
    _, folder, _ = lay(install_dir, PATCH.replace("a/funasr", "funasr").replace("b/funasr", "funasr"))
    assert "line five\n" in (folder / "funasr/models/m.py").read_text()


def test_files_that_no_release_ships_are_left_alone_and_told(install_dir: Path) -> None:
    more = "--- a/docs/x.md\n+++ b/docs/x.md\n@@ -1 +1 @@\n-old\n+new\n"
    _, folder, outside = lay(install_dir, PATCH + more)
    assert outside == ("docs/x.md",)
    assert not (folder / "docs").exists()


def test_a_new_file_is_made(install_dir: Path) -> None:
    new = "--- /dev/null\n+++ b/funasr/models/n.py\n@@ -0,0 +1 @@\n+NEW = 1\n"
    _, folder, _ = lay(install_dir, new)
    assert (folder / "funasr/models/n.py").read_text() == "NEW = 1\n"


@pytest.mark.parametrize(
    ("patch", "told"),
    [
        (PATCH.replace("line 4", "line four"), "funasr/models/m.py: patch does not apply"),
        (PATCH.replace("models/m.py", "models/gone.py"), "funasr/models/gone.py: No such file"),
        ("not a patch\n", "the.patch changes nothing in funasr/"),
        (PATCH.replace("funasr/models", "runtime"), "it names runtime/m.py"),
    ],
)
def test_a_patch_that_does_not_fit_is_reported_with_its_place(install_dir: Path, patch: str, told: str) -> None:
    with pytest.raises(InputError) as caught:
        lay(install_dir, patch)
    assert told in str(caught.value)


def test_a_patch_that_is_not_there_is_reported(install_dir: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        patched(install_dir, install_dir / "none.patch", install_dir.parent / "copy")
