"""What bash makes of a written word: quotes, variables, substitutions; what is not known is said, never guessed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.preflight.command import arithmetic, parameters
from harness.preflight.command.shell import Shell, unknown
from harness.preflight.command.substitution import printed
from harness.preflight.command.words import (
    LONGEST,
    Kind,
    Piece,
    Value,
    Word,
    braces,
    joined,
    of_kind,
    size,
    split,
)

if TYPE_CHECKING:
    from tree_sitter import Node

_ANSI = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", "'": "'", '"': '"', "a": "\a", "b": "\b", "e": "\x1b"}


def source_of(node: Node) -> str:
    """The text of the script that a node stands for."""
    return (node.text or b"").decode("utf-8", "replace")


def line_of(node: Node) -> int:
    """Its first line, counted from 1."""
    return int(node.start_point[0]) + 1


def text_of_tree(node: Node) -> bytes:
    """The text of the tree in which a node's bytes are counted."""
    while node.parent is not None:
        node = node.parent
    return bytes(node.start_byte) + (node.text or b"")


def words(node: Node, shell: Shell) -> list[Word]:
    """What a command receives for one written word; a word that vanishes is there, empty, if a variable was unset."""
    pieces = _tilde(expand(node, shell), shell)
    return [word for way in braces(pieces) for word in split(way, line_of(node))]


def value(node: Node | None, shell: Shell) -> Value:
    """What an assignment stores."""
    if node is None:
        return ()
    pieces = _tilde(expand(node, shell), shell)
    if size(pieces) > LONGEST:
        return unknown(source_of(node)[:80], "the text is too long", line_of(node))
    return joined(of_kind(pieces, Kind.QUOTED))


def expand(node: Node, shell: Shell, *, quoted: bool = False) -> Value:
    """The pieces of a written word."""
    line = line_of(node)
    kind = Kind.QUOTED if quoted else Kind.EXPANDED
    match node.type:
        case "string":
            return tuple(_string(node, shell)) or (Piece(text="", line=line, kind=Kind.QUOTED),)
        case "raw_string":
            return (Piece(text=source_of(node)[1:-1], line=line, kind=Kind.QUOTED),)
        case "ansi_c_string":
            return (Piece(text=_ansi(source_of(node)[2:-1]), line=line, kind=Kind.QUOTED),)
        case "translated_string":
            return tuple(piece for child in node.named_children for piece in expand(child, shell, quoted=True))
        case "simple_expansion":
            name = source_of(node)[1:]
            variable = parameters.variable(name, shell, line)
            chosen = variable if name in "@*" else parameters.element(variable, None, source_of(node), line)
            return parameters.in_word(chosen, kind, line)
        case "expansion":
            return _expansion(node, shell, kind)
        case "command_substitution":
            return of_kind(printed(node, shell, words), kind)
        case "arithmetic_expansion":
            return of_kind(arithmetic.result(source_of(node), shell, line), kind)
        case "process_substitution":
            return unknown(source_of(node), "what a process prints is not known", line)
        case "concatenation":
            return tuple(_concatenation(node, shell))
        case _:
            return (Piece(text=_unescaped(source_of(node)), line=line),)


def _string(node: Node, shell: Shell) -> Iterator[Piece]:
    """Text in double quotes: between the expansions everything counts, blanks and line ends too."""
    raw, at, line = node.text or b"", node.start_byte + 1, line_of(node)
    for child in [child for child in node.named_children if child.type != "string_content"]:
        gap = raw[at - node.start_byte : child.start_byte - node.start_byte].decode("utf-8", "replace")
        yield from _in_quotes(gap, line)
        yield from expand(child, shell, quoted=True)
        at, line = child.end_byte, int(child.end_point[0]) + 1
    end = len(raw) - raw.endswith(b'"') if len(raw) > 1 else len(raw)
    yield from _in_quotes(raw[at - node.start_byte : end].decode("utf-8", "replace"), line)


def _in_quotes(text: str, line: int) -> Iterator[Piece]:
    """`\\` before `$`, a backtick, `"`, `\\` is taken away; at a line's end it continues the line."""
    for number, part in enumerate(text.split("\\\n")):
        unescaped = re.sub(r'\\([$`"\\])', r"\1", part)
        if unescaped:
            yield Piece(text=unescaped, line=line + number, kind=Kind.QUOTED)
        line += part.count("\n")


def _concatenation(node: Node, shell: Shell) -> Iterator[Piece]:
    raw, at = node.text or b"", node.start_byte
    for child in node.children:
        if child.start_byte > at:
            gap = raw[at - node.start_byte : child.start_byte - node.start_byte].decode("utf-8", "replace")
            yield Piece(text=_unescaped(gap), line=line_of(child))
        yield from expand(child, shell)
        at = child.end_byte


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text.replace("\\\n", ""))


def _ansi(text: str) -> str:
    return re.sub(r"\\(.)", lambda match: _ANSI.get(match[1], match[0]), text)


def _tilde(pieces: Value, shell: Shell) -> Value:
    """`~` and `~/…` at the beginning of an unquoted word are the home folder."""
    first = pieces[0] if pieces else None
    if first is None or first.kind is not Kind.LITERAL or not re.match(r"~(/|$)", first.text) or first.unknown:
        return pieces
    home = shell.environment.get("HOME")
    return (replace(first, text=home + first.text[1:]), *pieces[1:]) if home else pieces


def _expansion(node: Node, shell: Shell, kind: Kind) -> Value:
    """`${name}`, with an operator or not."""

    def operand() -> Value:
        parts = [child for child in node.named_children if child.type not in ("variable_name", "subscript")]
        return tuple(piece for child in parts for piece in expand(child, shell, quoted=kind is Kind.QUOTED))

    return parameters.expanded(source_of(node), operand, shell, line_of(node), kind)
