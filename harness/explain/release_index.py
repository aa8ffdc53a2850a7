"""The code of every published release, as an index: which line, function and class is where in which release.

It answers without the releases and without a network. It has no code: a line is 4 bytes of a hash, a function a hash of
its syntax tree without docstrings. `harness.explain.index_maker` makes it from the releases.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import sys
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from harness.core.cells import Frame

FILE = Path(__file__).with_name("releases.idx.xz")
SCHEMA = 1


def line_hash(text: str) -> int:
    """Of a line without its indentation; 0 is no line's."""
    return (
        int.from_bytes(hashlib.blake2b(text.strip().encode("utf-8", "replace"), digest_size=4).digest(), "little") or 1
    )


@dataclass(frozen=True, kw_only=True)
class IndexedDefinition:
    """A function, method or class of one content of a file."""

    name: str
    """`function`, `Class` or `Class.method`."""
    first: int
    """The line of its first decorator, or of `def`."""
    last: int
    code: int
    """Hash of its syntax tree."""


@dataclass(frozen=True, kw_only=True)
class IndexedContent:
    """A file as it is in some releases."""

    file: str
    releases: int
    """A bit per release, the oldest lowest."""
    lines: Sequence[int] = field(repr=False)
    """A hash per line; 0 for a line without code."""
    definitions: tuple[IndexedDefinition, ...] = field(repr=False)

    def around(self, line: int) -> IndexedDefinition | None:
        """The innermost definition that a line is in."""
        within = [definition for definition in self.definitions if definition.first <= line <= definition.last]
        return min(within, key=lambda definition: definition.last - definition.first, default=None)

    def named(self, name: str) -> tuple[IndexedDefinition, ...]:
        """The definitions of a name without its class."""
        return tuple(definition for definition in self.definitions if definition.name.rpartition(".")[2] == name)

    def shows(self, frame: Frame) -> bool:
        """Whether a frame can be of this content: its line has this code, or is in this function."""
        if not 1 <= frame.line <= len(self.lines):
            return False
        if frame.code:
            return bool(self.lines[frame.line - 1] == line_hash(frame.code))
        if frame.function == "<module>":
            return bool(self.lines[frame.line - 1])
        return any(definition.first <= frame.line <= definition.last for definition in self.named(frame.function))


@dataclass(frozen=True, kw_only=True)
class CodeOccurrence:
    """A place that has a line."""

    file: str
    name: str
    """Of the function or class around it; empty at the top of the file."""
    releases: int


@dataclass(frozen=True, kw_only=True)
class ReleaseIndex:
    """All releases of the index."""

    releases: tuple[str, ...]
    """Oldest first."""
    contents: dict[str, tuple[IndexedContent, ...]] = field(repr=False)
    """By path."""

    @property
    def all_bits(self) -> int:
        """All releases as bits."""
        return (1 << len(self.releases)) - 1

    def versions(self, bits: int) -> tuple[str, ...]:
        """The releases of a set of bits, oldest first."""
        return tuple(name for place, name in enumerate(self.releases) if bits >> place & 1)

    def bit(self, version: str) -> int:
        """The bit of one release; 0 for one that the index lacks."""
        return 1 << self.releases.index(version) if version in self.releases else 0

    def has(self, file: str) -> int:
        """The releases that have a file."""
        return sum(content.releases for content in self.contents.get(file, ()))

    def showing(self, frame: Frame) -> int:
        """The releases that a frame can be of."""
        return sum(content.releases for content in self.contents.get(frame.file, ()) if content.shows(frame))

    def with_class(self, file: str, name: str, line: int) -> int:
        """The releases in which a class begins at a line."""
        return sum(
            content.releases
            for content in self.contents.get(file, ())
            if any(definition.first == line for definition in content.named(name))
        )

    def same_code(self, frame: Frame, release: int) -> dict[int, int]:
        """The function of a frame over the releases: by the hash of its code, the releases; empty where it is unknown.

        Args:
            frame: With file, line and function.
            release: Bits of the releases that the frame may be of; they distinguish the method from others of its name.
        """
        names = {
            containing.name
            for content in self.contents.get(frame.file, ())
            if content.releases & release and (containing := _definition(content, frame))
        }
        if len(names) != 1:
            return {}
        name = names.pop()
        groups: dict[int, int] = {}
        for content in self.contents[frame.file]:
            for candidate in content.definitions:
                if candidate.name == name:
                    groups[candidate.code] = groups.get(candidate.code, 0) | content.releases
                    break
        return groups

    def having(self, text: str) -> tuple[CodeOccurrence, ...]:
        """Every place that has a line of code, however it is indented."""
        hash_of_line = line_hash(text)
        releases_by_place: dict[tuple[str, str], int] = {}
        for contents in self.contents.values():
            for content in contents:
                for line_index in _places(content.lines, hash_of_line):
                    around = content.around(line_index + 1)
                    key = (content.file, around.name if around else "")
                    releases_by_place[key] = releases_by_place.get(key, 0) | content.releases
        return tuple(
            CodeOccurrence(file=file, name=name, releases=bits) for (file, name), bits in releases_by_place.items()
        )


def _definition(content: IndexedContent, frame: Frame) -> IndexedDefinition | None:
    within = [
        definition for definition in content.named(frame.function) if definition.first <= frame.line <= definition.last
    ]
    return within[-1] if within else None


def _places(lines: Sequence[int], hash_of_line: int) -> Iterator[int]:
    start = 0
    while True:
        try:
            start = lines.index(hash_of_line, start)
        except ValueError:
            return
        yield start
        start += 1


@cache
def load_index(path: Path = FILE) -> ReleaseIndex:
    """Read the index: some tenths of a second, once."""
    data = lzma.decompress(path.read_bytes())
    head, _, tables = data.partition(b"\n")
    header = json.loads(head)
    assert header["schema"] == SCHEMA
    hashes, numbers = array("I"), array("I")
    size = header["hashes"] * hashes.itemsize
    hashes.frombytes(tables[:size])
    numbers.frombytes(tables[size:])
    if sys.byteorder == "big":
        hashes.byteswap()
        numbers.byteswap()
    lines = array("I", map(hashes.__getitem__, numbers))
    contents: dict[str, tuple[IndexedContent, ...]] = {}
    start = 0
    for file, versions in header["files"].items():
        versions_of_file = []
        for bits, count, definitions in versions:
            versions_of_file.append(
                IndexedContent(
                    file=file,
                    releases=int(bits, 16),
                    lines=lines[start : start + count],
                    definitions=tuple(
                        IndexedDefinition(name=name, first=first, last=last, code=code)
                        for name, first, last, code in definitions
                    ),
                )
            )
            start += count
        contents[file] = tuple(versions_of_file)
    return ReleaseIndex(releases=tuple(header["releases"]), contents=contents)
