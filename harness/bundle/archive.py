"""The bundle as a file: parts as tar.xz, alike from the same content, in a zip that Python runs."""

from __future__ import annotations

import hashlib
import io
import lzma
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from harness.bundle import manifest
from harness.bundle.manifest import Manifest, Part
from harness.core.durable import replace_file, storage_error

_STARTER = Path(__file__).parent / "bootstrap.py"
_LONG_AGO = (1980, 1, 1, 0, 0, 0)

_PRESET = 2
"""Of xz. Low, because packing is most of the time that a bundle takes, and its size is far below what it may be."""


def pack(folders: Mapping[str, Path]) -> bytes:
    """One part: each folder's files under its name, compressed.

    Sorted and without times or owners, so that the same files give the same bytes.
    """
    packed = io.BytesIO()
    # Files that are alike lie near one another, and six releases differ in little: most of it is one dictionary.
    with (
        lzma.open(packed, "wb", preset=_PRESET) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, folder in sorted(folders.items()):
            for file in sorted(folder.rglob("*"), key=_alike):
                if file.is_file() and "__pycache__" not in file.parts:
                    _add(archive, f"{name}/{file.relative_to(folder).as_posix()}", file)
    return packed.getvalue()


def _alike(file: Path) -> tuple[str, str]:
    return file.name, str(file)


def _add(archive: tarfile.TarFile, name: str, file: Path) -> None:
    content = file.read_bytes()
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o644
    archive.addfile(entry, io.BytesIO(content))


def part_of(content: bytes) -> Part:
    """What the manifest says of a part."""
    return Part(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))


def write_bundle(path: Path, told: Manifest, parts: Mapping[str, bytes]) -> str:
    """Write the bundle whole or not at all; returns its sha256.

    Raises:
        StoreError: it cannot be written.
    """
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as bundle:
        texts = {"__main__.py": _STARTER.read_text("utf-8"), manifest.NAME: told.text()}
        for name, text in texts.items():
            bundle.writestr(zipfile.ZipInfo(name, _LONG_AGO), text.encode(), zipfile.ZIP_DEFLATED)
        for name, content in sorted(parts.items()):
            bundle.writestr(zipfile.ZipInfo(name, _LONG_AGO), content, zipfile.ZIP_STORED)
    content = written.getvalue()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, content)
    except OSError as error:
        raise storage_error(error, path, "written") from error
    return hashlib.sha256(content).hexdigest()
