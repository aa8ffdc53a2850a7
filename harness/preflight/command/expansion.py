"""What bash makes of a written word: quotes, variables, substitutions; what is not known is said, never guessed."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.preflight.command import arithmetic
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
    text_of,
)

if TYPE_CHECKING:
    from tree_sitter import Node

_ANSI = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", "'": "'", '"': '"', "a": "\a", "b": "\b", "e": "\x1b"}
_OPERATORS = (
    ":-",
    ":=",
    ":+",
    ":?",
    "-",
    "=",
    "+",
    "?",
    "//",
    "/",
    "##",
    "#",
    "%%",
    "%",
    ":",
    "^^",
    ",,",
    "^",
    ",",
    "@",
)


def source_of(node: Node) -> str:
    """The text of the script that a node stands for."""
    return (node.text or b"").decode("utf-8", "replace")


def line_of(node: Node) -> int:
    """Its first line, counted from 1."""
    return int(node.start_point[0]) + 1


def whole(node: Node) -> bytes:
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
            held = variable(name, shell, line)
            return _here(held if name in "@*" else _element(held, None, source_of(node), line), kind, line)
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


def variable(name: str, shell: Shell, line: int) -> Value:
    """`$name`, `$1`, `$@` and the shell's own."""
    if name.isdigit() or name in "@*#":
        return _argument(name, shell, line)
    if name == "BASH_SOURCE":
        return (Piece(text=str(shell.script), line=line),)
    if re.fullmatch(r"[A-Za-z_]\w*", name):
        if name == "PWD" and name not in shell.variables and shell.directory is not None:
            return (Piece(text=shell.directory, line=line),)
        return shell.get(name, line)
    return unknown(f"${name}", f"${name} is known at run time only", line)


def _argument(name: str, shell: Shell, line: int) -> Value:
    if name == "0":
        return (Piece(text=str(shell.script), line=line),)
    if shell.arguments is None:
        return unknown(f"${name}", f"${name} is an argument of the script", line)
    if name == "#":
        return (Piece(text=str(len(shell.arguments)), line=line),)
    if name in "@*":
        pieces: list[Piece] = []
        for one in shell.arguments:
            pieces += [Piece(text="", line=line, ends_word=True)] if pieces else []
            pieces.append(Piece(text=one.text, line=one.line, unknown="; ".join(one.unknown)))
        return tuple(pieces)
    place = int(name) - 1
    if place >= len(shell.arguments):
        return (Piece(text="", line=line, unset=name),)
    one = shell.arguments[place]
    return (Piece(text=one.text, line=one.line, unknown="; ".join(one.unknown)),)


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
    """`\\` before `$`, a backtick, `"`, `\\` is taken away; at a line's end the line goes on."""
    for number, part in enumerate(text.split("\\\n")):
        whole = re.sub(r'\\([$`"\\])', r"\1", part)
        if whole:
            yield Piece(text=whole, line=line + number, kind=Kind.QUOTED)
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
    return re.sub(r"\\(.)", lambda found: _ANSI.get(found[1], found[0]), text)


def _tilde(pieces: Value, shell: Shell) -> Value:
    """`~` and `~/…` at the beginning of an unquoted word are the home folder."""
    first = pieces[0] if pieces else None
    if first is None or first.kind is not Kind.LITERAL or not re.match(r"~(/|$)", first.text) or first.unknown:
        return pieces
    home = shell.environment.get("HOME")
    return (replace(first, text=home + first.text[1:]), *pieces[1:]) if home else pieces


def _expansion(node: Node, shell: Shell, kind: Kind) -> Value:
    """`${name}`, with an operator or not."""
    text, line = source_of(node)[2:-1], line_of(node)
    if counted := re.fullmatch(r"#(\w+)(?:\[[@*]\])?", text):
        return of_kind(_length(counted[1], text.endswith("]"), shell, line), kind)
    found = re.fullmatch(r"(\w+|[@*])(\[[^\]]*\])?(.*)", text, re.DOTALL)
    if found is None:
        return unknown(source_of(node), f"{source_of(node)} is known at run time only", line, kind)
    name, index, rest = found.groups()
    held = _element(variable(name, shell, line), index, source_of(node), line)
    if not rest:
        return _here(held, kind, line)
    operator = next((one for one in _OPERATORS if rest.startswith(one)), "")
    operands = [child for child in node.named_children if child.type not in ("variable_name", "subscript")]
    operand = tuple(piece for child in operands for piece in expand(child, shell, quoted=kind is Kind.QUOTED))
    if operator in (":-", "-", ":=", "=", ":+", "+", ":?", "?"):
        return _default(name, operator, held, operand, shell, line, kind)
    known, argument = text_of(held), rest[len(operator) :]
    if known is None or any(piece.ends_word for piece in held) or re.search(r"[$`]", argument):
        return unknown(source_of(node), f"{source_of(node)} is known at run time only", line, kind)
    changed = _changed(known, operator, argument)
    if changed is None:
        return unknown(source_of(node), f"{source_of(node)} is known at run time only", line, kind)
    return (Piece(text=changed, line=held[0].line if held else line, kind=kind),)


def _here(held: Value, kind: Kind, line: int) -> Value:
    """A variable in a word: its own lines are kept where bash makes several words of it."""
    if kind is Kind.QUOTED and not any(piece.ends_word for piece in held):
        return tuple(replace(piece, kind=kind, line=line) for piece in held)
    return of_kind(held, kind)


def _length(name: str, of_array: bool, shell: Shell, line: int) -> Value:
    held = shell.get(name, line)
    if of_array:
        return (Piece(text=str(sum(piece.ends_word for piece in held) + bool(held)), line=line),)
    text = text_of(held)
    if text is None:
        return unknown(f"${{#{name}}}", f"{name} is known at run time only", line)
    return (Piece(text=str(len(text)), line=line),)


def _element(held: Value, index: str | None, source: str, line: int) -> Value:
    """`${name[@]}` whole, `${name[1]}` one element; without an index the first one."""
    elements: list[list[Piece]] = [[]]
    for piece in held:
        if piece.ends_word:
            elements.append([])
        else:
            elements[-1].append(piece)
    if index in ("[@]", "[*]"):
        return held
    place = int(index[1:-1]) if index and index[1:-1].isdigit() else 0 if index is None else None
    if place is None:
        return unknown(source, f"{source} is known at run time only", line)
    return tuple(elements[place]) if place < len(elements) else ()


def _default(name: str, operator: str, held: Value, operand: Value, shell: Shell, line: int, kind: Kind) -> Value:
    """`${name:-default}` and its kin."""
    there = shell.is_set(name) if not name.isdigit() and name not in "@*" else None
    text = text_of(held)
    if name.isdigit() and shell.arguments is not None:
        there = int(name) <= len(shell.arguments)
    if there and operator.startswith(":"):
        there = None if text is None else bool(text)
    if there is None and name.isdigit() and operator in (":-", "-") and shell.arguments is None:
        # An argument with a default is optional: without it the default is in force.
        there = False
    if there is None:
        return unknown(f"${{{name}}}", f"whether {name} is set is known at run time only", line, kind)
    if operator in (":+", "+"):
        return of_kind(operand, kind) if there else ()
    if operator in (":?", "?"):
        return of_kind(held, kind) if there else unknown(f"${{{name}}}", f"{name} is not set", line, kind)
    if there:
        return of_kind(held, kind)
    if operator in (":=", "="):
        shell.assign(name, operand, line=line)
    return of_kind(operand, kind) or (Piece(text="", line=line, kind=kind),)


def _changed(text: str, operator: str, argument: str) -> str | None:
    """`${name##*/}`, `${name%.*}`, `${name//a/b}`, `${name:0:3}`, upper and lower case; None for other ones."""
    if operator in ("#", "##", "%", "%%"):
        pattern = re.compile(fnmatch.translate(argument))
        lengths = range(len(text) + 1) if len(operator) == 1 else range(len(text), -1, -1)
        front = operator[0] == "#"
        for length in lengths if len(text) <= 4096 else ():
            end = text[:length] if front else text[len(text) - length :]
            if pattern.match(end):
                return text[length:] if front else text[: len(text) - length]
        return text
    if operator in ("/", "//"):
        sought, _, put = argument.partition("/")
        if re.search(r"[*?\[\\]", sought) or not sought:
            return None
        return text.replace(sought, put, -1 if operator == "//" else 1)
    if operator == ":" and (part := re.fullmatch(r"\s*(\d+)(?::(\d+))?", argument)):
        start = int(part[1])
        return text[start:] if part[2] is None else text[start : start + int(part[2])]
    if operator in ("^^", ",,") and not argument:
        return text.upper() if operator == "^^" else text.lower()
    return None
