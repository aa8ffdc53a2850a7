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
        within = [one for one in self.definitions if one.first <= line <= one.last]
        return min(within, key=lambda one: one.last - one.first, default=None)

    def named(self, name: str) -> tuple[IndexedDefinition, ...]:
        """The definitions of a name without its class."""
        return tuple(one for one in self.definitions if one.name.rpartition(".")[2] == name)

    def shows(self, frame: Frame) -> bool:
        """Whether a frame can be of this content: its line has this code, or is in this function."""
        if not 1 <= frame.line <= len(self.lines):
            return False
        if frame.code:
            return bool(self.lines[frame.line - 1] == line_hash(frame.code))
        if frame.function == "<module>":
            return bool(self.lines[frame.line - 1])
        return any(one.first <= frame.line <= one.last for one in self.named(frame.function))


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
    def every(self) -> int:
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
        return sum(one.releases for one in self.contents.get(file, ()))

    def showing(self, frame: Frame) -> int:
        """The releases that a frame can be of."""
        return sum(one.releases for one in self.contents.get(frame.file, ()) if one.shows(frame))

    def with_class(self, file: str, name: str, line: int) -> int:
        """The releases in which a class begins at a line."""
        return sum(
            one.releases
            for one in self.contents.get(file, ())
            if any(definition.first == line for definition in one.named(name))
        )

    def same_code(self, frame: Frame, release: int) -> dict[int, int]:
        """The function of a frame over the releases: by the hash of its code, the releases; empty where it is unknown.

        Args:
            frame: With file, line and function.
            release: Bits of the releases that the frame may be of; they distinguish the method from others of its name.
        """
        names = {
            found.name
            for content in self.contents.get(frame.file, ())
            if content.releases & release and (found := _definition(content, frame))
        }
        if len(names) != 1:
            return {}
        name = names.pop()
        groups: dict[int, int] = {}
        for content in self.contents[frame.file]:
            for one in content.definitions:
                if one.name == name:
                    groups[one.code] = groups.get(one.code, 0) | content.releases
                    break
        return groups

    def having(self, text: str) -> tuple[CodeOccurrence, ...]:
        """Every place that has a line of code, however it is indented."""
        wanted = line_hash(text)
        found: dict[tuple[str, str], int] = {}
        for contents in self.contents.values():
            for content in contents:
                for at in _places(content.lines, wanted):
                    around = content.around(at + 1)
                    key = (content.file, around.name if around else "")
                    found[key] = found.get(key, 0) | content.releases
        return tuple(CodeOccurrence(file=file, name=name, releases=bits) for (file, name), bits in found.items())


def _definition(content: IndexedContent, frame: Frame) -> IndexedDefinition | None:
    within = [one for one in content.named(frame.function) if one.first <= frame.line <= one.last]
    return within[-1] if within else None


def _places(lines: Sequence[int], wanted: int) -> Iterator[int]:
    start = 0
    while True:
        try:
            start = lines.index(wanted, start)
        except ValueError:
            return
        yield start
        start += 1


@cache
def load_index(path: Path = FILE) -> ReleaseIndex:
    """Read the index: some tenths of a second, once."""
    data = lzma.decompress(path.read_bytes())
    head, _, rest = data.partition(b"\n")
    header = json.loads(head)
    assert header["schema"] == SCHEMA
    hashes, numbers = array("I"), array("I")
    size = header["hashes"] * hashes.itemsize
    hashes.frombytes(rest[:size])
    numbers.frombytes(rest[size:])
    if sys.byteorder == "big":
        hashes.byteswap()
        numbers.byteswap()
    lines = array("I", map(hashes.__getitem__, numbers))
    contents: dict[str, tuple[IndexedContent, ...]] = {}
    start = 0
    for file, versions in header["files"].items():
        made = []
        for bits, count, definitions in versions:
            made.append(
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
        contents[file] = tuple(made)
    return ReleaseIndex(releases=tuple(header["releases"]), contents=contents)
