"""Conditions in a release's code that the settings in force decide."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

from harness.preflight.keys.denoted import Scope, confs
from harness.preflight.keys.reader import Reader

_COMPARED: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_UNKNOWN = object()


def truth(reader: Reader, test: ast.expr, scope: Scope) -> bool | None:
    """Whether a condition holds; None where that is not known."""
    match test:
        case ast.UnaryOp(op=ast.Not()):
            inner = truth(reader, test.operand, scope)
            return None if inner is None else not inner
        case ast.Compare(ops=[ast.Is() | ast.IsNot()], comparators=[ast.Constant(value=None)]):
            value = _known(reader, test.left, scope)
            return None if value is _UNKNOWN else (value is None) is isinstance(test.ops[0], ast.Is)
        case ast.Compare(ops=[op], comparators=[ast.Constant(value=other)]) if type(op) in _COMPARED:
            value = _known(reader, test.left, scope)
            try:
                return None if value is _UNKNOWN else bool(_COMPARED[type(op)](value, other))
            except TypeError:
                return None
        case ast.BoolOp(op=ast.And()):
            arms = [truth(reader, operand, scope) for operand in test.values]
            return False if False in arms else (True if all(arms) else None)
        case ast.Name():
            value = _known(reader, test, scope)
            return None if value is _UNKNOWN else bool(value)
    return None


def _known(reader: Reader, node: ast.expr, scope: Scope) -> Any:
    """The setting that a name stands for, or the only default of its parameter."""
    evaluated = reader.evaluate(node, scope)
    paths = confs(evaluated)
    if len(paths) != len(evaluated):
        return _UNKNOWN
    # The same key at the top level and in model_conf: the one that is set counts.
    paths = [conf for conf in paths if reader.kind_of(conf.path)]
    if len(paths) != 1:
        return _UNKNOWN
    value = reader.value_of(paths[0].path)
    # A missing one has the default of the code, which is not followed here.
    return _UNKNOWN if value is None else value
