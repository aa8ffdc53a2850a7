"""What a bundle says of itself: what it is for, what it holds, and the hash of each part."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

SCHEMA = 1
"""Version of the form of a bundle and of the result that it gives."""

NAME = "manifest.json"


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
    """Of `funasr-harness run`, to run the same at home."""

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
        if data.get("schema") != SCHEMA:
            raise ValueError(f"bundle of schema {data.get('schema')}, this harness reads {SCHEMA}")
        expected = {field.name for field in fields(cls)}
        data = {"arguments": (), **data}
        if set(data) != expected:
            raise ValueError(f"fields missing or unknown: {', '.join(sorted(set(data) ^ expected))}")
        lists = {name: tuple(data[name]) for name in ("cells", "selection", "releases", "arguments")}
        libraries = {
            name: Library(version=stated["version"], modules=tuple(stated["modules"]))
            for name, stated in data["libraries"].items()
        }
        parts = {name: Part(**stated) for name, stated in data["parts"].items()}
        return cls(**{**data, **lists, "libraries": libraries, "parts": parts})
