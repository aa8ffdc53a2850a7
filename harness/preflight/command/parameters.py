"""Variables and arguments in a word: `$name`, `${name:-default}`, `${name##*/}`, `${name[@]}`, `$1`."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable
from dataclasses import replace

from harness.preflight.command.shell import Shell, unknown
from harness.preflight.command.words import Kind, Piece, Value, of_kind, text_of

_DEFAULTS = (":-", ":=", ":+", ":?", "-", "=", "+", "?")
_OPERATORS = (*_DEFAULTS, "//", "/", "##", "#", "%%", "%", ":", "^^", ",,", "^", ",", "@")


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
        for argument in shell.arguments:
            pieces += [Piece(text="", line=line, ends_word=True)] if pieces else []
            pieces.append(Piece(text=argument.text, line=argument.line, unknown="; ".join(argument.unknown)))
        return tuple(pieces)
    place = int(name) - 1
    if place >= len(shell.arguments):
        return (Piece(text="", line=line, unset=name),)
    argument_word = shell.arguments[place]
    return (Piece(text=argument_word.text, line=argument_word.line, unknown="; ".join(argument_word.unknown)),)


def expanded(source: str, operand: Callable[[], Value], shell: Shell, line: int, kind: Kind) -> Value:
    """`${…}`; `operand` gives what follows its operator."""
    at_run_time = unknown(source, f"{source} is known at run time only", line, kind)
    text = source[2:-1]
    if counted := re.fullmatch(r"#(\w+)(?:\[[@*]\])?", text):
        return of_kind(_length(counted[1], text.endswith("]"), shell, line), kind)
    match = re.fullmatch(r"(\w+|[@*])(\[[^\]]*\])?(.*)", text, re.DOTALL)
    if match is None:
        return at_run_time
    name, index, operation = match.groups()
    value = element(variable(name, shell, line), index, source, line)
    if not operation:
        return in_word(value, kind, line)
    operator = next((candidate for candidate in _OPERATORS if operation.startswith(candidate)), "")
    if operator in _DEFAULTS:
        return _default(name, operator, value, operand(), shell, line, kind)
    known, argument = text_of(value), operation[len(operator) :]
    if known is None or any(piece.ends_word for piece in value) or re.search(r"[$`]", argument):
        return at_run_time
    changed = _changed(known, operator, argument)
    if changed is None:
        return at_run_time
    return (Piece(text=changed, line=value[0].line if value else line, kind=kind),)


def in_word(value: Value, kind: Kind, line: int) -> Value:
    """A variable in a word: its own lines are kept where bash makes several words of it."""
    if kind is Kind.QUOTED and not any(piece.ends_word for piece in value):
        return tuple(replace(piece, kind=kind, line=line) for piece in value)
    return of_kind(value, kind)


def _length(name: str, of_array: bool, shell: Shell, line: int) -> Value:
    value = shell.get(name, line)
    if of_array:
        return (Piece(text=str(sum(piece.ends_word for piece in value) + bool(value)), line=line),)
    text = text_of(value)
    if text is None:
        return unknown(f"${{#{name}}}", f"{name} is known at run time only", line)
    return (Piece(text=str(len(text)), line=line),)


def element(value: Value, index: str | None, source: str, line: int) -> Value:
    """`${name[@]}` whole, `${name[1]}` one element; without an index the first one."""
    elements: list[list[Piece]] = [[]]
    for piece in value:
        if piece.ends_word:
            elements.append([])
        else:
            elements[-1].append(piece)
    if index in ("[@]", "[*]"):
        return value
    place = int(index[1:-1]) if index and index[1:-1].isdigit() else 0 if index is None else None
    if place is None:
        return unknown(source, f"{source} is known at run time only", line)
    return tuple(elements[place]) if place < len(elements) else ()


def _default(name: str, operator: str, value: Value, operand: Value, shell: Shell, line: int, kind: Kind) -> Value:
    """`${name:-default}` and its kin."""
    is_set = shell.is_set(name) if not name.isdigit() and name not in "@*" else None
    text = text_of(value)
    if name.isdigit() and shell.arguments is not None:
        is_set = int(name) <= len(shell.arguments)
    if is_set and operator.startswith(":"):
        is_set = None if text is None else bool(text)
    if is_set is None and name.isdigit() and operator in (":-", "-") and shell.arguments is None:
        # An argument with a default is optional: without it the default is in force.
        is_set = False
    if is_set is None:
        return unknown(f"${{{name}}}", f"whether {name} is set is known at run time only", line, kind)
    if operator in (":+", "+"):
        return of_kind(operand, kind) if is_set else ()
    if operator in (":?", "?"):
        return of_kind(value, kind) if is_set else unknown(f"${{{name}}}", f"{name} is not set", line, kind)
    if is_set:
        return of_kind(value, kind)
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
