"""The bundle as a file: a manifest and parts as tar.xz, in a zip that Python runs; the same content, the same bytes."""

from __future__ import annotations

import hashlib
import io
import json
import lzma
import tarfile
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

from harness.core.durable import write_file
from harness.core.evidence.parsing import parse

SCHEMA = 1
"""Version of the form of a bundle and of the result that it gives."""

MANIFEST_NAME = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class Library:
    """A library that the host may lack."""

    version: str
    modules: tuple[str, ...]
    """What it is known by; a host that has all of them keeps its own."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One packed file of the bundle."""

    sha256: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Everything that is known of a bundle without unpacking it."""

    schema: int = SCHEMA
    matrix: str
    """The matrix's name; its file is `matrices/<name of the file>` in the part `inputs`."""
    matrix_file: str
    matrix_sha256: str
    python: str
    """Such as `3.12`: what the libraries were built for."""
    platform: str
    """As uv names it, such as `x86_64-manylinux_2_28`."""
    cells: tuple[str, ...]
    """Ids of all cells that can be run there, with a GPU or without."""
    selection: tuple[str, ...]
    """The globs that stand for those cells within their matrix."""
    left_out: Mapping[str, str]
    """Checks of the matrix that are not in the bundle, and why."""
    releases: tuple[str, ...]
    libraries: Mapping[str, Library]
    """By the distribution's name."""
    harness_version: str
    harness_commit: str | None
    harness_dirty: bool | None
    parts: Mapping[str, Part]
    """By the name of the file in the bundle."""
    arguments: tuple[str, ...] = ()
    """Of `funasr-harness run`, to run the same where the bundle was made."""

    def to_json(self) -> dict[str, Any]:
        """The record as the bundle holds it."""
        return asdict(self)

    def text(self) -> str:
        """The bytes that its hash is made of, as text."""
        return json.dumps(self.to_json(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote.

        Raises:
            ValueError: it is of another schema, or a field is missing or unknown.
        """
        if not isinstance(data, Mapping):
            raise ValueError("no JSON object")  # noqa: TRY004 - as for everything else that is wrong with it
        if data.get("schema") != SCHEMA:
            raise ValueError(f"bundle of schema {data.get('schema')}, this harness reads {SCHEMA}")
        expected = {field.name for field in fields(cls)}
        data = {"arguments": (), **data}
        if set(data) != expected:
            raise ValueError(f"fields missing or unknown: {', '.join(sorted(set(data) ^ expected))}")
        return parse(cls, data, place="manifest", strict=True)


_STARTER = Path(__file__).parent / "bootstrap.py"
_LONG_AGO = (1980, 1, 1, 0, 0, 0)

_PRESET = 2
"""Of xz. Low, because packing is most of the time that a bundle takes, and its size is far below what it may be."""


def pack(folders: Mapping[str, Path]) -> bytes:
    """One part: each folder's files under its name, compressed.

    Sorted and without times or owners, so that the same files give the same bytes.
    """
    packed = io.BytesIO()
    # Similar files are neighbours, and releases differ little, so that xz finds most of a release in the one before.
    with (
        lzma.open(packed, "wb", preset=_PRESET) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, folder in sorted(folders.items()):
            for file in sorted(folder.rglob("*"), key=_by_name):
                if file.is_file() and "__pycache__" not in file.parts:
                    _add(archive, f"{name}/{file.relative_to(folder).as_posix()}", file)
    return packed.getvalue()


def _by_name(file: Path) -> tuple[str, str]:
    return file.name, str(file)


def _add(archive: tarfile.TarFile, name: str, file: Path) -> None:
    content = file.read_bytes()
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o644
    archive.addfile(entry, io.BytesIO(content))


def part_of(content: bytes) -> Part:
    """What the manifest says of a part."""
    return Part(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))


def write_bundle(path: Path, manifest: Manifest, parts: Mapping[str, bytes]) -> str:
    """Write the bundle whole or not at all; returns its sha256.

    Raises:
        StoreError: it cannot be written.
    """
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as bundle:
        texts = {"__main__.py": _STARTER.read_text("utf-8"), MANIFEST_NAME: manifest.text()}
        for name, text in texts.items():
            bundle.writestr(zipfile.ZipInfo(name, _LONG_AGO), text.encode(), zipfile.ZIP_DEFLATED)
        for name, content in sorted(parts.items()):
            bundle.writestr(zipfile.ZipInfo(name, _LONG_AGO), content, zipfile.ZIP_STORED)
    content = written.getvalue()
    write_file(path, content)
    return hashlib.sha256(content).hexdigest()
