"""A release's installed files, read without importing anything."""

from __future__ import annotations

import hashlib
import importlib.machinery
import os
import re
from functools import cached_property
from pathlib import Path

from harness.run.reuse.source_units import SourceUnits

_in_order = [
    *importlib.machinery.EXTENSION_SUFFIXES,
    *importlib.machinery.SOURCE_SUFFIXES,
    *importlib.machinery.BYTECODE_SUFFIXES,
]
_OWN_METADATA = re.compile(r"funasr-[^/]*\.dist-info")
_BYTECODE = "__pycache__"
_known: dict[str, SourceUnits] = {}
"""By hash of the content: most files are the same in many releases."""


class ReleaseFiles:
    """The files of one release."""

    def __init__(self, install_dir: Path, version: str) -> None:
        self.install_dir = install_dir
        self.version = version
        self._units: dict[str, SourceUnits | None] = {}
        self._modules: dict[str, str] = {}
        """By the path that a module would have without a suffix, the file or folder that is found."""

    def units(self, path: str) -> SourceUnits | None:
        """The units of a source file, given its path below the release's folder; None if it is not there."""
        if path not in self._units:
            self._units[path] = self._read(path)
        return self._units[path]

    def _read(self, path: str) -> SourceUnits | None:
        try:
            content = (self.install_dir / path).read_bytes()
        except OSError:
            return None
        digest = hashlib.sha256(content).hexdigest()
        if digest not in _known:
            _known[digest] = SourceUnits.of(content)
        return _known[digest]

    def text(self, path: str) -> str:
        """The hash of a file's content; empty if it is not there."""
        try:
            return hashlib.sha256((self.install_dir / path).read_bytes()).hexdigest()
        except OSError:
            return ""

    def folder(self, path: str) -> str:
        """The names in a folder; empty if it is not there.

        The folder of the release's own metadata, which is named after its version, is none of them: whoever looks for
        a library's metadata sees it, and who wants the release's own reads a file in it.
        """
        try:
            names = set(os.listdir(self.install_dir / path)) - {_BYTECODE}  # noqa: PTH208
        except OSError:
            return ""
        return "/".join(sorted(name for name in names if path != "." or not _OWN_METADATA.fullmatch(name)))

    def module(self, name: str) -> str:
        """The path of the file that `import name` executes; empty if there is none, and a folder's without a file."""
        place, path = "", ""
        for part in name.split("."):
            if path and not path.endswith("/") and "__init__." not in path:
                return ""
            place = f"{place}/{part}" if place else part
            path = self._module_at(place)
            if not path:
                return ""
        return path

    def _module_at(self, place: str) -> str:
        if place not in self._modules:
            above = f"{self.install_dir}/"
            candidates = [f"{place}/__init__{suffix}" for suffix in _in_order]
            candidates += [f"{place}{suffix}" for suffix in _in_order]
            files = (candidate for candidate in candidates if os.path.isfile(above + candidate))  # noqa: PTH113 - strings: it is often asked
            folder = f"{place}/" if os.path.isdir(above + place) else ""  # noqa: PTH112
            self._modules[place] = next(files, folder)
        return self._modules[place]

    @cached_property
    def beside(self) -> str:
        """The names next to the package, where `import` looks for every module first."""
        return self.folder(".")

    @cached_property
    def data_files(self) -> str:
        """The paths of files that are no Python source: code may look whether one exists."""
        paths = [
            os.path.relpath(os.path.join(folder, name), self.install_dir)  # noqa: PTH118
            for folder, _, names in os.walk(self.install_dir / "funasr")
            for name in names
            if not name.endswith((".py", ".pyc"))
        ]
        return hashlib.sha256("\n".join(sorted(paths)).encode()).hexdigest()

    @cached_property
    def everything(self) -> str:
        """The hash of all files of the package, compiled code apart, and of the release's version."""
        digest = hashlib.sha256(f"{self.version}\n{self.beside}\n".encode())
        for path in sorted((self.install_dir / "funasr").rglob("*")):
            if path.is_file() and _BYTECODE not in path.parts:
                content = hashlib.sha256(path.read_bytes()).hexdigest()
                digest.update(f"{path.relative_to(self.install_dir)}\n{content}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()
