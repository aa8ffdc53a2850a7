"""Bundles without weight: a starter with a stand-in for the harness, and libraries of one line."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from harness.bundle import archive
from harness.bundle.archive import Library, Manifest

HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"
PLATFORM = f"{platform.machine()}-manylinux_2_17"

STAND_IN = """
import json, os, sys
from pathlib import Path

def main(root, given):
    folders = os.environ["FUNASR_HARNESS_LIBRARIES"]
    seen = {"only": given.only, "libraries": folders, "there": sys.path[-1], "root": root}
    Path(given.output).write_text(json.dumps(seen))
    return 7
"""
"""What the starter hands over to, in the harness's place."""

MANIFEST = Manifest(
    matrix="small",
    matrix_file="small.toml",
    matrix_sha256="0" * 64,
    python=HERE,
    platform=PLATFORM,
    cells=("1.4.16/paraformer/v8404-h320/reduced/construct/cpu-fp32",),
    selection=("*",),
    left_out={"import": "it is large"},
    releases=("1.4.16",),
    libraries={
        "nowhere": Library(version="1.0", modules=("nowhere_else",)),
        "packaging": Library(version="26.3", modules=("packaging",)),
    },
    harness_version="1",
    harness_commit="abc",
    harness_dirty=False,
    parts={},
)


@dataclass(frozen=True, kw_only=True)
class Said:
    """What a bundle left behind."""

    status: int
    out: str
    err: str


def make_bundle(folder: Path, **changed: object) -> Path:
    """A bundle whose harness is `STAND_IN`, with some of its manifest changed."""
    code = folder / "content" / "code" / "harness"
    (code / "commands").mkdir(parents=True)
    (code / "__init__.py").write_text("")
    (code / "commands" / "__init__.py").write_text("")
    (code / "commands" / "bundle_host.py").write_text(STAND_IN)
    library = folder / "content" / "libraries" / "nowhere" / "site-packages"
    library.mkdir(parents=True)
    (library / "nowhere_else.py").write_text("found = True\n")
    parts = {
        "harness.tar.xz": archive.pack({"code": folder / "content" / "code"}),
        "libraries.tar.xz": archive.pack({"libraries": folder / "content" / "libraries"}),
    }
    stated = {name: archive.part_of(content) for name, content in parts.items()}
    path = folder / "small.pyz"
    archive.write_bundle(path, replace(MANIFEST, **{"parts": stated, **changed}), parts)  # type: ignore[arg-type]
    return path


def start(bundle: Path, *arguments: str, python: str | Path = sys.executable) -> Said:
    """Run a bundle as a user does."""
    done = subprocess.run(
        [str(python), str(bundle), *arguments], capture_output=True, text=True, cwd=bundle.parent, check=False
    )
    return Said(status=done.returncode, out=done.stdout, err=done.stderr)


def seen(path: Path) -> dict[str, object]:
    """What the stand-in was called with."""
    return dict(json.loads(path.read_text()))
