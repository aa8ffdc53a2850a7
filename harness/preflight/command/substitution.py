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


def _statement(node: Node, shell: Shell, given: str | None, expand: Expand) -> str | None:
    """What a statement writes, given its input; None where that is not known."""
    match node.type:
        case "pipeline":
            for number, part in enumerate(node.named_children):
                given = _statement(part, shell.copy(), given, expand)
                if given is None or number > 10:
                    return None
            return given
        case "list" if len(node.named_children) == 2 and any(child.type == "&&" for child in node.children):
            first, second = node.named_children
            before = _statement(first, shell, given, expand)
            return None if before is None else _statement(second, shell, None, expand)
        case "redirected_statement":
            errors = all(b"2>" in (child.text or b"") or child.type != "file_redirect" for child in node.children)
            body = node.child_by_field_name("body")
            return _statement(body, shell, given, expand) if body is not None and errors else None
        case "command":
            return _command(node, shell, given, expand)
        case _:
            return None


def _command(node: Node, shell: Shell, given: str | None, expand: Expand) -> str | None:
    if any(child.type == "variable_assignment" for child in node.children):
        return None
    kept = [child for child in node.named_children if "redirect" not in child.type]
    found = [
        word
        for child in kept
        for word in expand(child.named_children[0] if child.type == "command_name" else child, shell)
    ]
    found = [word for word in found if word.text or word.quoted]
    if not found or any(not word.known for word in found):
        return None
    name, arguments = posixpath.basename(found[0].text), [word.text for word in found[1:]]
    if name == "cd" and len(arguments) == 1:
        shell.change_directory(arguments[0])
        return ""
    if name in ("pwd", "which", "realpath", "readlink"):
        return _place(name, arguments, shell)
    program = _PROGRAMS.get(name)
    return program(arguments, given) if program else None


def _place(name: str, arguments: Sequence[str], shell: Shell) -> str | None:
    """`pwd`, `realpath`; of `which NAME` the name alone: in which folder it lies does not matter here."""
    if name == "pwd":
        return shell.directory
    if name in ("realpath", "readlink"):
        plain = [one for one in arguments if not one.startswith("-")]
        if len(plain) != 1 or (shell.directory is None and not plain[0].startswith("/")):
            return None
        return posixpath.normpath(posixpath.join(shell.directory or "/", plain[0]))
    return arguments[-1] if len(arguments) == 1 and arguments[0].startswith("funasr") else None


def _echo(arguments: Sequence[str], _: str | None) -> str | None:
    plain = list(arguments)
    while plain and plain[0] in ("-n", "-e"):
        plain = plain[1:]
    return " ".join(plain) + "\n"


def _awk(arguments: Sequence[str], given: str | None) -> str | None:
    """`awk -F, '{print NF}'`: how many fields the line has."""
    rest, separator = list(arguments), " "
    if rest[:1] == ["-F"] and len(rest) > 1:
        separator, rest = rest[1], rest[2:]
    elif rest and rest[0].startswith("-F"):
        separator, rest = rest[0][2:], rest[1:]
    if given is None or len(rest) != 1 or not _AWK_FIELDS.fullmatch(rest[0]) or len(separator) != 1:
        return None
    lines = given.removesuffix("\n").split("\n")
    fields = (line.split() if separator == " " else line.split(separator) if line else [] for line in lines)
    return "".join(f"{len(one)}\n" for one in fields)


def _translate(arguments: Sequence[str], given: str | None) -> str | None:
    """`tr ',' '\\n'` with one character each."""
    named = {"\\n": "\n", "\\t": "\t"}
    plain = [named.get(one, one) for one in arguments]
    if given is None or len(plain) != 2 or any(len(one) != 1 for one in plain):
        return None
    return given.replace(plain[0], plain[1])


def _count(arguments: Sequence[str], given: str | None) -> str | None:
    """`wc -l` and `wc -w`."""
    if given is None or list(arguments) not in (["-l"], ["-w"]):
        return None
    return f"{given.count(chr(10)) if arguments[0] == '-l' else len(given.split())}\n"


def _dirname(arguments: Sequence[str], _: str | None) -> str | None:
    plain = [one for one in arguments if one != "--"]
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
    "cat": lambda arguments, given: given if not arguments else None,
}
