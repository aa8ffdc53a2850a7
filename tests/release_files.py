"""Small FunASR wheels, sdists and checkouts, and a package index in a folder for uv to ask: no network."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from harness.core.cells import Release

# A build backend that needs nothing installed, so that uv can build the sdist without an index.
_BACKEND = """
import zipfile

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    name = "funasr-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel_directory + "/" + name, "w") as archive:
        archive.write("funasr/__init__.py")
        for file, text in {files!r}.items():
            archive.writestr(file, text)
    return name
"""
_PYPROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'


def metadata_files(version: str) -> dict[str, str]:
    folder = f"funasr-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: funasr\nVersion: {version}\nRequires-Dist: scipy>=1.4.1\n"
    wheel = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    return {f"{folder}/METADATA": metadata, f"{folder}/WHEEL": wheel, f"{folder}/RECORD": ""}


def make_wheel(folder: Path, version: str, *, more: Mapping[str, str] | None = None, package: bool = True) -> Path:
    """A wheel that `import funasr` works with; `more` adds entries or replaces them."""
    files = metadata_files(version) | dict(more or {})
    if package:
        files.setdefault("funasr/__init__.py", f'__version__ = "{version}"\n')
    path = folder / f"funasr-{version}-py3-none-any.whl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in sorted(files.items()):
            # A fixed time: the same content has to give the same hash.
            archive.writestr(zipfile.ZipInfo(name), text)
    return path


def make_sdist(folder: Path, version: str) -> Path:
    """An sdist that uv can build without fetching anything."""
    files = {
        "PKG-INFO": f"Metadata-Version: 2.1\nName: funasr\nVersion: {version}\n",
        "pyproject.toml": _PYPROJECT,
        "backend.py": _BACKEND.format(version=version, files=metadata_files(version)),
        "funasr/__init__.py": f'__version__ = "{version}"\n',
    }
    path = folder / f"funasr-{version}.tar.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"funasr-{version}/{name}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return path


def make_checkout(folder: Path, version: str) -> Path:
    """A folder with what counts of a checkout, and some of what does not."""
    (folder / "funasr" / "models").mkdir(parents=True)
    (folder / "funasr" / "__init__.py").write_text("")
    (folder / "funasr" / "version.txt").write_text(f"{version}\n")
    (folder / "funasr" / "models" / "model.py").write_text("width = 320\n")
    (folder / "setup.py").write_text(
        'requirements = {"install": ["scipy>=1.4.1", "jieba"], "train": ["editdistance"]}\n'
    )
    (folder / "README.md").write_text("not part of a release\n")
    return folder


def make_index(folder: Path, *files: Path) -> str:
    """A simple index (PEP 503) over files that lie here, as the address that uv is to be told."""
    page = folder / "simple" / "funasr" / "index.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    links = [f'<a href="{file.as_uri()}#sha256={sha256_of(file)}">{file.name}</a>' for file in files]
    page.write_text("<!DOCTYPE html><html><body>" + "<br>".join(links) + "</body></html>")
    return (folder / "simple").as_uri()


def published(file: Path, *, sha256: str = "") -> Release:
    """The file as a lock would name it."""
    version = file.name.removeprefix("funasr-").removesuffix(".tar.gz").removesuffix("-py3-none-any.whl")
    kind = "wheel" if file.suffix == ".whl" else "sdist"
    sha256 = sha256 or sha256_of(file)
    return Release(label=version, version=version, kind=kind, filename=file.name, sha256=sha256)


def sha256_of(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
