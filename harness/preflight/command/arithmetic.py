"""`$((…))` with whole numbers and variables."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping

from harness.preflight.command.shell import Shell, unknown
from harness.preflight.command.words import Piece, Value, text_of

_BINARY: Mapping[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: lambda left, right: int(left / right),
    ast.Mod: lambda left, right: left - right * int(left / right),
}
LARGEST = 1 << 53


def result(source: str, shell: Shell, line: int) -> Value:
    """What `$((source))` prints; unknown where that is not only numbers, + - * / % and variables that are known."""
    names = re.sub(r"^\$?\(\(|\)\)$|^\$\[|\]$", "", source)

    def number(match: re.Match[str]) -> str:
        text = text_of(shell.get(match[1], line))
        return f"({int(text)})" if text is not None and re.fullmatch(r"-?\d{1,15}", text) else "unknown"

    plain = re.sub(r"\$?\{?([A-Za-z_]\w*)\}?", number, names)
    try:
        tree = ast.parse(plain.strip().replace("/", "//"), mode="eval")
        return (Piece(text=str(_evaluated(tree.body)), line=line),)
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError, MemoryError):
        return unknown(source, f"{source} is known at run time only", line)


def _evaluated(node: ast.expr) -> int:
    match node:
        case ast.Constant(value=int(value)) if abs(value) < LARGEST:
            return value
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_evaluated(operand)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            number = _BINARY[type(op)](_evaluated(left), _evaluated(right))
            if abs(number) < LARGEST:
                return number
    raise ValueError("not only whole numbers")
