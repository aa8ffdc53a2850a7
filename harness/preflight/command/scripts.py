"""Script files: bounded reading and parsing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tree_sitter import Node, Parser

LARGEST = 1 << 20
"""Bytes; a finetune.sh has a few thousand."""


MOST_REPAIRS = 20
_CONTINUED_AT_END = re.compile(rb"\\(?=\n?\Z)")
"""For bash the end of the file ends the line, for the grammar it is an error."""
_NAME = re.compile(rb"[A-Za-z_]\w*")


@dataclass(frozen=True, kw_only=True)
class Script:
    """A script's file and its text, with `\\n` at the ends of lines."""

    path: Path
    text: bytes


def read_text(path: Path) -> bytes | None:
    """The bytes of a regular file of a script's size, line ends made `\\n`; None for everything else."""
    try:
        if not path.is_file() or path.stat().st_size > LARGEST:
            return None
        with path.open("rb") as file:
            text = file.read(LARGEST + 1)
    except (OSError, ValueError):
        return None
    return text.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")


@cache
def _parser() -> Parser:
    import tree_sitter
    import tree_sitter_bash

    return tree_sitter.Parser(tree_sitter.Language(tree_sitter_bash.language()))


def tree_of(text: bytes) -> Node:
    """The script's syntax tree; what cannot be parsed is in nodes of the type `ERROR`.

    The grammar takes `${a}_b/$c/d` apart at its last `$`: there, `$c` is read as `${c}`.
    Lines are those of `text`, bytes may not be.
    """
    text = _CONTINUED_AT_END.sub(b" ", text)
    tree = _parser().parse(text)
    for _ in range(MOST_REPAIRS):
        places = _loose_dollars(tree.root_node)
        if not places:
            break
        for place in sorted(places, reverse=True):
            name = _NAME.match(text, place + 1)
            if name is not None:
                text = text[:place] + b"${" + name[0] + b"}" + text[name.end() :]
        tree = _parser().parse(text)
    return tree.root_node


def _loose_dollars(root: Node) -> set[int]:
    """Where a `$` with a name behind it is no expansion in the tree."""
    found, rest = set(), [root]
    while rest:
        node = rest.pop()
        if node.type == "$" and node.parent is not None and node.parent.type == "concatenation":
            found.add(node.start_byte)
        rest += node.children
    source = root.text or b""
    return {place for place in found if _NAME.match(source, place - root.start_byte + 1)}
