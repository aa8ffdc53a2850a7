"""Script files: bounded reading and parsing."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.errors import InputError

if TYPE_CHECKING:
    from tree_sitter import Node, Parser

LARGEST = 1 << 17
"""Bytes; a finetune.sh has a few thousand."""
MOST_SECONDS = 1.0
"""Of processor time, for a script and what it calls; a finetune.sh takes some hundredths."""
_REPAIR_SECONDS = 0.3

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


@dataclass(frozen=True, kw_only=True)
class ReadingLimit:
    """Ends the reading of scripts that double their variables, or call themselves, without end."""

    _end: float = field(default_factory=lambda: time.thread_time() + MOST_SECONDS)

    def check(self, path: Path) -> None:
        """To be called at each statement.

        Raises:
            InputError: it has taken too long.
        """
        if time.thread_time() > self._end:
            raise InputError(
                f"{path}: cannot be read: its statements take more than {MOST_SECONDS:g} s to follow",
                cause="variables that double, loops within loops, or no script of a training",
                next_step="give the script that starts the training, or its settings after `--`",
            )


@cache
def _parser() -> Parser:
    import tree_sitter
    import tree_sitter_bash

    return tree_sitter.Parser(tree_sitter.Language(tree_sitter_bash.language()))


@lru_cache(maxsize=8)
def tree_of(text: bytes) -> Node:
    """The script's syntax tree; what cannot be parsed is in nodes of the type `ERROR`.

    The grammar takes `${a}_b/$c/d` apart at its last `$`: there, `$c` is read as `${c}`.
    Lines are those of `text`, bytes may not be.
    """
    text = _CONTINUED_AT_END.sub(b" ", text)
    tree, began = _parser().parse(text), time.thread_time()
    for _ in range(MOST_REPAIRS):
        places = _loose_dollars(tree.root_node)
        if not places or time.thread_time() - began > _REPAIR_SECONDS:
            break
        for place in sorted(places, reverse=True):
            name = _NAME.match(text, place + 1)
            if name is not None:
                text = text[:place] + b"${" + name[0] + b"}" + text[name.end() :]
        tree = _parser().parse(text)
    return tree.root_node


def _loose_dollars(root: Node) -> set[int]:
    """Where a `$` with a name behind it is no expansion in the tree."""
    offsets, to_visit = set(), [root]
    while to_visit:
        node = to_visit.pop()
        if node.type == "$" and node.parent is not None and node.parent.type == "concatenation":
            offsets.add(node.start_byte)
        to_visit += node.children
    source = root.text or b""
    return {place for place in offsets if _NAME.match(source, place - root.start_byte + 1)}
