"""Statements of which bash takes one way or another: conditions, loops, pipelines, subshells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from harness.preflight.command.conditions import holds
from harness.preflight.command.expansion import line_of, source_of, words
from harness.preflight.command.shell import Shell, unknown
from harness.preflight.command.words import Piece

if TYPE_CHECKING:
    from tree_sitter import Node


class Walker(Protocol):
    """What walks the statements."""

    def walk(self, node: Node, shell: Shell) -> None:
        """One statement, or several."""


def pipeline(walker: Walker, node: Node, shell: Shell) -> None:
    for child in node.named_children:
        walker.walk(child, shell.copy())


def subshell(walker: Walker, node: Node, shell: Shell) -> None:
    inner = shell.copy()
    for child in node.named_children:
        walker.walk(child, inner)


def list_of_two(walker: Walker, node: Node, shell: Shell) -> None:
    """`a && b`, `a || b`: the second by the first one's status, where that is known."""
    if len(node.named_children) != 2:
        for child in node.named_children:
            walker.walk(child, shell)
        return
    first, second = node.named_children
    ok = holds(first, shell)
    walker.walk(first, shell)
    both = any(child.type == "&&" for child in node.children)
    plain = first
    while plain.type == "redirected_statement" and (body := plain.child_by_field_name("body")) is not None:
        plain = body
    if ok is None and plain.type in ("command", "variable_assignment", "pipeline"):
        # A command is taken to succeed; what is to be done when it fails is no part of a training.
        ok = True
    if ok is None:
        either(walker, shell, [second])
    elif ok == both:
        walker.walk(second, shell)


def either(walker: Walker, shell: Shell, ways: Sequence[Node | Sequence[Node]], *, or_none: bool = True) -> None:
    """Several ways of which one is taken."""
    branches = [shell.copy() for _ in ways] + ([shell.copy()] if or_none else [])
    for way, branch in zip(ways, branches, strict=False):
        branch.certain = False
        for statement in way if isinstance(way, Sequence) else (way,):
            walker.walk(statement, branch)
    shell.merge(branches)


def conditional(walker: Walker, node: Node, shell: Shell) -> None:
    """`if`: the branch that is taken; where that is not known, all of them."""
    condition, ways, open_end = node.child_by_field_name("condition"), [], True
    condition_holds = holds(condition, shell) if condition is not None else None
    body = [child for child in node.named_children if not _is_condition(child, node)]
    plain = [child for child in body if child.type not in ("elif_clause", "else_clause")]
    clauses = [child for child in body if child.type in ("elif_clause", "else_clause")]
    if condition is not None:
        walker.walk(condition, shell)
    if condition_holds is not False:
        ways.append(plain)
    for clause in clauses if condition_holds is not True else ():
        inner = clause.named_children
        if clause.type == "else_clause":
            ways.append(inner)
            open_end = False
            continue
        known = holds(inner[0], shell) if inner else None
        if known is not False:
            ways.append(inner[1:])
        if known is True:
            open_end = False
            break
    if condition_holds is True:
        open_end = False
    if not ways:
        return
    if len(ways) == 1 and not open_end:
        for child in ways[0]:
            walker.walk(child, shell)
    else:
        either(walker, shell, ways, or_none=open_end)


def loop(walker: Walker, node: Node, shell: Shell) -> None:
    """`for NAME in …`: the body once, with the name's value where there is one only."""
    body, name = node.child_by_field_name("body"), node.child_by_field_name("variable")
    items = [child for child in node.named_children if child not in (body, name)]
    values = [word for child in items if child.type != "comment" for word in words(child, shell)]
    if name is not None:
        key, line = source_of(name), line_of(node)
        value = (Piece(text=values[0].text, line=line),) if len(values) == 1 and values[0].known else None
        why = f"{key} takes several values in a loop"
        shell.assign(key, value or unknown(f"${key}", why, line), line=line)
    if body is not None:
        either(walker, shell, [body], or_none=False)


def repeated(walker: Walker, node: Node, shell: Shell) -> None:
    """`while`, `until`, `for ((…))`."""
    body = node.child_by_field_name("body")
    condition = node.child_by_field_name("condition")
    if condition is not None:
        walker.walk(condition, shell)
    if body is not None:
        either(walker, shell, [body])


def case(walker: Walker, node: Node, shell: Shell) -> None:
    ways = []
    for item in (child for child in node.named_children if child.type == "case_item"):
        patterns = item.children_by_field_name("value")
        ways.append([child for child in item.named_children if child not in patterns])
    either(walker, shell, ways)


def _is_condition(child: Node, parent: Node) -> bool:
    condition = parent.child_by_field_name("condition")
    return condition is not None and child == condition
