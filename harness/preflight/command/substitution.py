"""What `$(…)` prints, for the few programs whose output follows from the script alone."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from harness.preflight.command.shell import Shell, unknown
from harness.preflight.command.words import Piece, Value, Word

if TYPE_CHECKING:
    from tree_sitter import Node

Expand = Callable[["Node", Shell], "list[Word]"]
"""What a written word expands to: a substitution's own words are expanded as all others."""

_AWK_FIELDS = re.compile(r"\s*\{\s*print\s*\(?\s*NF\s*\)?\s*;?\s*\}\s*")


def printed(node: Node, shell: Shell, expand: Expand) -> Value:
    """The text without its last line end; unknown where it depends on more than the script."""
    line, source = int(node.start_point[0]) + 1, (node.text or b"").decode("utf-8", "replace")
    statements = [child for child in node.named_children if child.type != "comment"]
    text = _statement(statements[0], shell.copy(), None, expand) if len(statements) == 1 else None
    if text is None:
        return unknown(source, f"what {source} prints is known at run time only", line)
    return (Piece(text=text.rstrip("\n"), line=line),)


def _statement(node: Node, shell: Shell, piped: str | None, expand: Expand) -> str | None:
    """What a statement writes, given its input; None where that is not known."""
    match node.type:
        case "pipeline":
            for number, part in enumerate(node.named_children):
                piped = _statement(part, shell.copy(), piped, expand)
                if piped is None or number > 10:
                    return None
            return piped
        case "list" if len(node.named_children) == 2 and any(child.type == "&&" for child in node.children):
            first, second = node.named_children
            before = _statement(first, shell, piped, expand)
            return None if before is None else _statement(second, shell, None, expand)
        case "redirected_statement":
            errors = all(b"2>" in (child.text or b"") or child.type != "file_redirect" for child in node.children)
            body = node.child_by_field_name("body")
            return _statement(body, shell, piped, expand) if body is not None and errors else None
        case "command":
            return _command(node, shell, piped, expand)
        case _:
            return None


def _command(node: Node, shell: Shell, piped: str | None, expand: Expand) -> str | None:
    if any(child.type == "variable_assignment" for child in node.children):
        return None
    command_parts = [child for child in node.named_children if "redirect" not in child.type]
    command_words = [
        word
        for child in command_parts
        for word in expand(child.named_children[0] if child.type == "command_name" else child, shell)
    ]
    command_words = [word for word in command_words if word.text or word.quoted]
    if not command_words or any(not word.known for word in command_words):
        return None
    name, arguments = posixpath.basename(command_words[0].text), [word.text for word in command_words[1:]]
    if name == "cd" and len(arguments) == 1:
        shell.change_directory(arguments[0])
        return ""
    if name in ("pwd", "which", "realpath", "readlink"):
        return _place(name, arguments, shell)
    program = _PROGRAMS.get(name)
    return program(arguments, piped) if program else None


def _place(name: str, arguments: Sequence[str], shell: Shell) -> str | None:
    """`pwd`, `realpath`; of `which NAME` the name alone: its folder does not matter here."""
    if name == "pwd":
        return shell.directory
    if name in ("realpath", "readlink"):
        plain = [argument for argument in arguments if not argument.startswith("-")]
        if len(plain) != 1 or (shell.directory is None and not plain[0].startswith("/")):
            return None
        return posixpath.normpath(posixpath.join(shell.directory or "/", plain[0]))
    return arguments[-1] if len(arguments) == 1 and arguments[0].startswith("funasr") else None


def _echo(arguments: Sequence[str], _: str | None) -> str | None:
    plain = list(arguments)
    while plain and plain[0] in ("-n", "-e"):
        plain = plain[1:]
    return " ".join(plain) + "\n"


def _awk(arguments: Sequence[str], piped: str | None) -> str | None:
    """`awk -F, '{print NF}'`: how many fields the line has."""
    remaining, separator = list(arguments), " "
    if remaining[:1] == ["-F"] and len(remaining) > 1:
        separator, remaining = remaining[1], remaining[2:]
    elif remaining and remaining[0].startswith("-F"):
        separator, remaining = remaining[0][2:], remaining[1:]
    if piped is None or len(remaining) != 1 or not _AWK_FIELDS.fullmatch(remaining[0]) or len(separator) != 1:
        return None
    lines = piped.removesuffix("\n").split("\n")
    fields = (line.split() if separator == " " else line.split(separator) if line else [] for line in lines)
    return "".join(f"{len(fields_of_line)}\n" for fields_of_line in fields)


def _translate(arguments: Sequence[str], piped: str | None) -> str | None:
    """`tr ',' '\\n'` with one character each."""
    named = {"\\n": "\n", "\\t": "\t"}
    plain = [named.get(argument, argument) for argument in arguments]
    if piped is None or len(plain) != 2 or any(len(character) != 1 for character in plain):
        return None
    return piped.replace(plain[0], plain[1])


def _count(arguments: Sequence[str], piped: str | None) -> str | None:
    """`wc -l` and `wc -w`."""
    if piped is None or list(arguments) not in (["-l"], ["-w"]):
        return None
    return f"{piped.count(chr(10)) if arguments[0] == '-l' else len(piped.split())}\n"


def _dirname(arguments: Sequence[str], _: str | None) -> str | None:
    plain = [argument for argument in arguments if argument != "--"]
    return (posixpath.dirname(plain[0].rstrip("/")) or ".") + "\n" if len(plain) == 1 else None


def _basename(arguments: Sequence[str], _: str | None) -> str | None:
    if not 1 <= len(arguments) <= 2:
        return None
    return posixpath.basename(arguments[0].rstrip("/")).removesuffix(arguments[1] if len(arguments) == 2 else "") + "\n"


_PROGRAMS: dict[str, Callable[[Sequence[str], str | None], str | None]] = {
    "echo": _echo,
    "awk": _awk,
    "gawk": _awk,
    "tr": _translate,
    "wc": _count,
    "basename": _basename,
    "dirname": _dirname,
    "cat": lambda arguments, piped: piped if not arguments else None,
}
