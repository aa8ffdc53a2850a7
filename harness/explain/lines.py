"""A log as lines, in bounded memory: whatever its size, its encoding and the length of its lines."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import BinaryIO

BLOCK = 1 << 20
LONGEST_LINE = 1 << 15
"""Bytes of a line that are kept; the rest of it is read and dropped."""

_UTF16 = ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
"""What PowerShell writes with `>`."""
_COLOURS = re.compile(rb"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
"""Terminal sequences: colours and cursor (CSI), titles and links (OSC), and the two-byte ones."""
_BINARY = {
    b"PK\x03\x04": "a zip archive, as torch saves checkpoints",
    b"\x1f\x8b": "compressed with gzip",
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
    b"BZh": "compressed with bzip2",
    b"\xfd7zXZ": "compressed with xz",
    b"RIFF": "a recording",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"%PDF": "a PDF",
    b"\x7fELF": "a program",
}


def kind_of_binary(start: bytes) -> str:
    """What a file is that is no text, from its first bytes; empty for text."""
    return next((kind for magic, kind in _BINARY.items() if start.startswith(magic)), "")


def blocks_of(stream: BinaryIO, *, first: bytes = b"") -> Iterator[tuple[bytes, list[bytes]]]:
    """A log in blocks, each with its lines, as UTF-8 without line ends, terminal sequences and NUL.

    A carriage return ends a line too. The block has the text of all its lines, so that what is not in it is in none.

    Args:
        stream: Read to its end.
        first: What was read of it before.
    """
    unfinished = b""
    cut = False
    for data in _decoded(stream, first):
        block = _clean(data)
        lines = block.split(b"\n")
        if cut:
            # The rest of a line whose beginning was given.
            if len(lines) == 1:
                continue
            del lines[0]
            cut = False
        elif unfinished:
            lines[0] = unfinished + lines[0]
            block = unfinished + block
        unfinished = lines.pop()
        if len(unfinished) > LONGEST_LINE:
            lines.append(unfinished)
            unfinished, cut = b"", True
        yield block, [line if len(line) <= LONGEST_LINE else line[:LONGEST_LINE] for line in lines]
    if unfinished:
        yield unfinished, [unfinished[:LONGEST_LINE]]


def lines_of(stream: BinaryIO) -> Iterator[bytes]:
    """The lines alone."""
    for _, lines in blocks_of(stream):
        yield from lines


def _clean(block: bytes) -> bytes:
    if b"\x1b" in block:
        block = _COLOURS.sub(b"", block)
    if b"\0" in block:
        block = block.replace(b"\0", b"")
    if b"\r" in block:
        block = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return block


def _decoded(stream: BinaryIO, first: bytes) -> Iterator[bytes]:
    start = first or stream.read(BLOCK)
    encoding = next((name for mark, name in _UTF16 if start.startswith(mark)), "")
    if not encoding:
        yield start.removeprefix(codecs.BOM_UTF8)
        while block := stream.read(BLOCK):
            yield block
        return
    decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
    block = start[2:]
    while block:
        yield decoder.decode(block).encode("utf-8", "replace")
        block = stream.read(BLOCK)
