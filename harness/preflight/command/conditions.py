"""Whether a condition of the script holds; None where only a run of it knows."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from harness.preflight.command.expansion import expand, source_of, words
from harness.preflight.command.shell import Shell
from harness.preflight.command.words import text_of

if TYPE_CHECKING:
    from tree_sitter import Node

_NUMBERS: Mapping[str, Callable[[int, int], bool]] = {
    "-eq": operator.eq,
    "-ne": operator.ne,
    "-lt": operator.lt,
    "-le": operator.le,
    "-gt": operator.gt,
    "-ge": operator.ge,
}


def holds(node: Node, shell: Shell) -> bool | None:
    """`[ … ]`, `[[ … ]]`, `test …`, `true`, `&&`, `||` and `!` of these."""
    match node.type:
        case "test_command" | "parenthesized_expression":
            inner = node.named_children
            return holds(inner[0], shell) if len(inner) == 1 else None
        case "negated_command":
            inner = node.named_children
            return _not(holds(inner[0], shell)) if inner else None
        case "list" | "binary_expression":
            return _of_two(node, shell)
        case "unary_expression":
            return _of_one(node, shell)
        case "redirected_statement":
            body = node.child_by_field_name("body")
            return holds(body, shell) if body is not None else None
        case "command":
            return _command(node, shell)
        case "variable_assignment" | "variable_assignments" | "declaration_command":
            return True
        case _:
            return None


def _not(truth: bool | None) -> bool | None:
    return None if truth is None else not truth


def _of_two(node: Node, shell: Shell) -> bool | None:
    if len(node.children) != 3:
        return None
    left, sign, right = node.children
    mark = source_of(sign)
    if mark in ("&&", "||", "-a", "-o"):
        left_holds, right_holds = holds(left, shell), holds(right, shell)
        decides = mark in ("||", "-o")
        if decides in (left_holds, right_holds):
            return decides
        return None if None in (left_holds, right_holds) else not decides
    left_text, right_text = _text(left, shell), _text(right, shell)
    return None if left_text is None or right_text is None else compared(left_text, mark, right_text)


def compared(left: str, sign: str, right: str) -> bool | None:
    """What `[ one sign two ]` says."""
    if sign in _NUMBERS:
        are_integers = all(re.fullmatch(r"-?\d{1,15}", text.strip()) for text in (left, right))
        return _NUMBERS[sign](int(left), int(right)) if are_integers else None
    if sign in ("=", "==", "!=") and not re.search(r"[*?\[]", right):
        return (left == right) == (sign != "!=")
    return None


def _of_one(node: Node, shell: Shell) -> bool | None:
    if len(node.children) != 2:
        return None
    mark, inner = source_of(node.children[0]), node.children[1]
    if mark == "!":
        return _not(holds(inner, shell))
    text = _text(inner, shell)
    if text is None or mark not in ("-z", "-n"):
        return None
    return (text == "") == (mark == "-z")


def _text(node: Node, shell: Shell) -> str | None:
    return text_of(expand(node, shell))


def _command(node: Node, shell: Shell) -> bool | None:
    command_words = [
        word
        for child in node.named_children
        for word in words(child.named_children[0] if child.type == "command_name" else child, shell)
    ]
    if not command_words or any(not word.known for word in command_words):
        return None
    name, arguments = command_words[0].text, [word.text for word in command_words[1:]]
    if name in ("true", ":", "false"):
        return name != "false"
    if name == "test" and len(arguments) == 3:
        return compared(*arguments)
    if name == "test" and len(arguments) == 2 and arguments[0] in ("-z", "-n"):
        return (arguments[1] == "") == (arguments[0] == "-z")
    return None
